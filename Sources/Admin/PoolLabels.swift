import Telemetry

/// Which pools are shown under their own names.
///
/// With a database `"*"` and without passwords, anybody who can connect makes pools of any name. Each costs about 180
/// lines of metrics, so only so many get labels of their own.
enum PoolLabels {
  /// The database and the user under which the other pools are added up. A real pool of that name is one of them.
  static let other = "_other"
  /// PostgreSQL's names have at most 63 bytes. Longer ones, which a server of unusual make may have, are labels up to here.
  static let longestName = 128

  /// At most `limit` pools, by database and user, and the rest as one more.
  ///
  /// Pools that have had a server connection come first, so that names that no server knows displace none of them;
  /// otherwise the order is that of the names, so that a label stays with its pool from scrape to scrape.
  static func bounded(_ pools: [PoolSnapshot], atMost limit: Int) -> [PoolSnapshot] {
    let ranked = pools.sorted { ($0.rank, $0.database, $0.user) < ($1.rank, $1.database, $1.user) }
    let own = ranked.prefix(limit).prefix { $0.rank < .max }
    var shown = own.sorted { ($0.database, $0.user) < ($1.database, $1.user) }
    if own.count < ranked.count { shown.append(sum(ranked[own.count...])) }
    return shown
  }

  private static func sum(_ pools: ArraySlice<PoolSnapshot>) -> PoolSnapshot {
    var sum = PoolSnapshot(database: other, user: other, mode: "mixed", poolSize: 0, maxOverflow: 0)
    for pool in pools {
      sum.poolSize += pool.poolSize
      sum.maxOverflow += pool.maxOverflow
      sum.gauges += pool.gauges
      sum.counters += pool.counters
      sum.isPaused = sum.isPaused || pool.isPaused
      if pool.standing != .open {
        sum.standing = pool.standing
        sum.lastError = pool.lastError
      }
    }
    return sum
  }
}

extension PoolSnapshot {
  /// The smaller, the sooner the pool gets labels of its own; `max` for one that gets none.
  fileprivate var rank: Int {
    if database == PoolLabels.other && user == PoolLabels.other { return .max }
    if max(database.utf8.count, user.utf8.count) > PoolLabels.longestName { return .max }
    return hasConnected ? 0 : 1
  }
}
