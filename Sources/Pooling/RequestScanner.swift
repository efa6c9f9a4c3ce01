public import PostgresWire

/// Reads what a client sends, and says what is to be done with it: one scanner a client, fed with whatever piece of the
/// stream has arrived. It decides when a server connection is needed, keeps the ledger of the one that is held, and
/// answers by itself what needs no server.
///
/// Messages of the extended protocol and queries are acted on when they are whole, or when `examinedLimit` bytes of
/// them have come; so a client that stops in the middle of a small message holds no server connection. CopyData, and
/// the rest of larger messages, pass as they come.
public struct RequestScanner {
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
    /// A Query that opens a transaction block, or is about one that has been opened so, and needs no server yet
    /// (`heldModes`): it is answered like that.
    case answerHeld(TransactionCommand)
    /// The client may not have what this Query or Parse, of which `text` is the SQL, would pin the connection for. It is
    /// answered by `drop`.
    case refusePin(FrontendMessage, PinReasons, text: Range<Int>)
    /// The client asks for what its sequences gave last, and the connection may have that of somebody else: it is
    /// discarded first.
    case discardSequences
    /// A Parse (whole message, from the cursor on) of a statement with a name, which is shared. It is answered by `take`
    /// or `pass`.
    case parseStatement(FrontendMessage)
    /// A Bind, or a Describe or Close of a statement, that uses a shared statement by this name. It is answered by `take`,
    /// `takeHead` or `pass`; or not at all, and then it comes again.
    case useStatement(FrontendMessage, name: Range<Int>)
    /// A Bind, or a Describe of a statement, that uses the unnamed statement, which is not on the connection. It is
    /// answered as `useStatement` is; `name` is where the name would be.
    case useUnnamedStatement(FrontendMessage, name: Range<Int>)
    /// A Describe of the portal that was bound just before, to a statement of whose rows nothing is known (`justBound`). It
    /// is answered by `take`.
    case describeRows(FrontendMessage)
    /// A Query, or a Parse without a name, that executes or deallocates one statement by name. It is answered by
    /// `takeRenamed`, `take` or `pass`; or not at all, and then it comes again.
    case nameStatement(FrontendMessage, StatementReference)
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
  /// Whose the unnamed statement of the connection held is.
  private var unnamedOwner = UnnamedOwner.anybody
  private var requestsSinceCheckout = 0
  /// Set while the client's transaction is lost.
  private var lostBlock: LostBlock?
  /// Set while the client has opened a transaction block of which no server knows yet, and has asked for nothing in it.
  public internal(set) var heldModes: TransactionModes?
  /// Among the requests that are not answered yet is one that may commit something.
  public private(set) var mayCommit = false
  /// Among the requests that are not answered yet is one that begins a transaction block.
  public private(set) var beginsBlock = false
  /// Whether the client is in a block when all that is under way is done, as it sees it; nil where nothing of that begins
  /// or ends one. What follows a COMMIT is no part of its block, even if nobody knows what has become of that.
  public private(set) var leavesBlock: Bool?
  /// What the client's unnamed statement and unnamed portal do to transactions. Portals with names are nobody's way to
  /// begin or end a block.
  private var unnamedKind = TransactionStatement.other
  private var boundKind = TransactionStatement.other
  /// The Bind at the cursor is about the unnamed portal.
  private var bindsUnnamedPortal = false
  /// A statement has been parsed since all was last answered.
  private var hasParsed = false
  /// Among the requests that are not answered yet is one after which statements may be gone.
  public private(set) var mayForgetStatements = false
  private var isAtBoundary = true
  /// A message of the extended protocol has been sent since the last Sync: if it fails, all up to the next one is skipped,
  /// queries too.
  private var hasOpenCycle = false
  /// A request that was sent since all was answered has failed.
  private var hasFailed = false
  /// A statement has been bound in the present cycle of the extended protocol.
  private var hasBound = false
  private var forwarded: (parses: UInt32, binds: UInt32) = (0, 0)
  /// What has become of the session.
  public var session = SessionState()
  /// What the client's unnamed statement does when it is used; nil where that is nothing of interest.
  private var unnamed: Text?
  /// All of its Parse behind the name, to make it anew on another connection; empty where that cannot be.
  private(set) var unnamedDefinition: [UInt8] = []
  /// Which of the connection's Parse messages that was (`Ledger.parsesSent`).
  private var unnamedParse: UInt64 = 0
  /// The statement that it has become on other connections.
  public private(set) var unnamedShared: SharedStatement?
  /// Bytes of an unnamed statement that are kept, at most.
  private static let unnamedLimit = 4096
  /// The statement of the Bind before the message at the cursor, where nothing is known of its rows.
  public private(set) var justBound: SharedStatement?
  /// Requests under way may change how later ones are read.
  private var readingIsUnsure = false

  private enum UnnamedOwner {
    /// Another client's, or there is none.
    case anybody
    /// The client's, where what comes before in its cycle does not fail; if it does, the rest of the cycle is skipped.
    case clientInCycle
    /// That cycle is over, but not answered yet.
    case undecided
    /// The client's, or there is none.
    case client
  }

  /// What a text does to the session. Few have one that does anything: it is an object of its own.
  private final class Text: Sendable {
    let effects: StatementEffects
    let touched: TouchedSettings?
    let beginning: String

    init(effects: StatementEffects, touched: TouchedSettings?, beginning: String) {
      self.effects = effects
      self.touched = touched
      self.beginning = beginning
    }
  }

  public init() {}

  /// The client's block is lost, and no error has told it so.
  public var hasUnreportedLoss: Bool { lostBlock?.isUnreported ?? false }

  /// The client has begun a cycle of the extended protocol whose Sync it has not sent yet.
  public var isInsideCycle: Bool { !isAtBoundary }

  /// The transaction status while no server connection is held.
  public var detachedStatus: Backend.TransactionStatus {
    if lostBlock != nil { return .failed }
    return heldModes == nil ? .idle : .inBlock
  }

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
  public mutating func takeForwarded() -> (parses: UInt32, binds: UInt32)? {
    if forwarded == (0, 0) { return nil }
    defer { forwarded = (0, 0) }
    return forwarded
  }

  /// A server connection has been checked out.
  public mutating func attached() {
    answered()
    unnamedOwner = .anybody
    justBound = nil
    isAtBoundary = true
    hasOpenCycle = false
    hasBound = false
  }

  /// The server connection is gone, and with it what it held for this client.
  public mutating func detached() {
    holdsNamedStatement = false
    unnamedAwaitsUse = false
    session.detached()
  }

  /// The daemon sends a query of its own, which drops the connection's unnamed statement.
  public mutating func lostUnnamedStatement() { unnamedOwner = .anybody }

  /// A request has failed.
  ///
  /// - Parameter parses: the Parse messages that failed with it (`Ledger.failedParses`).
  public mutating func failed(_ parses: ClosedRange<UInt64>?) {
    hasFailed = true
    if let parses, parses.contains(unnamedParse) { forgetUnnamed() }
  }

  /// All that was sent has been answered: after a pause, forwarding may go on.
  public mutating func answered() {
    if unnamedOwner == .undecided {
      unnamedOwner = hasFailed ? .anybody : .client
    }
    hasFailed = false
    requestsSinceCheckout = 0
    mayCommit = false
    beginsBlock = false
    leavesBlock = nil
    hasParsed = false
    mayForgetStatements = false
    readingIsUnsure = false
  }

  /// The client's transaction block is lost. `isUnreported` where no error has told it so.
  public mutating func loseBlock(isUnreported: Bool) {
    heldModes = nil
    lostBlock = LostBlock(isUnreported: isUnreported)
  }

  /// Requests already sent were answered with an error by the daemon, and their Sync is still to come: everything up to
  /// it is dropped.
  public mutating func skipUntilSync() { skipsUntilSync = true }

  // MARK: Without a server connection

  /// The next step while no server connection is held.
  ///
  /// - Parameters:
  ///   - shared: the client's statements with names, where they are shared with other clients: a Parse is a
  ///     `parseStatement` then, which is answered by `takeDetached`, or by a checkout. In a lost block that is so only for
  ///     one that ends the block, and it is answered by `takeDetached` or `refuse`.
  ///   - routed: the session's settings, where its read-only transactions go to a standby: what opens a block is held back
  ///     until the client says what it wants to do in it.
  public mutating func next(
    _ bytes: Span<UInt8>, _ cursor: inout Int, shared: ClientStatements? = nil, routed: SessionSettings? = nil
  ) -> Step {
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
        if let shared, let message = namedParse(type, header, bytes, cursor, shared) { return .parseStatement(message) }
        if lostBlock != nil { return answerInLostBlock(type, header, bytes, &cursor, shared) }
        if type == .query, let routed, let command = hold(bytes, cursor, header, routed) {
          cursor += header.totalLength
          return .answerHeld(command)
        }
        return .checkout
      }
    }
  }

  /// The request at the cursor is answered with an error by the daemon instead of being sent. A query or function call
  /// is dropped; of the extended protocol everything up to the next Sync is. Where it was to begin a transaction block,
  /// that block is lost: what follows in it must not run on its own. So is a block that is held.
  ///
  /// - Returns: whether ReadyForQuery follows the error at once, as it does after a query or function call.
  public mutating func refuse(_ bytes: Span<UInt8>, _ cursor: inout Int, _ statements: ClientStatements? = nil) -> Bool
  {
    guard let (type, header) = header(bytes, cursor) else { preconditionFailure("nothing to refuse") }
    if heldModes != nil { loseBlock(isUnreported: false) }
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

  /// The Parse at the cursor that gives a statement a name; nil where it is none, or has to wait for the end of a lost
  /// block.
  private func namedParse(
    _ type: FrontendType, _ header: MessageHeader, _ bytes: Span<UInt8>, _ cursor: Int, _ shared: ClientStatements
  ) -> FrontendMessage? {
    let body = cursor + MessageHeader.size..<cursor + header.totalLength
    guard type == .parse, !body.isEmpty, bytes[body.lowerBound] != 0, body.upperBound <= bytes.count else { return nil }
    if lostBlock != nil {
      let bytes = bytes.extracting(body)
      guard let parse = try? Frontend.Parse(body: bytes), LostBlock.isExit(parse, of: bytes),
        shared.find(bytes, parse.statement) == nil
      else { return nil }
    }
    return FrontendMessage(type: type, body: body, header: header, isInBlock: false)
  }

  /// Answers the request at the cursor in the place of a server.
  private mutating func answerInLostBlock(
    _ type: FrontendType, _ header: MessageHeader, _ bytes: Span<UInt8>, _ cursor: inout Int,
    _ shared: ClientStatements?
  ) -> Step {
    let body = cursor + MessageHeader.size
    let end = min(bytes.count, body + header.bodyLength)
    guard let answer = lostBlock?.answer(type, bytes.extracting(body..<end), shared) else {
      preconditionFailure("no block is lost")
    }
    if type == .query || type == .parse { forgetUnnamed() }
    beginDropping(header, &cursor)
    _ = dropBody(bytes, &cursor)
    let isOver = type == .query || type == .functionCall
    switch answer {
    case .rolledBack: lostBlock = nil
    case .notCommitted:
      lostBlock = nil
      skipsUntilSync = !isOver
    case .refused: skipsUntilSync = !isOver
    case .empty, .parsed, .bound, .described, .closed: break
    }
    return .answerInLostBlock(answer, isOver: isOver)
  }

  /// Where the SQL text of a Query or Parse is.
  static func text(
    _ type: FrontendType, _ bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader
  ) -> Range<Int>? {
    let body = cursor + MessageHeader.size
    let end = min(bytes.count, body + header.bodyLength)
    switch type {
    case .query: return body..<end
    case .parse:
      let start = min(bytes.end(ofTextIn: body..<end) + 1, end)
      return start..<bytes.end(ofTextIn: start..<end)
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
        hasOpenCycle = false
        hasBound = false
        if unnamedOwner == .clientInCycle { unnamedOwner = .undecided }
      case .query, .parse, .bind, .describe, .execute, .close, .functionCall:
        guard isReadable(bytes, cursor, header) else { return run() ?? .needMore }
        if isAtBoundary && requestsSinceCheckout >= terms.requestLimit
          || ledger.count >= RequestScanner.outstandingLimit
        {
          return run() ?? .pause
        }
        if terms.followsSession, let step = attention(type, header, bytes, cursor, terms) { return run() ?? step }
        if type == .functionCall { session.noteFunctionCall() }
        note(type, bytes, cursor, header, isInBlock: terms.isInBlock)
        let isEntered = ledger.sent(RequestScanner.request(type, bytes, cursor, header), by: .client)
        if type == .parse, !unnamedDefinition.isEmpty {
          // What the server skips it does not have.
          if isEntered { unnamedParse = ledger.parsesSent } else { forgetUnnamed() }
        }
      }
      cursor += MessageHeader.size
      bodyLeft = header.bodyLength
      bodyIsForwarded = true
    }
  }

  /// What has to be seen to before the message at the cursor goes to the server; nil where it goes as it is, and what it
  /// does is remembered.
  private mutating func attention(
    _ type: FrontendType, _ header: MessageHeader, _ bytes: Span<UInt8>, _ cursor: Int, _ terms: Terms
  ) -> Step? {
    let body = cursor + MessageHeader.size
    let end = min(bytes.count, body + header.bodyLength)
    let isWhole = bytes.count - cursor >= header.totalLength
    let message = FrontendMessage(type: type, body: body..<end, header: header, isInBlock: terms.isInBlock)
    let sharesStatements = terms.sharesStatements && !holdsNamedStatement
    switch type {
    case .bind, .describe, .close:
      if type == .describe, isWhole, justBound != nil, !RequestScanner.isAboutStatement(bytes, cursor, header) {
        return .describeRows(message)
      }
      if type == .bind {
        bindsUnnamedPortal = end > body && bytes[body] == 0
        if bindsUnnamedPortal { boundKind = .other }
      }
      guard let name = RequestScanner.statementName(message, bytes, cursor) else { return nil }
      if !name.isEmpty { return sharesStatements ? .useStatement(message, name: name) : nil }
      if type == .close || unnamedOwner == .client || unnamedOwner == .clientInCycle { return nil }
      return unnamedOwner == .undecided ? .pause : .useUnnamedStatement(message, name: name)
    case .query, .parse:
      guard let text = RequestScanner.text(type, bytes, cursor, header) else { return nil }
      let isNamed = type == .parse && header.bodyLength > 0 && bytes[body] != 0
      if isNamed && isWhole && sharesStatements { return .parseStatement(message) }
      let effects = effects(of: bytes.extracting(text), isCut: !isWhole, terms.reading)
      if let pins = refusal(effects, isNamedParse: isNamed, bytes.extracting(text), terms) {
        return .refusePin(message, pins, text: text)
      }
      if mustDiscardSequences(effects, terms) { return .discardSequences }
      if sharesStatements, isWhole, !isNamed, effects.namesStatement,
        let reference = StatementReference(bytes, text, reading: terms.reading)
      {
        return .nameStatement(message, reference)
      }
      follow(message, effects, bytes, text, isNamed: isNamed, terms)
      return nil
    case .functionCall, .execute, .sync, .flush, .terminate, .copyData, .copyDone, .copyFail, .password: return nil
    }
  }

  /// What a text may do. Where requests before it may change how it is read, it is what it may do either way.
  private func effects(of text: Span<UInt8>, isCut: Bool, _ reading: SQLReading) -> StatementEffects {
    var effects = StatementEffects.scan(text, reading: reading)
    if isCut { effects.insert(.isUnclear) }
    if readingIsUnsure {
      var other = reading
      other.standardConformingStrings.toggle()
      effects.formUnion(StatementEffects.scan(text, reading: other))
      for index in text.indices where text[index] >= 0x80 { effects.insert(.isUnclear) }
    }
    return effects
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

  /// Remembers what a text may do to the transaction; and what it does to the session: a query now, an unnamed statement
  /// when it is used.
  private mutating func follow(
    _ message: FrontendMessage, _ effects: StatementEffects, _ bytes: Span<UInt8>, _ text: Range<Int>, isNamed: Bool,
    _ terms: Terms
  ) {
    let isUnnamedParse = message.type == .parse && !isNamed
    if isUnnamedParse {
      remember(unnamed: message, bytes)
      unnamedKind = .other
    }
    if effects == [] { return }
    let kind = TransactionStatement(bytes.extracting(text))
    if isUnnamedParse { unnamedKind = kind }
    if message.type == .query { runs(kind) }
    examine(effects, bytes, text, isInBlock: terms.isInBlock)
    if effects.isHarmless { return }
    var touched: TouchedSettings?
    if effects.touchesSettings {
      let settings = TouchedSettings(bytes.extracting(text), reading: terms.reading)
      if settings.changesReading { readingIsUnsure = true }
      touched = settings
    }
    if isUnnamedParse {
      unnamed = Text(effects: effects, touched: touched, beginning: SessionState.beginning(of: bytes, text))
    } else {
      session.note(
        effects, touched,
        isInBlock: hasRun(isInBlock: terms.isInBlock) || effects.contains(.hasSeveralStatements),
        SessionState.beginning(of: bytes, text))
    }
  }

  /// A statement runs.
  private mutating func runs(_ kind: TransactionStatement) {
    switch kind {
    case .begin: leavesBlock = true
    case .commit, .rollback: leavesBlock = false
    case .empty, .other: break
    }
  }

  /// Keeps the client's unnamed statement, as it may be used in another transaction.
  private mutating func remember(unnamed message: FrontendMessage, _ bytes: Span<UInt8>) {
    unnamed = nil
    unnamedShared = nil
    unnamedDefinition.removeAll(keepingCapacity: true)
    guard message.body.count > 1, message.body.count <= RequestScanner.unnamedLimit else { return }
    unnamedDefinition.append(bytes.extracting(message.body.dropFirst()))
  }

  mutating func forgetUnnamed() {
    if unnamed == nil && unnamedShared == nil && unnamedDefinition.isEmpty { return }
    unnamed = nil
    unnamedShared = nil
    unnamedDefinition.removeAll(keepingCapacity: true)
  }

  /// The client's unnamed statement where it was parsed in an earlier transaction, as one that is shared; nil where there
  /// is none, or it is too long to be kept.
  public mutating func unnamedStatement(in table: StatementTable, _ settings: SessionSettings) -> SharedStatement? {
    if unnamedShared == nil, !unnamedDefinition.isEmpty {
      unnamedShared = table.statement(unnamedDefinition, settings: settings)
    }
    return unnamedShared
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

  /// Remembers what a request leaves behind on the connection.
  private mutating func note(
    _ type: FrontendType, _ bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader, isInBlock: Bool
  ) {
    justBound = nil
    isAtBoundary = type == .query || type == .functionCall
    if isAtBoundary { hasBound = false }
    let body = cursor + MessageHeader.size
    switch type {
    case .query:
      // It drops the unnamed statement.
      unnamedOwner = hasOpenCycle ? .clientInCycle : .client
      unnamedAwaitsUse = false
      forgetUnnamed()
    case .close: if RequestScanner.isUnnamed(bytes, cursor, header) { forgetUnnamed() }
    case .parse:
      hasParsed = true
      forwarded.parses &+= 1
      if header.bodyLength > 0 && bytes[body] != 0 {
        holdsNamedStatement = true
      } else {
        unnamedOwner = hasOpenCycle ? .clientInCycle : .client
        unnamedAwaitsUse = true
      }
    case .bind:
      forwarded.binds &+= 1
      // What an earlier cycle has parsed may be anything.
      if !hasParsed { mayCommit = true }
      if RequestScanner.statementName(ofBind: bytes, cursor, header)?.isEmpty == true {
        unnamedAwaitsUse = false
        if bindsUnnamedPortal { boundKind = unnamedKind }
        if let unnamed {
          session.note(
            unnamed.effects, unnamed.touched, isInBlock: hasRun(isInBlock: isInBlock), unnamed.beginning)
        }
      }
      hasBound = true
    case .execute: if header.bodyLength > 0, bytes[body] == 0 { runs(boundKind) }
    case .functionCall, .describe, .sync, .flush, .terminate, .copyData, .copyDone, .copyFail, .password:
      break
    }
    if type != .query && type != .functionCall { hasOpenCycle = true }
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
  static func isAboutStatement(_ bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader) -> Bool {
    header.bodyLength > 0 && bytes[cursor + MessageHeader.size] == Frontend.Target.statement.rawValue
  }

  // MARK: Shared statements

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

  /// The Query or Parse at the cursor is forwarded with another statement's name in it.
  ///
  /// - Parameter statement: the statement that it executes.
  public mutating func takeRenamed(
    _ message: FrontendMessage, _ bytes: Span<UInt8>, _ cursor: inout Int, executing statement: SharedStatement?
  ) {
    forgetUnnamed()
    if let statement {
      if message.type == .query {
        session.note(
          statement.effects, statement.touched, isInBlock: hasRun(isInBlock: message.isInBlock), statement.beginning)
      } else {
        unnamed = Text(effects: statement.effects, touched: statement.touched, beginning: statement.beginning)
      }
      mayCommit = mayCommit || statement.mayCommit
    }
    note(message.type, bytes, cursor, message.header, isInBlock: message.isInBlock)
    cursor += message.header.totalLength
  }

  /// The message at the cursor is forwarded as it is, as far as it has come. Returns where it is.
  public mutating func pass(
    _ message: FrontendMessage, _ bytes: Span<UInt8>, _ cursor: inout Int, ledger: inout Ledger, _ terms: Terms
  ) -> Range<Int> {
    let start = cursor
    if let text = RequestScanner.text(message.type, bytes, cursor, message.header) {
      let isNamed = message.type == .parse && bytes[message.body.lowerBound] != 0
      let effects = effects(of: bytes.extracting(text), isCut: false, terms.reading)
      follow(message, effects, bytes, text, isNamed: isNamed, terms)
    }
    // A statement whose text the daemon has not seen.
    if message.type == .bind { session.noteHidden() }
    note(message.type, bytes, cursor, message.header, isInBlock: message.isInBlock)
    ledger.sent(RequestScanner.request(message.type, bytes, cursor, message.header), by: .client)
    cursor = message.body.upperBound
    bodyLeft = message.header.bodyLength - message.body.count
    bodyIsForwarded = true
    return start..<cursor
  }

  private mutating func noteShared(_ message: FrontendMessage, _ statement: SharedStatement?) {
    justBound = message.type == .bind && statement?.knowsRows == false ? statement : nil
    isAtBoundary = message.type == .query
    if message.type == .query {
      // As if it had been sent: it drops the unnamed statement.
      forgetUnnamed()
      unnamedOwner = .anybody
      unnamedAwaitsUse = false
    } else {
      hasOpenCycle = true
    }
    requestsSinceCheckout += 1
    guard message.type == .bind, let statement else { return }
    session.note(
      statement.effects, statement.touched, isInBlock: hasRun(isInBlock: message.isInBlock), statement.beginning)
    hasBound = true
    if bindsUnnamedPortal { boundKind = statement.kind }
    if !statement.effects.isDisjoint(with: [.deallocates, .discardsAll]) { mayForgetStatements = true }
    if message.isInBlock || beginsBlock {
      mayCommit = mayCommit || statement.mayCommit
    } else {
      beginsBlock = statement.kind == .begin
    }
  }

  /// The statement's name in a Bind; nil where it has not come.
  static func statementName(
    ofBind bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader
  ) -> Range<Int>? {
    let body = cursor + MessageHeader.size
    let end = min(bytes.count, body + header.bodyLength)
    let start = min(bytes.end(ofTextIn: body..<end) + 1, end)
    let stop = bytes.end(ofTextIn: start..<end)
    return stop < end ? start..<stop : nil
  }

  /// The name of the statement that a Bind, or a Describe or Close of a statement, is about; nil where it has not come, or
  /// there is none.
  static func statementName(_ message: FrontendMessage, _ bytes: Span<UInt8>, _ cursor: Int) -> Range<Int>? {
    if message.type == .bind { return statementName(ofBind: bytes, cursor, message.header) }
    guard message.body.count == message.header.bodyLength, message.body.count >= 2,
      isAboutStatement(bytes, cursor, message.header)
    else { return nil }
    return message.body.lowerBound + 1..<message.body.upperBound - 1
  }

  /// Whether a Close is about the unnamed statement.
  private static func isUnnamed(_ bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader) -> Bool {
    header.bodyLength == 2 && isAboutStatement(bytes, cursor, header)
  }

  // MARK: Pieces

  /// The header at the cursor, where it is there and legal.
  func header(_ bytes: Span<UInt8>, _ cursor: Int) -> (FrontendType, MessageHeader)? {
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
