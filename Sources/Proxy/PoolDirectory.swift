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

  /// One snapshot for each name. A retired pool, whose last connections are still closing, counts with its successor.
  func snapshots(atNanoseconds now: Int64) -> [PoolSnapshot] {
    let published = pools.withLock { Array($0.values) }
    var snapshots: [PoolName: (snapshot: PoolSnapshot, isServed: Bool)] = [:]
    for pool in published {
      let (snapshot, isServed) = pool.snapshot(atNanoseconds: now)
      guard var known = snapshots[pool.name] else {
        snapshots[pool.name] = (snapshot, isServed)
        continue
      }
      let (gauges, counters) = (known.snapshot.gauges, known.snapshot.counters)
      if isServed { known = (snapshot, true) }
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

  func snapshot(atNanoseconds now: Int64) -> (PoolSnapshot, isServed: Bool) {
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
    return (snapshot, facts.isServed)
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
