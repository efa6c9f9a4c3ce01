/// When a client gets a server connection, and when it gives it back.
public enum PoolMode: String, Sendable, CaseIterable {
  /// For as long as the client is connected.
  case session
  /// For one transaction.
  case transaction
  /// For one statement; transaction blocks are refused.
  case statement
}

/// What waiting clients do while the upstream cannot be reached.
public enum OutagePolicy: String, Sendable, CaseIterable {
  /// They go on waiting, up to `pool_timeout`.
  case hold
  /// They get the error at once.
  case fail
}

/// What happens to session state that cannot be shared in transaction mode.
public enum SessionStatePolicy: String, Sendable, CaseIterable {
  /// The client keeps its server connection until the state is gone.
  case pin
  /// The statement that would make such state is refused.
  case reject
  /// Nothing: the state may reach another client.
  case ignore
}

/// How thoroughly a server connection is cleaned before another client gets it.
public enum HandOverReset: String, Sendable, CaseIterable {
  /// After text that may have left something behind.
  case auto
  /// Each time.
  case full
  /// Never.
  case off
}

/// Everything that a pool is told, for one pair of database and user: the defaults, then `[pool]`, then
/// `[databases.NAME]`, then `[users.NAME]`.
///
/// A time that is nil is switched off.
public struct PoolSettings: Sendable, Equatable {
  /// When connections change hands.
  public var mode = PoolMode.transaction
  /// Connections that are kept open; 1 or more.
  public var poolSize = 5
  /// Connections that may be opened beyond `poolSize`; 0 or more.
  public var maxOverflow = 10
  /// Connections that are opened ahead of demand; at most `poolSize`.
  public var minSize = 0
  /// The longest wait for a connection; zero does not wait, nil waits for ever.
  public var poolTimeout: Duration? = .seconds(30)
  /// The age at which a connection is replaced, give or take some jitter.
  public var poolRecycle: Duration? = .seconds(3600)
  /// Whether a connection that has been idle for a while is pinged before a client gets it.
  public var poolPrePing = true
  /// Proven alive more recently than this: no ping. Zero pings at every checkout.
  public var prePingIdle: Duration = .seconds(1)
  /// How long a ping may take before the connection counts as dead.
  public var prePingTimeout: Duration = .seconds(1)
  /// Whether the connection that came back last is lent first.
  public var useLIFO = true
  /// How long a connection beyond `poolSize` stays idle before it is closed; zero closes it at once.
  public var overflowLinger: Duration = .seconds(1)
  /// The longest time for opening a connection, over all hosts together.
  public var connectTimeout: Duration = .seconds(5)
  /// The longest time for a cancel request; then the server connection is closed instead.
  public var cancelTimeout: Duration = .seconds(5)
  /// How long a closing connection's EOF is waited for.
  public var closeTimeout: Duration = .seconds(5)
  /// What is sent when a client of session mode has gone; empty sends nothing.
  public var resetQuery = "DISCARD ALL"
  /// What waiting clients do in an outage.
  public var onOutage = OutagePolicy.hold
  /// What happens to state that cannot be shared.
  public var sessionState = SessionStatePolicy.pin
  /// How connections are cleaned between clients.
  public var handOverReset = HandOverReset.auto
  /// `max_pinned` as it was set; nil for "auto". Read `maxPinned` instead.
  public var maxPinnedLimit: Int?
  /// Prepared statements kept on each server connection; 0 keeps none.
  public var maxPreparedStatements = 200
  /// Workers that share the pool.
  public var poolWorkers = 1
  /// How far a standby may be behind before it is left out, as long as another host serves.
  public var maxLag: Duration?
  /// The longest time for one statement.
  public var queryTimeout: Duration?
  /// The longest time for one transaction.
  public var transactionTimeout: Duration?
  /// The longest time that a client may sit idle in a transaction.
  public var idleTransactionTimeout: Duration?
  /// The longest time that a client may sit idle outside of a transaction.
  public var clientIdleTimeout: Duration?

  /// The defaults.
  public init() {}

  /// The hard limit of server connections: `pool_size + max_overflow`.
  public var bound: Int { poolSize + maxOverflow }

  /// Connections that may be pinned at once; below the bound, so that pins never use up the pool.
  public var maxPinned: Int { maxPinnedLimit ?? bound - 1 }

  /// These settings, with what `overrides` sets laid over them.
  func applying(_ overrides: PoolOverrides) -> PoolSettings {
    var result = self
    for key in Keys.pool { key.apply(overrides, &result) }
    return result
  }
}

/// The pool keys that one section sets. A time's outer nil means "not set here", its inner nil "off".
public struct PoolOverrides: Sendable, Equatable {
  var mode: PoolMode?
  var poolSize: Int?
  var maxOverflow: Int?
  var minSize: Int?
  var poolTimeout: Duration??
  var poolRecycle: Duration??
  var poolPrePing: Bool?
  var prePingIdle: Duration?
  var prePingTimeout: Duration?
  var useLIFO: Bool?
  var overflowLinger: Duration?
  var connectTimeout: Duration?
  var cancelTimeout: Duration?
  var closeTimeout: Duration?
  var resetQuery: String?
  var onOutage: OutagePolicy?
  var sessionState: SessionStatePolicy?
  var handOverReset: HandOverReset?
  /// The inner nil is "auto".
  var maxPinnedLimit: Int??
  var maxPreparedStatements: Int?
  var poolWorkers: Int?
  var maxLag: Duration??
  var queryTimeout: Duration??
  var transactionTimeout: Duration??
  var idleTransactionTimeout: Duration??
  var clientIdleTimeout: Duration??

  init() {}
}
