public import Telemetry

/// What SHOW STATS averages over: the counters at the two latest ends of a period.
public struct StatsPeriods: Sendable {
  /// How long a period is: PgBouncer's default `stats_period`.
  public static let length: Duration = .seconds(60)

  private var older: Sample?
  private var newer: Sample?

  private struct Sample {
    let time: UnixTime
    let counters: [String: PoolCounters]
  }

  /// No period has ended yet: all averages are 0.
  public init() {}

  /// Ends a period. To be called each ``length``.
  public mutating func record(_ daemon: DaemonSnapshot) {
    older = newer
    newer = Sample(time: daemon.time, counters: Self.countersByDatabase(daemon))
  }

  /// The counters of each database: those of its pools added up.
  static func countersByDatabase(_ daemon: DaemonSnapshot) -> [String: PoolCounters] {
    var counters: [String: PoolCounters] = [:]
    for pool in daemon.pools { counters[pool.database, default: PoolCounters()] += pool.counters }
    return counters
  }

  /// The averages of one database over the period that ended last.
  func averages(of database: String) -> Averages { averages { $0[database] ?? PoolCounters() } }

  /// The averages of all databases together over the period that ended last.
  func averagesOfAll() -> Averages { averages { $0.values.reduce(into: PoolCounters()) { $0 += $1 } } }

  private func averages(_ counters: ([String: PoolCounters]) -> PoolCounters) -> Averages {
    guard let older, let newer, newer.time > older.time else { return Averages(.init(), .init(), microseconds: 1) }
    return Averages(
      counters(older.counters), counters(newer.counters),
      microseconds: UInt64(newer.time.microseconds - older.time.microseconds))
  }

  /// What happened between two samples.
  struct Averages {
    private let older: PoolCounters
    private let newer: PoolCounters
    private let microseconds: UInt64

    init(_ older: PoolCounters, _ newer: PoolCounters, microseconds: UInt64) {
      self.older = older
      self.newer = newer
      self.microseconds = microseconds
    }

    /// The growth of a counter a second.
    func rate(_ counter: (PoolCounters) -> UInt64) -> UInt64 {
      let (high, low) = growth(counter).multipliedFullWidth(by: 1_000_000)
      return high < microseconds ? microseconds.dividingFullWidth((high, low)).quotient : .max
    }

    /// The growth of a sum for each thing counted; 0 when nothing was.
    func mean(_ sum: (PoolCounters) -> UInt64, per count: (PoolCounters) -> UInt64) -> UInt64 {
      let things = growth(count)
      return things == 0 ? 0 : growth(sum) / things
    }

    /// 0 where a counter is smaller than before, because a pool is gone.
    private func growth(_ counter: (PoolCounters) -> UInt64) -> UInt64 {
      let (before, after) = (counter(older), counter(newer))
      return after > before ? after - before : 0
    }
  }
}

/// One statistic of PgBouncer's: its names in the various tables, its total and its average.
private struct Statistic: Sendable {
  /// The name behind `total_` and `avg_` in SHOW TOTALS.
  var name: String
  /// The name behind `total_` in SHOW STATS.
  var total: String
  /// The name behind `avg_` in SHOW STATS.
  var average: String
  /// The name in SHOW STATS_TOTALS and SHOW STATS_AVERAGES.
  var plain: String
  var count: @Sendable (PoolCounters) -> UInt64
  /// What the average is for; nil for a second.
  var per: (@Sendable (PoolCounters) -> UInt64)?

  init(_ name: String, _ count: @escaping @Sendable (PoolCounters) -> UInt64) {
    (self.name, total, average, plain) = (name, name, name, name)
    self.count = count
  }

  init(_ name: String, in stats: String, _ average: String, _ count: @escaping @Sendable (PoolCounters) -> UInt64) {
    (self.name, total, self.average, plain) = (name, stats, average, "bytes_\(stats)")
    self.count = count
  }

  func per(_ things: @escaping @Sendable (PoolCounters) -> UInt64) -> Statistic {
    var result = self
    result.per = things
    return result
  }

  func value(_ averages: StatsPeriods.Averages) -> UInt64 {
    per.map { averages.mean(count, per: $0) } ?? averages.rate(count)
  }

  /// In PgBouncer's order. Times are in microseconds; averages are a second, but those of transactions and queries are
  /// for each of them.
  static let all: [Statistic] = [
    Statistic("server_assignment_count") { $0.serverAssignmentCount },
    Statistic("xact_count") { $0.xactCount },
    Statistic("query_count") { $0.queryCount },
    Statistic("client_bytes", in: "received", "recv") { $0.bytesReceived },
    Statistic("server_bytes", in: "sent", "sent") { $0.bytesSent },
    Statistic("xact_time") { $0.xactTime }.per { $0.xactCount },
    Statistic("query_time") { $0.queryTime }.per { $0.queryCount },
    Statistic("wait_time") { $0.waitTime },
    Statistic("client_parse_count") { $0.clientParseCount },
    Statistic("server_parse_count") { $0.serverParseCount },
    Statistic("bind_count") { $0.bindCount },
    Statistic("client_login_count") { $0.loginCount },
  ]
}

extension AdminTable {
  /// SHOW STATS.
  static func stats(_ daemon: DaemonSnapshot, _ periods: StatsPeriods) -> AdminTable {
    statistics(
      daemon, periods,
      Statistic.all.map { statistic in .numeric("total_\(statistic.total)") { statistic.count($0.total) } }
        + Statistic.all.map { statistic in .numeric("avg_\(statistic.average)") { statistic.value($0.average) } })
  }

  /// SHOW STATS_TOTALS.
  static func statsTotals(_ daemon: DaemonSnapshot) -> AdminTable {
    statistics(
      daemon, StatsPeriods(),
      Statistic.all.map { statistic in .numeric(statistic.plain) { statistic.count($0.total) } })
  }

  /// SHOW STATS_AVERAGES.
  static func statsAverages(_ daemon: DaemonSnapshot, _ periods: StatsPeriods) -> AdminTable {
    statistics(
      daemon, periods, Statistic.all.map { statistic in .numeric(statistic.plain) { statistic.value($0.average) } })
  }

  /// SHOW TOTALS.
  static func totals(_ daemon: DaemonSnapshot, _ periods: StatsPeriods) -> AdminTable {
    let total = daemon.pools.reduce(into: PoolCounters()) { $0 += $1.counters }
    let average = periods.averagesOfAll()
    let rows =
      Statistic.all.map { ("total_\($0.name)", $0.count(total)) }
      + Statistic.all.map { ("avg_\($0.name)", $0.value(average)) }
    return AdminTable(rows, [.text("name") { $0.0 }, .numeric("value") { $0.1 }])
  }

  private typealias DatabaseStatistics = (name: String, total: PoolCounters, average: StatsPeriods.Averages)

  private static func statistics(
    _ daemon: DaemonSnapshot, _ periods: StatsPeriods, _ columns: [ColumnSource<DatabaseStatistics>]
  ) -> AdminTable {
    let databases = StatsPeriods.countersByDatabase(daemon).sorted { $0.key < $1.key }
    return AdminTable(
      databases.map { (name: $0.key, total: $0.value, average: periods.averages(of: $0.key)) },
      [.text("database") { $0.name }] + columns)
  }
}
