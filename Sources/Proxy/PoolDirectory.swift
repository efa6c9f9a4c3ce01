import Locking
import Pooling
import Settings
import Telemetry

/// The pools of all workers, as any thread may see them. Workers write what changes; who reads, such as a scraper of
/// metrics, keeps no worker from a query.
final class PoolDirectory: Sendable {
  private let pools = Mutex<[ObjectIdentifier: PublishedPool]>([:])

  func add(_ pool: PublishedPool) { pools.withLock { $0[ObjectIdentifier(pool)] = pool } }

  func remove(_ pool: PublishedPool) { pools.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(pool)) } }

  /// One snapshot for each name. A retired pool, whose last connections are still closing, counts with its successor, and
  /// shards with each other: what dials have said is what the last of them all has.
  func snapshots(atNanoseconds now: Int64) -> [PoolSnapshot] {
    let published = pools.withLock { Array($0.values) }
    var snapshots: [PoolName: (snapshot: PoolSnapshot, rank: PublishedPool.Rank)] = [:]
    for pool in published {
      let (snapshot, rank) = pool.snapshot(atNanoseconds: now)
      guard var known = snapshots[pool.name] else {
        snapshots[pool.name] = (snapshot, rank)
        continue
      }
      let (gauges, counters) = (known.snapshot.gauges, known.snapshot.counters)
      if known.rank < rank { known = (snapshot, rank) }
      known.snapshot.gauges = gauges
      known.snapshot.gauges += snapshot.gauges
      known.snapshot.counters = counters
      known.snapshot.counters += snapshot.counters
      snapshots[pool.name] = known
    }
    return snapshots.values.map(\.snapshot)
  }
}

/// What may be known of one pool outside of its worker.
final class PublishedPool: Sendable {
  /// What changes seldom.
  struct Facts: Sendable {
    var settings: PoolSettings
    var isPaused = false
    var isServed = true
    var standing = PoolStanding.open
    /// The last failure to connect, without secrets.
    var lastError: String?
    /// When it has heard of its last dial; CLOCK_MONOTONIC.
    var dialedAt = Int64.min
    /// As the server said when the latest connection was opened.
    var role: String?
  }

  let name: PoolName
  let telemetry = PoolTelemetry()
  private let facts: Mutex<Facts>

  init(_ name: PoolName, settings: PoolSettings) {
    self.name = name
    facts = Mutex(Facts(settings: settings))
  }

  /// Changes the facts; for the pool's worker.
  func update(_ change: (inout Facts) -> Void) { facts.withLock { change(&$0) } }

  /// Whose facts count, among pools of one name: those of one that is served, and of the one that has dialed last.
  struct Rank: Comparable {
    var isServed: Bool
    var dialedAt: Int64

    static func < (left: Rank, right: Rank) -> Bool {
      left.isServed == right.isServed ? left.dialedAt < right.dialedAt : right.isServed
    }
  }

  func snapshot(atNanoseconds now: Int64) -> (PoolSnapshot, Rank) {
    let facts = facts.withLock { $0 }
    var snapshot = PoolSnapshot(
      database: name.database, user: name.user, mode: facts.settings.mode.rawValue, poolSize: facts.settings.poolSize,
      maxOverflow: facts.settings.maxOverflow, isPaused: facts.isPaused,
      gauges: telemetry.gauges(atNanoseconds: now), counters: telemetry.counters())
    snapshot.standing = PoolStandingSnapshot(facts.standing)
    snapshot.lastError = facts.lastError
    snapshot.role = facts.role
    let latency = telemetry.latencyMicroseconds.current
    snapshot.latencyMicroseconds = latency > 0 ? latency : nil
    return (snapshot, Rank(isServed: facts.isServed, dialedAt: facts.dialedAt))
  }
}

extension PoolStandingSnapshot {
  fileprivate init(_ standing: PoolStanding) {
    switch standing {
    case .open: self = .open
    case .outage: self = .outage
    case .rejected: self = .rejected
    case .exhausted: self = .exhausted
    }
  }
}

extension PoolTelemetry {
  /// Shows how many connections and waiters there are; for the pool's worker.
  func publish(_ counts: PoolCounts) {
    clientsWaiting.set(counts.waiting)
    serversActive.set(counts.active)
    serversIdle.set(counts.idle)
    serversDialing.set(counts.dialing)
    serversTesting.set(counts.testing)
    serversResetting.set(counts.settling)
    serversClosing.set(counts.closing)
    oldestWaitSinceNanoseconds.set(counts.oldestWaitSince.map { Int($0.nanoseconds) } ?? 0)
  }
}
