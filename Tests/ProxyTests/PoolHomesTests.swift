import Settings
import Testing

@testable import Proxy

@Suite("Homes of pools")
struct PoolHomesTests {
  private func homes(_ more: String = "", workers: Int = 4) throws -> PoolHomes {
    let text = """
      [auth]
      method = "trust"
      [databases."*"]
      upstream = "host=h"

      """
    return PoolHomes(try Settings.parse(text: text + more, file: "t.toml"), workers: workers)
  }

  private func name(_ database: String, _ user: String = "u") -> PoolName { PoolName(database: database, user: user) }

  @Test("a pool keeps its home, and new ones go where the fewest are")
  func spread() throws {
    let homes = try homes()
    let first = (0..<8).map { homes.home(of: name("d\($0)")) }
    #expect((0..<4).allSatisfy { worker in first.count { $0 == worker } == 2 })
    #expect((0..<8).map { homes.home(of: name("d\($0)")) } == first)
  }

  @Test(
    "a client of a pool with shards stays where there is one, and goes to the one with the fewest clients otherwise")
  func sharding() throws {
    let homes = try homes("[users.s]\npool_workers = 3\npool_size = 9")
    guard let shards = homes.opened(name("a", "s"), by: 0) else {
      Issue.record("no shards")
      return
    }
    #expect(shards.workers.count == 3)
    for worker in shards.workers { #expect(homes.home(of: name("a", "s"), acceptedBy: worker) == worker) }
    let other = try #require((0..<4).first { shards.number(on: $0) == nil })
    let homesOfOthers = (0..<3).map { _ in homes.home(of: name("a", "s"), acceptedBy: other) }
    #expect(Set(homesOfOthers) == Set(shards.workers))
    homes.ended(shards)
    #expect(homes.opened(name("a", "s"), by: 0) !== shards)
  }

  @Test("a home is forgotten with the last pool, but not while clients are on their way")
  func forgetting() throws {
    let homes = try homes(workers: 2)
    let one = homes.home(of: name("a"), sendingClient: true)
    homes.opened(name("a"))
    homes.arrived(for: name("a"))
    #expect(homes.home(of: name("b"), sendingClient: true) != one)
    homes.opened(name("b"))
    #expect(homes.home(of: name("a"), sendingClient: true) == one)
    homes.removed(name("a"))
    #expect(homes.home(of: name("a")) == one)
    homes.arrived(for: name("a"))
    // The worker of `a` has nothing left, so the next two go there before anything else does.
    #expect(homes.home(of: name("c")) == one)
  }

  @Test("pools under a database's limit share a home")
  func databaseLimit() throws {
    let homes = try homes("[databases.d]\nupstream = \"host=h\"\nmax_connections = 5")
    #expect(Set((0..<10).map { homes.home(of: name("d", "u\($0)")) }).count == 1)
    #expect(Set((0..<10).map { homes.home(of: name("e", "u\($0)")) }).count == 4)
    #expect(homes.keepsLimit(ofDatabase: "d") && !homes.keepsLimit(ofDatabase: "e"))
  }

  @Test("a limit of \"*\" is one for each database")
  func anyDatabaseLimit() throws {
    let homes = try homes("max_connections = 5")
    #expect(Set((0..<10).map { homes.home(of: name("d", "u\($0)")) }).count == 1)
    #expect(Set((0..<10).map { homes.home(of: name("d\($0)")) }).count == 4)
  }

  @Test("pools under a user's limit share a home")
  func userLimit() throws {
    let homes = try homes("[users.u]\nmax_connections = 5")
    #expect(Set((0..<10).map { homes.home(of: name("d\($0)", "u")) }).count == 1)
    #expect(Set((0..<10).map { homes.home(of: name("d\($0)", "v")) }).count == 4)
  }

  @Test("where databases and users have limits, all limited pools share a home")
  func bothLimits() throws {
    let homes = try homes(
      "[databases.d]\nupstream = \"host=h\"\nmax_connections = 5\n[users.u]\nmax_connections = 5")
    let limited = [name("d", "v"), name("e", "u"), name("d", "u"), name("f", "u"), name("d", "w")]
    #expect(Set(limited.map { homes.home(of: $0) }).count == 1)
    #expect(Set((0..<10).map { homes.home(of: name("e\($0)", "v")) }).count == 4)
  }

  @Test("limits that come later are named, with several workers")
  func laterLimits() throws {
    let later = try Settings.parse(
      text: """
        [auth]
        method = "trust"
        [databases.d]
        upstream = "host=h"
        max_connections = 5
        [users.u]
        max_connections = 5
        """, file: "t.toml")
    #expect(
      try homes().unkept(in: later) == ["[databases.d] max_connections", "[users.u] max_connections"])
    #expect(try homes(workers: 1).unkept(in: later) == [])
    #expect(try homes("[users.u]\nmax_connections = 9").unkept(in: later) == ["[databases.d] max_connections"])
  }

  @Test("names are told apart byte by byte")
  func bytes() {
    let (composed, decomposed) = (name("d", "\u{e9}"), name("d", "e\u{301}"))
    #expect(composed.user == decomposed.user && composed != decomposed)
    #expect(Set([composed, decomposed, name("d", "\u{e9}")]).count == 2)
    #expect(name("ab", "c") != name("a", "bc"))
  }

  @Test("max_clients is a bound for all workers together")
  func quota() {
    let quota = ClientQuota()
    #expect(quota.enter(2) && quota.enter(2) && !quota.enter(2) && quota.isUsedUp(2))
    quota.leave()
    #expect(!quota.isUsedUp(2) && quota.enter(2) && !quota.enter(2))
  }
}

/// Where it does not matter which worker asks.
extension PoolHomes {
  fileprivate func home(of name: PoolName, sendingClient: Bool = false) -> Int {
    home(of: name, acceptedBy: 0, sendingClient: sendingClient)
  }

  fileprivate func opened(_ name: PoolName) { _ = opened(name, by: 0) }

  fileprivate func removed(_ name: PoolName) { removed(name, by: 0) }
}
