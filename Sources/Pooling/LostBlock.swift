import PostgresWire

/// A transaction block whose server connection is gone, or whose BEGIN was refused. It holds no server: each request is
/// answered as PostgreSQL answers in a failed block, until the client ends the block. So nothing of a broken transaction
/// commits on its own, and the client's connection stays usable.
struct LostBlock: Sendable {
  /// The client has not been told yet. Its next request is the first to hear of it, unless that is a ROLLBACK, which
  /// gets what it asks for.
  var isUnreported: Bool

  private struct Exit {
    var name: WireText
    var isCommit: Bool
  }

  /// Statements and portals of the extended protocol that end the block.
  private var statements: [Exit] = []
  private var portals: [Exit] = []
  /// Statements kept at once: drivers use one.
  private static let kept = 16

  init(isUnreported: Bool) { self.isUnreported = isUnreported }

  /// Answers a whole request.
  mutating func answer(_ type: FrontendType, _ body: Span<UInt8>) -> LostBlockAnswer {
    switch type {
    case .query:
      switch TransactionStatement(body) {
      case .rollback: return .rolledBack
      case .commit: return isUnreported ? refuse() : .rolledBack
      case .empty: return .empty
      case .begin, .other: return refuse()
      }
    case .parse:
      guard let parse = try? Frontend.Parse(body: body) else { return refuse() }
      let kind = TransactionStatement(body.extracting(parse.text))
      guard kind == .rollback || kind == .commit, statements.count < LostBlock.kept else { return refuse() }
      let name = WireText(body, parse.statement)
      statements.removeAll { $0.name == name }
      statements.append(Exit(name: name, isCommit: kind == .commit))
      return .parsed
    case .bind:
      guard let bind = try? Frontend.Bind(body: body), portals.count < LostBlock.kept,
        let statement = statements.first(where: { $0.name == WireText(body, bind.statement) })
      else { return refuse() }
      let name = WireText(body, bind.portal)
      portals.removeAll { $0.name == name }
      portals.append(Exit(name: name, isCommit: statement.isCommit))
      return .bound
    case .describe:
      guard let describe = try? Frontend.Describe(body: body) else { return refuse() }
      let isStatement = describe.target == .statement
      let name = WireText(body, describe.name)
      guard (isStatement ? statements : portals).contains(where: { $0.name == name }) else { return refuse() }
      return .described(isStatement: isStatement)
    case .execute:
      guard let execute = try? Frontend.Execute(body: body),
        let portal = portals.first(where: { $0.name == WireText(body, execute.portal) }),
        !(portal.isCommit && isUnreported)
      else { return refuse() }
      return .rolledBack
    case .close: return .closed
    case .functionCall, .flush, .sync, .terminate, .copyDone, .copyData, .copyFail, .password: return refuse()
    }
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
  /// EmptyQueryResponse.
  case empty
  /// An error. The first one tells why the block is lost, the others that it is.
  case refused(isFirst: Bool)
  case parsed
  case bound
  case described(isStatement: Bool)
  case closed
}
