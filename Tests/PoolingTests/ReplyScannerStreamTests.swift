import Pooling
import PostgresWire
import Testing

@Suite struct ReplyScannerStreamTests {
  /// What the owner of a scanner gets to know, apart from how it was cut into runs.
  private struct Transcript: Equatable {
    var toClient: [UInt8] = []
    var events: [String] = []
    var violation: UInt8?

    mutating func note(_ step: ReplyScanner.Step, _ bytes: ArraySlice<UInt8>) {
      func take(_ range: Range<Int>) -> [UInt8] {
        Array(bytes[bytes.startIndex + range.lowerBound..<bytes.startIndex + range.upperBound])
      }
      switch step {
      case .forward(let range): toClient += take(range)
      case .ready(let range, let status):
        toClient += take(range)
        events.append("ready \(status) at \(toClient.count)")
      case .error(let range):
        toClient += take(range)
        events.append("error at \(toClient.count)")
      case .parsed: events.append("parsed at \(toClient.count)")
      case .described(let range, let type, let isForClient):
        if isForClient { toClient += take(range) }
        events.append("described \(type) \(take(range)) at \(toClient.count)")
      case .parameterStatus(let range, let origin):
        if origin == .client { toClient += take(range) }
        events.append("parameter \(take(range)) of \(origin)")
      case .notification(let range): events.append("notification \(take(range))")
      case .ownRow(let range): events.append("own row \(take(range))")
      case .ownError(let range): events.append("own error \(take(range))")
      case .ownReady(let status): events.append("own ready \(status)")
      case .unrequestedError(let range): events.append("unrequested error \(take(range))")
      case .needMore: break
      case .violation(let type): violation = type
      }
    }
  }

  /// Feeds a stream in pieces of at most `piece()` bytes, keeping what is not used as a caller does.
  private func read(_ stream: [UInt8], _ scanner: inout ReplyScanner, piece: () -> Int) -> Transcript {
    var transcript = Transcript()
    var inbox: [UInt8] = []
    var start = 0
    while start < stream.count {
      let end = min(stream.count, start + piece())
      inbox += stream[start..<end]
      start = end
      var cursor = 0
      var isMoreNeeded = false
      while !isMoreNeeded {
        let before = cursor
        let step = scanner.next(inbox.span, &cursor)
        precondition(cursor >= before && cursor <= inbox.count, "the cursor left the bytes")
        transcript.note(step, inbox[...])
        switch step {
        case .needMore: isMoreNeeded = true
        case .violation: return transcript
        default: precondition(cursor > before, "\(step) used nothing")
        }
      }
      inbox.removeFirst(cursor)
    }
    return transcript
  }

  /// A conversation's replies, with asynchronous messages among them.
  private func replies(
    to conversation: [ModelServer.Message], _ random: inout SimulationRandom
  ) -> (stream: [UInt8], toClient: [UInt8]) {
    var server = ModelServer()
    var stream: [UInt8] = []
    var toClient: [UInt8] = []
    for reply in conversation.flatMap({ server.read($0) }) {
      var writer = MessageWriter()
      let statuses = [Backend.TransactionStatus.idle, .inBlock, .failed]
      switch reply.type {
      case .readyForQuery: writer.readyForQuery(statuses[random.below(3)])
      case .parseComplete, .bindComplete, .closeComplete, .noData, .portalSuspended, .copyDone, .emptyQueryResponse:
        writer.message(reply.type)
      default:
        let length = random.permille(20) ? 70_000 : random.below(60)
        writer.message(reply.type) { $0.raw((0..<length).map { UInt8(truncatingIfNeeded: $0) }) }
      }
      if random.permille(100) && reply.origin == .client {
        var asynchronous = MessageWriter()
        if random.permille(500) {
          asynchronous.parameterStatus(name: "TimeZone", value: "UTC")
        } else {
          asynchronous.message(BackendType.noticeResponse) { $0.uint8(0) }
        }
        writer.bytes = asynchronous.bytes + writer.bytes
      }
      stream += writer.bytes
      if reply.origin == .client { toClient += writer.bytes }
    }
    return (stream, toClient)
  }

  private func scanner(for conversation: [ModelServer.Message]) -> ReplyScanner {
    var scanner = ReplyScanner()
    for message in conversation {
      if let request = message.request { scanner.ledger.sent(request, by: message.origin) }
    }
    return scanner
  }

  @Test func howAStreamIsCutChangesNothing() {
    for seed in 0..<200 as Range<UInt64> {
      var maker = ConversationMaker(random: SimulationRandom(seed: seed))
      let conversation = maker.conversation(cycles: 1 + maker.random.below(8))
      var random = maker.random
      let (stream, toClient) = replies(to: conversation, &random)
      var whole = scanner(for: conversation)
      let transcript = read(stream, &whole) { stream.count }
      guard transcript.violation == nil && transcript.toClient == toClient && whole.ledger.count == 0 else {
        let requests = conversation.map { "\($0.request.map { "\($0)" } ?? "copyData")(\($0.fate))" }
        Issue.record("seed \(seed): violation \(transcript.violation as UInt8?) or wrong bytes in \(requests)")
        return
      }
      for longest in [1, 7, 300, 40_000] where stream.count < 20_000 || longest > 7 {
        var cut = scanner(for: conversation)
        let again = read(stream, &cut) { 1 + random.below(longest) }
        guard again == transcript && cut.ledger.count == 0 && cut.ledger.isEmpty == whole.ledger.isEmpty else {
          Issue.record("seed \(seed) differs in pieces of at most \(longest)")
          return
        }
      }
    }
  }

  @Test func damagedStreamsNeverTrap() {
    for seed in 0..<500 as Range<UInt64> {
      var maker = ConversationMaker(random: SimulationRandom(seed: seed))
      let conversation = maker.conversation(cycles: 1 + maker.random.below(4))
      var random = maker.random
      var (stream, _) = replies(to: conversation, &random)
      guard !stream.isEmpty else { continue }
      for _ in 0..<1 + random.below(5) {
        stream[random.below(min(stream.count, 400))] = UInt8(random.below(256))
      }
      stream.removeLast(random.below(stream.count))
      var scanner = scanner(for: conversation)
      _ = read(stream, &scanner) { 1 + random.below(500) }
    }
  }

  @Test func noiseNeverTraps() {
    var random = SimulationRandom(seed: 1)
    for _ in 0..<5000 {
      let noise = (0..<random.below(80)).map { _ in UInt8(random.below(random.permille(500) ? 8 : 256)) }
      var scanner = scanner(for: [ModelServer.Message(request: .query), ModelServer.Message(request: .sync)])
      _ = read(noise, &scanner) { 1 + random.below(20) }
    }
  }
}
