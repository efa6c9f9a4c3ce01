import Locking
import Settings

/// What distinguishes pools: the database's name, and the user that server connections log in with.
///
/// Names are compared byte by byte, as PostgreSQL does: Swift's strings are equal where Unicode says so (é and e with an
/// accent), and one role must never get another one's connections.
struct PoolName: Hashable, Sendable {
  let database: String
  let user: String

  static func == (left: PoolName, right: PoolName) -> Bool {
    left.database.utf8.elementsEqual(right.database.utf8) && left.user.utf8.elementsEqual(right.user.utf8)
  }

  func hash(into hasher: inout Hasher) {
    for byte in database.utf8 { hasher.combine(byte) }
    hasher.combine(0 as UInt8)
    for byte in user.utf8 { hasher.combine(byte) }
  }
}

/// Which worker a pool lives on. Whoever logs in is sent there, so that a pool and its queue belong to one thread.
///
/// Pools that share a limit (`max_connections` of a database or a user) share a home, so the limit is decided by one
/// thread too, exactly and in order. All other pools are spread one by one: a new one goes to the worker with the fewest.
///
/// Any thread. The lock is taken once a login, never on the way of a query.
final class PoolHomes: Sendable {
  /// Pools that have to be on the same worker.
  fileprivate enum Group: Hashable {
    case pool(PoolName)
    case database(String)
    case user(String)
    /// All pools under any limit: where both databases and users have limits, one pool may link two others.
    case limited
  }

  fileprivate struct Home {
    var worker: Int
    /// The group's pools that exist there.
    var pools: Set<PoolName> = []
    /// Clients that have been sent there and have not arrived.
    var arriving = 0
  }

  fileprivate struct State {
    var homes: [Group: Home] = [:]
    /// Groups on each worker.
    var load: [Int]
  }

  /// As the daemon started: pools cannot change their home, so limits that come later have no say.
  private let settings: Settings
  private let linksAllLimits: Bool
  private let state: Mutex<State>
  let workers: Int

  init(_ settings: Settings, workers: Int) {
    self.settings = settings
    self.workers = workers
    linksAllLimits =
      settings.databases.values.contains { $0.maxConnections != nil }
      && settings.users.values.contains { $0.maxConnections != nil }
    state = Mutex(State(load: [Int](repeating: 0, count: workers)))
  }

  /// The worker of a pool, which gets one if it has none. A client that is sent there is counted until `arrived`.
  func home(of name: PoolName, sendingClient: Bool = false) -> Int {
    let group = group(of: name)
    return state.withLock { state in
      var home = state.homes[group] ?? Home(worker: state.leastLoaded)
      if state.homes[group] == nil { state.load[home.worker] += 1 }
      if sendingClient { home.arriving += 1 }
      state.homes[group] = home
      return home.worker
    }
  }

  /// A client that was sent to a pool's home is there, or will never be.
  func arrived(for name: PoolName) {
    let group = group(of: name)
    state.withLock { state in
      state.homes[group]!.arriving -= 1
      state.forgetIfUnused(group)
    }
  }

  /// The pool has been made at its home.
  func opened(_ name: PoolName) {
    let group = group(of: name)
    state.withLock { state in _ = state.homes[group]?.pools.insert(name) }
  }

  /// The pool is gone, with the last of its connections. The next of that name may live elsewhere.
  func removed(_ name: PoolName) {
    let group = group(of: name)
    state.withLock { state in
      _ = state.homes[group]?.pools.remove(name)
      state.forgetIfUnused(group)
    }
  }

  /// Whether the limit can be kept: all of its pools are on one worker. With several workers that holds for limits that
  /// were there when the daemon started.
  func keepsLimit(ofDatabase database: String) -> Bool {
    workers == 1 || settings.database(named: database)?.maxConnections != nil
  }

  /// As `keepsLimit(ofDatabase:)`.
  func keepsLimit(ofUser user: String) -> Bool {
    workers == 1 || settings.users[user]?.maxConnections != nil
  }

  /// Limits in other settings that cannot be kept before the next start.
  func unkept(in other: Settings) -> [String] {
    let databases = other.databases.values.filter { database in
      database.maxConnections != nil && !keepsLimit(ofDatabase: database.name)
    }
    let users = other.users.values.filter { $0.maxConnections != nil && !keepsLimit(ofUser: $0.name) }
    return databases.map { "[databases.\($0.name)] max_connections" }.sorted()
      + users.map { "[users.\($0.name)] max_connections" }.sorted()
  }

  private func group(of name: PoolName) -> Group {
    let isDatabaseLimited = settings.database(named: name.database)?.maxConnections != nil
    let isUserLimited = settings.users[name.user]?.maxConnections != nil
    guard isDatabaseLimited || isUserLimited else { return .pool(name) }
    if linksAllLimits { return .limited }
    return isDatabaseLimited ? .database(name.database) : .user(name.user)
  }
}

extension PoolHomes.State {
  fileprivate var leastLoaded: Int { load.indices.min { load[$0] < load[$1] }! }

  fileprivate mutating func forgetIfUnused(_ group: PoolHomes.Group) {
    guard let home = homes[group], home.pools.isEmpty, home.arriving == 0 else { return }
    homes[group] = nil
    load[home.worker] -= 1
  }
}
