import Pooling
import PostgresWire
import Testing

@Suite struct ReplyScannerTests {
  /// A scanner whose connection has been sent these requests.
  private func scanner(_ requests: (Request, Origin)...) -> ReplyScanner {
    var scanner = ReplyScanner()
    for (request, origin) in requests { scanner.ledger.sent(request, by: origin) }
    return scanner
  }

  private func messages(_ write: (inout MessageWriter) -> Void) -> [UInt8] {
    var writer = MessageWriter()
    write(&writer)
    return writer.bytes
  }

  /// All steps up to needMore or a violation, both included, and where the cursor ends.
  private func steps(_ scanner: inout ReplyScanner, _ bytes: [UInt8]) -> ([ReplyScanner.Step], Int) {
    var cursor = 0
    var steps: [ReplyScanner.Step] = []
    while true {
      let step = scanner.next(bytes.span, &cursor)
      steps.append(step)
      switch step {
      case .needMore, .violation: return (steps, cursor)
      default: break
      }
    }
  }

  @Test func aWholeReplyIsOneRun() {
    var scanner = scanner((.query, .client))
    let bytes = messages {
      $0.message(BackendType.rowDescription) { $0.uint16(0) }
      $0.message(BackendType.dataRow) { $0.uint16(0) }
      $0.message(BackendType.commandComplete) { $0.text("SELECT 1") }
      $0.readyForQuery(.inBlock)
    }
    #expect(steps(&scanner, bytes) == ([.ready(0..<bytes.count, .inBlock), .needMore], bytes.count))
    #expect(scanner.ledger.isEmpty)
  }

  @Test func bodiesPassAsTheyComeAndHeadersWaitToBeWhole() {
    var scanner = scanner((.query, .client))
    let bytes = messages { $0.message(BackendType.dataRow) { $0.raw(Array(repeating: 7, count: 100)) } }
    #expect(steps(&scanner, Array(bytes[..<4])) == ([.needMore], 0))
    #expect(steps(&scanner, Array(bytes[..<20])) == ([.forward(0..<20), .needMore], 20))
    #expect(scanner.isInsideClientMessage)
    #expect(steps(&scanner, Array(bytes[20...]) + [0x44]) == ([.forward(0..<85), .needMore], 85))
    #expect(!scanner.isInsideClientMessage)
  }

  @Test(arguments: [
    ("DEALLOCATE ALL", true), ("DISCARD ALL", true), ("DECLARE CURSOR", false), ("DISCARD TEMP", false),
    ("DEALLOCATE", false), ("CREATE TABLE", false), ("DROP TABLE", false), ("DELETE 1234567", false),
  ])
  func onlyTheirOwnTagsSayThatStatementsAreGone(tag: String, areGone: Bool) {
    var scanner = scanner((.query, .client))
    let bytes = messages {
      $0.message(BackendType.commandComplete) { $0.text(WireText(Array(tag.utf8))) }
      $0.readyForQuery(.idle)
    }
    _ = steps(&scanner, bytes)
    #expect(scanner.hasDeallocated == areGone)
  }

  @Test func repliesToTheDaemonAreKeptFromTheClient() {
    var scanner = scanner((.query, .daemon), (.close, .daemon), (.bind, .client))
    let bytes = messages {
      $0.message(BackendType.commandComplete) { $0.text("SET") }
      $0.parameterStatus(name: "TimeZone", value: "UTC")
      $0.readyForQuery(.idle)
      $0.message(BackendType.closeComplete)
      $0.message(BackendType.bindComplete)
    }
    let status = 9..<9 + 5 + 9 + 4
    let start = status.upperBound + 6 + 5
    #expect(
      steps(&scanner, bytes)
        == ([.parameterStatus(status, .daemon), .ownReady(.idle), .forward(start..<start + 5), .needMore], bytes.count))
  }

  @Test func errorsAreReportedByWhoseTheyAre() {
    let error = messages { $0.message(BackendType.errorResponse) { $0.uint8(0) } }
    var clients = scanner((.query, .client))
    #expect(steps(&clients, error).0 == [.error(0..<6), .needMore])
    var daemons = scanner((.query, .daemon))
    #expect(steps(&daemons, error).0 == [.ownError(0..<6), .needMore])
    var nobodys = scanner()
    #expect(steps(&nobodys, error).0 == [.unrequestedError(0..<6), .needMore])
  }

  @Test func aFatalErrorWhileTheServerSkipsBelongsToNoRequest() {
    var scanner = scanner((.bind, .client))
    let bytes = messages {
      $0.message(BackendType.errorResponse) { $0.uint8(0) }
      $0.message(BackendType.errorResponse) { $0.uint8(0) }
    }
    #expect(steps(&scanner, bytes).0 == [.error(0..<6), .unrequestedError(6..<12), .needMore])
  }

  @Test func anErrorTooLongToWaitForPassesToTheClientButIsAViolationForTheDaemon() {
    let error = messages { $0.message(BackendType.errorResponse) { $0.raw(Array(repeating: 1, count: 65_537)) } }
    var clients = scanner((.query, .client))
    #expect(steps(&clients, error).0 == [.forward(0..<error.count), .needMore])
    var daemons = scanner((.query, .daemon))
    #expect(steps(&daemons, error) == ([.violation(BackendType.errorResponse.rawValue)], 0))
  }

  @Test func asynchronousMessagesNeedNoRequest() {
    var scanner = scanner()
    let bytes = messages {
      $0.parameterStatus(name: "a", value: "b")
      $0.notification(processID: 1, channel: "c", payload: "")
      $0.message(BackendType.noticeResponse) { $0.uint8(0) }
    }
    #expect(
      steps(&scanner, bytes).0 == [
        .parameterStatus(0..<9, .client), .notification(9..<21), .forward(21..<27), .needMore,
      ])
    #expect(scanner.ledger.isEmpty)
  }

  @Test func messagesThatThePoolReadsAreWaitedForWhole() {
    let bytes = messages {
      $0.parameterStatus(name: "a", value: "b")
      $0.readyForQuery(.failed)
    }
    var scanner = scanner((.sync, .client))
    for count in 0..<9 { #expect(steps(&scanner, Array(bytes[..<count])) == ([.needMore], 0), "\(count) bytes") }
    for count in 9..<15 {
      var copy = scanner
      #expect(steps(&copy, Array(bytes[..<count])) == ([.parameterStatus(0..<9, .client), .needMore], 9))
    }
    #expect(steps(&scanner, bytes).0 == [.parameterStatus(0..<9, .client), .ready(9..<15, .failed), .needMore])
  }

  @Test(
    arguments: [
      [0x5a, 0, 0, 0, 5, 0x49], [0x44, 0, 0, 0, 4], [0x52, 0, 0, 0, 8, 0, 0, 0, 0], [0x21, 0, 0, 0, 4],
      [0x44, 0, 0, 0, 3], [0x5a, 0, 0, 0, 4], [0x5a, 0x7f, 0, 0, 0],
    ] as [[UInt8]])
  func whatNobodyAskedForIsAViolation(bytes: [UInt8]) {
    var scanner = scanner((.parse, .client))
    #expect(steps(&scanner, bytes).0 == [.violation(bytes[0])])
    var idle = ReplyScanner()
    #expect(steps(&idle, bytes).0 == [.violation(bytes[0])])
  }

  @Test func aStatusThatDoesNotExistIsAViolation() {
    for origin in [Origin.client, .daemon] {
      var scanner = scanner((.sync, origin))
      #expect(steps(&scanner, [0x5a, 0, 0, 0, 5, 0x4a]).0 == [.violation(0x5a)])
    }
  }

  @Test func whatCameBeforeAViolationStillReachesTheClient() {
    var scanner = scanner((.query, .client))
    let bytes = messages {
      $0.message(BackendType.dataRow) { $0.uint16(0) }
      $0.message(BackendType.bindComplete)
    }
    #expect(steps(&scanner, bytes) == ([.forward(0..<7), .violation(BackendType.bindComplete.rawValue)], 7))
  }
}
