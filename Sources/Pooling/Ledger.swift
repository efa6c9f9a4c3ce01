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
  /// A Close in the place of a Parse of what the server has already: its reply means ParseComplete to the client, and it
  /// comes, or is skipped, exactly when that would.
  case knownParse
  /// A Parse that the client knows nothing of; only its error is the client's.
  case hiddenParse
  case bind
  case describeStatement
  /// A Describe of a statement whose replies the client does not see; an error is the client's.
  case hiddenDescribe
  case describePortal
  /// A Describe of a portal whose reply the daemon reads, too.
  case describeRows
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
///   before its CopyDone or CopyFail get no reply. But a COPY may fail before the server has read them (a view cannot
///   be copied into, which it says after CopyInResponse), and then they are answered: only later replies tell
///   (`isInDoubt`).
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
    /// Somebody wants to know what becomes of it.
    var isNoted = false
  }

  private var entries: Deque<Entry> = []
  /// The server reads COPY data for the oldest entry.
  public private(set) var isCopyIn = false
  /// The server skips until a Sync that has not been sent yet.
  public private(set) var isSkipping = false
  /// Whose error made the server skip.
  private var skipOrigin = Origin.client
  /// Syncs sent into the COPY IN of the oldest entry.
  private var swallowedSyncs = 0
  /// The oldest entry has had its error and waits for ReadyForQuery.
  private var hasFailed = false
  /// Syncs sent into a COPY IN that failed: each may have been swallowed, or be answered yet. They are a client's, as
  /// the daemon sends none into a COPY.
  private var doubtfulSyncs = 0
  /// Parse messages that have got entries, and whose entries are gone.
  public private(set) var parsesSent: UInt64 = 0
  private var parsesEnded: UInt64 = 0
  /// Which of them (as `parsesSent` was when they had been sent) the last error has ended: the one that failed, or was
  /// skipped behind what did.
  public private(set) var failedParses: ClosedRange<UInt64>?
  /// Noted requests that have succeeded, and that have failed or were skipped, since `takeNoted` was called.
  private var noted = (succeeded: 0, failed: 0)

  public init() {}

  /// Noted requests whose end has come since the last call. They end in the order in which they were sent.
  @inline(__always)
  public mutating func takeNoted() -> (succeeded: Int, failed: Int)? {
    if noted == (0, 0) { return nil }
    defer { noted = (0, 0) }
    return noted
  }

  /// The request that is owed the next reply.
  public var oldest: Request? { entries.first?.request }

  /// No reply is owed, none may come, and the server is not skipping.
  public var isEmpty: Bool { entries.isEmpty && !isSkipping && doubtfulSyncs == 0 }
  /// Every reply that is certain has come, but there may be another ReadyForQuery. Any further request but a Sync
  /// settles that with its first reply.
  public var isInDoubt: Bool { entries.isEmpty && !isSkipping && doubtfulSyncs > 0 }
  /// Requests that still owe a reply.
  public var count: Int { entries.count }
  /// Who is owed the next reply; nil when none is owed.
  public var owner: Origin? {
    if let first = entries.first { return first.origin }
    if isSkipping { return skipOrigin }
    return doubtfulSyncs > 0 ? .client : nil
  }
  /// Who is owed a ReadyForQuery that comes next; differs from `owner` only where a Sync is in doubt.
  public var readyOwner: Origin? { expectsDoubtfulReady ? .client : owner }
  /// Queries, function calls and Syncs whose ReadyForQuery is still owed to the client.
  public var clientReadiesOwed: Int {
    entries.reduce(into: 0) { count, entry in
      switch entry.request {
      case .sync, .query, .functionCall: if entry.origin == .client { count += 1 }
      case .parse, .knownParse, .hiddenParse, .bind, .describeStatement, .hiddenDescribe, .describePortal,
        .describeRows, .execute,
        .close, .copyEnd:
        break
      }
    }
  }
  /// The client has begun a cycle of the extended protocol whose Sync has not been sent yet.
  public var isInsideCycle: Bool {
    if isSkipping { return true }
    guard let last = entries.last(where: { $0.request != .copyEnd }) else { return false }
    return Ledger.isExtended(last.request)
  }
  /// CopyDone, CopyFail or CopyData can mean something to the server: COPY IN runs, or a request that may start it is
  /// under way.
  public var mayCopyIn: Bool { isCopyIn || !entries.isEmpty }

  /// A request has been sent.
  ///
  /// - Parameter isNoted: `takeNoted` is to tell its end.
  /// - Returns: whether it has an entry. It has none where the server will not act on it.
  @discardableResult
  public mutating func sent(_ request: Request, by origin: Origin, isNoted: Bool = false) -> Bool {
    if isSkipping {
      guard request == .sync else { return false }
      isSkipping = false
    } else if isCopyIn {
      if request == .copyEnd { isCopyIn = false }
      if request == .sync { swallowedSyncs += 1 }
      if request == .copyEnd || request == .sync { return false }
    } else if request == .copyEnd && entries.isEmpty {
      return false
    }
    entries.append(Entry(request: request, origin: origin, isNoted: isNoted))
    if request == .parse { parsesSent += 1 }
    return true
  }

  /// A reply has come, by its type byte. NoticeResponse, ParameterStatus and NotificationResponse are asynchronous and
  /// are not asked about here.
  public mutating func replied(_ type: BackendType) -> Verdict {
    if type == .readyForQuery && expectsDoubtfulReady {
      doubtfulSyncs -= 1
      isSkipping = false
      return .expected(.client)
    }
    guard let first = entries.first else { return .violation }
    guard let outcome = Ledger.outcome(of: type, for: first.request) else { return .violation }
    switch outcome {
    case .more:
      settleSyncs()
    case .last:
      if type != .readyForQuery { settleSyncs() }
      removeOldest()
    case .copyIn:
      settleSyncs()
      beginCopyIn()
    case .error: failed(first)
    }
    return .expected(first.origin)
  }

  /// A DataRow has come, the most frequent reply. Returns whether a client's query or portal is owed it; otherwise it is
  /// still to be dealt with.
  mutating func takesRow() -> Bool {
    guard let first = entries.first, first.origin == .client, first.request == .query || first.request == .execute
    else { return false }
    settleSyncs()
    return true
  }

  /// ReadyForQuery would be that of a Sync in doubt, not the oldest entry's: there is none, or it has had no other
  /// reply yet. A Sync of the client's gets the first one that comes, and the doubt is left for later; one of the
  /// daemon's gets the last, so that it never vouches for a connection on which another is still to come.
  private var expectsDoubtfulReady: Bool {
    guard doubtfulSyncs > 0 else { return false }
    guard let first = entries.first else { return true }
    return first.request == .sync ? first.origin == .daemon : !hasFailed
  }

  /// A reply other than ReadyForQuery came: the Syncs before its request are behind us, answered or swallowed.
  private mutating func settleSyncs() {
    swallowedSyncs = 0
    doubtfulSyncs = 0
  }

  /// The oldest request has had its last reply. A CopyDone or CopyFail that its COPY did not take has been ignored.
  private mutating func removeOldest() {
    let oldest = entries.removeFirst()
    if oldest.isNoted { noted.succeeded += 1 }
    if oldest.request == .parse { parsesEnded += 1 }
    while let next = entries.first, next.request == .copyEnd { entries.removeFirst() }
    doubtfulSyncs += swallowedSyncs
    swallowedSyncs = 0
    hasFailed = false
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
    case (.parse, .parseComplete), (.hiddenParse, .parseComplete), (.knownParse, .closeComplete),
      (.bind, .bindComplete), (.close, .closeComplete):
      .last
    case (.describeStatement, .parameterDescription), (.hiddenDescribe, .parameterDescription): .more
    case (.describeStatement, .rowDescription), (.describeStatement, .noData),
      (.hiddenDescribe, .rowDescription), (.hiddenDescribe, .noData),
      (.describePortal, .rowDescription), (.describePortal, .noData),
      (.describeRows, .rowDescription), (.describeRows, .noData):
      .last
    case (.execute, .dataRow), (.execute, .copyOutResponse), (.execute, .copyData), (.execute, .copyDone): .more
    case (.execute, .commandComplete), (.execute, .emptyQueryResponse), (.execute, .portalSuspended): .last
    case (.execute, .copyInResponse): .copyIn
    case (.parse, .errorResponse), (.knownParse, .errorResponse), (.hiddenParse, .errorResponse),
      (.hiddenDescribe, .errorResponse), (.bind, .errorResponse), (.close, .errorResponse),
      (.describeStatement, .errorResponse), (.describePortal, .errorResponse), (.describeRows, .errorResponse),
      (.execute, .errorResponse):
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
      case .sync:
        entries.remove(at: index)
        swallowedSyncs += 1
      case .copyEnd:
        entries.remove(at: index)
        isCopyIn = false
        return
      case .parse, .knownParse, .hiddenParse, .bind, .describeStatement, .hiddenDescribe, .describePortal,
        .describeRows, .execute,
        .close, .query, .functionCall:
        index += 1
      }
    }
  }

  /// The oldest request failed. A query, function call or Sync is still followed by its ReadyForQuery.
  private mutating func failed(_ entry: Entry) {
    isCopyIn = false
    failedParses = nil
    guard Ledger.isExtended(entry.request) else {
      if entry.isNoted {
        noted.failed += 1
        entries[0].isNoted = false
      }
      hasFailed = true
      doubtfulSyncs = 0
      return
    }
    doubtfulSyncs = swallowedSyncs
    swallowedSyncs = 0
    while let next = entries.first {
      if next.request == .sync { return }
      entries.removeFirst()
      if next.isNoted { noted.failed += 1 }
      if next.request == .parse {
        parsesEnded += 1
        failedParses = (failedParses?.lowerBound ?? parsesEnded)...parsesEnded
      }
    }
    isSkipping = true
    skipOrigin = entry.origin
  }

  /// A message of the extended protocol that an error makes the server skip, unlike a Sync.
  private static func isExtended(_ request: Request) -> Bool {
    switch request {
    case .parse, .knownParse, .hiddenParse, .bind, .describeStatement, .hiddenDescribe, .describePortal, .describeRows,
      .execute,
      .close:
      true
    case .sync, .query, .functionCall, .copyEnd: false
    }
  }
}
