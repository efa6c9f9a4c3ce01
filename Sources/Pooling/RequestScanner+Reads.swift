import PostgresWire

/// Requests of a client whose read-only transactions go to a standby (`ReadRouting`).
///
/// Which server a transaction needs is not known at its BEGIN: SET TRANSACTION may follow, and the first statement may want
/// the primary. So a BEGIN in a Query of its own is answered without a server, and held until a server is known. Of the
/// extended protocol what has come of the cycle is looked at, as drivers send BEGIN and the first statement in one.
///
/// ```
///   BEGIN ─▶ held ── SET TRANSACTION ─▶ held ── any other request ─▶ checkout, at the server that `route` names
///              └──── COMMIT, ROLLBACK ─▶ answered: there was nothing                └▶ the held BEGIN, then the request
/// ```
extension RequestScanner {
  /// What the Query at the cursor is where no server has to know of it yet; nil where one has to.
  mutating func hold(
    _ bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader, _ settings: SessionSettings
  ) -> TransactionCommand? {
    guard bytes.count - cursor >= header.totalLength,
      let text = RequestScanner.text(.query, bytes, cursor, header),
      let command = TransactionCommand(bytes.extracting(text), reading: settings.reading)
    else { return nil }
    guard var held = heldModes else {
      guard let modes = command.opening, RequestScanner.mayRead(modes, settings) else { return nil }
      heldModes = modes
      forgetUnnamed()
      return command
    }
    if command.opening != nil { return nil }
    forgetUnnamed()
    switch command {
    case .begin, .start: break
    case .setModes(let modes):
      held.formUnion(modes)
      heldModes = held
    case .commit, .rollback: heldModes = nil
    case .empty: break
    }
    return command
  }

  /// Whether a block with these modes may become one for a standby: SET TRANSACTION may say so yet.
  private static func mayRead(_ modes: TransactionModes, _ settings: SessionSettings) -> Bool {
    let isSerializable = modes.isolation.map { $0 == .serializable } ?? settings.transactionDefaults.isSerializable
    return !isSerializable && modes.isReadOnly != false
  }

  /// The held BEGIN has reached a server.
  public mutating func blockOpened() { heldModes = nil }

  // MARK: Where a request goes

  /// Where the request at the cursor, which needs a server, goes with its transaction; nil where more of its cycle has to
  /// come first.
  public func route(
    _ bytes: Span<UInt8>, _ cursor: Int, _ statements: ClientStatements, _ settings: SessionSettings
  ) -> ReadRouting.Target? {
    guard let (type, header) = header(bytes, cursor) else { return .primary }
    var transaction = RoutedTransaction(held: heldModes, settings)
    guard type != .query else {
      guard bytes.count - cursor >= header.totalLength,
        let text = RequestScanner.text(type, bytes, cursor, header)
      else { return .primary }
      return transaction.takes(bytes.extracting(text)) && transaction.hasStatement ? .standby : .primary
    }
    var offset = cursor
    while let (type, header) = self.header(bytes, offset), bytes.count - offset >= header.totalLength {
      switch type {
      case .parse, .bind, .describe:
        guard takes(type, header, bytes, offset, statements, &transaction) else { return .primary }
      case .execute, .close: break
      case .sync, .flush: return transaction.isRead ? .standby : .primary
      case .query, .functionCall, .copyData, .copyDone, .copyFail, .terminate, .password: return .primary
      }
      offset += header.totalLength
    }
    if transaction.hasStatement { return .standby }
    return transaction.mayBeRead && bytes.count - cursor < RequestScanner.examinedLimit ? nil : .primary
  }

  /// Whether a message of the cycle leaves its transaction one for a standby.
  private func takes(
    _ type: FrontendType, _ header: MessageHeader, _ bytes: Span<UInt8>, _ offset: Int, _ statements: ClientStatements,
    _ transaction: inout RoutedTransaction
  ) -> Bool {
    if type == .parse {
      guard let text = RequestScanner.text(type, bytes, offset, header) else { return false }
      transaction.hasParsed = true
      return transaction.takes(bytes.extracting(text))
    }
    let body = offset + MessageHeader.size
    let message = FrontendMessage(
      type: type, body: body..<body + header.bodyLength, header: header, isInBlock: false)
    guard let name = RequestScanner.statementName(message, bytes, offset) else { return true }
    if let statement = statements.find(bytes, name) {
      // Its Bind says that the block begins.
      if type == .describe && statement.kind == .begin { return true }
      let definition = statement.definition
      return transaction.takes(definition.span)
    }
    // What has just been parsed has been looked at.
    if transaction.hasParsed { return true }
    return name.isEmpty && !unnamedDefinition.isEmpty && transaction.takes(unnamedDefinition.span)
  }
}

/// What is known of a transaction that has no server yet.
private struct RoutedTransaction {
  private let settings: SessionSettings
  private var modes: TransactionModes
  private var isOpen: Bool
  /// It has a statement that is a read.
  private(set) var hasStatement = false
  /// A Parse has been looked at.
  var hasParsed = false

  init(held modes: TransactionModes?, _ settings: SessionSettings) {
    self.settings = settings
    self.modes = modes ?? TransactionModes()
    isOpen = modes != nil
  }

  /// It may run on a standby, as far as it is known.
  var isRead: Bool {
    (isOpen || hasStatement) && ReadRouting.isRead(modes, settings.transactionDefaults)
  }

  /// What is to come may make it a read.
  var mayBeRead: Bool { isOpen || ReadRouting.isRead(modes, settings.transactionDefaults) }

  /// Takes a text; false where the transaction is the primary's with it.
  mutating func takes(_ text: Span<UInt8>) -> Bool {
    switch TransactionCommand(text, reading: settings.reading) {
    case .begin(let modes), .start(let modes):
      guard !isOpen, !hasStatement else { return false }
      isOpen = true
      self.modes = modes
      return true
    case .setModes(let modes):
      guard isOpen, !hasStatement else { return false }
      self.modes.formUnion(modes)
      return true
    case .commit, .rollback, .empty: return false
    case nil:
      guard ReadRouting.isRead(modes, settings.transactionDefaults),
        ReadRouting.isRead(text, reading: settings.reading)
      else { return false }
      hasStatement = true
      return true
    }
  }
}
