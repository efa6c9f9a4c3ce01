import Pooling
import PostgresWire

/// A cycle of the extended protocol that begins with the Bind of a shared statement, kept for as long as the server has
/// not answered it, so that it can be sent once more.
///
/// It is, where the Bind fails because the server has no such statement any more (a function has deallocated it), or has a
/// plan that no longer fits its table. On a connection of its own the client would have seen neither the one nor, had it
/// parsed anew, the other. The conditions are those under which nobody can tell the difference: nothing of the cycle has
/// run, no transaction is open, nothing follows it yet, and the client asks for a description of the rows that it will
/// get.
struct HealableCycle {
  /// Bytes that are kept, at most.
  private static let limit = 64 * 1024

  /// nil while no cycle is kept.
  private(set) var statement: SharedStatement?
  /// The portal's name in the Bind, with its zero byte.
  private var portal: [UInt8] = []
  /// What its length field said, without the statement's name.
  private var lengthOfRest = 0
  /// All that follows the statement's name.
  private var rest: [UInt8] = []
  /// Where in `rest` the next message begins.
  private var next = 0
  private var hasDescribe = false
  private var isWhole = false

  /// The Bind of a statement is about to be sent.
  ///
  /// - Parameters:
  ///   - portal: the portal's name in the Bind, with its zero byte.
  ///   - lengthOfRest: what the Bind's length field says, less the statement's name.
  mutating func begin(_ statement: SharedStatement, _ bytes: Span<UInt8>, portal range: Range<Int>, lengthOfRest: Int) {
    self.statement = statement
    self.lengthOfRest = lengthOfRest
    portal.removeAll(keepingCapacity: true)
    portal.append(bytes.extracting(range))
    rest.removeAll(keepingCapacity: true)
    next = lengthOfRest - 4 - portal.count
    hasDescribe = false
    isWhole = false
  }

  /// It has been answered, or cannot be sent again.
  mutating func end() { statement = nil }

  /// The client's bytes behind the statement's name have been sent to the server.
  mutating func append(_ bytes: Span<UInt8>) {
    guard statement != nil else { return }
    guard !isWhole, rest.count + bytes.count <= HealableCycle.limit else { return end() }
    rest.append(bytes)
    while let header = MessageHeader(rest.span, at: next), next + header.totalLength <= rest.count {
      switch FrontendType(rawValue: header.type) {
      case .describe: hasDescribe = true
      case .execute: if !hasDescribe { return end() }
      case .sync:
        isWhole = true
        if next + header.totalLength < rest.count { end() }
        return
      default: break
      }
      next += header.totalLength
    }
  }

  /// Its statement, where it can be sent again.
  var healable: SharedStatement? { isWhole && hasDescribe ? statement : nil }

  /// The cycle with another statement, which the server has by then.
  func again(with statement: SharedStatement) -> (bytes: [UInt8], requests: [Request]) {
    let serverName = statement.serverName.bytes
    var writer = MessageWriter()
    writer.uint8(FrontendType.bind.rawValue)
    writer.uint32(UInt32(lengthOfRest + serverName.count))
    writer.raw(portal)
    writer.raw(serverName)
    writer.raw(rest)
    var requests: [Request] = []
    var offset = 0
    while let header = MessageHeader(writer.bytes.span, at: offset), let type = FrontendType(rawValue: header.type) {
      if let request = HealableCycle.request(type, writer.bytes.span, offset) { requests.append(request) }
      offset += header.totalLength
    }
    return (writer.bytes, requests)
  }

  private static func request(_ type: FrontendType, _ bytes: Span<UInt8>, _ offset: Int) -> Request? {
    switch type {
    case .bind: .bind
    case .describe: bytes[offset + MessageHeader.size] == Frontend.Target.portal.rawValue ? .describeRows : nil
    case .execute: .execute
    case .close: .close
    case .sync: .sync
    default: nil
    }
  }
}

extension Server {
  /// An error has come for the client. Returns whether it is kept from the client, as its cycle is sent again.
  func heals(_ body: Span<UInt8>) -> Bool {
    guard let statement = cycle.healable, isMissing(statement, body) || isStalePlan(body) else {
      cycle.end()
      return false
    }
    isHealing = true
    return true
  }

  /// The cycle that failed is over: it is sent again, with a statement that is parsed anew.
  func sendAgain() {
    isHealing = false
    guard let stale = cycle.healable, let client else { return }
    cycle.end()
    pool.telemetry.heals.add()
    let fresh = worker.statementTable.fresh(stale)
    client.statements.replace(stale, by: fresh)
    statements.forget(stale)
    parse(fresh)
    let (bytes, requests) = cycle.again(with: fresh)
    for request in requests {
      let isNoted = request == .describeRows
      if replies.ledger.sent(request, by: .client, isNoted: isNoted), isNoted { statements.note(.describeRows(fresh)) }
    }
    send(bytes.span)
  }

  private func isMissing(_ statement: SharedStatement, _ body: Span<UInt8>) -> Bool {
    guard let code = (try? ErrorFields.range(of: .code, in: body)).flatMap({ $0 }),
      WireText(body, code) == WireText(SQLState.invalidStatementName.description),
      let message = (try? ErrorFields.range(of: .message, in: body)).flatMap({ $0 })
    else { return false }
    return WireText(body, message).text.contains("\"\(statement.serverName.text)\"")
  }

  /// PostgreSQL's "cached plan must not change result type", in whatever language.
  func isStalePlan(_ body: Span<UInt8>) -> Bool {
    guard let code = (try? ErrorFields.range(of: .code, in: body)).flatMap({ $0 }),
      WireText(body, code) == WireText(SQLState.featureNotSupported.description),
      let routine = (try? ErrorFields.range(of: .routine, in: body)).flatMap({ $0 })
    else { return false }
    return WireText(body, routine) == "RevalidateCachedQuery"
  }
}
