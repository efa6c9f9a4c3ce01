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
  func averages(of database: String) -> Averages {
    guard let older, let newer, newer.time > older.time else { return Averages(.init(), .init(), microseconds: 1) }
    return Averages(
      older.counters[database] ?? PoolCounters(), newer.counters[database] ?? PoolCounters(),
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

extension AdminTable {
  /// SHOW STATS. As in PgBouncer, times are in microseconds; averages are a second, but `avg_xact_time` and
  /// `avg_query_time` are for each transaction and query.
  static func stats(_ daemon: DaemonSnapshot, _ periods: StatsPeriods) -> AdminTable {
    let databases = StatsPeriods.countersByDatabase(daemon).sorted { $0.key < $1.key }
    let rows = databases.map { (name: $0.key, total: $0.value, average: periods.averages(of: $0.key)) }
    return AdminTable(
      rows,
      [
        .text("database") { $0.name },
        .numeric("total_server_assignment_count") { $0.total.serverAssignmentCount },
        .numeric("total_xact_count") { $0.total.xactCount },
        .numeric("total_query_count") { $0.total.queryCount },
        .numeric("total_received") { $0.total.bytesReceived },
        .numeric("total_sent") { $0.total.bytesSent },
        .numeric("total_xact_time") { $0.total.xactTime },
        .numeric("total_query_time") { $0.total.queryTime },
        .numeric("total_wait_time") { $0.total.waitTime },
        .numeric("total_client_parse_count") { $0.total.clientParseCount },
        .numeric("total_server_parse_count") { $0.total.serverParseCount },
        .numeric("total_bind_count") { $0.total.bindCount },
        .numeric("total_client_login_count") { $0.total.loginCount },
        .numeric("avg_server_assignment_count") { $0.average.rate(\.serverAssignmentCount) },
        .numeric("avg_xact_count") { $0.average.rate(\.xactCount) },
        .numeric("avg_query_count") { $0.average.rate(\.queryCount) },
        .numeric("avg_recv") { $0.average.rate(\.bytesReceived) },
        .numeric("avg_sent") { $0.average.rate(\.bytesSent) },
        .numeric("avg_xact_time") { $0.average.mean(\.xactTime, per: \.xactCount) },
        .numeric("avg_query_time") { $0.average.mean(\.queryTime, per: \.queryCount) },
        .numeric("avg_wait_time") { $0.average.rate(\.waitTime) },
        .numeric("avg_client_parse_count") { $0.average.rate(\.clientParseCount) },
        .numeric("avg_server_parse_count") { $0.average.rate(\.serverParseCount) },
        .numeric("avg_bind_count") { $0.average.rate(\.bindCount) },
        .numeric("avg_client_login_count") { $0.average.rate(\.loginCount) },
      ])
  }
}
