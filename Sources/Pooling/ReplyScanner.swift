public import PostgresWire

/// Reads what a server connection sends, and says what is to be done with it: one scanner a server connection, fed
/// with whatever piece of the stream has arrived.
///
/// Bytes for the client are reported in the longest runs possible, so that a whole reply is copied once. Messages that
/// say something to the pool (ReadyForQuery, ParameterStatus, ErrorResponse, the replies to the daemon's own requests)
/// are reported one by one.
public struct ReplyScanner: Sendable {
  /// Replies that the pool must read are waited for whole up to this many bytes of body. Longer ErrorResponses for the
  /// client are passed on unread; one for the daemon is a violation.
  static let examinedLimit = 64 * 1024

  public enum Step: Equatable, Sendable {
    /// These bytes are the client's.
    case forward(Range<Int>)
    /// These bytes are the client's; they end with the ReadyForQuery of one of its requests.
    case ready(Range<Int>, Backend.TransactionStatus)
    /// An ErrorResponse (whole message) to a request of the client.
    case error(Range<Int>)
    /// The answer to a Close that stands for a Parse: ParseComplete is the client's.
    case parsed
    /// A statement's parameters or rows (whole message). They are the client's, too, where it has asked.
    case described(Range<Int>, BackendType, isForClient: Bool)
    /// A setting changed its value (whole message). It is the client's as well where the daemon did not cause it.
    case parameterStatus(Range<Int>, Origin)
    /// A NotificationResponse (whole message).
    case notification(Range<Int>)
    /// A row for a query of the daemon's (whole message).
    case ownRow(Range<Int>)
    /// A request of the daemon's failed (whole ErrorResponse message).
    case ownError(Range<Int>)
    /// A request of the daemon's is over.
    case ownReady(Backend.TransactionStatus)
    /// A FATAL error (whole message) that belongs to no request, also one that comes while the server skips to a Sync:
    /// the server is about to close.
    case unrequestedError(Range<Int>)
    /// All that can be used has been; the bytes from the cursor on are needed again, with more behind them.
    case needMore
    /// The server sent what no request asked for. The connection is unfit.
    case violation(UInt8)
  }

  /// The replies that are owed.
  public var ledger = Ledger()
  /// Bytes still to come of a message whose beginning has been passed on (or dropped).
  private var bodyLeft = 0
  private var bodyIsForClient = false
  /// A DISCARD ALL or DEALLOCATE ALL of the client has been completed since this was last set to false.
  public var hasDeallocated = false
  /// An ALTER of the client has been completed since this was last set to false: statements may have other rows.
  public var hasAltered = false

  public init() {}

  /// Another client has the connection: what is left of a notice that came in between is not its own.
  public mutating func attached() {
    bodyIsForClient = false
    hasDeallocated = false
  }

  /// The client has been sent the beginning of a message, but not yet all of it.
  public var isInsideClientMessage: Bool { bodyLeft > 0 && bodyIsForClient }

  /// The next step for the bytes from `cursor` on; moves the cursor behind what the step covers.
  public mutating func next(_ bytes: Span<UInt8>, _ cursor: inout Int) -> Step {
    var start = cursor
    while true {
      if bodyLeft > 0 {
        let count = min(bodyLeft, bytes.count - cursor)
        cursor += count
        bodyLeft -= count
        if !bodyIsForClient { start = cursor }
        if bodyLeft > 0 { return start < cursor ? .forward(start..<cursor) : .needMore }
      }
      guard let header = MessageHeader(bytes, at: cursor) else {
        if start < cursor { return .forward(start..<cursor) }
        return bytes.count - cursor < MessageHeader.size ? .needMore : .violation(bytes[cursor])
      }
      if header.type == BackendType.dataRow.rawValue && ledger.takesRow() {
        cursor += MessageHeader.size
        bodyLeft = header.bodyLength
        bodyIsForClient = true
        continue
      }
      guard let type = BackendType(rawValue: header.type) else {
        return start < cursor ? .forward(start..<cursor) : .violation(header.type)
      }
      if type == .readyForQuery && header.bodyLength != 1 {
        return start < cursor ? .forward(start..<cursor) : .violation(header.type)
      }
      if ReplyScanner.isExamined(type) && header.bodyLength <= ReplyScanner.examinedLimit {
        let isWhole = bytes.count - cursor >= header.totalLength
        if type == .readyForQuery && isWhole && ledger.readyOwner == .client {
          return ready(bytes, start: start, &cursor, header)
        }
        if start < cursor { return .forward(start..<cursor) }
        guard isWhole else { return .needMore }
        let message = cursor..<cursor + header.totalLength
        cursor = message.upperBound
        return examine(type, message, bytes)
      }
      if type == .commandComplete {
        guard bytes.count - cursor >= min(header.totalLength, MessageHeader.size + 3) else {
          return start < cursor ? .forward(start..<cursor) : .needMore
        }
        if ledger.owner == .client { noteTag(bytes, cursor, header) }
      }
      if let special = ledger.oldest, ReplyScanner.isSpecial(special) && ReplyScanner.isReply(type, to: special) {
        if start < cursor { return .forward(start..<cursor) }
        if header.bodyLength <= ReplyScanner.examinedLimit {
          guard bytes.count - cursor >= header.totalLength else { return .needMore }
          let message = cursor..<cursor + header.totalLength
          guard case .expected = ledger.replied(type) else { return .violation(header.type) }
          cursor = message.upperBound
          start = cursor
          switch special {
          case .knownParse: return .parsed
          case .hiddenParse: continue
          default: return .described(message, type, isForClient: special != .hiddenDescribe)
          }
        }
      }
      if type == .dataRow && ledger.owner == .daemon && header.bodyLength <= ReplyScanner.examinedLimit {
        if start < cursor { return .forward(start..<cursor) }
        guard bytes.count - cursor >= header.totalLength else { return .needMore }
        guard case .expected = ledger.replied(type) else { return .violation(header.type) }
        let message = cursor..<cursor + header.totalLength
        cursor = message.upperBound
        return .ownRow(message)
      }
      // What is hidden from the client is dropped as the daemon's own.
      let owner = ledger.oldest == .hiddenDescribe ? .daemon : ledger.owner
      if start < cursor && owner != .client { return .forward(start..<cursor) }
      if type == .errorResponse && owner == .daemon { return .violation(header.type) }
      if type != .noticeResponse && type != .parameterStatus && type != .notificationResponse,
        ledger.replied(type) == .violation
      {
        return start < cursor ? .forward(start..<cursor) : .violation(header.type)
      }
      cursor += MessageHeader.size
      bodyLeft = header.bodyLength
      bodyIsForClient = owner != .daemon
      if owner == .daemon { start = cursor }
    }
  }

  /// Notes the tags `ALTER …`, `DISCARD ALL` and `DEALLOCATE ALL`; their lengths and first letters tell them from all
  /// others (such as `DECLARE CURSOR`).
  private mutating func noteTag(_ bytes: Span<UInt8>, _ cursor: Int, _ header: MessageHeader) {
    guard header.bodyLength > 6 else { return }
    let tag = cursor + MessageHeader.size
    switch (bytes[tag], bytes[tag + 1], bytes[tag + 2], header.bodyLength) {
    case (UInt8(ascii: "A"), UInt8(ascii: "L"), _, _): hasAltered = true
    case (UInt8(ascii: "D"), UInt8(ascii: "I"), UInt8(ascii: "S"), 12): hasDeallocated = true
    case (UInt8(ascii: "D"), UInt8(ascii: "E"), UInt8(ascii: "A"), 15): hasDeallocated = true
    default: break
    }
  }

  /// Requests whose replies are not simply passed on.
  private static func isSpecial(_ request: Request) -> Bool {
    switch request {
    case .knownParse, .hiddenParse, .describeStatement, .describeRows, .hiddenDescribe: true
    case .parse, .bind, .describePortal, .execute, .close, .sync, .query, .functionCall, .copyEnd: false
    }
  }

  private static func isReply(_ type: BackendType, to request: Request) -> Bool {
    switch (request, type) {
    case (.knownParse, .closeComplete), (.hiddenParse, .parseComplete), (_, .parameterDescription),
      (_, .rowDescription), (_, .noData):
      true
    default: false
    }
  }

  private static func isExamined(_ type: BackendType) -> Bool {
    switch type {
    case .readyForQuery, .parameterStatus, .errorResponse, .notificationResponse: true
    default: false
    }
  }

  private mutating func ready(
    _ bytes: Span<UInt8>, start: Int, _ cursor: inout Int, _ header: MessageHeader
  ) -> Step {
    guard let status = Backend.TransactionStatus(rawValue: bytes[cursor + MessageHeader.size]),
      case .expected = ledger.replied(.readyForQuery)
    else { return start < cursor ? .forward(start..<cursor) : .violation(header.type) }
    cursor += header.totalLength
    return .ready(start..<cursor, status)
  }

  private mutating func examine(_ type: BackendType, _ message: Range<Int>, _ bytes: Span<UInt8>) -> Step {
    switch type {
    case .parameterStatus: return .parameterStatus(message, ledger.owner ?? .client)
    case .notificationResponse: return .notification(message)
    case .errorResponse:
      guard case .expected(let owner) = ledger.replied(.errorResponse) else { return .unrequestedError(message) }
      return owner == .client ? .error(message) : .ownError(message)
    default:
      guard let status = Backend.TransactionStatus(rawValue: bytes[message.upperBound - 1]),
        case .expected(.daemon) = ledger.replied(.readyForQuery)
      else { return .violation(type.rawValue) }
      return .ownReady(status)
    }
  }
}
