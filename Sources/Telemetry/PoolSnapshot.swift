/// One pool at one moment, all of its workers together.
public struct PoolSnapshot: Sendable, Equatable {
  /// The name that clients connect to.
  public var database: String
  /// The user of the server connections.
  public var user: String
  /// `session`, `transaction` or `statement`.
  public var mode: String
  /// Connections that are kept open.
  public var poolSize: Int
  /// Connections that may be opened beyond `poolSize`.
  public var maxOverflow: Int
  /// Whether PAUSE is in force.
  public var isPaused: Bool
  /// How libpq chooses among several hosts; nil where it is not set.
  public var loadBalanceHosts: String?
  /// How things are now.
  public var gauges: PoolGauges
  /// What has been counted so far.
  public var counters: PoolCounters

  /// A pool that nothing has happened in yet, unless told otherwise.
  public init(
    database: String, user: String, mode: String, poolSize: Int, maxOverflow: Int, isPaused: Bool = false,
    loadBalanceHosts: String? = nil, gauges: PoolGauges = PoolGauges(), counters: PoolCounters = PoolCounters()
  ) {
    self.database = database
    self.user = user
    self.mode = mode
    self.poolSize = poolSize
    self.maxOverflow = maxOverflow
    self.isPaused = isPaused
    self.loadBalanceHosts = loadBalanceHosts
    self.gauges = gauges
    self.counters = counters
  }

  /// The pool's name in errors and rows: `database/user`.
  public var label: String { "\(database)/\(user)" }

  /// Connections beyond `poolSize`; 0 or more.
  public var overflow: Int { max(0, gauges.serversTotal - poolSize) }
}
