import Authentication
import Pooling
import PostgresWire
import Reactor
import Telemetry

/// One client connection: what it has asked for, what it waits for, and which server connection it holds.
///
/// Input is looked at in place. What cannot be used yet (the rest of a message, a request that waits for a server
/// connection) stays in `inbox`, and reading stops while that is long. A client is never worked on from inside another
/// connection's handler: whoever has news for it sets a field and calls `Worker.resume`.
final class Client: Connection {
  enum Phase {
    /// The startup packet is awaited, or one of the requests that may precede it. Next: authentication, moving, login,
    /// console or closed.
    case startup
    /// It has to prove who it is: a message of it is awaited, or a verdict (`awaitsVerdict`). Next: moving, login,
    /// console or closed.
    case authentication
    /// It leaves for the worker of its pool at the end of the turn, where it goes on with login. Next: closed (here).
    case moving
    /// Known, but its settings have not been verified: it waits for a server connection. Next: serving or closed.
    case login
    /// Requests are served. Next: closed.
    case serving
    /// Connected to the admin console. Next: closed.
    case console
    /// The socket is gone, or is closed once output has left.
    case closed
  }

  /// Input that may wait before reading stops (bytes). At least a message that has to be examined.
  static let inboxLimit = 2 * RequestScanner.examinedLimit

  let worker: Worker
  /// Its number, for as long as the daemon lives: in the log, in SHOW CLIENTS and in the DETAIL of errors.
  let id: Int64
  let token: ClientToken
  let peer: PeerAddress
  let connectedAt: Int64
  var phase = Phase.startup
  /// Counted among those that have not proven who they are.
  var isHalfOpen = false
  /// Counted for `max_clients`.
  var isAdmitted = false
  /// TLS has begun.
  var isEncrypted = false
  /// It has proven who it is, otherwise than by trust.
  var isProven = false
  /// Until it is served.
  var entry: ClientEntry?
  /// Identifies the connection to a CancelRequest.
  var cancelSecret: UInt32 = 0

  var inbox = ByteQueue()
  var requests = RequestScanner()
  /// Made for the first of them.
  private var statementTable: ClientStatements?
  /// The server is being asked what a transaction has left behind; requests wait.
  var isInspected = false
  /// The server is being asked what a statement is there; its Bind waits.
  var isVerifying = false
  /// It has said that this one is not what it was elsewhere.
  var changedStatement: SharedStatement?
  private var isReceivingPaused = false
  /// It holds a server connection that owes it nothing: its next request begins now.
  var awaitsRequest = false
  /// Forwarding pauses until replies have come.
  var awaitsReplies = false
  /// The time limit that it has reached in what is under way.
  var exceeded: TimeLimit?
  /// A cancel request for that is on its way: what it sends meanwhile waits, or it could be what is cancelled.
  var awaitsCancel = false
  /// In the worker's list of clients to go on with.
  var isRunnable = false

  /// Who it says that it is.
  var name = ClientName.none
  var pool: Pool?
  /// The session's settings as the client knows them; set when login is over.
  var wanted: SessionSettings?

  /// The settings that it logged in with, which RESET goes back to.
  var login: SessionSettings?
  /// Server connections in a row that died while settings were being applied.
  var lossesWhileApplying = 0

  /// The server connection that is checked out, if any.
  var server: Server?
  /// The one that it had last (`Server.id`); 0 before the first.
  var lastServer: Int64 = 0
  /// In a pool's queue.
  var isWaiting: Bool { awaitedPool != nil }
  /// The pool in whose queue it is: its own, or that for reads.
  var awaitedPool: Pool?
  /// The server connection is held, but its settings, or the client's BEGIN, are not confirmed yet.
  var isApplying = false
  /// What became of the wait, or of applying settings, where that was not a connection.
  var refusal: Refusal?
  /// The error of a cycle of the extended protocol whose Sync has not come yet, or of a lost block that the client has
  /// not heard of.
  var heldError: Refusal?
  var waitingSince: Int64 = 0
  /// When bytes of a request came last; 0 before the first.
  var requestedAt: Int64 = 0
  /// Since when its request has been under way: from its server connection on, or from the ReadyForQuery before.
  var requestSince: Int64 = 0
  var transactionSince: Int64 = 0
  /// Nobody else has one.
  private(set) lazy var console = ConsoleSession()

  init(
    worker: Worker, id: Int64, token: ClientToken, peer: PeerAddress, connectedAt: Int64, entry: ClientEntry
  ) {
    self.entry = entry
    self.worker = worker
    self.id = id
    self.token = token
    self.peer = peer
    self.connectedAt = connectedAt
  }

  /// What a CancelRequest for it must say.
  var cancelKey: CancelKey {
    CancelKey(
      processID: CancelKeyLayout.processID(
        slot: Int(token.index), worker: worker.index, node: worker.environment.node),
      secret: cancelSecret)
  }

  /// The value of `application_name` that the client has set, for SHOW CLIENTS.
  var applicationName: String {
    wanted?["application_name"]?.text ?? entry?.settings.all.first { $0.name == "application_name" }?.value.text ?? ""
  }

  /// Its prepared statements by name.
  var statements: ClientStatements {
    if let statementTable { return statementTable }
    let table = ClientStatements()
    statementTable = table
    return table
  }

  /// The same, only to look one up.
  var knownStatements: ClientStatements { statementTable ?? worker.noStatements }

  /// How many those are.
  var statementCount: Int { statementTable?.count ?? 0 }

  var user: String { name.user }
  var database: String { name.database }

  /// Version and cipher; nil without TLS.
  var tlsSummary: String? { worker.loop.tls(of: self).map { "\($0.version)/\($0.cipher)" } }

  /// It has been sent the beginning of a message whose rest its server connection has not sent yet.
  var isInsideReply: Bool { server?.replies.isInsideClientMessage ?? false }

  /// No request is under way and none is waiting. The last answers may still be on their way, as long as they are few.
  var isIdle: Bool {
    guard !isBacklogged else { return false }
    if requests.heldModes != nil { return false }
    if let server { return server.isClean && inbox.isEmpty }
    return !isWaiting && inbox.isEmpty && !isRunningCommand
  }

  // MARK: Input

  override func received(_ bytes: Span<UInt8>) {
    if let pool { pool.telemetry.bytesReceived.add(UInt64(bytes.count)) } else { entry?.received += bytes.count }
    if phase == .serving || phase == .console { requestedAt = worker.loop.now }
    if inbox.isEmpty {
      let used = consume(bytes)
      if phase != .closed && used < bytes.count { inbox.append(bytes.extracting(used...), from: worker.loop.blocks) }
    } else {
      inbox.append(bytes, from: worker.loop.blocks)
      consumeInbox()
    }
    adjustReceiving()
  }

  override func ended(_ end: StreamEnd) {
    worker.clientGone(self, end)
  }

  /// The client has read enough of its output that the server connection may be read again.
  override func drained() {
    if let server { server.resumeReceiving() } else { worker.resume(self) }
  }

  /// Goes on with input that waited.
  func run() {
    consumeInbox()
    adjustReceiving()
  }

  private func consumeInbox() {
    let used = consume(inbox.bytes)
    if phase == .closed {
      inbox.release(to: worker.loop.blocks)
    } else {
      inbox.consume(used, to: worker.loop.blocks)
    }
  }

  /// What the daemon itself answers is not read by the client: it asks for no more until it has.
  private var isOutputFull: Bool { server == nil && isBacklogged }

  /// Reading stops while much input waits, or while the server connection, or the client, does not take what it is sent.
  func adjustReceiving() {
    guard phase != .closed else { return }
    let isFull = inbox.count > Client.inboxLimit || server?.isBacklogged ?? isBacklogged
    guard isFull != isReceivingPaused else { return }
    isReceivingPaused = isFull
    worker.loop.setReceiving(!isFull, on: socket)
  }

  /// Works through input until more is needed or something has to be waited for. Must not touch `inbox`, from which the
  /// bytes may come. Returns how many bytes have been used.
  private func consume(_ bytes: Span<UInt8>) -> Int {
    var cursor = 0
    var goesOn = true
    while goesOn && !isOutputFull {
      switch phase {
      case .startup: goesOn = startupStep(bytes, &cursor)
      case .authentication: goesOn = authenticationStep(bytes, &cursor)
      case .moving: return cursor
      case .login: goesOn = loginStep()
      case .serving: goesOn = servingStep(bytes, &cursor)
      case .console: goesOn = consoleStep(bytes, &cursor)
      case .closed: return bytes.count
      }
    }
    return phase == .closed ? bytes.count : cursor
  }

  // MARK: Serving

  /// Its statements with names are shared; those that it has stay so when a reload changes that for others.
  private func sharesStatements(in pool: Pool) -> Bool {
    pool.sharesStatements || pool.sharesConnections && statementCount > 0
  }

  /// One step of relaying requests. Returns whether to go on.
  private func servingStep(_ bytes: Span<UInt8>, _ cursor: inout Int) -> Bool {
    if let refusal {
      self.refusal = nil
      refuse(refusal, bytes, &cursor)
      return true
    }
    if isWaiting || isApplying || isInspected || awaitsCancel { return false }
    guard let server else { return detachedStep(bytes, &cursor) }
    if requests.heldModes != nil {
      worker.openBlock(server, self)
      return false
    }
    if server.needsFence && !requests.isInsideForwardedMessage { server.sendFence() }
    guard cursor < bytes.count else {
      countForwarded(to: server.pool)
      return false
    }
    let terms = terms(on: server)
    let step = requests.next(bytes, &cursor, ledger: &server.replies.ledger, on: terms)
    countForwarded(to: server.pool)
    switch step {
    case .forward(let range):
      if awaitsRequest { requestBegins(on: server) }
      server.cycle.append(bytes.extracting(range))
      server.send(bytes.extracting(range))
      worker.messageEnded(self, server)
      return true
    case .dropped:
      worker.messageEnded(self, server)
      return true
    case .refusePin(let message, let pins, let text):
      let refusal = Refusal.pin(server.pool, pins, statement: SessionState.beginning(of: bytes, text))
      requests.drop(message, bytes, &cursor)
      if message.type == .query { server.refuseQuery(refusal) } else { server.refuseStatement(refusal) }
      return true
    case .discardSequences:
      server.discardSequences()
      return true
    case .parseStatement(let message):
      if awaitsRequest { requestBegins(on: server) }
      return parseStatement(message, bytes, &cursor, server, terms)
    case .useStatement(let message, let name):
      if awaitsRequest { requestBegins(on: server) }
      return useStatement(message, name: name, bytes, &cursor, server, terms)
    case .useUnnamedStatement(let message, let name):
      if awaitsRequest { requestBegins(on: server) }
      return useUnnamedStatement(message, name: name, bytes, &cursor, server, terms)
    case .describeRows(let message):
      guard let statement = requests.justBound else { preconditionFailure("no statement was bound") }
      server.cycle.append(bytes.extracting(cursor..<message.body.upperBound))
      requests.take(message, &cursor)
      server.request(.describeRows, .describeRows(statement)) {
        $0.raw(bytes, message.body.lowerBound - MessageHeader.size..<message.body.upperBound)
      }
      return true
    case .nameStatement(let message, let reference):
      if awaitsRequest { requestBegins(on: server) }
      return nameStatement(message, reference, bytes, &cursor, server, terms)
    case .terminate:
      worker.clientGone(self, .endOfStream)
      return false
    case .violation(let type):
      protocolViolation(type)
      return false
    case .pause:
      awaitsReplies = true
      return false
    case .needMore: return false
    case .checkout, .answerSync, .answerInLostBlock, .answerHeld:
      preconditionFailure("\(step) while a server connection is held")
    }
  }

  @inline(__always)
  private func countForwarded(to pool: Pool) {
    guard let (parses, binds) = requests.takeForwarded() else { return }
    pool.telemetry.clientParseCount.add(UInt64(parses))
    pool.telemetry.serverParseCount.add(UInt64(parses))
    pool.telemetry.bindCount.add(UInt64(binds))
  }

  /// How its requests are to be treated on the connection that it has.
  private func terms(on server: Server) -> RequestScanner.Terms {
    let pool = server.pool
    var terms = RequestScanner.Terms()
    terms.requestLimit = worker.requestLimit(pool)
    terms.isInBlock = server.status != .idle
    terms.followsSession = pool.sharesConnections
    guard terms.followsSession else { return terms }
    terms.sharesStatements = sharesStatements(in: pool)
    terms.reading = server.settings.reading
    terms.hasForeignSequences = server.hasForeignSequences
    switch pool.settings.sessionState {
    case .pin: terms.pinning = server.isPinned || pool.pinnedInAll < pool.settings.maxPinned ? .allowed : .full
    case .reject: terms.pinning = .rejected
    case .ignore: terms.pinning = .ignored
    }
    return terms
  }

  /// The first bytes of a request, on a connection that it holds already.
  private func requestBegins(on server: Server) {
    awaitsRequest = false
    let now = worker.loop.now
    if server.status == .idle {
      transactionSince = now
    } else {
      server.pool.telemetry.idleInTransaction.record(microseconds: UInt64(max(0, now - requestSince) / 1000))
    }
    requestSince = now
    server.requestSince = now
  }

  private func detachedStep(_ bytes: Span<UInt8>, _ cursor: inout Int) -> Bool {
    guard cursor < bytes.count else { return false }
    let isShared = pool.map(sharesStatements(in:)) ?? false
    let step = requests.next(
      bytes, &cursor, shared: isShared ? knownStatements : nil, routed: pool?.reads == nil ? nil : wanted)
    switch step {
    case .parseStatement(let message):
      if parseDetached(message, bytes, &cursor) { return true }
      guard requests.detachedStatus == .failed else { return checkout(bytes, cursor) }
      refuse(.blockLost(pool), bytes, &cursor)
      return true
    case .checkout: return checkout(bytes, cursor)
    case .answerHeld(let command):
      answerHeld(command)
      return true
    case .answerSync:
      send {
        if !requests.hasUnreportedLoss, let heldError { $0.errorResponse(heldError.fields(to: self)) }
        $0.readyForQuery(requests.detachedStatus)
      }
      if !requests.hasUnreportedLoss { heldError = nil }
      return true
    case .answerInLostBlock(let answer, let isOver):
      send(answer, isOver: isOver)
      return true
    case .dropped: return true
    case .needMore: return false
    case .terminate:
      worker.clientGone(self, .endOfStream)
      return false
    case .violation(let type):
      protocolViolation(type)
      return false
    case .forward, .refusePin, .discardSequences, .pause, .useStatement, .useUnnamedStatement, .describeRows,
      .nameStatement:
      preconditionFailure("\(step) while no server connection is held")
    }
  }

  /// Answers the request at the cursor with an error.
  private func refuse(_ refusal: Refusal, _ bytes: Span<UInt8>, _ cursor: inout Int) {
    let isOver = requests.refuse(bytes, &cursor, knownStatements)
    send {
      $0.errorResponse(refusal.fields(to: self))
      if isOver { $0.readyForQuery(requests.detachedStatus) }
    }
  }

  /// Answers a request in a lost block.
  private func send(_ answer: LostBlockAnswer, isOver: Bool) {
    send { writer in
      switch answer {
      case .rolledBack: writer.commandComplete("ROLLBACK")
      case .empty: writer.emptyQueryResponse()
      case .parsed: writer.parseComplete()
      case .bound: writer.bindComplete()
      case .described(let isStatement):
        if isStatement { writer.parameterDescription([]) }
        writer.noData()
      case .closed: writer.closeComplete()
      case .refused(let isFirst):
        let refusal = isFirst ? heldError : nil
        writer.errorResponse((refusal ?? .blockLost(pool)).fields(to: self))
      case .notCommitted: writer.errorResponse((heldError ?? .blockLost(pool)).fields(to: self))
      }
      if isOver { writer.readyForQuery(requests.detachedStatus) }
    }
    if !requests.hasUnreportedLoss { heldError = nil }
  }

  func protocolViolation(_ type: UInt8) {
    let name = type > 0x20 && type < 0x7f ? "\"\(Character(UnicodeScalar(type)))\"" : "0x" + String(type, radix: 16)
    close(
      with: ErrorFields(
        .fatal, .protocolViolation, WireText("invalid frontend message of type \(name), or of invalid length")))
  }

  // MARK: Output

  /// Writes messages to the client.
  func send(_ write: (inout MessageWriter) -> Void) {
    var writer = worker.takeWriter()
    write(&writer)
    send(writer.bytes.span)
    worker.giveBack(writer)
  }

  /// Sends bytes to the client.
  func send(_ bytes: Span<UInt8>) {
    if let pool { pool.telemetry.bytesSent.add(UInt64(bytes.count)) } else { entry?.sent += bytes.count }
    worker.loop.send(bytes, to: socket)
  }

  /// Sends a last error of the daemon's own, which names the connection, and closes the connection.
  func close(with fields: ErrorFields) {
    if pool == nil && phase != .console { logRefused(fields) }
    close(withExactly: fields.naming(client: id))
  }

  /// Sends a last error as it is, such as the server's own, and closes the connection. A client that has got half of a
  /// message is sent nothing: it would take that for the rest of the message, such as the values of a row.
  func close(withExactly fields: ErrorFields) {
    close(withExactly: fields, isInsideReply: isInsideReply)
  }

  /// The same for a client that may have had its server connection taken away already.
  func close(withExactly fields: ErrorFields, isInsideReply: Bool) {
    if !isInsideReply { send { $0.errorResponse(fields) } }
    worker.closeClient(self, reason: fields.message.text)
  }

  /// A client that never got as far as a pool is not heard of in the log otherwise.
  private func logRefused(_ fields: ErrorFields) {
    worker.environment.log(
      .clientRefused(client: id, database: database, user: user, peer: peer, reason: fields.message.text))
  }
}
