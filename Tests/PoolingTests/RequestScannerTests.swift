import Pooling
import PostgresWire
import Testing

@Suite struct RequestScannerTests {
  private func messages(_ write: (inout MessageWriter) -> Void) -> [UInt8] {
    var writer = MessageWriter()
    write(&writer)
    return writer.bytes
  }

  /// A client that has checked out a connection, and the connection's ledger.
  private struct Attached {
    var scanner = RequestScanner()
    var ledger = Ledger()
    var terms = RequestScanner.Terms()

    init() { scanner.attached() }

    /// All steps up to one after which nothing goes on by itself, and where the cursor ends.
    mutating func steps(_ bytes: [UInt8]) -> ([RequestScanner.Step], Int) {
      var cursor = 0
      var steps: [RequestScanner.Step] = []
      while true {
        let step = scanner.next(bytes.span, &cursor, ledger: &ledger, on: terms)
        steps.append(step)
        switch step {
        case .forward, .dropped, .discardSequences: break
        case .refusePin(let message, _, _): scanner.drop(message, bytes.span, &cursor)
        case .checkout, .answerSync, .answerInLostBlock, .answerHeld, .pause, .terminate, .needMore, .violation,
          .parseStatement, .useStatement, .useUnnamedStatement, .describeRows, .nameStatement:
          return (steps, cursor)
        }
      }
    }
  }

  private func detached(_ scanner: inout RequestScanner, _ bytes: [UInt8]) -> (RequestScanner.Step, Int) {
    var cursor = 0
    let step = scanner.next(bytes.span, &cursor)
    return (step, cursor)
  }

  // MARK: Without a server connection

  @Test func aSmallRequestIsWaitedForWholeBeforeTheCheckout() {
    let query = messages { $0.query("select 1") }
    for count in 0..<query.count {
      var scanner = RequestScanner()
      #expect(detached(&scanner, Array(query[..<count])) == (.needMore, 0), "\(count) bytes")
    }
    var scanner = RequestScanner()
    #expect(detached(&scanner, query) == (.checkout, 0))
  }

  @Test func aLargeRequestIsStartedWhenItsFirst64KiBHaveCome() {
    let bind = messages { $0.message(FrontendType.bind) { $0.raw(Array(repeating: 1, count: 200_000)) } }
    var scanner = RequestScanner()
    #expect(detached(&scanner, Array(bind[..<65_535])) == (.needMore, 0))
    #expect(detached(&scanner, Array(bind[..<65_536])) == (.checkout, 0))
    var client = Attached()
    #expect(client.steps(Array(bind[..<65_535])) == ([.needMore], 0))
    #expect(client.steps(Array(bind[..<65_536])).0 == [.forward(0..<65_536), .needMore])
    #expect(client.scanner.isInsideForwardedMessage && client.ledger.count == 1)
    #expect(client.steps(Array(bind[65_536...])).0 == [.forward(0..<134_469), .needMore])
    #expect(!client.scanner.isInsideForwardedMessage && client.ledger.count == 1)
  }

  @Test func aSyncWithNothingOpenIsAnswered() {
    let bytes = messages { $0.sync() }
    var scanner = RequestScanner()
    #expect(detached(&scanner, Array(bytes[..<4])) == (.needMore, 0))
    #expect(detached(&scanner, bytes) == (.answerSync, 5))
  }

  @Test func whatIsLeftOfAFailedCopyCausesNoCheckout() {
    var scanner = RequestScanner()
    let bytes = messages {
      $0.frontendCopyData(Array(repeating: 0, count: 1000))
      $0.frontendCopyDone()
      $0.copyFail("no")
      $0.message(FrontendType.flush)
    }
    #expect(detached(&scanner, Array(bytes[..<500])) == (.needMore, 500))
    #expect(detached(&scanner, Array(bytes[500...])) == (.needMore, bytes.count - 500))
  }

  @Test func aRefusedQueryIsDroppedAndReadyForQueryFollows() {
    var scanner = RequestScanner()
    let bytes = messages {
      $0.query("select 1")
      $0.query("select 2")
    }
    var cursor = 0
    #expect(scanner.refuse(bytes.span, &cursor))
    #expect(cursor == 14)
    #expect(scanner.next(bytes.span, &cursor) == .checkout)
    #expect(cursor == 14)
  }

  @Test func aRefusedCycleIsDroppedUpToItsSync() {
    var scanner = RequestScanner()
    let bytes = messages {
      $0.message(FrontendType.parse) { $0.raw([0, 0, 0, 0]) }
      $0.message(FrontendType.execute) { $0.raw([0, 0, 0, 0, 0]) }
      $0.query("select 1")
      $0.sync()
      $0.query("select 2")
    }
    var cursor = 0
    #expect(!scanner.refuse(bytes.span, &cursor))
    #expect(scanner.next(bytes.span, &cursor) == .answerSync)
    #expect(cursor == bytes.count - 14)
    #expect(scanner.next(bytes.span, &cursor) == .checkout)
  }

  @Test func aRefusedLargeMessageIsDroppedAsItComes() {
    var scanner = RequestScanner()
    let bytes = messages { $0.message(FrontendType.query) { $0.raw(Array(repeating: 1, count: 100_000)) } }
    var cursor = 0
    #expect(scanner.refuse(Array(bytes[..<70_000]).span, &cursor) && cursor == 70_000)
    #expect(!scanner.isInsideForwardedMessage)
    let rest = Array(bytes[70_000...]) + messages { $0.query("select 1") }
    #expect(detached(&scanner, rest) == (.checkout, 30_005))
  }

  @Test func skippingEndsWithTheSync() {
    var scanner = RequestScanner()
    scanner.skipUntilSync()
    let bytes = messages {
      $0.message(FrontendType.bind) { $0.raw([0, 0]) }
      $0.sync()
    }
    #expect(detached(&scanner, bytes) == (.answerSync, bytes.count))
    #expect(detached(&scanner, Array(bytes[..<7])) == (.checkout, 0))
  }

  @Test func goodbyeAndPasswords() {
    var scanner = RequestScanner()
    #expect(detached(&scanner, messages { $0.terminate() }).0 == .terminate)
    #expect(detached(&scanner, [0x70, 0, 0, 0, 4]).0 == .violation(0x70))
    var client = Attached()
    let bytes = messages {
      $0.query("")
      $0.terminate()
    }
    #expect(client.steps(bytes) == ([.forward(0..<6), .terminate], 6))
    #expect(client.steps([0x70, 0, 0, 0, 4]).0 == [.violation(0x70)])
  }

  // MARK: Lengths and types

  @Test func typeBytesThatDoNotExistAreRefusedAtOnce() {
    for type in 0...255 as ClosedRange<UInt8> where FrontendType(rawValue: type) == nil {
      var scanner = RequestScanner()
      #expect(detached(&scanner, [type]).0 == .violation(type))
      var client = Attached()
      #expect(client.steps([type]).0 == [.violation(type)])
    }
  }

  @Test func lengthsOutOfRangeAreRefusedAtTheHeader() {
    for value in 0...255 as ClosedRange<UInt8> {
      guard let type = FrontendType(rawValue: value), type != .password else { continue }
      func header(_ length: Int) -> [UInt8] {
        [value] + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) }
      }
      for length in [0, 1, 2, 3, type.bodyLimit + 5, 0x7fff_ffff, 0xffff_ffff] {
        var scanner = RequestScanner()
        #expect(detached(&scanner, header(length)).0 == .violation(value), "\(type) of \(length)")
        var client = Attached()
        #expect(client.steps(header(length)) == ([.violation(value)], 0), "\(type) of \(length)")
      }
      var scanner = RequestScanner()
      #expect(detached(&scanner, header(type.bodyLimit + 4)).0 != .violation(value), "\(type) at its limit")
    }
  }

  @Test func requestsWithoutABodyAreLeftToTheServer() {
    for type in [FrontendType.parse, .bind, .describe, .execute, .close, .query, .functionCall] {
      var client = Attached()
      client.terms.pinning = .full
      let (steps, cursor) = client.steps(messages { $0.message(type) })
      #expect(steps.suffix(2) == [.forward(0..<5), .needMore] && cursor == 5, "\(type)")
      #expect(client.ledger.count == 1)
    }
  }

  // MARK: With a server connection

  @Test func aCycleIsOneRunAndItsRequestsAreEntered() {
    var client = Attached()
    let bytes = messages {
      $0.parse(text: "select 1")
      $0.message(FrontendType.describe) { $0.raw([0x53, 0]) }
      $0.message(FrontendType.bind) { $0.raw([0, 0, 0, 0, 0, 0, 0, 0]) }
      $0.message(FrontendType.describe) { $0.raw([0x50, 0]) }
      $0.message(FrontendType.execute) { $0.raw([0, 0, 0, 0, 0]) }
      $0.message(FrontendType.close) { $0.raw([0x50, 0]) }
      $0.message(FrontendType.flush)
      $0.sync()
    }
    #expect(client.steps(bytes) == ([.forward(0..<bytes.count), .needMore], bytes.count))
    #expect(client.ledger.count == 7 && client.ledger.clientReadiesOwed == 1)
    let replies: [BackendType] = [
      .parseComplete, .parameterDescription, .rowDescription, .bindComplete, .noData, .commandComplete,
      .closeComplete, .readyForQuery,
    ]
    for reply in replies { #expect(client.ledger.replied(reply) == .expected(.client), "\(reply)") }
    #expect(client.ledger.isEmpty)
  }

  @Test func copyDataPassesAsItComesWhileACopyIsPossible() {
    var client = Attached()
    let query = messages { $0.query("copy t from stdin") }
    let copy = messages {
      $0.frontendCopyData(Array(repeating: 0, count: 100))
      $0.frontendCopyDone()
    }
    #expect(client.steps(query + copy[..<50]).0.first == .forward(0..<query.count + 50))
    #expect(client.scanner.isInsideForwardedMessage)
    _ = client.ledger.replied(.copyInResponse)
    #expect(client.steps(Array(copy[50...])).0 == [.forward(0..<copy.count - 50), .needMore])
    #expect(!client.ledger.isCopyIn)
    _ = client.ledger.replied(.commandComplete)
    _ = client.ledger.replied(.readyForQuery)
    #expect(client.ledger.isEmpty)
    let (steps, cursor) = client.steps(copy)
    #expect(steps.dropLast().allSatisfy { $0 == .dropped } && steps.last == .needMore && cursor == copy.count)
    #expect(client.ledger.isEmpty)
  }

  @Test func forwardingPausesAtABoundaryOnly() {
    var client = Attached()
    client.terms.requestLimit = 3
    let query = messages { $0.query("") }
    #expect(client.steps(query + query + query + query).0 == [.forward(0..<18), .pause])
    #expect(client.steps(query) == ([.pause], 0))
    client.scanner.answered()
    #expect(client.steps(query).0 == [.forward(0..<6), .needMore])

    var pipeline = Attached()
    pipeline.terms.requestLimit = 3
    let cycle = messages {
      for _ in 0..<5 { $0.parse(text: "") }
      $0.sync()
    }
    #expect(pipeline.steps(cycle + cycle) == ([.forward(0..<cycle.count), .pause], cycle.count))
  }

  @Test func aPipelineWithoutEndPausesWhileTooMuchIsOwed() {
    var client = Attached()
    let parses = messages { for _ in 0..<16_400 { $0.parse(text: "") } }
    #expect(client.steps(parses).0.last == .pause)
    #expect(client.ledger.count == 16_384)
    _ = client.ledger.replied(.parseComplete)
    #expect(client.steps(messages { $0.parse(text: "") }).0.last == .needMore)
  }

  /// A Bind of the unnamed statement.
  private var bind: [UInt8] {
    messages { $0.message(FrontendType.bind) { $0.raw([0, 0, 0, 0, 0, 0, 0, 0]) } }
  }

  /// A request that fails.
  private var execute: [UInt8] {
    messages { $0.message(FrontendType.execute) { $0.raw([0x70, 0, 0, 0, 0, 0]) } }
  }

  private func isStopped(_ steps: [RequestScanner.Step]) -> Bool {
    if case .useUnnamedStatement = steps.last { true } else { false }
  }

  @Test func somebodyElsesUnnamedStatementIsOutOfReach() {
    let describe = messages { $0.message(FrontendType.describe) { $0.raw([0x53, 0]) } }
    let named = messages { $0.parse(statement: "s", text: "") }
    for first in [bind, describe, named + bind, execute + bind, execute + describe] {
      var client = Attached()
      #expect(isStopped(client.steps(first).0))
    }
    let unnamed = messages { $0.parse(text: "") }
    let query = messages { $0.query("") }
    for first in [unnamed, query] {
      var client = Attached()
      #expect(client.steps(first + bind).0 == [.forward(0..<first.count + bind.count), .needMore])
      client.scanner.attached()
      #expect(isStopped(client.steps(bind).0))
    }
  }

  /// The server skips the Parse, or the Query, behind a failed Execute, and still has somebody else's statement.
  @Test(arguments: [true, false]) func whatTheServerMaySkipMakesNoStatementOnesOwn(fails: Bool) {
    let parse = messages {
      $0.parse(text: "")
      $0.sync()
    }
    let query = messages {
      $0.query("")
      $0.sync()
    }
    for rest in [parse, query, messages { $0.query("") } + parse] {
      var client = Attached()
      #expect(client.steps(execute + rest).0.last == .needMore)
      #expect(client.steps(bind).0.last == .pause, "it is not known yet")
      if fails { client.scanner.failed(nil) }
      client.scanner.answered()
      #expect(isStopped(client.steps(bind).0) == fails)
    }
  }

  @Test func anUnnamedStatementIsKnownInLaterTransactions() {
    let table = StatementTable()
    var settings = SessionSettingsTable()
    let plain = settings.settings(reported: [])
    var client = Attached()
    func statement() -> SharedStatement? { client.scanner.unnamedStatement(in: table, plain) }
    _ = client.steps(messages { $0.parse(text: "select 1") } + bind)
    client.scanner.attached()
    #expect(statement()?.beginning == "select 1" && statement() === statement())
    _ = client.steps(messages { $0.message(FrontendType.close) { $0.raw([0x53, 0]) } })
    #expect(statement() == nil)
    for gone in [messages { $0.query("") }, messages { $0.parse(text: WireText(String(repeating: " ", count: 5000))) }]
    {
      _ = client.steps(messages { $0.parse(text: "select 1") })
      _ = client.steps(gone)
      #expect(statement() == nil)
    }
    client.ledger = Ledger()
    _ = client.steps(messages { $0.parse(text: "selec") })
    client.scanner.failed(client.ledger.failedParses)
    #expect(statement() != nil)
    _ = client.ledger.replied(.errorResponse)
    client.scanner.failed(client.ledger.failedParses)
    #expect(statement() == nil)
    _ = client.steps(messages { $0.parse(text: "select 1") })
    #expect(statement() == nil, "the server skips it")
  }

  @Test func statementsPinUntilTheyAreUsedOrGone() {
    var client = Attached()
    #expect(client.scanner.pins.isEmpty)
    _ = client.steps(messages { $0.parse(text: "") })
    #expect(client.scanner.pins == .unnamedStatement)
    _ = client.steps(messages { $0.message(FrontendType.bind) { $0.raw([0, 0, 0, 0, 0, 0, 0, 0]) } })
    #expect(client.scanner.pins.isEmpty)
    _ = client.steps(messages { $0.parse(text: "") })
    _ = client.steps(messages { $0.query("") })
    #expect(client.scanner.pins.isEmpty)
    _ = client.steps(messages { $0.parse(statement: "s", text: "") })
    _ = client.steps(messages { $0.message(FrontendType.bind) { $0.raw([0, 0, 0, 0, 0, 0, 0, 0]) } })
    #expect(client.scanner.pins == .statement)
    client.scanner.detached()
    #expect(client.scanner.pins.isEmpty)
  }

  @Test func aPinThatIsNotAllowedIsRefused() {
    var client = Attached()
    client.terms.pinning = .full
    let unnamed = messages { $0.parse(text: "") }
    let named = messages { $0.parse(statement: "s", text: "") }
    let end = unnamed.count + named.count
    let (steps, _) = client.steps(unnamed + named + unnamed)
    guard steps.count > 1, case .refusePin(let message, _, _) = steps[1] else {
      Issue.record("it is not refused")
      return
    }
    #expect(message.type == .parse && message.body == unnamed.count + 5..<end)
    #expect(
      steps
        == [
          .forward(0..<unnamed.count), .refusePin(message, .statement, text: end - 3..<end - 3),
          .forward(end..<end + unnamed.count), .needMore,
        ])
    #expect(client.scanner.pins == .unnamedStatement && client.ledger.count == 2)
    client.terms.pinning = .allowed
    _ = client.steps(named)
    client.terms.pinning = .full
    #expect(client.steps(named).0 == [.forward(0..<named.count), .needMore])
  }
}
