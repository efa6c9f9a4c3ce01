/// What one worker counts for one pool. The worker writes; anybody may read at any time.
///
/// Durations are recorded once, into the histograms: PgBouncer's `xact_time`, `query_time` and `wait_time` are their
/// sums.
public final class PoolTelemetry: Sendable {
  // Counted by PgBouncer too.

  /// Transactions that the server ended; one that its client or its connection did not survive is none.
  public let xactCount = Counter()
  /// Queries that the server answered: each ReadyForQuery of its ends one. What the daemon answers itself is none.
  public let queryCount = Counter()
  /// Times that a client's request was given a server connection; as in PgBouncer, not its login.
  public let serverAssignmentCount = Counter()
  /// Bytes received from clients, from the first of their login on, without what TLS adds.
  public let bytesReceived = Counter()
  /// Bytes sent to clients, from the first of their login on, without what TLS adds.
  public let bytesSent = Counter()
  /// Parse messages of clients that went to a server.
  public let clientParseCount = Counter()
  /// Parse messages that were sent to servers.
  public let serverParseCount = Counter()
  /// Bind messages of clients that went to a server.
  public let bindCount = Counter()
  /// Clients that logged in.
  public let loginCount = Counter()

  // The pool's own events.

  /// Server connections that were opened.
  public let connects = Counter()
  /// Dials that failed.
  public let connectFailures = Counter()
  /// Server connections handed to clients, for their logins too.
  public let checkouts = Counter()
  /// Server connections that clients ceased to have: given back, left behind, or lost. Clients have what `checkouts` is
  /// ahead.
  public let checkins = Counter()
  /// Connections that were lost, or closed otherwise than by `recycles` and `overflowCloses`: as unfit, outdated,
  /// paused, killed, or too many. What `connects` is ahead of all three is open.
  public let invalidations = Counter()
  /// Connections that were replaced for their age (`pool_recycle`).
  public let recycles = Counter()
  /// Dials beyond `pool_size`, where connections that are still closing count too.
  public let overflowDials = Counter()
  /// Overflow connections that were closed after `overflow_linger`.
  public let overflowCloses = Counter()
  /// Waits that `pool_timeout` ended.
  public let timeouts = Counter()
  /// Times that a limit was reached, in the order of `TimeLimit.allCases`.
  private let limitsExceeded = InlineArray<4, Counter> { _ in Counter() }
  /// Reads that went to the primary, in the order of `ReadFallback.allCases`. Counted for the pool for reads.
  private let readFallbacks = InlineArray<5, Counter> { _ in Counter() }
  /// Pings that were answered.
  public let pingsOK = Counter()
  /// Pings that met a dead connection.
  public let pingsFailed = Counter()
  /// Pings that `pre_ping_timeout` ended.
  public let pingsTimedOut = Counter()
  /// Idle connections that ended, which was noticed at once and cost nobody a wait.
  public let idleLosses = Counter()
  /// Checkouts of connections that were pinged first; `ping` has what that took.
  public let checkoutsPinged = Counter()
  /// Checkouts of connections that were opened first; `connect` has what that took.
  public let checkoutsDialed = Counter()
  /// Cancel requests sent to the server: for clients that ask, for what a client left running, and for what is closed
  /// while it is busy.
  public let cancels = Counter()
  /// Times that a client's settings were written ahead of its first bytes.
  public let settingsApplied = Counter()
  /// Times that a client's settings took a round trip of their own, at its login or later.
  public let settingsConfirmed = Counter()
  /// Times that the server was asked what a client had left on a connection.
  public let inspections = Counter()
  /// Cycles that were sent again with a statement that was parsed anew, without the client noticing.
  public let heals = Counter()
  /// Times that a connection was cleaned of what no text showed, on its way from one client to another.
  public let scrubs = Counter()

  /// Permits that shards of the pool have got from others without a connection.
  public let shardPermits = Counter()
  /// Connections that shards of the pool have got from others.
  public let shardConnections = Counter()

  // Durations.

  /// From a client's request, or login, to its server connection; or to the end of the wait without one, which
  /// PgBouncer does not count.
  public let wait = Histogram()
  /// From the start of a dial to a usable server connection.
  public let connect = Histogram()
  /// From a ping to its answer.
  public let ping = Histogram()
  /// From a request to its ReadyForQuery, without the wait for a server connection. One that was sent ahead begins with
  /// the ReadyForQuery before.
  public let query = Histogram()
  /// From a transaction's first request to the ReadyForQuery that ended it, without the wait for a server connection.
  public let transaction = Histogram()
  /// From a ReadyForQuery inside a transaction block to the client's next request.
  public let idleInTransaction = Histogram()
  /// How long somebody waited in one shard of the pool for a permit or connection that another one had to spare: from the
  /// moment at which it was both to be had and asked for to its arrival.
  public let shardTransfer = Histogram()

  // How things are now.

  /// Clients whose pool it is, also while their login waits for a server connection.
  public let clients = Gauge()
  /// Those of them that wait for a server connection.
  public let clientsWaiting = Gauge()
  /// Server connections that clients have.
  public let serversActive = Gauge()
  /// Server connections that can be given out.
  public let serversIdle = Gauge()
  /// Server connections that are being opened.
  public let serversDialing = Gauge()
  /// Server connections whose ping is under way.
  public let serversTesting = Gauge()
  /// Server connections that are being cleaned after a client left.
  public let serversResetting = Gauge()
  /// Server connections whose end has not been seen yet; they still count towards the bound.
  public let serversClosing = Gauge()
  /// Server connections that one client keeps for its session state; most of them are active too.
  public let serversPinned = Gauge()
  /// Those of them that are kept for a reason; one may have several. In the order of `PinReason.allCases`.
  private let serversPinnedByReason = InlineArray<11, Gauge> { _ in Gauge() }
  /// Since when the first in the queue has been waiting, in nanoseconds of CLOCK_MONOTONIC; 0 when nobody waits.
  public let oldestWaitSinceNanoseconds = Gauge()
  /// The latest round trip of the daemon's own to the server, in microseconds; 0 before the first.
  public let latencyMicroseconds = Gauge()

  /// Starts with zeros.
  public init() {}

  /// Server connections that are kept for this reason, too, from now on (1), or no longer (-1).
  public func count(_ reason: PinReason, _ change: Int) {
    guard let index = PinReason.allCases.firstIndex(of: reason) else { return }
    serversPinnedByReason[index].set(serversPinnedByReason[index].current + change)
  }

  /// A client, or its transaction, has reached this limit.
  public func count(_ limit: TimeLimit) {
    guard let index = TimeLimit.allCases.firstIndex(of: limit) else { return }
    limitsExceeded[index].add()
  }

  /// A read goes to the primary instead.
  public func count(_ fallback: ReadFallback) {
    guard let index = ReadFallback.allCases.firstIndex(of: fallback) else { return }
    readFallbacks[index].add()
  }

  /// The counters and histograms now.
  public func counters() -> PoolCounters {
    var counters = PoolCounters()
    // Before `checkouts`, of which they are a part.
    counters.checkoutsPinged = checkoutsPinged.count
    counters.checkoutsDialed = checkoutsDialed.count
    counters.xactCount = xactCount.count
    counters.queryCount = queryCount.count
    counters.serverAssignmentCount = serverAssignmentCount.count
    counters.bytesReceived = bytesReceived.count
    counters.bytesSent = bytesSent.count
    counters.clientParseCount = clientParseCount.count
    counters.serverParseCount = serverParseCount.count
    counters.bindCount = bindCount.count
    counters.loginCount = loginCount.count
    counters.connects = connects.count
    counters.connectFailures = connectFailures.count
    counters.checkouts = checkouts.count
    counters.checkins = checkins.count
    counters.invalidations = invalidations.count
    counters.recycles = recycles.count
    counters.overflowDials = overflowDials.count
    counters.overflowCloses = overflowCloses.count
    counters.timeouts = timeouts.count
    counters.limitsExceeded = limitsExceeded.indices.map { limitsExceeded[$0].count }
    counters.readFallbacks = readFallbacks.indices.map { readFallbacks[$0].count }
    counters.pingsOK = pingsOK.count
    counters.pingsFailed = pingsFailed.count
    counters.pingsTimedOut = pingsTimedOut.count
    counters.idleLosses = idleLosses.count
    counters.cancels = cancels.count
    counters.settingsApplied = settingsApplied.count
    counters.settingsConfirmed = settingsConfirmed.count
    counters.inspections = inspections.count
    counters.heals = heals.count
    counters.scrubs = scrubs.count
    counters.wait = wait.snapshot()
    counters.connect = connect.snapshot()
    counters.ping = ping.snapshot()
    counters.query = query.snapshot()
    counters.transaction = transaction.snapshot()
    counters.idleInTransaction = idleInTransaction.snapshot()
    counters.shardPermits = shardPermits.count
    counters.shardConnections = shardConnections.count
    counters.shardTransfer = shardTransfer.snapshot()
    return counters
  }

  /// The gauges now. Each is true by itself; two of them may be a turn of the worker apart.
  ///
  /// - Parameter nanoseconds: CLOCK_MONOTONIC.
  public func gauges(atNanoseconds nanoseconds: Int64) -> PoolGauges {
    var gauges = PoolGauges()
    gauges.clientsWaiting = clientsWaiting.current
    gauges.clientsActive = max(0, clients.current - gauges.clientsWaiting)
    gauges.serversActive = serversActive.current
    gauges.serversIdle = serversIdle.current
    gauges.serversDialing = serversDialing.current
    gauges.serversTesting = serversTesting.current
    gauges.serversResetting = serversResetting.current
    gauges.serversClosing = serversClosing.current
    gauges.serversPinned = serversPinned.current
    gauges.serversPinnedByReason = serversPinnedByReason.indices.map { serversPinnedByReason[$0].current }
    let since = oldestWaitSinceNanoseconds.current
    gauges.maxWaitMicroseconds = since == 0 ? 0 : max(0, Int(nanoseconds) - since) / 1000
    return gauges
  }
}
