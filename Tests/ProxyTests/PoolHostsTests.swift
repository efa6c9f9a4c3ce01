import Pooling
import Testing
import Upstream

@testable import Proxy

@Suite("Which hosts a dial goes to")
struct PoolHostsTests {
  private let target: ConnectionTarget
  private let records: [HostRecord]
  private var hosts: PoolHosts
  private var now = MonotonicTime(nanoseconds: 1_000_000_000)

  /// Three hosts a, b and c, of which the pool wants the primary.
  init() throws {
    target = try ConnectionTarget(conninfo: "host=a,b,c port=1 target_session_attrs=primary")
    records = target.hosts.map { HostRecord($0) }
    hosts = PoolHosts(records, HostWish(target, maxLag: .seconds(10)))
  }

  private func admission(isWanted: Bool = true) throws -> PoolHosts.Admission {
    guard case .go(let admission) = hosts.admit(isWanted: isWanted, now) else { throw Refused() }
    return admission
  }

  private struct Refused: Error {}

  private func names(_ admission: PoolHosts.Admission) -> String { admission.hosts.map(\.name).joined() }

  /// A dial ends; `a` to `c` name hosts by how they fared, the connected one last.
  private mutating func dialed(
    _ admission: PoolHosts.Admission, reached: String? = nil, _ attempts: [(String, DialFailureKind)] = []
  ) -> Bool {
    hosts.dialed(
      admission, reached: host(reached), attempts: attempts.map { attempt($0.0, $0.1) }, jitterPermille: 0, now)
  }

  private func host(_ name: String?) -> UpstreamHost? { target.hosts.first { $0.name == name } }

  private func attempt(_ name: String, _ kind: DialFailureKind) -> DialAttempt {
    DialAttempt(host: host(name)!, address: nil, kind: kind, sqlState: nil, text: "\(name) failed")
  }

  private func probe(_ index: Int, _ role: HostHealth.Role, lagSeconds: Int64? = nil) {
    let lag = lagSeconds.map { ReplicationLag(bytes: 1, nanoseconds: $0 * 1_000_000_000) }
    _ = records[index].record(
      .answered(latencyNanoseconds: 1, HostHealth.Facts(role: role, isReadOnly: role == .standby, lag: lag)),
      HostHealth.Rules(rise: 1, fall: 1), now)
  }

  @Test("all in their order, while nothing is known")
  func unknown() throws {
    #expect(names(try admission()) == "abc")
  }

  @Test("those that the probes know to be down or in the wrong role are left out")
  func leftOut() throws {
    probe(0, .standby)
    #expect(names(try admission()) == "bc")
    _ = records[1].record(.failed("no"), HostHealth.Rules(rise: 1, fall: 1), now)
    #expect(names(try admission()) == "c")
  }

  @Test("but where none is left, all are tried that can be reached")
  func outOfDate() throws {
    for index in 0..<3 { probe(index, .standby) }
    #expect(names(try admission()) == "abc")
  }

  @Test("one that cannot be reached is left out at once")
  mutating func unreachable() throws {
    #expect(!dialed(try admission(), reached: "b", [("a", .unreachable)]))
    #expect(names(try admission()) == "bc")
  }

  @Test("one with the wrong role is left out until hosts have changed")
  mutating func wrongRole() throws {
    _ = dialed(try admission(), reached: "b", [("a", .wrongRole)])
    #expect(names(try admission()) == "bc")
    hosts.changed()
    #expect(names(try admission()) == "abc")
  }

  @Test("where only hosts of the wrong role can be reached, they come before a trial of the others")
  mutating func failover() throws {
    _ = dialed(try admission(), [("a", .timeout), ("b", .wrongRole), ("c", .wrongRole)])
    let first = try admission()
    #expect(names(first) == "bca")
    #expect(first.trials.map(\.record.host.name) == ["a"])
    #expect(names(try admission()) == "bc", "one trial at a time")
    #expect(!dialed(first, reached: "b", []))
    #expect(names(try admission()) == "b")
    #expect(records[0].snapshot.breaker.state == .open, "a trial that was not needed is over")
  }

  @Test("no host may be dialed: the answer says when to come again")
  mutating func refused() throws {
    _ = dialed(try admission(), [("a", .unreachable), ("b", .timeout), ("c", .startingUp)])
    let trial = try admission()
    #expect(names(trial) == "abc")
    _ = dialed(trial, [("a", .unreachable), ("b", .unreachable), ("c", .unreachable)])
    guard case .refused(let until) = hosts.admit(isWanted: true, now) else { throw Refused() }
    #expect(until == now + HostBreaker.retryNanoseconds)
    #expect(hosts.lastFailure == "a failed; b failed; c failed")
    #expect(!hosts.canBeReached)
  }

  @Test(
    "a refused login is an answer, and no outage of the host",
    arguments: [
      DialFailureKind.authentication, .unknownDatabase, .tooManyConnections, .insufficientPrivilege, .tls,
    ])
  mutating func answers(kind: DialFailureKind) throws {
    _ = dialed(try admission(), [("a", .unreachable), ("b", .unreachable), ("c", .unreachable)])
    #expect(dialed(try admission(), [("a", kind)]), "a host has come back")
    #expect(names(try admission()) == "a")
  }

  @Test("what is our own trouble opens no breaker, and ends a trial", arguments: [DialFailureKind.other, .cancelled])
  mutating func ownTrouble(kind: DialFailureKind) throws {
    _ = dialed(try admission(), [("a", kind)])
    #expect(names(try admission()) == "abc")
    _ = dialed(try admission(), [("a", .unreachable), ("b", .unreachable), ("c", .unreachable)])
    _ = dialed(try admission(), [("a", kind)])
    #expect(names(try admission()) == "abc", "the next one may try")
  }

  @Test("connections to a host of the wrong role are let go of, and to one that lags if another would serve")
  mutating func misfits() throws {
    probe(0, .standby)
    #expect(hosts.isMisfit(records[0]))
    #expect(!hosts.isMisfit(records[1]))
    let reads = PoolHosts(Array(records[0...1]), HostWish(.any, maxLagNanoseconds: 1_000_000_000))
    #expect(!reads.isMisfit(records[0]))
    probe(0, .standby, lagSeconds: 2)
    #expect(reads.isMisfit(records[0]))
    probe(1, .standby, lagSeconds: 3)
    #expect(!reads.isMisfit(records[0]), "no host is better")
  }

  @Test("a trial of a host that a reload has taken away is over")
  mutating func reload() throws {
    _ = dialed(try admission(), [("a", .unreachable), ("b", .unreachable), ("c", .unreachable)])
    let trial = try admission()
    hosts = PoolHosts([records[1]], HostWish(target, maxLag: nil))
    _ = dialed(trial, [("b", .unreachable)])
    #expect(records[0].snapshot.breaker.state == .open)
    #expect(records[2].snapshot.breaker.state == .open)
  }

  @Test("a session's word on its host's role counts where no probe is answered, and else has it looked into")
  func sightings() {
    let record = records[0]
    #expect(record.saw(.standby) == .news(before: nil))
    #expect(record.saw(.standby) == .known)
    #expect(record.saw(.primary) == .news(before: .standby))
    record.setProbed(true)
    #expect(record.saw(.standby) == .news(before: .primary), "no probe has been answered yet")
    probe(0, .primary)
    #expect(record.saw(.standby) == .doubtful)
    #expect(record.facts.role == .primary)
    _ = record.record(.refused("who?"), HostHealth.Rules(rise: 1, fall: 1), now)
    #expect(record.saw(.standby) == .news(before: .primary))
  }

  private func set(_ numbers: UInt32...) -> HostSet {
    numbers.reduce(into: HostSet()) { $0.insert($1) }
  }

  @Test("a host that does not answer comes last, and one that is full is left out")
  func silent() throws {
    guard case .go(let last) = hosts.admit(isWanted: true, silent: set(0), now) else { throw Refused() }
    #expect(names(last) == "bca")
    guard case .go(let others) = hosts.admit(isWanted: true, avoiding: set(0, 2), silent: set(0, 2), now) else {
      throw Refused()
    }
    #expect(names(others) == "b")
  }

  @Test("instead of a host that is full no other is tried that would not serve")
  func noOther() throws {
    probe(1, .standby)
    probe(2, .standby)
    guard case .noOther = hosts.admit(isWanted: true, avoiding: set(0), silent: set(0), now) else { throw Refused() }
  }

  @Test("a dial tells whom it passes over for one that serves")
  mutating func overlooked() throws {
    #expect(try admission().overlooked.isEmpty)
    _ = dialed(try admission(), reached: "c", [("a", .unreachable), ("b", .wrongRole)])
    #expect(try admission().overlooked.map(\.host.name) == ["a", "b"])
    #expect(hosts.missed.map(\.host.name) == ["a"])
  }

  @Test("a host keeps its number when a reload changes the upstream")
  func numbers() throws {
    let later = try ConnectionTarget(conninfo: "host=d,c,a port=1")
    let hosts = PoolHosts(later.hosts.map { HostRecord($0) }, HostWish(.any), after: hosts)
    #expect(target.hosts.map { hosts.number(of: $0) } == [0, 1, 2])
    #expect(later.hosts.map { hosts.number(of: $0) } == [3, 2, 0])
  }

  @Test("one that nobody probes is looked for while it cannot be reached, and once in a while in the wrong role")
  func looks() {
    let record = records[0]
    #expect(record.isToBeSought(now))
    #expect(!record.isToBeSought(now + 29_000_000_000))
    #expect(record.isToBeSought(now + 31_000_000_000))
    record.failed(.refused, "no", trial: nil, jitterPermille: 0, now)
    #expect(record.isToBeSought(now + 31_000_000_000))
    record.setProbed(true)
    #expect(!record.isToBeSought(now + 99_000_000_000))
  }

  @Test("a reply to anybody outvotes a probe that fails within a second after it")
  func outvoted() {
    let record = records[0]
    let rules = HostHealth.Rules(rise: 1, fall: 1)
    record.replied(at: now.nanoseconds)
    _ = record.record(.failed("no"), rules, now + 900_000_000)
    #expect(!record.isDown)
    _ = record.record(.failed("no"), rules, now + 1_100_000_000)
    #expect(record.isDown)
  }

  @Test("a host that has not answered anybody for long enough is out of reach")
  func keptSilent() {
    let record = records[0]
    record.replied(at: 5_000_000_000)
    #expect(!record.keptSilent(for: 1_000_000_000, "nothing", at: 5_500_000_000, jitterPermille: 0))
    #expect(record.passes)
    #expect(record.keptSilent(for: 1_000_000_000, "nothing", at: 6_500_000_000, jitterPermille: 0))
    #expect(!record.passes && record.lastFailure == "nothing")
    #expect(!record.keptSilent(for: 1_000_000_000, "nothing", at: 7_500_000_000, jitterPermille: 0))
    probe(1, .primary)
    #expect(!records[1].keptSilent(for: 1_000_000_000, "nothing", at: 7_500_000_000, jitterPermille: 0))
    #expect(records[1].passes, "its last probe was answered")
  }
}
