public import PostgresWire

/// Reads what a client sends, and says what is to be done with it: one scanner a client, fed with whatever piece of the
/// stream has arrived. It decides when a server connection is needed, keeps the ledger of the one that is held, and
/// answers by itself what needs no server.
///
/// Messages of the extended protocol and queries are acted on when they are whole, or when `examinedLimit` bytes of
/// them have come; so a client that stops in the middle of a small message holds no server connection. CopyData, and
/// the rest of larger messages, pass as they come.
public struct RequestScanner: Sendable {
  /// The most bytes of a message that are waited for before it is acted on.
  public static let examinedLimit = 64 * 1024
  /// Requests that may be outstanding on one connection. The server answers at the latest when its output buffer is
  /// full, after some 1,700 of the shortest replies, so a client that pipelines without end is never stuck here.
  static let outstandingLimit = 16_384

  public enum Step: Equatable, Sendable {
    /// These bytes go to the server connection; its ledger knows of them.
    case forward(Range<Int>)
    /// The message up to the cursor means nothing to anybody: go on behind it.
    case dropped
    /// A request begins at the cursor and no server connection is held.
    case checkout
    /// A Sync with nothing open: ReadyForQuery is the whole answer.
    case answerSync
    /// A request in a lost block. `isOver` says whether ReadyForQuery follows, as it does after a query.
    case answerInLostBlock(LostBlockAnswer, isOver: Bool)
    /// The client has begun a cycle of the extended protocol, and the connection's unnamed statement may be somebody
    /// else's: it is closed first (CloseComplete is the daemon's), so that the server says what it would say on a
    /// connection of one's own. It comes at the very beginning of the cycle, because anything later may be skipped.
    case closeUnnamedStatement
    /// The client may not have what this Query or Parse, of which `text` is the SQL, would pin the connection for. The
    /// message is dropped.
    case refusePin(PinReasons, text: Range<Int>, isQuery: Bool)
    /// The client asks for what its sequences gave last, and the connection may have that of somebody else: it is
    /// discarded first.
    case discardSequences
    /// A Parse (whole message, from the cursor on) of a statement with a name, which is shared. It is answered by `take`
    /// or `pass`.
    case parseStatement(FrontendMessage)
    /// A Bind, or a Describe or Close of a statement, that uses a shared statement by this name. It is answered by `take`,
    /// `takeHead` or `pass`; or not at all, and then it comes again.
    case useStatement(FrontendMessage, name: Range<Int>)
    /// A query that deallocates one statement (`deallocatedName`). It is answered by `take` or `pass`.
    case deallocate(FrontendMessage)
    /// Forwarding stops before the next request, until what has been sent is answered.
    case pause
    /// The client says goodbye.
    case terminate
    /// All that can be used has been; the bytes from the cursor on are needed again, with more behind them.
    case needMore
    /// No message of the protocol starts with this type byte here, or its length is out of range.
    case violation(UInt8)
  }

  /// A message from the cursor on: as much of it as is needed has come.
  public struct FrontendMessage: Equatable, Sendable {
    public var type: FrontendType
    /// Its body, as far as it has come.
    public var body: Range<Int>
    var header: MessageHeader
    /// What its length field says (bytes).
    public var length: Int { header.totalLength - 1 }
    /// The last ReadyForQuery was inside a transaction block.
    var isInBlock: Bool
  }

  /// What becomes of a text that would pin the connection.
  public enum Pinning: Sendable {
    case allowed
    /// As many connections are pinned as may be, and this is none of them.
    case full
    /// `session_state = "reject"`
    case rejected
    /// `session_state = "ignore"`
    case ignored
  }

  /// How requests are to be treated on the connection that is held.
  public struct Terms: Sendable {
    /// Requests after which forwarding pauses at a Query or Sync, so that others get their turn.
    public var requestLimit = Int.max
    /// The last ReadyForQuery was inside a transaction block.
    public var isInBlock = false
    /// The connection is the client's for its transaction only: what it does to the session is followed.
    public var followsSession = true
    public var pinning = Pinning.allowed
    /// Statements with names are shared with other clients.
    public var sharesStatements = false
    /// How the session reads SQL.
    public var reading = SQLReading()
    /// The connection may know sequences that another client has used.
    public var hasForeignSequences = false

    public init() {}
  }

  /// Bytes still to come of a message whose beginning has been forwarded or dropped.
  private var bodyLeft = 0
  private var bodyIsForwarded = false
  /// A request was answered with an error by the daemon: everything up to the next Sync is dropped.
  private var skipsUntilSync = false
  private var holdsNamedStatement = false
  private var unnamedAwaitsUse = false
  /// The unnamed statement of the connection held is this client's (or there is none).
  private var unnamedIsOwn = false
  private var requestsSinceCheckout = 0
  /// Set while the client's transaction is lost.
  private var lostBlock: LostBlock?
  /// Among the requests that are not answered yet is one that may commit something.
  public private(set) var mayCommit = false
  /// Among the requests that are not answered yet is one that begins a transaction block.
  public private(set) var beginsBlock = false
  /// A statement has been parsed since all was last answered.
  private var hasParsed = false
  /// Among the requests that are not answered yet is one after which statements may be gone.
  public private(set) var mayForgetStatements = false
  private var isAtBoundary = true
  /// A statement has been bound in the present cycle of the extended protocol.
  private var hasBound = false
  private var forwarded = (parses: 0, binds: 0)
  /// What has become of the session.
  public var session = SessionState()
  /// What the client's unnamed statement does when it is used; nil where that is nothing of interest.
  private var unnamed: Text?

  /// What a text does to the session.
  private struct Text {
    var effects: StatementEffects
    var touched: TouchedSettings?
    var beginning: String
  }

  public init() {}

  /// The client's block is lost, and no error has told it so.
  public var hasUnreportedLoss: Bool { lostBlock?.isUnreported ?? false }

  /// The client has begun a cycle of the extended protocol whose Sync it has not sent yet.
  public var isInsideCycle: Bool { !isAtBoundary }

  /// The transaction status while no server connection is held.
  public var detachedStatus: Backend.TransactionStatus { lostBlock == nil ? .idle : .failed }

  /// A message has been forwarded in part: the connection waits for the rest.
  public var isInsideForwardedMessage: Bool { bodyLeft > 0 && bodyIsForwarded }

  /// What would be lost if the connection went to another client now.
  public var pins: PinReasons {
    var pins = session.pins
    if holdsNamedStatement { pins.insert(.statement) }
    if unnamedAwaitsUse { pins.insert(.unnamedStatement) }
    return pins
  }

  /// Parse and Bind messages that have been forwarded since this was called last; nil where there were none.
  @inline(__always)
  public mutating func takeForwarded() -> (parses: Int, binds: Int)? {
    if forwarded == (0, 0) { return nil }
    defer { forwarded = (0, 0) }
    return forwarded
  }

  /// A server connection has been checked out.
  public mutating func attached() {
    unnamedIsOwn = false
    answered()
    isAtBoundary = true
    hasBound = false
  }

  /// The server connection is gone, and with it what it held for this client.
  public mutating func detached() {
    holdsNamedStatement = false
    unnamedAwaitsUse = false
    session.detached()
  }

  /// All that was sent has been answered: after a pause, forwarding may go on.
  public mutating func answered() {
    requestsSinceCheckout = 0
    mayCommit = false
    beginsBlock = false
    hasParsed = false
    mayForgetStatements = false
  }

  /// The client's transaction block is lost. `isUnreported` where no error has told it so.
  public mutating func loseBlock(isUnreported: Bool) {
    lostBlock = LostBlock(isUnreported: isUnreported)
  }

  /// Requests already sent were answered with an error by the daemon, and their Sync is still to come: everything up to
  /// it is dropped.
  public mutating func skipUntilSync() { skipsUntilSync = true }

  // MARK: Without a server connection

  /// The next step while no server connection is held.
  ///
  /// - Parameter sharesStatements: statements with names are shared with other clients: a Parse is a `parseStatement`, which
  ///   is answered by `takeDetached`, or by a checkout.
  public mutating func next(_ bytes: Span<UInt8>, _ cursor: inout Int, sharesStatements: Bool = false) -> Step {
    while true {
      if bodyLeft > 0 {
        guard dropBody(bytes, &cursor) else { return .needMore }
      }
      guard let (type, header) = header(bytes, cursor) else { return incomplete(bytes, cursor) }
      switch type {
      case .terminate: return .terminate
      case .password: return .violation(header.type)
      case .sync:
        guard bytes.count - cursor >= header.totalLength else { return .needMore }
        cursor += header.totalLength
        skipsUntilSync = false
        return .answerSync
      case .flush, .copyData, .copyDone, .copyFail: beginDropping(header, &cursor)
      case .query, .parse, .bind, .describe, .execute, .close, .functionCall:
        if skipsUntilSync {
          beginDropping(header, &cursor)
          continue
        }
        guard isReadable(bytes, cursor, header) else { return .needMore }
        if lostBlock != nil { return answerInLostBlock(type, header, bytes, &cursor) }
        let isNamed = header.bodyLength > 0 && bytes[cursor + MessageHeader.size] != 0
        if sharesStatements, type == .parse, isNamed,
          let step = shared(type, header, bytes, cursor, isInBlock: false, isNamedParse: true)
        {
          return step
        }
        return .checkout
      }
    }
  }

  /// The request at the cursor is answered with an error by the daemon instead of being sent. A query or function call
  /// is dropped; of the extended protocol everything up to the next Sync is. Where it was to begin a transaction block,
  /// that block is lost: what follows in it must not run on its own.
  ///
  /// - Returns: whether ReadyForQuery follows the error at once, as it does after a query or function call.
  public mutating func refuse(_ bytes: Span<UInt8>, _ cursor: inout Int, _ statements: ClientStatements? = nil) -> Bool
  {
    guard let (type, header) = header(bytes, cursor) else { preconditionFailure("nothing to refuse") }
    if type == .bind, let name = RequestScanner.statementName(ofBind: bytes, cursor, header),
      statements?.find(bytes, name)?.kind == .begin
    {
      loseBlock(isUnreported: false)
    }
    if let text = RequestScanner.text(type, bytes, cursor, header),
      TransactionStatement(bytes.extracting(text)) == .begin
    {
      loseBlock(isUnreported: false)
    }
    beginDropping(header, &cursor)
    _ = dropBody(bytes, &cursor)
    switch type {
    case .query, .functionCall: return true
    default:
      skipsUntilSync = true
      return false
    }
  }

  /// Answers the request at the cursor in the place of a server.
  private mutating func answerInLostBlock(
    _ type: FrontendType, _ header: MessageHeader, _ bytes: Span<UInt8>, _ cursor: inout Int
  ) -> Step {
    let body = cursor + MessageHeader.size
    let end = min(bytes.count, body + header.bodyLength)
    guard let answer = lostBlock?.answer(type, bytes.extracting(body..<end)) else {
      preconditionFailure("no block is lost")
    }
    beginDropping(header, &cursor)
    _ = dropBody(bytes, &cursor)
    if answer == .rolledBack { lostBlock = nil }
    let isOver = type == .query || type == .functionCall
    if case .refused = answer, !isOver { skipsUntilSync = true }
    return .answerInLostBlock(answer, isOver: isOver)
  }

  /// Where the SQL text of a Query or Parse is.
  private static func text(
    _ type: FrontendType, _ bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader
  ) -> Range<Int>? {
    let body = cursor + MessageHeader.size
    let end = min(bytes.count, body + header.bodyLength)
    switch type {
    case .query: return body..<end
    case .parse:
      var start = body
      while start < end && bytes[start] != 0 { start += 1 }
      start = min(start + 1, end)
      var stop = start
      while stop < end && bytes[stop] != 0 { stop += 1 }
      return start..<stop
    default: return nil
    }
  }

  // MARK: With a server connection

  /// The next step while a server connection is held.
  ///
  /// - Parameters:
  ///   - ledger: the connection's ledger; requests covered by `.forward` are entered.
  public mutating func next(
    _ bytes: Span<UInt8>, _ cursor: inout Int, ledger: inout Ledger, on terms: Terms = Terms()
  ) -> Step {
    let start = cursor
    session.pinning = terms.pinning
    func run() -> Step? { start < cursor ? .forward(start..<cursor) : nil }
    while true {
      if bodyLeft > 0 {
        if bodyIsForwarded {
          let count = min(bodyLeft, bytes.count - cursor)
          cursor += count
          bodyLeft -= count
          if bodyLeft > 0 { return run() ?? .needMore }
        } else if let run = run() {
          return run
        } else {
          return dropBody(bytes, &cursor) ? .dropped : .needMore
        }
      }
      guard let (type, header) = header(bytes, cursor) else { return run() ?? incomplete(bytes, cursor) }
      switch type {
      case .terminate: return run() ?? .terminate
      case .password: return run() ?? .violation(header.type)
      case .copyData, .copyDone, .copyFail:
        guard ledger.mayCopyIn else {
          if let run = run() { return run }
          beginDropping(header, &cursor)
          return .dropped
        }
        if type != .copyData { ledger.sent(.copyEnd, by: .client) }
      case .flush: break
      case .sync:
        ledger.sent(.sync, by: .client)
        isAtBoundary = true
        hasBound = false
      case .query, .parse, .bind, .describe, .execute, .close, .functionCall:
        guard isReadable(bytes, cursor, header) else { return run() ?? .needMore }
        if isAtBoundary && requestsSinceCheckout >= terms.requestLimit
          || ledger.count >= RequestScanner.outstandingLimit
        {
          return run() ?? .pause
        }
        let isNamedParse = type == .parse && header.bodyLength > 0 && bytes[cursor + MessageHeader.size] != 0
        if !unnamedIsOwn && type != .query && type != .functionCall && (type != .parse || isNamedParse) {
          if let run = run() { return run }
          unnamedIsOwn = true
          return .closeUnnamedStatement
        }
        if terms.sharesStatements, !holdsNamedStatement,
          let step = shared(type, header, bytes, cursor, isInBlock: terms.isInBlock, isNamedParse: isNamedParse)
        {
          return run() ?? step
        }
        if terms.followsSession, let text = RequestScanner.text(type, bytes, cursor, header) {
          var effects = StatementEffects.scan(bytes.extracting(text), reading: terms.reading)
          if header.totalLength > bytes.count - cursor { effects.insert(.isUnclear) }
          if let reasons = refusal(effects, isNamedParse: isNamedParse, bytes.extracting(text), terms) {
            if let run = run() { return run }
            beginDropping(header, &cursor)
            _ = dropBody(bytes, &cursor)
            return .refusePin(reasons, text: text, isQuery: type == .query)
          }
          if mustDiscardSequences(effects, terms) { return run() ?? .discardSequences }
          examine(effects, bytes, text, isInBlock: terms.isInBlock)
          follow(type, effects, bytes, text, isNamedParse: isNamedParse, terms)
        }
        if type == .functionCall { session.noteFunctionCall() }
        note(type, bytes, cursor, header, isInBlock: terms.isInBlock)
        ledger.sent(RequestScanner.request(type, bytes, cursor, header), by: .client)
      }
      cursor += MessageHeader.size
      bodyLeft = header.bodyLength
      bodyIsForwarded = true
    }
  }

  /// Whether something has run in the transaction already.
  private func hasRun(isInBlock: Bool) -> Bool { isInBlock || beginsBlock || hasBound }

  /// Whether what another client's sequences gave last has to go before a text runs. Later in a transaction it does not,
  /// as the client may have used sequences itself.
  public func mustDiscardSequences(_ effects: StatementEffects, _ terms: Terms) -> Bool {
    effects.contains(.usesSequenceState) && terms.hasForeignSequences && isAtBoundary
      && !hasRun(isInBlock: terms.isInBlock)
  }

  /// What the client may not have on the connection for using a statement.
  public func refusal(of statement: SharedStatement, _ terms: Terms) -> PinReasons? {
    let definition = statement.definition
    return refusal(statement.effects, isNamedParse: false, definition.span, terms)
  }

  /// What the client may not have on the connection; nil where it may have all that the text asks for.
  ///
  /// - Parameter text: the SQL, as far as it has come.
  func refusal(_ effects: StatementEffects, isNamedParse: Bool, _ text: Span<UInt8>, _ terms: Terms) -> PinReasons? {
    var pins = effects.pins
    if isNamedParse { pins.insert(.statement) }
    switch terms.pinning {
    case .allowed, .ignored: return nil
    case .rejected: break
    case .full:
      pins.subtract(self.pins)
      if pins == .temporary && TransactionStatement.dropsOnCommit(text, terms.reading) { return nil }
    }
    return pins.isEmpty ? nil : pins
  }

  /// Remembers what the text of a Query or Parse may do to the transaction.
  private mutating func examine(
    _ effects: StatementEffects, _ bytes: Span<UInt8>, _ text: Range<Int>, isInBlock: Bool
  ) {
    if !effects.isDisjoint(with: [.deallocates, .discardsAll]) { mayForgetStatements = true }
    if isInBlock || beginsBlock {
      if effects.contains(.isUnclear)
        || !effects.isDisjoint(with: [.ends, .prepares, .callsProcedure, .hasSeveralStatements])
          && TransactionStatement.mayCommit(bytes.extracting(text))
      {
        mayCommit = true
      }
    } else {
      beginsBlock = effects.contains(.begins) && TransactionStatement(bytes.extracting(text)) == .begin
    }
  }

  /// Remembers what a text does to the session: a query now, an unnamed statement when it is used.
  private mutating func follow(
    _ type: FrontendType, _ effects: StatementEffects, _ bytes: Span<UInt8>, _ text: Range<Int>, isNamedParse: Bool,
    _ terms: Terms
  ) {
    if type == .parse && !isNamedParse { unnamed = nil }
    if effects.isHarmless { return }
    let touched =
      effects.touchesSettings ? TouchedSettings(bytes.extracting(text), reading: terms.reading) : nil
    if type == .parse && !isNamedParse {
      unnamed = Text(effects: effects, touched: touched, beginning: SessionState.beginning(of: bytes, text))
    } else {
      session.note(
        effects, touched,
        isInBlock: hasRun(isInBlock: terms.isInBlock) || effects.contains(.hasSeveralStatements),
        SessionState.beginning(of: bytes, text))
    }
  }

  /// Remembers what a request leaves behind on the connection.
  private mutating func note(
    _ type: FrontendType, _ bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader, isInBlock: Bool
  ) {
    isAtBoundary = type == .query || type == .functionCall
    if isAtBoundary { hasBound = false }
    let body = cursor + MessageHeader.size
    switch type {
    case .query:
      unnamedIsOwn = true
      unnamedAwaitsUse = false
    case .parse:
      hasParsed = true
      forwarded.parses &+= 1
      if header.bodyLength > 0 && bytes[body] != 0 {
        holdsNamedStatement = true
      } else {
        unnamedIsOwn = true
        unnamedAwaitsUse = true
      }
    case .bind:
      forwarded.binds &+= 1
      // What an earlier cycle has parsed may be anything.
      if !hasParsed { mayCommit = true }
      if RequestScanner.statementName(ofBind: bytes, cursor, header)?.isEmpty == true {
        unnamedAwaitsUse = false
        if let unnamed {
          session.note(
            unnamed.effects, unnamed.touched, isInBlock: hasRun(isInBlock: isInBlock), unnamed.beginning)
        }
      }
      hasBound = true
    case .functionCall, .describe, .execute, .close, .sync, .flush, .terminate, .copyData, .copyDone, .copyFail,
      .password:
      break
    }
    requestsSinceCheckout += 1
  }

  /// What the ledger calls a message.
  private static func request(
    _ type: FrontendType, _ bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader
  ) -> Request {
    switch type {
    case .query: .query
    case .functionCall: .functionCall
    case .parse: .parse
    case .bind: .bind
    case .describe: isAboutStatement(bytes, cursor, header) ? .describeStatement : .describePortal
    case .execute: .execute
    case .close: .close
    case .sync, .flush, .terminate, .copyData, .copyDone, .copyFail, .password:
      preconditionFailure("\(type) is no request")
    }
  }

  /// Whether a Describe or Close is about a statement.
  private static func isAboutStatement(_ bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader) -> Bool {
    header.bodyLength > 0 && bytes[cursor + MessageHeader.size] == Frontend.Target.statement.rawValue
  }

  // MARK: Shared statements

  /// The step for a message that makes or uses a shared statement; nil for any other. One whose Parse is too long to be
  /// kept is the connection's own.
  private func shared(
    _ type: FrontendType, _ header: MessageHeader, _ bytes: Span<UInt8>, _ cursor: Int, isInBlock: Bool,
    isNamedParse: Bool
  ) -> Step? {
    let body = cursor + MessageHeader.size
    let isWhole = bytes.count - cursor >= header.totalLength
    let end = min(bytes.count, body + header.bodyLength)
    let message = FrontendMessage(type: type, body: body..<end, header: header, isInBlock: isInBlock)
    switch type {
    case .parse: return isNamedParse && isWhole ? .parseStatement(message) : nil
    case .bind:
      guard let name = RequestScanner.statementName(ofBind: bytes, cursor, header), !name.isEmpty else { return nil }
      return .useStatement(message, name: name)
    case .describe, .close:
      guard isWhole, header.bodyLength > 2, RequestScanner.isAboutStatement(bytes, cursor, header) else { return nil }
      return .useStatement(message, name: body + 1..<end - 1)
    case .query:
      guard isWhole, TransactionStatement.deallocated(bytes.extracting(body..<end)) != nil else { return nil }
      return .deallocate(message)
    case .functionCall, .execute, .sync, .flush, .terminate, .copyData, .copyDone, .copyFail, .password: return nil
    }
  }

  /// The name of the statement that a query deallocates.
  public static func deallocatedName(_ message: FrontendMessage, _ bytes: Span<UInt8>) -> WireText {
    guard let name = TransactionStatement.deallocated(bytes.extracting(message.body)) else {
      preconditionFailure("it deallocates nothing")
    }
    return name
  }

  /// The whole message at the cursor has been seen to: it is not forwarded as it is.
  ///
  /// - Parameter statement: the statement that it uses.
  public mutating func take(
    _ message: FrontendMessage, _ cursor: inout Int, statement: SharedStatement? = nil
  ) {
    noteShared(message, statement)
    cursor += message.header.totalLength
  }

  /// The message at the cursor, as far as it has come, and what is to come of it, goes to nobody.
  public mutating func drop(_ message: FrontendMessage, _ bytes: Span<UInt8>, _ cursor: inout Int) {
    noteShared(message, nil)
    beginDropping(message.header, &cursor)
    _ = dropBody(bytes, &cursor)
  }

  /// The Parse at the cursor has been answered without a server connection.
  public func takeDetached(_ message: FrontendMessage, _ cursor: inout Int) {
    cursor += message.header.totalLength
  }

  /// The message at the cursor has been seen to up to this offset; the rest of it is forwarded as it is.
  public mutating func takeHead(
    _ message: FrontendMessage, _ cursor: inout Int, upTo end: Int, statement: SharedStatement
  ) {
    noteShared(message, statement)
    bodyLeft = message.header.bodyLength - (end - message.body.lowerBound)
    bodyIsForwarded = true
    cursor = end
  }

  /// The message at the cursor is forwarded as it is, as far as it has come. Returns where it is.
  public mutating func pass(
    _ message: FrontendMessage, _ bytes: Span<UInt8>, _ cursor: inout Int, ledger: inout Ledger
  ) -> Range<Int> {
    let start = cursor
    // The text of a statement that the daemon has not seen.
    if message.type == .bind { session.noteHidden() }
    if message.type == .query {
      session.note(.deallocates, nil, isInBlock: true, "")
      mayForgetStatements = true
    }
    note(message.type, bytes, cursor, message.header, isInBlock: message.isInBlock)
    ledger.sent(RequestScanner.request(message.type, bytes, cursor, message.header), by: .client)
    cursor = message.body.upperBound
    bodyLeft = message.header.bodyLength - message.body.count
    bodyIsForwarded = true
    return start..<cursor
  }

  private mutating func noteShared(_ message: FrontendMessage, _ statement: SharedStatement?) {
    isAtBoundary = message.type == .query
    requestsSinceCheckout += 1
    guard message.type == .bind, let statement else { return }
    session.note(
      statement.effects, statement.touched, isInBlock: hasRun(isInBlock: message.isInBlock), statement.beginning)
    hasBound = true
    if !statement.effects.isDisjoint(with: [.deallocates, .discardsAll]) { mayForgetStatements = true }
    if message.isInBlock || beginsBlock {
      mayCommit = mayCommit || statement.mayCommit
    } else {
      beginsBlock = statement.kind == .begin
    }
  }

  /// The statement's name in a Bind; nil where it has not come.
  private static func statementName(
    ofBind bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader
  ) -> Range<Int>? {
    let body = cursor + MessageHeader.size
    let end = min(bytes.count, body + header.bodyLength)
    var start = body
    while start < end && bytes[start] != 0 { start += 1 }
    start += 1
    var stop = start
    while stop < end && bytes[stop] != 0 { stop += 1 }
    return stop < end ? start..<stop : nil
  }

  // MARK: Pieces

  /// The header at the cursor, where it is there and legal.
  private func header(_ bytes: Span<UInt8>, _ cursor: Int) -> (FrontendType, MessageHeader)? {
    guard let header = MessageHeader(bytes, at: cursor), let type = FrontendType(rawValue: header.type),
      header.bodyLength <= type.bodyLimit
    else { return nil }
    return (type, header)
  }

  /// What it means that there is no legal header at the cursor. A type byte that does not exist is refused without
  /// waiting for a length.
  private func incomplete(_ bytes: Span<UInt8>, _ cursor: Int) -> Step {
    if cursor < bytes.count, FrontendType(rawValue: bytes[cursor]) == nil { return .violation(bytes[cursor]) }
    return bytes.count - cursor < MessageHeader.size ? .needMore : .violation(bytes[cursor])
  }

  private func isReadable(_ bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader) -> Bool {
    bytes.count - cursor >= min(header.totalLength, RequestScanner.examinedLimit)
  }

  private mutating func beginDropping(_ header: MessageHeader, _ cursor: inout Int) {
    cursor += MessageHeader.size
    bodyLeft = header.bodyLength
    bodyIsForwarded = false
  }

  /// Drops what has come of the present message. Returns whether that was all of it.
  private mutating func dropBody(_ bytes: Span<UInt8>, _ cursor: inout Int) -> Bool {
    let count = min(bodyLeft, bytes.count - cursor)
    cursor += count
    bodyLeft -= count
    return bodyLeft == 0
  }
}
