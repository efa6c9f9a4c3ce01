import Pooling
import PostgresWire
import Reactor
import Upstream

/// One server connection. libpq opened it and owns its socket; the worker relays raw frames on it.
final class Server: Connection {
  /// What the daemon itself is doing on the connection.
  enum OwnWork {
    /// Nothing: the connection is a client's, or idle.
    case none
    /// The bare Sync after libpq handed the socket over.
    case handOver
    /// The bare Sync before a checkout, or after a cancel.
    case ping
    /// Settings on their way to those of a client. Its requests are behind them already, unless it waits
    /// (`Client.isApplying`).
    case settings(SessionSettings)
    /// The BEGIN that the client has been told of already, ahead of its first statement, which waits
    /// (`Client.isApplying`).
    case opening
    /// The server is asked what the client's transaction has left behind; the client's requests wait
    /// (`Client.isInspected`).
    case inspection(Inspection)
    /// An empty query whose reply tells whether another ReadyForQuery of the client's is still to come
    /// (`Ledger.isInDoubt`).
    case fence
    /// A block in statement mode is rolled back, then the client is told.
    case blockRollback
    /// The client is gone: a cancel is under way, after which the connection is cleaned.
    case cancelBeforeCleanup
    /// What the client left open is rolled back. How often that was tried.
    case cleanup(attempt: Int)
    /// The reset query of a session's end.
    case reset
    /// The connection has come from another shard with statements that are named otherwise here; they are deallocated.
    case deallocation
    /// The connection goes to another shard at the end of the turn.
    case departing
    /// Terminate was sent; the server's EOF is awaited.
    case closing
  }

  let worker: Worker
  /// Its number, for as long as the daemon lives: in the log and in SHOW SERVERS.
  let id: Int64
  let token: ServerToken
  let pool: Pool
  let link: ServerLink
  /// The host that it is on; nil where its pool's upstream has changed meanwhile.
  let host: HostRecord?
  /// Where its dial went.
  let admission: PoolHosts.Admission
  /// How it is known to be alive when it is lent next.
  var proof = ConnectionProof.dial
  /// When its dial began.
  let dialedAt: Int64
  let connectedAt: Int64

  var replies = ReplyScanner()
  /// The shared statements that the session has.
  var statements = ServerStatements()
  /// The cycle that is under way, as long as it could be sent again.
  var cycle = HealableCycle()
  /// It has failed, and is sent again when it is over.
  var isHealing = false
  /// What the server has said so far of the statement that it is describing.
  private var shape = StatementShape()
  private var inbox = ByteQueue()
  /// Its client does not read what it is sent, so what the server sends is not read either.
  private(set) var isReceivingPaused = false

  /// Bytes that have come and wait for the rest of their message.
  var unreadCount: Int { inbox.count }

  /// The session's settings, as reported and as applied.
  var settings: SessionSettings
  /// As of the last ReadyForQuery.
  var status = Backend.TransactionStatus.idle
  /// Something was sent since the last ReadyForQuery that left nothing owed.
  private(set) var isDirty = false
  /// The client that has checked it out.
  var client: Client?
  var work = OwnWork.none
  /// Why its client keeps it between transactions; counted in `Pool.pinned`.
  var pins: PinReasons = []
  /// When that began.
  var pinnedSince: Int64 = 0
  /// The client that had it last (`Client.id`); 0 where it is as new.
  var lastClient: Int64 = 0
  /// Something was run that may have changed the session in a way that no text shows.
  var isTainted = false
  /// The session may know sequences from before its client had it: another client's, or older values of its own.
  var hasForeignSequences = false
  /// The answer to the inspection that is under way.
  var inspected: Inspection.Answer?
  /// What runs before the next client gets it.
  var cleaning = Cleaning.none
  /// A fence is wanted as soon as the client is not in the middle of a message.
  private(set) var needsFence = false
  /// The client is in the middle of a message that its last ReadyForQuery did not wait for.
  var awaitsMessageEnd = false
  /// A client's message was sent in part and will not be completed: the protocol allows nothing more.
  var isCut = false
  /// What the request that has just failed is to be told, where it was made to fail by `refuseStatement`.
  var failedRefusal: Refusal?
  /// The statement that no session has; the server's error names it.
  private static let refusedStatement: WireText = "lifeguard: refused"
  /// The client has got the error of the request whose ReadyForQuery is owed next.
  private(set) var isErrorTold = false
  /// The ErrorResponse to the daemon's own request.
  private var ownError: ErrorFields?
  /// A FATAL error that announces the end.
  var fatal: ErrorFields?
  /// A cancel request for this connection is on its way.
  var isCancelling = false
  /// When the present work, cancel or close is given up; checked when the timer for it fires.
  var deadline = Int64.max
  /// When the connection is given up unless the daemon's own question has been answered.
  var answerDeadline = Int64.max
  var requestSince: Int64 = 0
  /// The worker that it has come from, which waits for its end.
  var origin: Int?

  init(worker: Worker, token: ServerToken, dial: Worker.Dial, link: ServerLink, settings: SessionSettings) {
    self.worker = worker
    id = dial.id
    self.token = token
    pool = dial.pool
    self.link = link
    host = pool.hosts.record(of: link.host)
    admission = dial.admission
    dialedAt = dial.since
    self.settings = settings
    connectedAt = worker.loop.now
  }

  /// One that has come from another worker.
  init(worker: Worker, token: ServerToken, pool: Pool, move: ServerMove, settings: SessionSettings) {
    self.worker = worker
    id = move.id
    self.token = token
    self.pool = pool
    link = move.link
    host = pool.hosts.record(of: link.host)
    admission = PoolHosts.Admission(hosts: [])
    dialedAt = move.dialedAt
    self.settings = settings
    connectedAt = move.connectedAt
    replies = move.replies
    proof = move.proof
    requestSince = move.requestSince
    lastClient = move.lastClient
    isTainted = move.isTainted
    hasForeignSequences = move.hasForeignSequences
    let unread = move.unread
    inbox.append(unread.span, from: worker.loop.blocks)
  }

  /// What has come and has not been looked at, for another worker.
  func takeUnread() -> [UInt8] {
    defer { inbox.release(to: worker.loop.blocks) }
    return inbox.copy
  }

  /// Nothing is owed and no transaction is open.
  var isClean: Bool { !isDirty && status == .idle && replies.ledger.isEmpty }

  /// Its client keeps it between transactions.
  var isPinned: Bool { !pins.isEmpty }

  // MARK: Sending

  /// Sends requests of the client, which the ledger knows already.
  func send(_ bytes: Span<UInt8>) {
    isDirty = true
    worker.loop.send(bytes, to: socket)
  }

  /// Sends a bare Sync of the daemon's.
  func sendSync(for work: OwnWork) {
    begin(work, [.sync]) { $0.sync() }
  }

  /// Sends a query of the daemon's.
  ///
  /// - Parameter limit: how long its answer is waited for before the connection is given up; nil where `deadline` says.
  func sendQuery(_ text: WireText, for work: OwnWork, within limit: Duration?) {
    begin(work, [.query]) { $0.query(text) }
    if let limit { worker.awaitAnswer(self, limit) }
  }

  /// Ends whatever a client left: `ROLLBACK`, then Sync. A bare Sync would commit an implicit transaction, and while
  /// the server skips to a Sync it ignores the query.
  func sendRollback(attempt: Int) {
    let copies = replies.ledger.isCopyIn
    begin(.cleanup(attempt: attempt), (copies ? [.copyEnd] : []) + [.query, .sync]) {
      if copies { $0.copyFail("the client is gone") }
      $0.query("ROLLBACK")
      $0.sync()
    }
  }

  /// Makes the server refuse a request at the client's present place in the pipeline, so that everything about the
  /// error (skipping, rollback, order) is as it would be on a connection of the client's own.
  func refuseStatement(_ refusal: Refusal) {
    request(.bind, .refusal(refusal)) {
      $0.bind(statement: Server.refusedStatement)
    }
  }

  /// Makes the server refuse a query, as `refuseStatement` does within the extended protocol.
  func refuseQuery(_ refusal: Refusal) {
    request(.query, .refusal(refusal)) {
      $0.query(WireText("EXECUTE \"\(Server.refusedStatement.text)\""))
    }
  }

  /// Discards what another client's sequences gave last.
  func discardSequences() {
    hasForeignSequences = false
    client?.requests.lostUnnamedStatement()
    // Behind requests of the client's its answer may take any time.
    if replies.ledger.isEmpty { worker.awaitAnswer(self, pool.settings.cancelTimeout) }
    replies.ledger.sent(.query, by: .daemon)
    var writer = MessageWriter()
    writer.query("DISCARD SEQUENCES")
    send(writer.bytes.span)
  }

  /// Wants a fence, now or at the end of the client's message.
  func fence() {
    guard case .none = work else { return }
    needsFence = true
    if client?.requests.isInsideForwardedMessage != true { sendFence() }
  }

  func sendFence() {
    needsFence = false
    if replies.ledger.isInDoubt { sendQuery("", for: .fence, within: pool.settings.cancelTimeout) }
  }

  private func begin(_ work: OwnWork, _ requests: [Request], _ write: (inout MessageWriter) -> Void) {
    self.work = work
    ownError = nil
    if requests.contains(.query) { client?.requests.lostUnnamedStatement() }
    for request in requests { replies.ledger.sent(request, by: .daemon) }
    var writer = MessageWriter()
    write(&writer)
    send(writer.bytes.span)
  }

  // MARK: Receiving

  override func received(_ bytes: Span<UInt8>) {
    defer { resumeClient() }
    if inbox.isEmpty {
      let used = scan(bytes)
      if used < bytes.count && socket != .none { inbox.append(bytes.extracting(used...), from: worker.loop.blocks) }
    } else {
      inbox.append(bytes, from: worker.loop.blocks)
      let used = scan(inbox.bytes)
      inbox.consume(used, to: worker.loop.blocks)
    }
  }

  /// A client that has sent as many requests as may be outstanding goes on when some have been answered.
  private func resumeClient() {
    guard let client, client.awaitsReplies else { return }
    client.awaitsReplies = false
    worker.resume(client)
  }

  override func ended(_ end: StreamEnd) {
    inbox.release(to: worker.loop.blocks)
    worker.serverEnded(self, end)
  }

  /// The server has taken enough of what it was sent that the client may be read again.
  override func drained() {
    client?.adjustReceiving()
  }

  func resumeReceiving() {
    guard isReceivingPaused else { return }
    isReceivingPaused = false
    worker.loop.setReceiving(true, on: socket)
  }

  /// Works through replies. Returns how many bytes have been used.
  private func scan(_ bytes: Span<UInt8>) -> Int {
    var cursor = 0
    while true {
      if case .closing = work { return bytes.count }
      let step = replies.next(bytes, &cursor)
      if case .described(let range, let type, _) = step { takeShape(type, bytes, range) }
      if let noted = replies.ledger.takeNoted() { statementsSettled(noted) }
      // What was said of a statement that is not shared is nobody's.
      if case .described(_, let type, _) = step, type != .parameterDescription { shape = StatementShape() }
      switch step {
      case .forward(let range): if isAboutClient { toClient(bytes.extracting(range)) }
      case .ready(let range, let status): clientReady(bytes, range, status)
      case .error(let range):
        shape = StatementShape()
        client?.requests.failed(replies.ledger.failedParses)
        clientError(bytes, range)
      case .parsed:
        client?.send { $0.parseComplete() }
      case .described(let range, _, let isForClient):
        if isForClient { toClient(bytes.extracting(range)) }
      case .parameterStatus(let range, let origin):
        noteParameter(bytes, range)
        if origin == .client { toClient(bytes.extracting(range)) }
      case .notification(let range):
        if !pool.sharesConnections || client?.requests.session.mayListen == true {
          toClient(bytes.extracting(range))
        }
      case .ownRow(let range):
        if case .inspection(let inspection) = work {
          inspected = inspection.answer(
            bytes.extracting(range.lowerBound + MessageHeader.size..<range.upperBound))
        }
      case .ownError(let range):
        ownError = ErrorFields(message: bytes, range)
        if ownError?.severity == .fatal || ownError?.severity == .panic { fatal = ownError }
      case .ownReady(let status):
        self.status = status
        if replies.ledger.isEmpty { isDirty = false }
        worker.ownWorkEnded(self, error: ownError)
      case .unrequestedError(let range):
        fatal = ErrorFields(message: bytes, range)
      case .needMore: return cursor
      case .violation(let type):
        worker.protocolViolated(self, type)
        return bytes.count
      }
    }
  }

  /// What the server says by itself is the client's business: a notice that comes before anything of the client's has been
  /// sent (that the server shuts down) is not, as the client goes to another connection.
  private var isAboutClient: Bool { isDirty || status != .idle || isPinned || !pool.sharesConnections }

  private func toClient(_ bytes: Span<UInt8>) {
    guard let client, bytes.count > 0 else { return }
    pool.telemetry.bytesSent.add(UInt64(bytes.count))
    worker.loop.send(bytes, to: client.socket)
    if client.isBacklogged && !isReceivingPaused {
      isReceivingPaused = true
      worker.loop.setReceiving(false, on: socket)
    }
  }

  private func takeShape(_ type: BackendType, _ bytes: Span<UInt8>, _ range: Range<Int>) {
    let body = bytes.extracting(range.lowerBound + MessageHeader.size..<range.upperBound)
    switch type {
    case .parameterDescription: shape.take(parameters: body)
    case .rowDescription: shape.take(rows: body)
    case .noData: shape.takeNoRows()
    default: break
    }
  }

  /// What the server has said of the statement that it has described last.
  var takenShape: StatementShape {
    defer { shape = StatementShape() }
    return shape
  }

  private func clientReady(_ bytes: Span<UInt8>, _ range: Range<Int>, _ status: Backend.TransactionStatus) {
    self.status = status
    isErrorTold = false
    if isHealing { return sendAgain() }
    cycle.end()
    if replies.ledger.isEmpty {
      isDirty = false
      statements.settled()
    }
    if replies.hasAltered && status == .idle {
      replies.hasAltered = false
      worker.statementTable.retireAll()
    }
    if replies.hasDeallocated {
      replies.hasDeallocated = false
      statements.forgetAll(of: client?.statements)
    }
    if pool.settings.mode == .statement && status != .idle && client != nil {
      let readyForQuery = MessageHeader.size + 1
      toClient(bytes.extracting(range.lowerBound..<range.upperBound - readyForQuery))
      sendQuery("ROLLBACK", for: .blockRollback, within: pool.settings.cancelTimeout)
      return
    }
    toClient(bytes.extracting(range))
    worker.requestEnded(self)
  }

  /// An error of the client's request is the client's. A FATAL one is about the connection, which is ours: it is kept
  /// for the moment at which the connection ends.
  private func clientError(_ bytes: Span<UInt8>, _ range: Range<Int>) {
    let body = bytes.extracting(range.lowerBound + MessageHeader.size..<range.upperBound)
    let severity = (try? ErrorFields.range(of: .severity, in: body)).flatMap { $0 }.map { WireText(body, $0).text }
    if severity == "FATAL" || severity == "PANIC" {
      fatal = try? ErrorFields(body: body)
      return
    }
    worker.hostRefused(self, body)
    if statements.count > 0 { noteStalePlan(body) }
    if cycle.statement != nil && heals(body) { return }
    isErrorTold = true
    if let client, let limit = client.exceeded, ErrorFields.isCancellation(body) {
      return client.send { $0.errorResponse(Refusal.exceeded(limit, pool).fields(to: client)) }
    }
    if let note = failedRefusal, let fields = try? ErrorFields(body: body),
      fields.message.text.contains(Server.refusedStatement.text)
    {
      failedRefusal = nil
      if let client { client.send { $0.errorResponse(note.fields(to: client)) } }
    } else if pool.sharesStatements, let fields = renamed(body) {
      client?.send { $0.errorResponse(fields) }
    } else {
      toClient(bytes.extracting(range))
    }
  }

  private func noteParameter(_ bytes: Span<UInt8>, _ range: Range<Int>) {
    let body = bytes.extracting(range.lowerBound + MessageHeader.size..<range.upperBound)
    guard let parameter = try? Backend.ParameterStatus(body: body) else { return }
    settings = worker.settingsTable.settings(
      settings, reporting: WireText(body, parameter.name).text, value: WireText(body, parameter.value))
    worker.hostReported(self, WireText(body, parameter.name).text)
  }
}

/// What a connection needs before another client may have it; each includes those before it.
enum Cleaning: Int, Comparable {
  case none
  /// The reset query: it was a session's.
  case session
  /// DISCARD ALL: what its client has left on it is not known, or cannot be shared.
  case everything

  static func < (left: Cleaning, right: Cleaning) -> Bool { left.rawValue < right.rawValue }
}

extension ErrorFields {
  /// The statement was cancelled.
  fileprivate static func isCancellation(_ body: Span<UInt8>) -> Bool {
    (try? range(of: .code, in: body)).flatMap { $0 }.map { WireText(body, $0) }
      == WireText(SQLState.queryCanceled.description)
  }

  /// The fields of a whole ErrorResponse message; nil where they cannot be read.
  fileprivate init?(message bytes: Span<UInt8>, _ range: Range<Int>) {
    let body = bytes.extracting(range.lowerBound + MessageHeader.size..<range.upperBound)
    guard let fields = try? ErrorFields(body: body) else { return nil }
    self = fields
  }
}
