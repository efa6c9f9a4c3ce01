import Pooling
import PostgresWire
import Settings
import Telemetry

/// `query_timeout`, `transaction_timeout`, `idle_transaction_timeout` and `client_idle_timeout`.
///
/// A transaction sets no timer: it only leaves the moments at which it began, which statistics need anyway. Where a limit is
/// set, a sweep over all clients looks at them, eight times within the shortest limit but at most once in 5 ms, and at
/// least once a second. So a limit is late by an eighth of the shortest one, or a second, at most.
///
/// ```
///   a statement runs     ─▶ cancel request ─▶ the server's 57014, in the daemon's words ─▶ the client goes on
///                                  └─ no answer within cancel_timeout ─▶ the server connection is closed, as if it had died
///   a block sits idle    ─▶ the server connection is taken back and rolled back ─▶ the block is lost (LostBlock)
///   a held BEGIN waits   ─▶ the block is lost: no server knows of it (RequestScanner.heldModes)
///   a client sits idle   ─▶ FATAL
/// ```
extension Worker {
  private static let sweepsWithinLimit: Int64 = 8
  private static let sweepNanoseconds: ClosedRange<Int64> = 5_000_000...1_000_000_000

  /// Has the sweep begin where a pool has a limit, or come sooner.
  func scheduleSweep() {
    guard let shortest = allPools.compactMap(\.settings.shortestTimeLimit).min() else { return }
    let interval = shortest.nanoseconds / Worker.sweepsWithinLimit
    let due = loop.now + min(max(interval, Worker.sweepNanoseconds.lowerBound), Worker.sweepNanoseconds.upperBound)
    guard due < sweepAt else { return }
    sweepAt = due
    loop.schedule(at: due, token: Timer.sweep.token)
  }

  /// Looks at every client. A timer that a sooner one has made superfluous does nothing.
  func sweep() {
    guard loop.now >= sweepAt else { return }
    sweepAt = .max
    for client in allClients where client.phase == .serving {
      if let limit = client.exceededLimit(at: loop.now) { enforce(limit, on: client) }
    }
    carryOutEffects()
    scheduleSweep()
  }

  private func enforce(_ limit: TimeLimit, on client: Client) {
    guard let pool = client.pool else { return }
    pool.telemetry.count(limit)
    environment.log(.limitExceeded(pool: pool.label, client: client.id, limit: limit))
    guard let server = client.server, limit != .clientIdle else {
      if limit != .clientIdle { return client.loseHeldBlock(.exceeded(limit, pool)) }
      return client.close(withExactly: Refusal.exceeded(limit, pool).fields(.fatal, to: client))
    }
    client.exceeded = limit
    if server.replies.ledger.isEmpty {
      let loss = ConnectionLoss(server, client, detail: nil)
      takeBack(server, from: client)
      client.serverLost(loss)
    } else {
      client.awaitsCancel = true
      cancel(server)
    }
  }

  /// A request whose limit was reached got its ReadyForQuery.
  func limitAnswered(_ server: Server, _ client: Client) {
    client.exceeded = nil
    if !server.isCancelling { server.deadline = .max }
  }

  /// The cancel request that a limit has caused has been sent: its signal reaches the statement that runs, or none. The
  /// server has `cancel_timeout` to end the statement.
  func cancelOfLimitSent(_ server: Server, _ client: Client) {
    client.awaitsCancel = false
    if client.exceeded != nil { setDeadline(server, server.pool.settings.cancelTimeout) }
    resume(client)
  }
}

extension Client {
  /// The limit that the client has reached.
  fileprivate func exceededLimit(at now: Int64) -> TimeLimit? {
    guard exceeded == nil, !isWaiting, let settings = pool?.settings else { return nil }
    func isReached(_ limit: Duration?, since: Int64) -> Bool { limit.map { now - since >= $0.nanoseconds } ?? false }
    if isIdleOutside {
      let since = max(connectedAt, requestedAt, requestSince)
      return isReached(settings.clientIdleTimeout, since: since) ? .clientIdle : nil
    }
    if requests.heldModes != nil && server == nil {
      if isReached(settings.transactionTimeout, since: transactionSince) { return .transaction }
      return inbox.isEmpty && isReached(settings.idleTransactionTimeout, since: requestSince) ? .idleTransaction : nil
    }
    guard let server, !isInspected else { return nil }
    if !server.replies.ledger.isEmpty, isReached(settings.queryTimeout, since: requestSince) { return .query }
    if isReached(settings.transactionTimeout, since: transactionSince) { return .transaction }
    let isIdleInside = awaitsRequest && inbox.isEmpty && server.status != .idle
    return isIdleInside && isReached(settings.idleTransactionTimeout, since: requestSince) ? .idleTransaction : nil
  }

  /// Nothing of the client's is under way or open.
  private var isIdleOutside: Bool {
    isIdle && requests.detachedStatus == .idle && !requests.isInsideCycle && !requests.isInsideForwardedMessage
  }
}

extension PoolSettings {
  /// The shortest of the limits that a sweep enforces; nil where there is none.
  fileprivate var shortestTimeLimit: Duration? {
    [queryTimeout, transactionTimeout, idleTransactionTimeout, clientIdleTimeout].compactMap { $0 }.min()
  }
}

extension Refusal {
  /// A limit that has been reached. The SQLSTATEs are those of PostgreSQL's own limits of the kind.
  static func exceeded(_ limit: TimeLimit, _ pool: Pool, detail: String? = nil) -> Refusal {
    let settings = pool.settings
    let (code, what, setting): (SQLState, String, Duration?) =
      switch limit {
      case .query: (.queryCanceled, "canceled the statement", settings.queryTimeout)
      case .transaction: (.transactionTimeout, "ended the transaction", settings.transactionTimeout)
      case .idleTransaction:
        (.idleInTransactionSessionTimeout, "ended the transaction", settings.idleTransactionTimeout)
      case .clientIdle: (.idleSessionTimeout, "ended the connection", settings.clientIdleTimeout)
      }
    let value = setting.map { " of \($0.settingText)" } ?? ""
    return Refusal(
      code: code, message: WireText("\(pool.quotedLabel) \(what): \(limit.rawValue)\(value) exceeded"),
      detail: detail.map { WireText($0) })
  }
}
