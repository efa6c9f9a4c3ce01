import Pooling
import PostgresWire
import Testing

@Suite struct RequestScannerStreamTests {
  /// What the owner of a scanner gets to know, apart from how it was cut into runs.
  private struct Transcript: Equatable {
    var toServer: [UInt8] = []
    var events: [String] = []
  }

  /// A client that checks out a connection when it needs one, and gets no reply.
  private struct Client {
    var scanner = RequestScanner()
    var ledger: Ledger?
    var transcript = Transcript()

    /// Feeds a stream in pieces of at most `piece()` bytes, keeping what is not used as a caller does.
    mutating func read(_ stream: [UInt8], mayPin: Bool, piece: () -> Int) {
      var inbox: [UInt8] = []
      var start = 0
      while start < stream.count {
        let end = min(stream.count, start + piece())
        inbox += stream[start..<end]
        start = end
        var cursor = 0
        while step(inbox, &cursor, mayPin) {}
        inbox.removeFirst(cursor)
      }
    }

    /// One step. Returns whether to go on.
    private mutating func step(_ inbox: [UInt8], _ cursor: inout Int, _ mayPin: Bool) -> Bool {
      let before = cursor
      let step: RequestScanner.Step
      if ledger != nil {
        var terms = RequestScanner.Terms()
        terms.pinning = mayPin ? .allowed : .full
        step = scanner.next(inbox.span, &cursor, ledger: &ledger!, on: terms)
      } else {
        step = scanner.next(inbox.span, &cursor)
      }
      precondition(cursor >= before && cursor <= inbox.count, "the cursor left the bytes")
      switch step {
      case .forward(let range):
        precondition(ledger != nil && range == before..<cursor && !range.isEmpty)
        transcript.toServer += inbox[range]
        return true
      case .checkout:
        precondition(ledger == nil)
        scanner.attached()
        ledger = Ledger()
        return true
      case .useUnnamedStatement(let message, _):
        scanner.drop(message, inbox.span, &cursor)
        ledger!.sent(.bind, by: .client)
        transcript.events.append("refused the unnamed statement at \(transcript.toServer.count)")
        return true
      case .refusePin(let message, _, _):
        scanner.drop(message, inbox.span, &cursor)
        ledger!.sent(.bind, by: .client)
        transcript.events.append("refused at \(transcript.toServer.count)")
        return true
      case .parseStatement, .useStatement, .describeRows, .nameStatement, .discardSequences:
        preconditionFailure("no statement is shared")
      case .answerSync:
        transcript.events.append("answered")
        return true
      case .answerInLostBlock, .answerHeld: preconditionFailure("no block was lost or held")
      case .dropped: return true
      case .pause, .needMore: return false
      case .terminate, .violation:
        if transcript.events.last != "\(step)" { transcript.events.append("\(step)") }
        return false
      }
    }
  }

  private func stream(_ random: inout SimulationRandom) -> [UInt8] {
    var writer = MessageWriter()
    for _ in 0..<random.below(20) {
      let length = random.permille(50) ? 60_000 + random.below(20_000) : random.below(50)
      let filler = [UInt8](repeating: 0x20, count: length)
      switch random.below(11) {
      case 0: writer.message(FrontendType.query) { $0.raw(filler + [0]) }
      case 1: writer.message(FrontendType.functionCall) { $0.raw(filler) }
      case 2:
        writer.message(FrontendType.parse) { $0.raw((random.permille(300) ? [0x73, 0] : [0]) + filler + [0, 0, 0]) }
      case 3: writer.message(FrontendType.bind) { $0.raw((random.permille(300) ? [0x73, 0, 0] : [0, 0]) + filler) }
      case 4: writer.message(FrontendType.describe) { $0.raw([random.permille(500) ? 0x53 : 0x50, 0]) }
      case 5: writer.message(FrontendType.execute) { $0.raw([0, 0, 0, 0, 0]) }
      case 6: writer.message(FrontendType.close) { $0.raw([0x53, 0]) }
      case 7: writer.message(FrontendType.flush)
      case 8: writer.frontendCopyData(filler)
      case 9: writer.frontendCopyDone()
      default: writer.sync()
      }
    }
    return writer.bytes
  }

  @Test func howAStreamIsCutChangesNothing() {
    for seed in 0..<500 as Range<UInt64> {
      var random = SimulationRandom(seed: seed)
      let stream = stream(&random)
      let mayPin = random.permille(700)
      var whole = Client()
      whole.read(stream, mayPin: mayPin) { stream.count }
      for longest in [1, 7, 300, 40_000] where stream.count < 20_000 || longest > 300 {
        var cut = Client()
        cut.read(stream, mayPin: mayPin) { 1 + random.below(longest) }
        let isSame =
          cut.transcript == whole.transcript && cut.ledger?.count == whole.ledger?.count
          && cut.ledger?.clientReadiesOwed == whole.ledger?.clientReadiesOwed && cut.scanner.pins == whole.scanner.pins
        guard isSame else {
          Issue.record("seed \(seed) differs in pieces of at most \(longest)")
          return
        }
      }
    }
  }

  @Test func damagedStreamsNeverTrap() {
    for seed in 0..<1000 as Range<UInt64> {
      var random = SimulationRandom(seed: seed)
      var stream = stream(&random)
      guard !stream.isEmpty else { continue }
      for _ in 0..<1 + random.below(5) {
        stream[random.below(min(stream.count, 200))] = UInt8(random.below(256))
      }
      stream.removeLast(random.below(stream.count))
      var client = Client()
      client.read(stream, mayPin: random.permille(500)) { 1 + random.below(2000) }
    }
  }

  @Test func noiseNeverTraps() {
    let types: [UInt8] = [0x42, 0x43, 0x44, 0x45, 0x46, 0x48, 0x50, 0x51, 0x53, 0x63, 0x64, 0x66]
    var random = SimulationRandom(seed: 1)
    for _ in 0..<10_000 {
      var noise: [UInt8] = []
      for _ in 0..<random.below(8) {
        noise += [types[random.below(types.count)], 0, 0, 0, UInt8(4 + random.below(8))]
        for _ in 0..<random.below(8) { noise.append(UInt8(random.below(random.permille(500) ? 2 : 256))) }
      }
      var client = Client()
      client.read(noise, mayPin: random.permille(500)) { 1 + random.below(20) }
    }
  }
}
