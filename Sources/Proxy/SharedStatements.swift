import Pooling
import PostgresWire

/// Prepared statements with names, where server connections are shared: a statement is made on a connection when a client
/// needs it there, whoever has made it first.
///
/// ```
///   client                  daemon                             server
///   Parse a, "select 1"     a is lifeguard_7                   Parse lifeguard_7, "select 1"    where it has not got it
///                                                              Close lifeguard                  else: its CloseComplete
///   ◀── ParseComplete                                                                           becomes ParseComplete
///   Bind a                                                     Bind lifeguard_7                 where it has got it
///                           shape unknown                      Parse lifeguard_7, Bind          else
///                           a client knows its shape           Parse, Describe, Flush ─▶ same?  else
/// ```
///
/// In the last case the rows may have another shape than the client has been told (a table was altered meanwhile): it gets
/// PostgreSQL's own error for that, and never rows that it would misread.
extension Client {
  /// Statements that one client may have, and bytes of their texts.
  private static let statementLimit = 10_000
  private static let statementBytesLimit = 16 << 20

  private var hasTooManyStatements: Bool {
    statements.count >= Client.statementLimit || statements.bytes >= Client.statementBytesLimit
  }

  /// A Parse with a name. Returns whether to go on.
  ///
  /// What earlier cycles leave is waited for: whether the name is free, whether the server has the statement, and whether
  /// it would take a Parse at all. What is under way in the present cycle can be relied on, as after a failure the rest of
  /// the cycle is skipped with it.
  func parseStatement(
    _ message: RequestScanner.FrontendMessage, _ bytes: Span<UInt8>, _ cursor: inout Int, _ server: Server,
    _ terms: RequestScanner.Terms
  ) -> Bool {
    if server.owesEarlierCycles {
      awaitsReplies = true
      return false
    }
    let body = bytes.extracting(message.body)
    guard let parse = try? Frontend.Parse(body: body) else { return pass(message, bytes, &cursor, server, terms) }
    let name = WireText(body, parse.statement)
    if statements.find(body, parse.statement) != nil {
      // First the server says whether the text is one that it would take.
      requests.take(message, &cursor)
      server.request(.hiddenParse, .name(name)) { $0.parse(parse, of: body, statement: Server.nobodysStatement) }
      server.closeNobodysStatement()
      server.refuseStatement(.duplicateStatement(name))
      return true
    }
    if hasTooManyStatements {
      requests.take(message, &cursor)
      server.refuseStatement(.tooManyStatements(server.pool, statements))
      return true
    }
    server.pool.telemetry.clientParseCount.add()
    let statement = worker.statementTable.statement(
      WireText(body, parse.definition).bytes, settings: server.settings,
      isAlone: requests.session.parsesForItself)
    requests.take(message, &cursor)
    guard server.statements.use(statement) else {
      server.pool.telemetry.serverParseCount.add()
      server.request(.parse, .define(statements, name, statement, parses: true)) {
        $0.parse(parse, of: body, statement: statement.serverName)
      }
      server.closeExcessStatements()
      return true
    }
    let definition = ServerStatements.Note.define(statements, name, statement, parses: false)
    if server.status == .failed {
      // Whether it takes a Parse there, the server is asked.
      server.request(.parse, definition) { $0.parse(parse, of: body, statement: Server.nobodysStatement) }
      server.closeNobodysStatement()
    } else {
      server.request(.knownParse, definition) { $0.close(.statement, Server.nobodysStatement) }
    }
    return true
  }

  /// A Parse with a name, while no server connection is held. Of a text that a server has taken the client has the
  /// statement at once: the connection that it is used on gets it then. (A program that prepares on one connection while it
  /// has transactions open on others, as pgbench does, would otherwise wait for itself.) So it has one that ends a lost
  /// block, which has no server connection to ask.
  ///
  /// - Returns: whether it is answered; else it takes a server connection.
  func parseDetached(_ message: RequestScanner.FrontendMessage, _ bytes: Span<UInt8>, _ cursor: inout Int) -> Bool {
    let body = bytes.extracting(message.body)
    guard let pool, let wanted, !hasTooManyStatements, let parse = try? Frontend.Parse(body: body),
      statements.find(body, parse.statement) == nil
    else { return false }
    let statement = worker.statementTable.statement(WireText(body, parse.definition).bytes, settings: wanted)
    guard statement.isProven || requests.detachedStatus == .failed else { return false }
    requests.takeDetached(message, &cursor)
    pool.telemetry.clientParseCount.add()
    statements.define(WireText(body, parse.statement), statement)
    send { $0.parseComplete() }
    return true
  }

  /// A Bind, or a Describe or Close of a statement, by a name. Returns whether to go on.
  func useStatement(
    _ message: RequestScanner.FrontendMessage, name: Range<Int>, _ bytes: Span<UInt8>, _ cursor: inout Int,
    _ server: Server, _ terms: RequestScanner.Terms
  ) -> Bool {
    if waitsForStatements(on: server) { return false }
    guard let statement = statements.find(bytes, name) else {
      return useUnknownStatement(message, name: name, bytes, &cursor, server, terms)
    }
    if message.type == .close {
      requests.take(message, &cursor)
      server.request(.close, .undefine(statements, WireText(bytes, name), statement)) {
        $0.close(.statement, Server.nobodysStatement)
      }
      return true
    }
    return use(statement, message, name: name, bytes, &cursor, server, terms)
  }

  /// A Bind or Describe of the unnamed statement, which has been parsed in another transaction. Returns whether to go on.
  func useUnnamedStatement(
    _ message: RequestScanner.FrontendMessage, name: Range<Int>, _ bytes: Span<UInt8>, _ cursor: inout Int,
    _ server: Server, _ terms: RequestScanner.Terms
  ) -> Bool {
    if waitsForStatements(on: server) { return false }
    guard terms.sharesStatements,
      let statement = requests.unnamedStatement(in: worker.statementTable, server.settings)
    else {
      requests.drop(message, bytes, &cursor)
      server.refuseStatement(.unknownUnnamedStatement)
      return true
    }
    return use(statement, message, name: name, bytes, &cursor, server, terms)
  }

  /// Whether requests under way decide which statements there are, and the client has to wait for them.
  private func waitsForStatements(on server: Server) -> Bool {
    if isVerifying { return true }
    guard server.statements.isUnsettled || requests.mayForgetStatements, server.owesEarlierCycles else { return false }
    awaitsReplies = true
    return true
  }

  /// A Bind or Describe of a shared statement.
  private func use(
    _ statement: SharedStatement, _ message: RequestScanner.FrontendMessage, name: Range<Int>, _ bytes: Span<UInt8>,
    _ cursor: inout Int, _ server: Server, _ terms: RequestScanner.Terms
  ) -> Bool {
    if let changed = changedStatement {
      changedStatement = nil
      if changed === statement {
        requests.drop(message, bytes, &cursor)
        server.refuseStatement(.changedStatement)
        return true
      }
    }
    if message.type == .bind, !statement.effects.isEmpty {
      if let pins = requests.refusal(of: statement, terms) {
        requests.drop(message, bytes, &cursor)
        server.refuseStatement(.pin(server.pool, pins, statement: statement.beginning))
        return true
      }
      if requests.mustDiscardSequences(statement.effects, terms) { server.discardSequences() }
    }
    if !server.statements.use(statement) {
      if message.type == .bind && statement.shape != nil && !server.replies.ledger.isSkipping {
        isVerifying = true
        server.verify(statement)
        return false
      }
      server.parse(statement)
    }
    if message.type == .bind {
      bind(message, statement, name: name, bytes, &cursor, server)
    } else {
      requests.take(message, &cursor)
      server.request(.describeStatement, .describe(statement, (statements, WireText(bytes, name)))) {
        $0.describe(.statement, statement.serverName)
      }
    }
    return true
  }

  /// Forwards a Bind with the statement's name on the server; what follows the name goes as it is.
  private func bind(
    _ message: RequestScanner.FrontendMessage, _ statement: SharedStatement, name: Range<Int>, _ bytes: Span<UInt8>,
    _ cursor: inout Int, _ server: Server
  ) {
    let portal = message.body.lowerBound..<name.lowerBound
    let serverName = statement.serverName.bytes
    let bodyLength = message.length - 4 - name.count + serverName.count
    let isAlone =
      server.status == .idle && !requests.isInsideCycle && server.replies.ledger.clientReadiesOwed == 0
    // Where requests before it may fail, so may this one, for want of its statement. And the server's error does not tell
    // an unnamed statement from a named one of the same text.
    if server.statements.isUnsettled || requests.unnamedShared === statement {
      if server.replies.ledger.sent(.bind, by: .client, isNoted: true) {
        server.statements.note(.name(WireText(bytes, name)))
      }
    } else {
      server.replies.ledger.sent(.bind, by: .client)
    }
    server.pool.telemetry.bindCount.add()
    if isAlone { server.cycle.begin(statement, bytes, portal: portal, lengthOfRest: message.length - name.count) }
    requests.takeHead(message, &cursor, upTo: name.upperBound, statement: statement)
    server.send(MessageHeader(type: message.type.rawValue, bodyLength: bodyLength).bytes.span)
    server.send(bytes.extracting(portal))
    server.send(serverName.span)
  }

  /// What the client calls by a name that it has not given: the connection itself may know it (SQL's PREPARE), but never
  /// one of the daemon's names.
  private func useUnknownStatement(
    _ message: RequestScanner.FrontendMessage, name: Range<Int>, _ bytes: Span<UInt8>, _ cursor: inout Int,
    _ server: Server, _ terms: RequestScanner.Terms
  ) -> Bool {
    let text = WireText(bytes, name)
    guard text.bytes.starts(with: SharedStatement.namePrefix.utf8) else {
      return pass(message, bytes, &cursor, server, terms)
    }
    requests.drop(message, bytes, &cursor)
    server.refuseStatement(.unknownStatement(text))
    return true
  }

  /// EXECUTE or DEALLOCATE by name. Returns whether to go on.
  ///
  /// Where the name is one of the protocol's, the text is sent with the statement's name on the server. A query that
  /// deallocates it is answered at once: other clients may have the statement.
  func nameStatement(
    _ message: RequestScanner.FrontendMessage, _ reference: StatementReference, _ bytes: Span<UInt8>,
    _ cursor: inout Int, _ server: Server, _ terms: RequestScanner.Terms
  ) -> Bool {
    let isQuery = message.type == .query
    if isQuery ? !server.replies.ledger.isEmpty : server.owesEarlierCycles {
      awaitsReplies = true
      return false
    }
    let name = reference.name
    guard server.status != .failed, let statement = statements.find(name.bytes.span, name.bytes.indices) else {
      return pass(message, bytes, &cursor, server, terms)
    }
    if isQuery && !reference.isExecute {
      statements.remove(name)
      requests.take(message, &cursor)
      send {
        $0.commandComplete("DEALLOCATE")
        $0.readyForQuery(server.status)
      }
      worker.answered(server)
      return true
    }
    if !server.statements.use(statement) {
      if isQuery { server.parseAhead(statement) } else { server.parse(statement) }
    }
    let quoted = Array("\"\(statement.serverName.text)\"".utf8)
    let body = message.body
    requests.takeRenamed(message, bytes, &cursor, executing: reference.isExecute ? statement : nil)
    let note = reference.isExecute ? ServerStatements.Note.name(name) : .deallocate(statements, name, statement)
    server.request(isQuery ? .query : .parse, note) {
      $0.uint8(message.type.rawValue)
      $0.uint32(UInt32(message.length - reference.range.count + quoted.count))
      $0.raw(bytes, body.lowerBound..<reference.range.lowerBound)
      $0.raw(quoted)
      $0.raw(bytes, reference.range.upperBound..<body.upperBound)
    }
    return true
  }

  private func pass(
    _ message: RequestScanner.FrontendMessage, _ bytes: Span<UInt8>, _ cursor: inout Int, _ server: Server,
    _ terms: RequestScanner.Terms
  ) -> Bool {
    let range = requests.pass(message, bytes, &cursor, ledger: &server.replies.ledger, terms)
    server.send(bytes.extracting(range))
    return true
  }

  /// The server has said what a statement is there.
  ///
  /// - Parameter changed: where that is not what clients have been told.
  func verified(changed: SharedStatement?) {
    guard isVerifying else { return }
    isVerifying = false
    changedStatement = changed
    worker.resume(self)
  }
}

extension Server {
  /// A statement that no session has: closing it does nothing, and is answered in its turn.
  static let nobodysStatement: WireText = "lifeguard"

  /// Requests of earlier cycles are not answered yet, and will be without any further message of the client's.
  var owesEarlierCycles: Bool { !replies.ledger.isCopyIn && replies.ledger.clientReadiesOwed > 0 }

  /// Sends a request of the client's that has to do with a shared statement.
  func request(_ request: Request, _ note: ServerStatements.Note, _ write: (inout MessageWriter) -> Void) {
    // Where the server skips to a Sync it does nothing of it.
    if replies.ledger.sent(request, by: .client, isNoted: true) { statements.note(note) }
    var writer = MessageWriter()
    write(&writer)
    send(writer.bytes.span)
  }

  /// Makes a statement that a client has named on another connection.
  func parse(_ statement: SharedStatement) {
    pool.telemetry.serverParseCount.add()
    request(.hiddenParse, .parse(statement)) { $0.parse(definition: statement.definition, statement.serverName) }
    closeExcessStatements()
  }

  /// Makes it ahead of a query, in a cycle of its own: an error, too, is nobody's, and the query has its own.
  func parseAhead(_ statement: SharedStatement) {
    pool.telemetry.serverParseCount.add()
    replies.ledger.sent(.hiddenParse, by: .daemon, isNoted: true)
    statements.note(.parse(statement))
    replies.ledger.sent(.sync, by: .daemon)
    var writer = MessageWriter()
    writer.parse(definition: statement.definition, statement.serverName)
    writer.sync()
    send(writer.bytes.span)
  }

  /// Makes it, and asks what it is here. The client waits.
  func verify(_ statement: SharedStatement) {
    parse(statement)
    request(.hiddenDescribe, .describe(statement, nil)) {
      $0.describe(.statement, statement.serverName)
      $0.flush()
    }
  }

  /// Closes the statements that have not been used for longest, where there are more than `max_prepared_statements`.
  func closeExcessStatements() {
    while let statement = statements.excess(over: pool.settings.maxPreparedStatements) { close(statement) }
  }

  private func close(_ statement: SharedStatement) {
    if replies.ledger.sent(.close, by: .daemon, isNoted: true) { statements.note(.close(statement)) }
    var writer = MessageWriter()
    writer.close(.statement, statement.serverName)
    send(writer.bytes.span)
  }

  /// Closes what has just been made by the name that is nobody's.
  func closeNobodysStatement() {
    replies.ledger.sent(.close, by: .daemon)
    var writer = MessageWriter()
    writer.close(.statement, Server.nobodysStatement)
    send(writer.bytes.span)
  }

  /// Noted requests have ended.
  func statementsSettled(_ noted: (succeeded: Int, failed: Int)) {
    let last = statements.succeeded(noted.succeeded)
    failedRefusal = statements.failed(noted.failed) as? Refusal
    if noted.failed > 0 { client?.verified(changed: nil) }
    if case .describeRows(let statement) = last,
      let other = statement.described(as: takenShape, in: worker.statementTable)
    {
      close(statement)
      client?.statements.replace(statement, by: other)
    }
    guard case .describe(let statement, let owner) = last else { return }
    let other = statement.described(as: takenShape, in: worker.statementTable)
    if let other {
      // By this name there is something else on the connection than elsewhere.
      close(statement)
      if let (statements, name) = owner { statements.rename(name, to: other) }
    }
    if owner == nil { client?.verified(changed: other == nil ? nil : statement) }
  }

  /// An error that names a statement as it is called on the server: with the client's name instead; nil for any other.
  func renamed(_ body: Span<UInt8>) -> ErrorFields? {
    guard let client, var fields = try? ErrorFields(body: body) else { return nil }
    let quote = UInt8(ascii: "\"")
    var parts = fields.message.bytes.split(separator: quote, omittingEmptySubsequences: false).map { Array($0) }
    var isRenamed = false
    for index in parts.indices where parts[index].starts(with: SharedStatement.namePrefix.utf8) {
      let serverName = WireText(parts[index])
      let isUnnamed = client.requests.unnamedShared?.serverName == serverName
      guard let name = statements.name(of: serverName, in: client.statements) ?? (isUnnamed ? "" : nil) else {
        continue
      }
      parts[index] = name.bytes
      isRenamed = true
    }
    guard isRenamed else { return nil }
    let text = WireText(Array(parts.joined(separator: [quote])))
    fields.fields = fields.fields.map { $0.kind == .message ? ErrorFields.Field(.message, text) : $0 }
    return fields
  }

  /// A plan that no longer fits its table: whatever is parsed from now on is another statement, and the connection is
  /// cleaned of all that it has.
  func noteStalePlan(_ body: Span<UInt8>) {
    guard isStalePlan(body) else { return }
    worker.statementTable.retireAll()
    cleaning = .everything
  }
}

extension Refusal {
  /// As PostgreSQL says it.
  fileprivate static func duplicateStatement(_ name: WireText) -> Refusal {
    Refusal(code: .duplicatePreparedStatement, message: statement(name, "already exists"), isServers: true)
  }

  /// As PostgreSQL says it.
  fileprivate static func unknownStatement(_ name: WireText) -> Refusal {
    Refusal(code: .invalidStatementName, message: statement(name, "does not exist"), isServers: true)
  }

  /// As PostgreSQL says it.
  fileprivate static var unknownUnnamedStatement: Refusal {
    Refusal(code: .invalidStatementName, message: "unnamed prepared statement does not exist", isServers: true)
  }

  private static func statement(_ name: WireText, _ what: String) -> WireText {
    WireText(Array("prepared statement \"".utf8) + name.bytes + Array("\" \(what)".utf8))
  }

  /// As PostgreSQL says it.
  fileprivate static var changedStatement: Refusal {
    Refusal(code: .featureNotSupported, message: "cached plan must not change result type", isServers: true)
  }

  fileprivate static func tooManyStatements(_ pool: Pool, _ statements: ClientStatements) -> Refusal {
    Refusal(
      code: .programLimitExceeded,
      message: WireText(
        "\(pool.quotedLabel) keeps no more than \(statements.count) prepared statements of together "
          + "\(statements.bytes >> 20) MB for a client"))
  }
}
