import Glibc
import Pooling
import PostgresWire
import Reactor
import Settings
import Telemetry
import Upstream

/// Server connections: opened, proven, cleaned, cancelled and closed.
extension Worker {
  // MARK: Opening

  /// Has libpq open a connection on a dialer thread, where any of the pool's hosts may be dialed.
  func dial(_ token: ServerToken, _ pool: Pool) {
    guard let admission = admit(token, pool) else { return }
    let ticket = environment.dialers.dial(
      pool.target.trying(admission.hosts), deadline: loop.now + pool.settings.connectTimeout.nanoseconds
    ) { [mailbox] outcome in mailbox.post(.dialed(token, outcome)) }
    if pools.isOverflow(token) { pool.telemetry.overflowDials.add() }
    dials[token] = Dial(
      id: environment.serverNumbers.next(), pool: pool, admission: admission, ticket: ticket, since: loop.now)
  }

  func dialed(_ token: ServerToken, _ outcome: Result<ServerLink, DialFailure>) {
    guard let dial = dials.removeValue(forKey: token) else { preconditionFailure("a dial that nobody asked for") }
    let pool = dial.pool
    switch outcome {
    case .success(let link):
      let reported = link.parameters.map { SessionSetting(name: $0.name, value: WireText($0.value)) }
      let server = Server(
        worker: self, token: token, dial: dial, link: link, settings: settingsTable.settings(reported: reported))
      servers[token] = server
      let tls = unsafe link.tlsHandle.map { unsafe TLSStream(borrowing: $0) }
      loop.adopt(link.descriptor, for: server, owned: false, tls: tls)
      server.requestSince = loop.now
      server.sendSync(for: .handOver)
      setDeadline(server, pool.settings.connectTimeout)
    case .failure(let failure):
      hostsDialed(pool, dial.admission, reached: nil, failure.attempts)
      dialFailed(
        token, pool,
        ConnectFailure(
          verdict: DialVerdict(failure.kind), code: failure.sqlState.flatMap { SQLState($0) } ?? failure.kind.code,
          text: failure.text))
    }
    carryOutEffects()
  }

  /// libpq has opened the connection, but it was of no use.
  private func handOverFailed(_ server: Server, _ text: String) {
    let attempt = DialAttempt(
      host: server.link.host, address: server.link.address, kind: .unreachable, sqlState: nil, text: text)
    hostsDialed(server.pool, server.admission, reached: nil, server.link.failedAttempts + [attempt])
    dialFailed(server.token, server.pool, ConnectFailure(verdict: .unreachable, text: text))
  }

  private func dialFailed(_ token: ServerToken, _ pool: Pool, _ failure: ConnectFailure) {
    pool.lastFailure = failure
    pool.telemetry.connectFailures.add()
    environment.log(.connectFailed(pool: pool.label, text: failure.text))
    pools.dialFailed(token, failure.verdict, retryJitterPermille: randomPermille(), now: time)
  }

  private func opened(_ server: Server) {
    let pool = server.pool
    server.work = .none
    server.deadline = .max
    pool.telemetry.connects.add()
    pool.telemetry.connect.record(microseconds: UInt64(max(0, loop.now - server.dialedAt) / 1000))
    recordLatency(server)
    pool.lastFailure = nil
    pool.opened(with: server.settings)
    hostOpened(server)
    environment.log(
      .serverOpened(
        pool: pool.label, server: server.id, host: server.link.host.label, processID: server.link.processID))
    pools.dialed(
      server.token, host: pool.hosts.number(of: server.link.host), settings: server.settings.identity,
      recycleJitterPermille: randomPermille(), now: time)
  }

  // MARK: The daemon's own requests

  func ping(_ token: ServerToken) {
    guard let server = servers[token] else { preconditionFailure("pinged what is not there") }
    server.requestSince = loop.now
    server.sendSync(for: .ping)
    setDeadline(server, server.pool.settings.prePingTimeout)
  }

  /// A Sync of the daemon's was answered. Returns the round trip in microseconds.
  @discardableResult
  private func recordLatency(_ server: Server) -> UInt64 {
    let microseconds = max(0, loop.now - server.requestSince) / 1000
    // 0 stands for none yet.
    server.pool.telemetry.latencyMicroseconds.set(max(1, Int(microseconds)))
    server.host?.replied(at: loop.now)
    return UInt64(microseconds)
  }

  /// A request of the daemon's got its ReadyForQuery.
  func ownWorkEnded(_ server: Server, error: ErrorFields?) {
    let isOver = server.replies.ledger.isEmpty
    server.answerDeadline = .max
    switch server.work {
    case .none, .closing: break
    case .handOver:
      guard server.status == .idle, isOver else { return abandonServer(server, reason: .unfit) }
      opened(server)
    case .ping:
      guard server.status == .idle, isOver else { return abandonServer(server, reason: .unfit) }
      server.work = .none
      server.deadline = .max
      server.pool.telemetry.ping.record(microseconds: recordLatency(server))
      server.pool.telemetry.pingsOK.add()
      server.proof = .ping
      pools.pinged(server.token, ok: true, now: time)
    case .settings(let wanted): settingsApplied(wanted, server, error)
    case .opening: blockOpened(server, error)
    case .inspection(let inspection): inspected(inspection, server, error)
    case .blockRollback: blockRolledBack(server)
    case .fence:
      server.work = .none
      answered(server)
    case .deallocation:
      guard error == nil, server.status == .idle, isOver else { return abandonServer(server, reason: .unfit) }
      server.work = .none
      server.deadline = .max
      pools.pinged(server.token, ok: true, now: time)
    case .cancelBeforeCleanup, .departing: break
    case .cleanup(let attempt):
      guard isOver else { return }
      if server.status == .idle {
        reset(server)
      } else if attempt < 3 {
        server.sendRollback(attempt: attempt + 1)
      } else {
        abandonServer(server, reason: .unfit)
      }
    case .reset:
      guard error == nil, server.status == .idle, isOver else { return abandonServer(server, reason: .unfit) }
      if server.cleaning == .everything || server.forgetsStatements { server.statements.forgetAll() }
      if server.resetsSettings { server.settings = settingsTable.settings(reported: server.settings.reported) }
      settled(server)
    }
    carryOutEffects()
  }

  private func settingsApplied(_ wanted: SessionSettings, _ server: Server, _ error: ErrorFields?) {
    server.work = .none
    if error == nil {
      server.settings = settingsTable.settings(reportedOf: server.settings, unreportedOf: wanted)
    }
    guard let client = server.client else { preconditionFailure("settings are applied for a client") }
    client.lossesWhileApplying = 0
    let wasWaiting = client.isApplying
    client.isApplying = false
    if client.phase == .login { return client.startupApplied(server, error) }
    guard let error else {
      if wasWaiting { resume(client) }
      return
    }
    environment.log(.settingsRefused(pool: server.pool.label, client: client.id, text: error.message.text))
    guard wasWaiting else {
      // The client's requests were behind settings that the server had always taken. What they did was done with other
      // settings than the client's: the connection must not go on as if nothing had happened.
      client.close(withExactly: error.with(severity: .fatal))
      return
    }
    client.refusal = Refusal(error)
    giveBack(server, client)
    resume(client)
  }

  /// Gives a connection back on which nothing of the client's has been sent.
  func giveBack(_ server: Server, _ client: Client) {
    separate(server, client)
    pools.checkin(server.token, settings: server.settings.identity, now: time)
  }

  private func blockRolledBack(_ server: Server) {
    guard server.status == .idle else { return abandonServer(server, reason: .unfit) }
    server.work = .none
    if let client = server.client { tellOfRollback(server, client) }
    requestEnded(server)
  }

  /// A client in statement mode is told what became of the block that it began.
  private func tellOfRollback(_ server: Server, _ client: Client) {
    client.send {
      $0.errorResponse(Refusal.blockInStatementMode(server.pool).fields(to: client))
      $0.readyForQuery(.idle)
    }
  }

  // MARK: Cleaning

  /// Cleans a connection whose client is gone: a running query is cancelled, what is open is rolled back, a session is
  /// reset. Then the connection is the pool's again.
  func clean(_ server: Server) {
    if case .settings = server.work {
      // Which settings the session has by now is not known.
      return abandonServer(server, reason: .unfit)
    }
    pools.settle(server.token)
    setDeadline(server, server.pool.settings.cancelTimeout)
    server.resumeReceiving()
    // Its answer comes at once; no cancel is worth it.
    if case .inspection = server.work { return }
    if server.isClean {
      reset(server)
    } else if server.replies.ledger.isEmpty {
      server.sendRollback(attempt: 1)
    } else {
      server.work = .cancelBeforeCleanup
      cancel(server)
    }
  }

  func reset(_ server: Server) {
    if !server.pool.sharesConnections { server.cleaning = max(server.cleaning, .session) }
    if server.cleaningQuery.isEmpty {
      settled(server)
    } else {
      server.sendQuery(WireText(server.cleaningQuery), for: .reset, within: nil)
    }
  }

  private func settled(_ server: Server) {
    server.work = .none
    if server.cleaning == .everything {
      server.isTainted = false
      server.hasForeignSequences = false
      server.lastClient = 0
    }
    server.cleaning = .none
    if server.isCancelling {
      setDeadline(server, server.pool.settings.cancelTimeout)
    } else {
      server.deadline = .max
    }
    pools.settled(server.token, settings: server.settings.identity, now: time)
  }

  // MARK: Cancelling

  /// Sends a cancel request for what runs on the connection. The connection goes to nobody until that is over.
  func cancel(_ server: Server) {
    guard !server.isCancelling else { return }
    server.isCancelling = true
    server.pool.telemetry.cancels.add()
    pools.hold(server.token)
    let token = server.token
    setDeadline(server, server.pool.settings.cancelTimeout)
    environment.cancellers.cancel(server.link.cancelHandle) { [mailbox] outcome in
      mailbox.post(.cancelSent(token, outcome))
    }
  }

  func cancelSent(_ token: ServerToken, _ outcome: CancelOutcome) {
    guard let server = servers[token] else { return }
    server.isCancelling = false
    if case .closing = server.work { return }
    if case .failed(let text) = outcome {
      environment.log(.cancelFailed(pool: server.pool.label, server: server.id, text: text))
    }
    pools.unhold(token, now: time)
    switch server.work {
    case .cancelBeforeCleanup:
      setDeadline(server, server.pool.settings.cancelTimeout)
      server.sendRollback(attempt: 1)
    case .none, .settings, .opening, .fence, .blockRollback: server.deadline = .max
    case .handOver, .ping, .inspection, .cleanup, .reset, .deallocation, .departing, .closing: break
    }
    if let client = server.client, client.awaitsCancel { cancelOfLimitSent(server, client) }
    carryOutEffects()
  }

  // MARK: Closing

  /// Carries out the pool's wish to close a connection: Terminate, then the server's EOF is awaited.
  func close(_ token: ServerToken, _ reason: CloseReason) {
    guard let server = servers[token] else { return }
    switch reason {
    case .recycled: server.pool.telemetry.recycles.add()
    case .overflow: server.pool.telemetry.overflowCloses.add()
    default: server.pool.telemetry.invalidations.add()
    }
    environment.log(
      .serverClosed(
        pool: server.pool.label, server: server.id, processID: server.link.processID, reason: reason.text))
    terminate(server)
  }

  /// Takes a connection from the pool for good. A client that has it is told so.
  func abandonServer(
    _ server: Server, reason: CloseReason, detail: String = "the connection could not be used any more"
  ) {
    takeFromClient(server, detail: detail)
    if case .ping = server.work, reason != .killed { server.pool.telemetry.pingsFailed.add() }
    if case .handOver = server.work {
      dropServer(server)
      handOverFailed(server, "the server did not answer as PostgreSQL does after the login")
      carryOutEffects()
      return
    }
    pools.discard(server.token, reason, now: time)
    carryOutEffects()
  }

  /// Takes a connection that is lost from the client that has it.
  private func takeFromClient(_ server: Server, detail: String) {
    guard let client = server.client else { return }
    if case .blockRollback = server.work {
      // The block is gone with its connection.
      tellOfRollback(server, client)
      separate(server, client)
      return resume(client)
    }
    let loss = ConnectionLoss(server, client, detail: detail)
    server.statements.abandon()
    separate(server, client)
    client.serverLost(loss)
  }

  private func terminate(_ server: Server) {
    if !server.replies.ledger.isEmpty && !server.isCancelling {
      server.pool.telemetry.cancels.add()
      environment.cancellers.cancel(server.link.cancelHandle) { _ in }
    }
    server.work = .closing
    server.resumeReceiving()
    if server.isCut {
      loop.endOutput(server)
    } else {
      var writer = MessageWriter()
      writer.terminate()
      loop.send(writer.bytes.span, to: server.socket)
    }
    setDeadline(server, server.pool.settings.closeTimeout)
  }

  /// Forgets a connection; libpq closes the socket.
  private func dropServer(_ server: Server) {
    server.work = .closing
    loop.close(server)
    server.link.finish()
    servers[server.token] = nil
    if let origin = server.origin, let group = server.pool.shard?.group { tellOrigin(of: origin, group) }
  }

  /// The server has closed the connection.
  func serverEnded(_ server: Server, _ end: StreamEnd) {
    let pool = server.pool
    let detail = server.fatal?.message.text ?? end.text
    switch server.work {
    case .closing:
      dropServer(server)
      pools.closed(server.token, now: time)
    case .handOver:
      dropServer(server)
      handOverFailed(server, "the server closed the connection: \(detail)")
    case .departing: departureFailed(server, detail)
    case .none, .ping, .settings, .opening, .inspection, .fence, .blockRollback, .cancelBeforeCleanup, .cleanup, .reset,
      .deallocation:
      environment.log(
        .serverLost(pool: pool.label, server: server.id, processID: server.link.processID, reason: detail))
      if case .ping = server.work { pool.telemetry.pingsFailed.add() }
      if case .none = server.work, server.client == nil { pool.telemetry.idleLosses.add() }
      pool.telemetry.invalidations.add()
      takeFromClient(server, detail: detail)
      dropServer(server)
      pools.lost(server.token, LossKind(server.fatal?.code), now: time)
    }
    carryOutEffects()
  }

  /// The server has sent what nobody asked for: no byte of it can be trusted.
  func protocolViolated(_ server: Server, _ type: UInt8) {
    environment.log(
      .protocolViolated(pool: server.pool.label, server: server.id, processID: server.link.processID, type: type))
    if case .departing = server.work { return departureFailed(server, CloseReason.protocolViolation.text) }
    abandonServer(
      server, reason: .protocolViolation, detail: "the server sent a message that no request asked for")
  }

  /// The daemon has asked something that takes no time, and waits no longer than so for the answer.
  func awaitAnswer(_ server: Server, _ limit: Duration) {
    server.answerDeadline = loop.now + limit.nanoseconds
    loop.schedule(at: server.answerDeadline, token: Timer.server(server.token).token)
  }

  /// The server has not answered the daemon's own question. The connection is given up, and the pool's others are pinged
  /// before they are lent.
  private func answerMissed(_ server: Server) {
    // The answer may have come long since.
    if server.isReceivingPaused { return awaitAnswer(server, server.pool.settings.cancelTimeout) }
    server.answerDeadline = .max
    if case .closing = server.work { return }
    abandonServer(server, reason: .unanswered, detail: "the server did not answer in time")
  }

  /// A moment that was set for the connection has come.
  func timerFired(_ server: Server) {
    if server.answerDeadline <= loop.now { answerMissed(server) }
    if server.deadline <= loop.now { serverTimedOut(server) }
  }

  /// What the connection was doing has taken too long.
  private func serverTimedOut(_ server: Server) {
    server.deadline = .max
    switch server.work {
    case .closing:
      hostKeptSilent(server)
      dropServer(server)
      pools.closed(server.token, now: time)
    case .ping:
      server.pool.telemetry.pingsTimedOut.add()
      pools.pinged(server.token, ok: false, now: time)
    case .departing: break
    case .handOver, .inspection, .cancelBeforeCleanup, .cleanup, .reset, .deallocation:
      abandonServer(server, reason: .unfit)
    case .none, .settings, .opening, .fence, .blockRollback:
      // A cancel request has not been taken in time, or has not ended the query: the connection is closed instead, which
      // ends it too.
      guard server.isCancelling || server.client?.exceeded != nil else { return }
      abandonServer(
        server, reason: .unfit, detail: "the server did not end the statement in time when it was cancelled")
    }
    carryOutEffects()
  }

  func setDeadline(_ server: Server, _ timeout: Duration) {
    server.deadline = loop.now + timeout.nanoseconds
    loop.schedule(at: server.deadline, token: Timer.server(server.token).token)
  }
}

extension Server {
  /// The query that does what `cleaning` asks for; empty where there is nothing to do.
  fileprivate var cleaningQuery: String {
    switch cleaning {
    case .none: ""
    case .session: pool.settings.resetQuery
    case .everything: "DISCARD ALL"
    }
  }

  /// After `cleaningQuery` no statement is left.
  fileprivate var forgetsStatements: Bool {
    let query = cleaningQuery.uppercased()
    return query.contains("DISCARD ALL") || query.contains("DEALLOCATE ALL")
  }

  /// After `cleaningQuery` no setting of a client is left.
  fileprivate var resetsSettings: Bool {
    let query = cleaningQuery.uppercased()
    return query.contains("RESET ALL") || query.contains("DISCARD ALL")
  }
}

extension CloseReason {
  /// As it stands in the log.
  fileprivate var text: String {
    switch self {
    case .recycled: "pool_recycle"
    case .generation: "an older generation"
    case .overflow: "overflow"
    case .shrunk: "the pool became smaller"
    case .limit: "its permit is needed elsewhere"
    case .pingFailed: "the ping failed"
    case .retired: "the pool is retired"
    case .unfit: "it could not be cleaned"
    case .unanswered: "it did not answer"
    case .protocolViolation: "protocol violation"
    case .killed: "KILL"
    case .paused: "PAUSE"
    }
  }
}

extension DialVerdict {
  /// What a failure to connect means to the pool.
  fileprivate init(_ kind: DialFailureKind) {
    switch kind {
    case .unreachable, .timeout, .startingUp, .wrongRole, .cancelled, .other: self = .unreachable
    case .authentication, .unknownDatabase, .insufficientPrivilege, .tls: self = .rejected
    case .tooManyConnections: self = .exhausted
    }
  }
}

extension DialFailureKind {
  /// The SQLSTATE of what libpq, not the server, has found wrong; nil where there is none of its own.
  fileprivate var code: SQLState? {
    switch self {
    case .authentication: .invalidPassword
    case .tls: .invalidAuthorizationSpecification
    case .unreachable, .timeout, .unknownDatabase, .tooManyConnections, .startingUp, .insufficientPrivilege, .wrongRole,
      .cancelled, .other:
      nil
    }
  }
}

extension LossKind {
  /// What the server's last error says about the other connections.
  fileprivate init(_ code: SQLState?) {
    switch code {
    case .some(.crashShutdown): self = .crashed
    case .some(.cannotConnectNow): self = .cannotConnectNow
    case .some(.adminShutdown), .some(.idleSessionTimeout), .some(.idleInTransactionSessionTimeout): self = .terminated
    default: self = .eof
    }
  }
}

extension Refusal {
  /// The server's own error.
  convenience init(_ fields: ErrorFields) {
    self.init(
      code: fields.code ?? .internalError, message: fields.message, detail: fields[.detail], hint: fields[.hint],
      isServers: true)
  }
}

extension ErrorFields {
  /// The same error with another severity.
  func with(severity: Severity) -> ErrorFields {
    ErrorFields(severity, code ?? .internalError, message, detail: self[.detail], hint: self[.hint])
  }
}
