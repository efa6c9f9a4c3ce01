import Pooling
import PostgresWire
import Testing

@Suite struct SessionStateTests {
  /// A client with a server connection whose texts are scanned, and a server that answers inspections as it is told.
  private struct Client {
    var scanner = RequestScanner()
    var ledger = Ledger()
    var terms = RequestScanner.Terms()
    var table = SessionSettingsTable()
    let settings: SessionSettings

    init() {
      settings = table.settings(
        reported: [SessionSetting(name: "TimeZone", value: "UTC")],
        unreported: [SessionSetting(name: "work_mem", value: "5MB")])
      scanner.attached()
    }

    mutating func send(_ write: (inout MessageWriter) -> Void) -> [RequestScanner.Step] {
      var writer = MessageWriter()
      write(&writer)
      var cursor = 0
      var steps: [RequestScanner.Step] = []
      while true {
        let step = scanner.next(writer.bytes.span, &cursor, ledger: &ledger, on: terms)
        if step == .needMore { return steps }
        steps.append(step)
        if case .refusePin(let message, _, _) = step { scanner.drop(message, writer.bytes.span, &cursor) }
      }
    }

    mutating func query(_ text: String) -> [RequestScanner.Step] { send { $0.query(WireText(text)) } }

    /// What is asked at the end of the transaction.
    var question: Inspection? {
      scanner.session.isInDoubt ? scanner.session.inspection(known: settings, wanted: settings) : nil
    }

    /// The transaction is over, and the server says what is left.
    mutating func end(left: PinReasons = []) {
      scanner.session.conclude(question, left: left)
      scanner.answered()
    }
  }

  private func row(_ values: [WireText?]) -> [UInt8] {
    var writer = MessageWriter()
    writer.uint16(UInt16(values.count))
    for value in values {
      guard let value else {
        writer.uint32(UInt32.max)
        continue
      }
      writer.uint32(UInt32(value.bytes.count))
      writer.raw(value.bytes)
    }
    return writer.bytes
  }

  @Test(arguments: [
    "select 1", "begin", "insert into t values (1)", "commit", "select count(*) from t where a in (1, 2)", "notify x",
    "savepoint s", "copy t from stdin", "set local a = 1", "select lower('x')",
  ])
  func whatLeavesNothingBehindIsNotAskedAbout(text: String) {
    var client = Client()
    _ = client.query(text)
    #expect(client.question == nil && client.scanner.pins.isEmpty && !client.scanner.session.mayHide)
  }

  private static let pinning: [(String, PinReasons)] = [
    ("create temp table t (n int)", .temporary), ("listen x", .listening),
    ("select pg_advisory_lock(1)", .advisoryLock), ("declare c cursor with hold for select 1", .heldCursor),
    ("prepare s as select 1", .sqlStatement), ("create temp table t (n int); listen x", [.temporary, .listening]),
  ]

  @Test(arguments: SessionStateTests.pinning)
  func whatMayBeLeftIsAskedAboutAndPinsWhereItIs(text: String, pins: PinReasons) {
    var client = Client()
    _ = client.query(text)
    #expect(client.question?.kinds == pins && client.scanner.pins.isEmpty)
    client.end(left: pins)
    #expect(client.scanner.pins == pins && client.scanner.session.statement == text)
    _ = client.query("select 1")
    #expect(client.question == nil, "nothing new has happened")
    _ = client.query("discard all")
    client.end(left: [])
    #expect(client.scanner.pins.isEmpty && client.scanner.session.statement == "")
  }

  @Test func whatWasRolledBackPinsNothing() {
    var client = Client()
    _ = client.query("listen x")
    #expect(client.scanner.session.mayListen)
    client.end(left: [])
    #expect(client.scanner.pins.isEmpty && !client.scanner.session.mayListen)
  }

  @Test func anInspectionThatFailsPinsUntilOneSucceeds() {
    var client = Client()
    _ = client.query("listen x")
    client.scanner.session.remainUnknown()
    #expect(client.scanner.pins == .unknown)
    _ = client.query("select 1")
    #expect(client.question?.kinds == .listening)
    client.end(left: .listening)
    #expect(client.scanner.pins == .listening)
  }

  @Test func onlySettingsThatAreNotReportedAreAskedFor() {
    var client = Client()
    _ = client.query("set timezone = 'GMT'")
    #expect(client.scanner.session.isInDoubt && client.question == nil)
    #expect(client.scanner.session.reportedResets == [])
    client.end()
    _ = client.query("set timezone = 'GMT'; set app.tenant = '7'; reset timezone")
    #expect(client.question?.names == ["app.tenant"] && client.scanner.session.reportedResets == ["timezone"])
    client.end()
    _ = client.query("reset all")
    #expect(client.question?.names == ["work_mem"] && client.scanner.session.reportedResets == nil)
  }

  @Test func anInspectionAsksInOneStatementAndReadsOneRow() throws {
    var client = Client()
    _ = client.query("select pg_advisory_lock(1); set app.tenant = 'it''s'; reset work_mem; set role x")
    let inspection = try #require(client.question)
    #expect(
      inspection.query.text
        == "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND "
        + "pid = pg_catalog.pg_backend_pid()), pg_catalog.current_setting('app.tenant', true), "
        + "pg_catalog.current_setting('work_mem', true), pg_catalog.current_setting('role', true), "
        + "(SELECT source FROM pg_catalog.pg_settings WHERE lower(name) = 'work_mem')")
    func answer(_ values: [WireText?]) -> Inspection.Answer? { inspection.answer(row(values).span) }
    func settings(_ values: [WireText?]) -> [Inspection.Setting] {
      zip(["app.tenant", "work_mem", "role"], values).map { Inspection.Setting(name: $0, value: $1) }
    }
    #expect(
      answer(["t", "it's", "4MB", "x", "configuration file"])
        == Inspection.Answer(left: .advisoryLock, settings: settings(["it's", nil, "x"])))
    #expect(
      answer(["f", nil, "6MB", "none", "session"])
        == Inspection.Answer(left: [], settings: settings([nil, "6MB", "none"])))
    #expect(answer(["f", "x"]) == nil && answer([]) == nil)
    #expect(inspection.answer([1, 2, 3].span) == nil)
  }

  @Test func anUnnamedStatementCountsWhenItIsUsed() {
    var client = Client()
    _ = client.send {
      $0.parse(text: "listen x")
      $0.sync()
    }
    #expect(client.question == nil && client.scanner.pins == .unnamedStatement)
    for _ in 0..<2 {
      client.end()
      _ = client.send {
        $0.message(FrontendType.bind) { $0.raw([0, 0, 0, 0, 0, 0, 0, 0]) }
        $0.sync()
      }
      #expect(client.question?.kinds == .listening)
    }
    client.end()
    _ = client.send { $0.parse(text: "select 1") }
    _ = client.send { $0.message(FrontendType.bind) { $0.raw([0, 0, 0, 0, 0, 0, 0, 0]) } }
    #expect(client.question == nil)
  }

  @Test(arguments: ["select f(1)", "call p()", "do 'begin end'", "execute s", "select $x$"])
  func whatRunsUnseenIsRemembered(text: String) {
    var client = Client()
    _ = client.query(text)
    #expect(client.scanner.session.mayHide)
    client.scanner.detached()
    #expect(!client.scanner.session.mayHide)
  }

  @Test func sequencesPinWhoAsksOutsideOfTheTransactionThatUsedThem() {
    var client = Client()
    client.terms.isInBlock = true
    _ = client.query("select lastval()")
    #expect(client.scanner.pins.isEmpty)
    client.terms.isInBlock = false
    client.terms.pinning = .full
    _ = client.query("select lastval()")
    #expect(client.scanner.pins.isEmpty)
    client.terms.pinning = .allowed
    _ = client.query("insert into t values (default); select lastval()")
    #expect(client.scanner.pins.isEmpty)
    _ = client.query("select lastval()")
    #expect(client.scanner.pins == .sequences)
    _ = client.query("discard sequences")
    #expect(client.scanner.pins.isEmpty)
  }

  @Test func otherClientsSequencesAreDiscardedFirst() {
    var client = Client()
    client.terms.hasForeignSequences = true
    var writer = MessageWriter()
    writer.query("select lastval()")
    var cursor = 0
    #expect(
      client.scanner.next(writer.bytes.span, &cursor, ledger: &client.ledger, on: client.terms) == .discardSequences)
    #expect(cursor == 0 && client.ledger.isEmpty)
    client.terms.isInBlock = true
    #expect(client.query("select lastval()").first != .discardSequences)
  }

  @Test func whatMayNotPinIsRefusedByItsReason() {
    var client = Client()
    client.terms.pinning = .rejected
    func refused(_ steps: [RequestScanner.Step]) -> PinReasons? {
      guard steps.count == 1, case .refusePin(let message, let pins, text: 5..<14) = steps[0] else { return nil }
      return message.type == .query ? pins : nil
    }
    #expect(refused(client.query("listen x")) == .listening)
    client.terms.pinning = .full
    #expect(refused(client.query("listen x")) == .listening)
    #expect(client.query("create temp table t (n int) on commit drop").count == 1)
    #expect(client.question?.kinds == .temporary)
    client.end(left: .temporary)
    client.terms.pinning = .ignored
    #expect(client.query("listen x") == [.forward(0..<14)])
    #expect(client.question == nil && client.scanner.session.mayHide)
  }

  @Test func aStatementIsKeptUpToItsLimit() {
    var client = Client()
    _ = client.query("listen " + String(repeating: "x", count: 1000))
    #expect(client.scanner.session.statement.utf8.count == SessionState.statementLimit)
  }
}
