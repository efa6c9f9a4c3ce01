import Pooling
import PostgresWire

/// What PostgreSQL answers, as far as the order of messages goes: `SocketBackend`, `PostgresMain` and `CopyGetData` of
/// PostgreSQL 15 in small. Each message carries its fate with it.
struct ModelServer {
  /// What becomes of a message. Those that mean nothing for its type are the plain success.
  enum Fate: CaseIterable {
    case succeeds
    case fails
    case isEmpty
    case suspends
    case copiesOut
    case copiesIn
    /// Two COPY FROM STDIN in one Query text.
    case copiesInTwice
    /// CopyInResponse, then an error before any of the data is read, as for a view.
    case copiesIntoView
  }

  struct Message {
    /// nil is CopyData.
    var request: Request?
    var fate = Fate.succeeds
    var origin = Origin.client
  }

  struct Reply: Equatable {
    var type: BackendType
    var origin: Origin
  }

  private struct Copy {
    var request: Request
    var origin: Origin
    var left: Int
  }

  private(set) var ignoresTillSync = false
  private var copy: Copy?
  /// Sync has something to commit, which may fail.
  private var hasWork = false

  /// Reads one message and gives the replies to it.
  mutating func read(_ message: Message) -> [Reply] {
    if let copy { return readCopy(message, copy) }
    guard let request = message.request, request != .copyEnd else { return [] }
    if request == .sync { ignoresTillSync = false }
    if ignoresTillSync { return [] }
    defer { hasWork = request != .sync && !ignoresTillSync }
    return types(request, message).map { Reply(type: $0, origin: message.origin) }
  }

  private mutating func readCopy(_ message: Message, _ running: Copy) -> [Reply] {
    if message.request == .sync { return [] }
    precondition(message.request == nil || message.request == .copyEnd, "the server would lose synchronization")
    var types: [BackendType] = []
    let isSimple = running.request == .query
    if message.fate == .fails {
      copy = nil
      types = isSimple ? [.errorResponse, .readyForQuery] : [.errorResponse]
      ignoresTillSync = !isSimple
    } else if message.request == .copyEnd {
      types = [.commandComplete]
      if running.left > 1 {
        copy!.left -= 1
        types.append(.copyInResponse)
      } else {
        copy = nil
        if isSimple { types.append(.readyForQuery) }
      }
    }
    return types.map { Reply(type: $0, origin: running.origin) }
  }

  private mutating func types(_ request: Request, _ message: Message) -> [BackendType] {
    switch request {
    case .sync: return message.fate == .fails && hasWork ? [.errorResponse, .readyForQuery] : [.readyForQuery]
    case .functionCall:
      return message.fate == .fails ? [.errorResponse, .readyForQuery] : [.functionCallResponse, .readyForQuery]
    case .query: return query(message)
    case .parse, .knownParse, .hiddenParse, .bind, .describeStatement, .hiddenDescribe, .describePortal, .describeRows,
      .execute,
      .close:
      if message.fate == .fails {
        ignoresTillSync = true
        return [.errorResponse]
      }
      return extended(request, message)
    case .copyEnd: return []
    }
  }

  private mutating func query(_ message: Message) -> [BackendType] {
    switch message.fate {
    case .fails: return [.rowDescription, .dataRow, .errorResponse, .readyForQuery]
    case .isEmpty: return [.emptyQueryResponse, .readyForQuery]
    case .copiesOut: return [.copyOutResponse, .copyData, .copyDone, .commandComplete, .readyForQuery]
    case .copiesIn, .copiesInTwice:
      copy = Copy(request: .query, origin: message.origin, left: message.fate == .copiesIn ? 1 : 2)
      return [.copyInResponse]
    case .copiesIntoView: return [.copyInResponse, .errorResponse, .readyForQuery]
    case .succeeds, .suspends:
      return [.rowDescription, .dataRow, .dataRow, .commandComplete, .commandComplete, .readyForQuery]
    }
  }

  private mutating func extended(_ request: Request, _ message: Message) -> [BackendType] {
    switch request {
    case .parse, .hiddenParse: return [.parseComplete]
    case .bind: return [.bindComplete]
    case .close, .knownParse: return [.closeComplete]
    case .describeStatement, .hiddenDescribe:
      return [.parameterDescription, message.fate == .isEmpty ? .noData : .rowDescription]
    case .describePortal, .describeRows: return [message.fate == .isEmpty ? .noData : .rowDescription]
    case .execute, .sync, .query, .functionCall, .copyEnd: break
    }
    switch message.fate {
    case .isEmpty: return [.emptyQueryResponse]
    case .suspends: return [.dataRow, .portalSuspended]
    case .copiesOut: return [.copyOutResponse, .copyData, .copyDone, .commandComplete]
    case .copiesIn, .copiesInTwice:
      copy = Copy(request: .execute, origin: message.origin, left: 1)
      return [.copyInResponse]
    case .copiesIntoView:
      ignoresTillSync = true
      return [.copyInResponse, .errorResponse]
    case .succeeds, .fails: return [.dataRow, .dataRow, .commandComplete]
    }
  }
}

/// Random conversations that a legal client may have: cycles of either protocol, COPY in all its ways, ended by a Sync
/// or a Query.
struct ConversationMaker {
  var random: SimulationRandom

  mutating func conversation(cycles: Int) -> [ModelServer.Message] {
    var messages: [ModelServer.Message] = []
    for _ in 0..<cycles {
      switch random.below(10) {
      case 0: messages.append(message(.functionCall, [.succeeds, .fails]))
      case 1: messages.append(message(.sync, [.succeeds, .fails]))
      case 2...4: simple(&messages)
      default: extended(&messages)
      }
    }
    return messages
  }

  private mutating func message(_ request: Request, _ fates: [ModelServer.Fate]) -> ModelServer.Message {
    ModelServer.Message(request: request, fate: fates[random.below(fates.count)])
  }

  private mutating func simple(_ messages: inout [ModelServer.Message]) {
    let query = message(.query, ModelServer.Fate.allCases)
    messages.append(query)
    // Somebody may send COPY data for a statement that turns out to be no COPY.
    if copies(query.fate) || random.permille(100) { copyData(&messages, times: query.fate == .copiesInTwice ? 2 : 1) }
  }

  private mutating func extended(_ messages: inout [ModelServer.Message]) {
    if random.permille(100) {
      messages.append(ModelServer.Message(request: .close, origin: .daemon))
    }
    for _ in 0..<1 + random.below(5) {
      let requests: [Request] = [.parse, .bind, .describeStatement, .describePortal, .close]
      let fates: [ModelServer.Fate] = random.permille(100) ? [.fails] : [.succeeds, .isEmpty]
      messages.append(message(requests[random.below(requests.count)], fates))
      guard random.permille(500) else { continue }
      let execute = message(.execute, ModelServer.Fate.allCases)
      messages.append(execute)
      if copies(execute.fate) || random.permille(50) {
        copyData(&messages, times: 1)
        messages.append(message(.sync, [.succeeds]))
      }
    }
    messages.append(message(.sync, [.succeeds, .succeeds, .fails]))
  }

  private func copies(_ fate: ModelServer.Fate) -> Bool {
    fate == .copiesIn || fate == .copiesInTwice || fate == .copiesIntoView
  }

  /// As libpq does it, a Sync may come before the data.
  private mutating func copyData(_ messages: inout [ModelServer.Message], times: Int) {
    for _ in 0..<times {
      if random.permille(300) { messages.append(message(.sync, [.succeeds])) }
      for _ in 0..<random.below(4) {
        messages.append(ModelServer.Message(request: nil, fate: random.permille(150) ? .fails : .succeeds))
      }
      messages.append(message(.copyEnd, [.succeeds, .succeeds, .fails]))
    }
  }
}
