import PostgresWire

/// A transaction block whose server connection is gone, or whose BEGIN was refused. It holds no server: each request is
/// answered as PostgreSQL answers in a failed block, until the client ends the block. So nothing of a broken transaction
/// commits on its own, and the client's connection stays usable.
struct LostBlock: Sendable {
  /// The client has not been told yet. Its next request is the first to hear of it, unless that is a ROLLBACK, which
  /// gets what it asks for. A COMMIT hears of it and ends the block, as one that fails does in PostgreSQL: drivers know
  /// that and send no ROLLBACK after it (psycopg2, SQLAlchemy).
  var isUnreported: Bool

  private struct Exit {
    var name: WireText
    var isCommit: Bool
  }

  /// Statements and portals of the extended protocol that end the block, as far as the client does not share them
  /// (`ClientStatements`).
  private var statements: [Exit] = []
  private var portals: [Exit] = []
  /// Statements kept at once: drivers use one.
  private static let kept = 16

  init(isUnreported: Bool) { self.isUnreported = isUnreported }

  /// Whether the statement of a Parse ends the block.
  static func isExit(_ parse: Frontend.Parse, of body: Span<UInt8>) -> Bool {
    isExit(TransactionStatement(body.extracting(parse.text)))
  }

  private static func isExit(_ kind: TransactionStatement) -> Bool { kind == .rollback || kind == .commit }

  /// Answers a whole request.
  ///
  /// - Parameter known: the statements that the client has given names to, in the block or before it.
  mutating func answer(_ type: FrontendType, _ body: Span<UInt8>, _ known: ClientStatements?) -> LostBlockAnswer {
    switch type {
    case .query:
      switch TransactionStatement(body) {
      case .rollback: return .rolledBack
      case .commit: return isUnreported ? .notCommitted : .rolledBack
      case .empty: return .empty
      case .begin, .other: return refuse()
      }
    case .parse:
      guard let parse = try? Frontend.Parse(body: body) else { return refuse() }
      let kind = TransactionStatement(body.extracting(parse.text))
      let name = WireText(body, parse.statement)
      guard LostBlock.isExit(kind), known?.find(name) == nil, statements.count < LostBlock.kept else { return refuse() }
      statements.removeAll { $0.name == name }
      statements.append(Exit(name: name, isCommit: kind == .commit))
      return .parsed
    case .bind:
      guard let bind = try? Frontend.Bind(body: body), portals.count < LostBlock.kept,
        let statement = statement(WireText(body, bind.statement), known)
      else { return refuse() }
      let name = WireText(body, bind.portal)
      portals.removeAll { $0.name == name }
      portals.append(Exit(name: name, isCommit: statement.isCommit))
      return .bound
    case .describe:
      guard let describe = try? Frontend.Describe(body: body) else { return refuse() }
      let isStatement = describe.target == .statement
      let name = WireText(body, describe.name)
      guard isStatement ? statement(name, known) != nil : portals.contains(where: { $0.name == name }) else {
        return refuse()
      }
      return .described(isStatement: isStatement)
    case .execute:
      guard let execute = try? Frontend.Execute(body: body),
        let portal = portals.first(where: { $0.name == WireText(body, execute.portal) })
      else { return refuse() }
      return portal.isCommit && isUnreported ? .notCommitted : .rolledBack
    case .close:
      guard let close = try? Frontend.Close(body: body) else { return refuse() }
      let name = WireText(body, close.name)
      if close.target == .statement {
        statements.removeAll { $0.name == name }
        known?.remove(name)
      } else {
        portals.removeAll { $0.name == name }
      }
      return .closed
    case .functionCall, .flush, .sync, .terminate, .copyDone, .copyData, .copyFail, .password: return refuse()
    }
  }

  /// The statement of this name that ends the block.
  private func statement(_ name: WireText, _ known: ClientStatements?) -> Exit? {
    if let statement = statements.first(where: { $0.name == name }) { return statement }
    guard let kind = known?.find(name)?.kind, LostBlock.isExit(kind) else { return nil }
    return Exit(name: name, isCommit: kind == .commit)
  }

  private mutating func refuse() -> LostBlockAnswer {
    defer { isUnreported = false }
    return .refused(isFirst: isUnreported)
  }
}

/// What a request in a lost block is answered with.
public enum LostBlockAnswer: Equatable, Sendable {
  /// `ROLLBACK`: the block is over.
  case rolledBack
  /// A COMMIT gets the error that tells why the block is lost, and the block is over.
  case notCommitted
  /// EmptyQueryResponse.
  case empty
  /// An error. The first one tells why the block is lost, the others that it is.
  case refused(isFirst: Bool)
  case parsed
  case bound
  case described(isStatement: Bool)
  case closed
}
