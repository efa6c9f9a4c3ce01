/// The counters and histograms of one pool: of one worker, or of several workers or pools added up.
public struct PoolCounters: Sendable, Equatable {
  /// Transactions that the server ended; one that its client or its connection did not survive is none.
  public var xactCount: UInt64 = 0
  /// Queries that the server answered: each ReadyForQuery of its ends one. What the daemon answers itself is none.
  public var queryCount: UInt64 = 0
  /// Times that a client's request was given a server connection; as in PgBouncer, not its login.
  public var serverAssignmentCount: UInt64 = 0
  /// Bytes received from clients, from the first of their login on, without what TLS adds.
  public var bytesReceived: UInt64 = 0
  /// Bytes sent to clients, from the first of their login on, without what TLS adds.
  public var bytesSent: UInt64 = 0
  /// Parse messages of clients that went to a server.
  public var clientParseCount: UInt64 = 0
  /// Parse messages that were sent to servers.
  public var serverParseCount: UInt64 = 0
  /// Bind messages of clients that went to a server.
  public var bindCount: UInt64 = 0
  /// Clients that logged in.
  public var loginCount: UInt64 = 0
  /// Server connections that were opened.
  public var connects: UInt64 = 0
  /// Dials that failed.
  public var connectFailures: UInt64 = 0
  /// Server connections handed to clients, for their logins too.
  public var checkouts: UInt64 = 0
  /// Server connections that clients ceased to have: given back, left behind, or lost. Clients have what `checkouts` is
  /// ahead.
  public var checkins: UInt64 = 0
  /// Connections that were lost, or closed otherwise than by `recycles` and `overflowCloses`: as unfit, outdated,
  /// paused, killed, or too many. What `connects` is ahead of all three is open.
  public var invalidations: UInt64 = 0
  /// Connections that were replaced for their age (`pool_recycle`).
  public var recycles: UInt64 = 0
  /// Dials beyond `pool_size`, where connections that are still closing count too.
  public var overflowDials: UInt64 = 0
  /// Overflow connections that were closed after `overflow_linger`.
  public var overflowCloses: UInt64 = 0
  /// Waits that `pool_timeout` ended.
  public var timeouts: UInt64 = 0
  /// Times that a limit was reached, in the order of `TimeLimit.allCases`.
  public var limitsExceeded = TimeLimit.allCases.map { _ in UInt64(0) }
  /// Reads that went to the primary, in the order of `ReadFallback.allCases`.
  public var readFallbacks = ReadFallback.allCases.map { _ in UInt64(0) }
  /// Pings that were answered.
  public var pingsOK: UInt64 = 0
  /// Pings that met a dead connection.
  public var pingsFailed: UInt64 = 0
  /// Pings that `pre_ping_timeout` ended.
  public var pingsTimedOut: UInt64 = 0
  /// Idle connections that ended, which was noticed at once and cost nobody a wait.
  public var idleLosses: UInt64 = 0
  /// Checkouts of connections that were pinged first.
  public var checkoutsPinged: UInt64 = 0
  /// Checkouts of connections that were opened first.
  public var checkoutsDialed: UInt64 = 0
  /// Cancel requests sent to the server: for clients that ask, for what a client left running, and for what is closed
  /// while it is busy.
  public var cancels: UInt64 = 0
  /// Times that a client's settings were written ahead of its first bytes.
  public var settingsApplied: UInt64 = 0
  /// Times that a client's settings took a round trip of their own, at its login or later.
  public var settingsConfirmed: UInt64 = 0
  /// As `PoolTelemetry.inspections`.
  public var inspections: UInt64 = 0
  /// As `PoolTelemetry.heals`.
  public var heals: UInt64 = 0
  /// As `PoolTelemetry.scrubs`.
  public var scrubs: UInt64 = 0
  /// As `PoolTelemetry.shardPermits`.
  public var shardPermits: UInt64 = 0
  /// As `PoolTelemetry.shardConnections`.
  public var shardConnections: UInt64 = 0
  /// From a client's request, or login, to its server connection; or to the end of the wait without one, which
  /// PgBouncer does not count.
  public var wait = HistogramSnapshot()
  /// From the start of a dial to a usable server connection.
  public var connect = HistogramSnapshot()
  /// From a ping to its answer.
  public var ping = HistogramSnapshot()
  /// From a request to its ReadyForQuery, without the wait for a server connection. One that was sent ahead begins with
  /// the ReadyForQuery before.
  public var query = HistogramSnapshot()
  /// From a transaction's first request to the ReadyForQuery that ended it, without the wait for a server connection.
  public var transaction = HistogramSnapshot()
  /// From a ReadyForQuery inside a transaction block to the client's next request.
  public var idleInTransaction = HistogramSnapshot()
  /// As `PoolTelemetry.shardTransfer`.
  public var shardTransfer = HistogramSnapshot()

  /// Zeros.
  public init() {}

  /// Checkouts of connections that had answered recently, for which nothing was done.
  public var checkoutsProven: UInt64 { checkouts - min(checkouts, checkoutsPinged + checkoutsDialed) }
  /// Time in transactions in microseconds.
  public var xactTime: UInt64 { transaction.sumMicroseconds }
  /// Time in queries in microseconds.
  public var queryTime: UInt64 { query.sumMicroseconds }
  /// Time that clients waited for a server connection in microseconds.
  public var waitTime: UInt64 { wait.sumMicroseconds }

  /// Adds the counters of another worker or pool.
  public static func += (left: inout PoolCounters, right: PoolCounters) {
    left.xactCount &+= right.xactCount
    left.queryCount &+= right.queryCount
    left.serverAssignmentCount &+= right.serverAssignmentCount
    left.bytesReceived &+= right.bytesReceived
    left.bytesSent &+= right.bytesSent
    left.clientParseCount &+= right.clientParseCount
    left.serverParseCount &+= right.serverParseCount
    left.bindCount &+= right.bindCount
    left.loginCount &+= right.loginCount
    left.connects &+= right.connects
    left.connectFailures &+= right.connectFailures
    left.checkouts &+= right.checkouts
    left.checkins &+= right.checkins
    left.invalidations &+= right.invalidations
    left.recycles &+= right.recycles
    left.overflowDials &+= right.overflowDials
    left.overflowCloses &+= right.overflowCloses
    left.timeouts &+= right.timeouts
    for index in left.limitsExceeded.indices { left.limitsExceeded[index] &+= right.limitsExceeded[index] }
    for index in left.readFallbacks.indices { left.readFallbacks[index] &+= right.readFallbacks[index] }
    left.pingsOK &+= right.pingsOK
    left.pingsFailed &+= right.pingsFailed
    left.pingsTimedOut &+= right.pingsTimedOut
    left.idleLosses &+= right.idleLosses
    left.checkoutsPinged &+= right.checkoutsPinged
    left.checkoutsDialed &+= right.checkoutsDialed
    left.cancels &+= right.cancels
    left.settingsApplied &+= right.settingsApplied
    left.settingsConfirmed &+= right.settingsConfirmed
    left.inspections &+= right.inspections
    left.heals &+= right.heals
    left.scrubs &+= right.scrubs
    left.shardPermits &+= right.shardPermits
    left.shardConnections &+= right.shardConnections
    left.shardTransfer += right.shardTransfer
    left.wait += right.wait
    left.connect += right.connect
    left.ping += right.ping
    left.query += right.query
    left.transaction += right.transaction
    left.idleInTransaction += right.idleInTransaction
  }
}
