/// What a pool's last attempts to connect say.
public enum PoolStandingSnapshot: String, Sendable, CaseIterable {
  /// Nothing speaks against connecting.
  case open
  /// The server answers, but has no more connections to give.
  case exhausted
  /// The server cannot be reached, or does not get as far as the login.
  case outage
  /// The server refuses the pool's login, which waiting does not heal.
  case rejected
}

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
  /// What the last attempts to connect say.
  public var standing = PoolStandingSnapshot.open
  /// The last failure to connect, without secrets; nil where none has been since the last success.
  public var lastError: String?
  /// The latest round trip to the server, of a ping or of the first message on a new connection; nil before the first.
  public var latencyMicroseconds: Int?
  /// `primary` or `standby`, as the server said when the latest connection was opened; nil where it does not say
  /// (before PostgreSQL 14).
  public var role: String?

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

  /// A server connection has been opened at least once.
  public var hasConnected: Bool { counters.connects > 0 }

  /// Server connections that one client has, is about to get (its ping is under way) or has left to be cleaned:
  /// SQLAlchemy's `checkedout()`.
  public var checkedOut: Int { gauges.serversActive + gauges.serversTesting + gauges.serversResetting }

  /// Connections beyond `poolSize`; 0 or more.
  public var overflow: Int { max(0, gauges.serversTotal - poolSize) }
}
