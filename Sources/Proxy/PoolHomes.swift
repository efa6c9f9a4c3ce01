import Glibc
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
    left.database.hasBytes(of: right.database) && left.user.hasBytes(of: right.user)
  }

  func hash(into hasher: inout Hasher) {
    database.hashBytes(into: &hasher)
    hasher.combine(0 as UInt8)
    user.hashBytes(into: &hasher)
  }
}

extension String {
  /// Byte by byte. All at once, where the string has its bytes in one place, as all have that are not bridged.
  fileprivate func hasBytes(of other: String) -> Bool {
    guard utf8.count == other.utf8.count else { return false }
    let isSame = unsafe utf8.withContiguousStorageIfAvailable { mine in
      unsafe other.utf8.withContiguousStorageIfAvailable { others in
        unsafe mine.isEmpty || memcmp(mine.baseAddress!, others.baseAddress!, mine.count) == 0
      }
    }
    return (isSame ?? nil) ?? utf8.elementsEqual(other.utf8)
  }

  fileprivate func hashBytes(into hasher: inout Hasher) {
    let isHashed: Void? = unsafe utf8.withContiguousStorageIfAvailable { bytes in
      unsafe hasher.combine(bytes: UnsafeRawBufferPointer(bytes))
    }
    if isHashed == nil { unsafe Array(utf8).withUnsafeBytes { unsafe hasher.combine(bytes: $0) } }
  }
}

/// Which worker a pool lives on. Whoever logs in is sent there, so that a pool and its queue belong to one thread.
///
/// Pools that share a limit (`max_connections` of a database or a user) share a home, so the limit is decided by one
/// thread too, exactly and in order. All other pools are spread one by one: a new one goes to the worker with the fewest.
///
/// A pool with `pool_workers` above 1 that is under no limit has shards on several workers. A client stays where it is if
/// there is one, else it is sent to the one with the fewest clients.
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

  /// A pool, or one shard of it, that exists.
  fileprivate struct Resident: Hashable {
    var name: PoolName
    var worker: Int
  }

  fileprivate struct Home {
    var worker: Int
    /// nil where the pool is on one worker, or has been taken out of service.
    var shards: ShardGroup?
    /// It has had shards, and so have all pools of that name until none is left.
    var wasSharded = false
    /// The group's pools that exist.
    var residents: Set<Resident> = []
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

  /// The worker for a client of the pool, which gets a home if it has none. A client that is sent there is counted until
  /// `arrived`.
  ///
  /// - Parameter worker: where the client is.
  func home(of name: PoolName, acceptedBy worker: Int, sendingClient: Bool = false) -> Int {
    let group = group(of: name)
    return state.withLock { state in
      let shards = shards(of: name, group, &state)
      if sendingClient { state.homes[group]!.arriving += 1 }
      guard let shards, shards.number(on: worker) == nil else {
        return shards == nil ? state.homes[group]!.worker : worker
      }
      return shards.workers[shards.shardForClient()]
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

  /// Whether a worker opens the pool before any client comes.
  func opensAhead(_ name: PoolName, on worker: Int) -> Bool {
    let group = group(of: name)
    return state.withLock { state in
      let shards = shards(of: name, group, &state)
      return (shards?.workers[0] ?? state.homes[group]!.worker) == worker
    }
  }

  /// The pool, or a shard of it, is being made by a worker.
  ///
  /// - Returns: the shards of which it is one; nil where it is the whole pool.
  func opened(_ name: PoolName, by worker: Int) -> ShardGroup? {
    let group = group(of: name)
    return state.withLock { state in
      let shards = shards(of: name, group, &state)
      state.homes[group]!.residents.insert(Resident(name: name, worker: worker))
      return shards
    }
  }

  /// The shards are taken out of service. Pools of that name that come later are others.
  func ended(_ shards: ShardGroup) {
    let group = group(of: shards.pool)
    state.withLock { state in
      guard let served = state.homes[group]?.shards else { return }
      if served === shards { state.homes[group]!.shards = nil } else { served.ended(reads: shards) }
    }
  }

  /// Whether the shards are those of the pool that is served.
  func hasShards(_ shards: ShardGroup) -> Bool {
    let group = group(of: shards.pool)
    return state.withLock { state in
      guard let served = state.homes[group]?.shards else { return false }
      return served === shards || served.reads === shards
    }
  }

  /// The pool is gone from a worker, with the last of its connections. The next of that name may live elsewhere.
  func removed(_ name: PoolName, by worker: Int) {
    let group = group(of: name)
    state.withLock { state in
      _ = state.homes[group]?.residents.remove(Resident(name: name, worker: worker))
      state.forgetIfUnused(group)
    }
  }

  /// The home of a pool, which gets one if it has none, and its shards.
  private func shards(of name: PoolName, _ group: Group, _ state: inout State) -> ShardGroup? {
    let count = shardCount(of: name, group)
    if state.homes[group] == nil {
      let home = Home(worker: state.leastLoaded)
      state.homes[group] = home
      state.load[home.worker] += 1
    }
    guard let home = state.homes[group] else { return nil }
    if let shards = home.shards { return shards }
    // Whoever connects may name any user: many pools have no shards, and are forgotten when nobody uses them.
    guard count > 1, home.residents.isEmpty || home.wasSharded, state.homes.count <= Worker.poolsKept else {
      return nil
    }
    let others = state.load.indices.filter { $0 != home.worker }.sorted { state.load[$0] < state.load[$1] }
    let shards = ShardGroup(name, workers: [home.worker] + others.prefix(count - 1))
    state.homes[group]!.shards = shards
    state.homes[group]!.wasSharded = true
    return shards
  }

  /// How many shards the settings of the start give a pool.
  private func shardCount(of name: PoolName, _ group: Group) -> Int {
    guard case .pool = group, workers > 1 else { return 1 }
    let pool = settings.pool(database: name.database, user: name.user)
    return min(pool.poolWorkers, workers, pool.poolSize + pool.maxOverflow)
  }

  /// Where `pool_workers` cannot be followed, one line each.
  var shardingNotes: [String] {
    let wished = settings.poolWorkers
    var notes = wished.filter { $0.count > workers }.map { section, count in
      "\(section) pool_workers: \(count) is more than there are workers; a pool has \(workers)"
    }
    guard wished.contains(where: { $0.count > 1 }) else { return notes }
    let limited =
      settings.databases.values.filter { $0.maxConnections != nil }.map { "[databases.\($0.name)]" }.sorted()
      + settings.users.values.filter { $0.maxConnections != nil }.map { "[users.\($0.name)]" }.sorted()
    notes += limited.map { "\($0) max_connections: pools under it have one worker each, whatever pool_workers says" }
    return notes
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
    guard let home = homes[group], home.residents.isEmpty, home.arriving == 0 else { return }
    homes[group] = nil
    load[home.worker] -= 1
  }
}
