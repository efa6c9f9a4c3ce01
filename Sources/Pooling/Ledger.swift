import DequeModule
public import PostgresWire

/// Who sent a request to the server: a client through us, or we ourselves.
public enum Origin: UInt8, Sendable {
  case client
  case daemon
}

/// A message sent to the server that changes what replies are to come (PostgreSQL documentation, "Message Flow").
/// Flush and CopyData are not among them: they have no reply of their own.
public enum Request: UInt8, Sendable {
  case parse
  case bind
  case describeStatement
  case describePortal
  case execute
  case close
  case sync
  case query
  case functionCall
  /// CopyDone or CopyFail.
  case copyEnd
}

/// The replies that one server connection still owes, in order: one entry for each request sent.
///
/// This is what makes sharing a connection safe. A reply belongs to the oldest entry; a reply that does not fit it is a
/// `violation` and never reaches a client. Three rules of the protocol make it more than a queue:
///
/// - After an error in the extended protocol the server skips everything up to the next Sync. The entries up to there
///   are dropped; where no Sync has been sent yet, `isSkipping` holds and requests sent meanwhile get no entry.
/// - While COPY IN runs (`isCopyIn`) the server swallows Sync and Flush: Syncs that were sent after the COPY began but
///   before its CopyDone or CopyFail get no reply.
/// - CopyDone and CopyFail outside of COPY IN are ignored by the server: their entries expect nothing.
public struct Ledger: Sendable {
  /// What a reply means.
  public enum Verdict: Equatable, Sendable {
    /// It belongs to the oldest request, which was sent by this origin.
    case expected(Origin)
    /// It is not the reply to anything: the connection cannot be trusted any more.
    case violation
  }

  private struct Entry {
    var request: Request
    var origin: Origin
  }

  private var entries: Deque<Entry> = []
  /// The server reads COPY data for the oldest entry.
  public private(set) var isCopyIn = false
  /// The server skips until a Sync that has not been sent yet.
  public private(set) var isSkipping = false
  /// Whose error made the server skip.
  private var skipOrigin = Origin.client

  public init() {}

  /// No reply is owed and the server is not skipping.
  public var isEmpty: Bool { entries.isEmpty && !isSkipping }
  /// Requests that still owe a reply.
  public var count: Int { entries.count }
  /// Who is owed the next reply; nil when none is owed.
  public var owner: Origin? {
    if let first = entries.first, first.request != .copyEnd { return first.origin }
    return entries.first { $0.request != .copyEnd }?.origin ?? (isSkipping ? skipOrigin : nil)
  }
  /// Queries, function calls and Syncs whose ReadyForQuery is still owed to the client.
  public var clientReadiesOwed: Int {
    entries.reduce(into: 0) { count, entry in
      switch entry.request {
      case .sync, .query, .functionCall: if entry.origin == .client { count += 1 }
      case .parse, .bind, .describeStatement, .describePortal, .execute, .close, .copyEnd: break
      }
    }
  }
  /// The client has begun a cycle of the extended protocol whose Sync has not been sent yet.
  public var isInsideCycle: Bool {
    if isSkipping { return true }
    guard let last = entries.last else { return false }
    return switch last.request {
    case .sync, .query, .functionCall: false
    case .parse, .bind, .describeStatement, .describePortal, .execute, .close, .copyEnd: true
    }
  }
  /// CopyDone, CopyFail or CopyData can mean something to the server: COPY IN runs, or a request that may start it is
  /// under way.
  public var mayCopyIn: Bool { isCopyIn || !entries.isEmpty }

  /// A request has been sent.
  public mutating func sent(_ request: Request, by origin: Origin) {
    if isSkipping {
      guard request == .sync else { return }
      isSkipping = false
    } else if isCopyIn {
      if request == .copyEnd { isCopyIn = false }
      if request == .copyEnd || request == .sync { return }
    } else if request == .copyEnd && entries.isEmpty {
      return
    }
    entries.append(Entry(request: request, origin: origin))
  }

  /// A reply has come, by its type byte. NoticeResponse, ParameterStatus and NotificationResponse are asynchronous and
  /// are not asked about here.
  public mutating func replied(_ type: BackendType) -> Verdict {
    while let first = entries.first, first.request == .copyEnd { entries.removeFirst() }
    guard let first = entries.first else { return .violation }
    guard let outcome = Ledger.outcome(of: type, for: first.request) else { return .violation }
    switch outcome {
    case .more: break
    case .last: entries.removeFirst()
    case .copyIn: beginCopyIn()
    case .error: failed(first)
    }
    return .expected(first.origin)
  }

  private enum Outcome {
    case more
    case last
    case copyIn
    case error
  }

  /// What each reply means to each request; nil is a reply that the request cannot have.
  private static func outcome(of type: BackendType, for request: Request) -> Outcome? {
    switch (request, type) {
    case (.query, .rowDescription), (.query, .dataRow), (.query, .commandComplete), (.query, .emptyQueryResponse),
      (.query, .copyOutResponse), (.query, .copyData), (.query, .copyDone):
      .more
    case (.query, .copyInResponse): .copyIn
    case (.query, .errorResponse), (.functionCall, .errorResponse), (.sync, .errorResponse): .error
    case (.query, .readyForQuery), (.functionCall, .readyForQuery), (.sync, .readyForQuery): .last
    case (.functionCall, .functionCallResponse): .more
    case (.parse, .parseComplete), (.bind, .bindComplete), (.close, .closeComplete): .last
    case (.describeStatement, .parameterDescription): .more
    case (.describeStatement, .rowDescription), (.describeStatement, .noData),
      (.describePortal, .rowDescription), (.describePortal, .noData):
      .last
    case (.execute, .dataRow), (.execute, .copyOutResponse), (.execute, .copyData), (.execute, .copyDone): .more
    case (.execute, .commandComplete), (.execute, .emptyQueryResponse), (.execute, .portalSuspended): .last
    case (.execute, .copyInResponse): .copyIn
    case (.parse, .errorResponse), (.bind, .errorResponse), (.close, .errorResponse),
      (.describeStatement, .errorResponse), (.describePortal, .errorResponse), (.execute, .errorResponse):
      .error
    default: nil
    }
  }

  /// COPY IN has begun for the oldest entry. Syncs already sent behind it are swallowed, up to its CopyDone or CopyFail
  /// if the client sent one without waiting.
  private mutating func beginCopyIn() {
    isCopyIn = true
    var index = 1
    while index < entries.count {
      switch entries[index].request {
      case .sync: entries.remove(at: index)
      case .copyEnd:
        entries.remove(at: index)
        isCopyIn = false
        return
      case .parse, .bind, .describeStatement, .describePortal, .execute, .close, .query, .functionCall: index += 1
      }
    }
  }

  /// The oldest request failed. A query, function call or Sync is still followed by its ReadyForQuery.
  private mutating func failed(_ entry: Entry) {
    isCopyIn = false
    switch entry.request {
    case .query, .functionCall, .sync, .copyEnd: return
    case .parse, .bind, .describeStatement, .describePortal, .execute, .close: break
    }
    while let next = entries.first {
      if next.request == .sync { return }
      entries.removeFirst()
    }
    isSkipping = true
    skipOrigin = entry.origin
  }
}
