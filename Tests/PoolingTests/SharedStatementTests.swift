import PostgresWire
import Testing

@testable import Pooling

/// Statements that clients share: the table of texts, each client's names, and what a server connection has.
@Suite struct SharedStatementTests {
  private let table = StatementTable()
  private let client = ClientStatements()

  private func statement(_ text: String, zone: WireText = "UTC") -> SharedStatement {
    var settings = SessionSettingsTable()
    return table.statement(
      Array(text.utf8) + [0, 0, 0],
      settings: settings.settings(reported: [SessionSetting(name: "TimeZone", value: zone)]))
  }

  private func find(_ name: String) -> SharedStatement? {
    let bytes = Array(name.utf8)
    return client.find(bytes.span, bytes.indices)
  }

  @Test func equalTextsAreOneStatementUnlessTheyAreParsedDifferently() {
    let one = statement("select 1")
    #expect(statement("select 1") === one)
    #expect(statement("select 2") !== one)
    #expect(statement("select 1", zone: "GMT") !== one)
  }

  @Test func aStatementThatNobodyHasIsForgotten() {
    do {
      let one = statement("select 1")
      #expect(table.count == 1)
      withExtendedLifetime(one) {}
    }
    #expect(table.count == 0)
  }

  @Test func itsTextSaysWhatItDoesToTransactions() {
    #expect(statement("begin").kind == .begin)
    #expect(statement(" Commit ;").mayCommit && !statement("select 1").mayCommit)
  }

  @Test func whatSucceedsStaysAndWhatFailsIsUndoneTheLatestFirst() {
    var server = ServerStatements()
    let (one, two) = (statement("select 1"), statement("select 2"))
    server.note(.define(client, "s", one, parses: true))
    var hasOne = server.use(one)
    #expect(hasOne && find("s") === one && server.isUnsettled)
    _ = server.succeeded(1)
    hasOne = server.use(one)
    #expect(hasOne && find("s") === one && !server.isUnsettled)

    server.note(.undefine(client, "s", one))
    server.note(.define(client, "s", two, parses: true))
    #expect(find("s") === two && client.count == 1)
    server.failed(2)
    let hasTwo = server.use(two)
    #expect(find("s") === one && !hasTwo && client.count == 1)
  }

  @Test func theBytesOfAClientsTextsAreCounted() {
    let one = statement("select 1")
    client.define("a", one)
    client.define("b", one)
    #expect(client.bytes == 2 * one.definition.count)
    client.define("b", statement("select 22"))
    #expect(client.bytes == 2 * one.definition.count + 1)
    client.remove("a")
    #expect(client.bytes == one.definition.count + 1)
    client.removeAll()
    #expect(client.bytes == 0 && client.count == 0)
  }

  @Test func anErrorNamesTheStatementAsItsClientDid() {
    var server = ServerStatements()
    let one = statement("select 1")
    server.note(.define(client, "mine", one, parses: true))
    server.failed(1)
    #expect(server.name(of: one.serverName, in: client) == "mine")
    server.note(.name("other"))
    server.failed(1)
    #expect(server.name(of: one.serverName, in: client) == "other")
  }

  @Test func aServerThatHasForgottenAllHasWhatIsParsedBehind() {
    var server = ServerStatements()
    let (one, two) = (statement("select 1"), statement("select 2"))
    server.note(.define(client, "one", one, parses: true))
    _ = server.succeeded(1)
    server.note(.define(client, "two", two, parses: true))
    server.forgetAll(of: client)
    let (hasOne, hasTwo) = (server.use(one), server.use(two))
    #expect(!hasOne && hasTwo)
    #expect(find("one") == nil && find("two") === two)
  }

  @Test func theOneNotUsedForLongestIsClosedButNoneThatIsUnderWay() {
    var server = ServerStatements()
    let statements = (0..<4).map { statement("select \($0)") }
    for statement in statements { server.note(.parse(statement)) }
    _ = server.succeeded(4)
    #expect(server.excess(over: 2) == nil, "they may all be needed by what is under way")
    server.settled()
    let hasFirst = server.use(statements[0])
    #expect(hasFirst)
    #expect(server.excess(over: 4) == nil)
    #expect(server.excess(over: 3) === statements[1])
    server.note(.close(statements[1]))
    #expect(server.excess(over: 2) === statements[2])
    server.failed(1)
    let hasSecond = server.use(statements[1])
    #expect(hasSecond, "its Close was skipped")
  }

  @Test func aStatementOfAnotherShapeIsAnotherStatement() {
    let one = statement("select a from t")
    var shape = StatementShape()
    shape.take(parameters: Self.noParameters.span)
    shape.take(rows: Self.rows(type: 23).span)
    #expect(one.described(as: shape, in: table) == nil && one.shape == shape)
    #expect(one.described(as: shape, in: table) == nil)
    var other = StatementShape()
    other.take(parameters: Self.noParameters.span)
    other.take(rows: Self.rows(type: 25).span)
    let changed = one.described(as: other, in: table)
    #expect(changed != nil && changed !== one && changed?.shape == other)
    #expect(one.described(as: other, in: table) === changed, "there is one of each shape")
    #expect(statement("select a from t") === changed, "whoever parses now")
  }

  @Test func whichTableAColumnComesFromIsNoPartOfTheShape() {
    var (one, other) = (StatementShape(), StatementShape())
    one.take(rows: Self.rows(type: 23, table: 1).span)
    other.take(rows: Self.rows(type: 23, table: 2).span)
    #expect(one == other)
  }

  private func reference(_ text: String) -> RequestScanner.Step? {
    var scanner = RequestScanner()
    scanner.attached()
    var ledger = Ledger()
    var terms = RequestScanner.Terms()
    terms.sharesStatements = true
    var writer = MessageWriter()
    writer.query(WireText(text))
    var cursor = 0
    let step = scanner.next(writer.bytes.span, &cursor, ledger: &ledger, on: terms)
    if case .nameStatement = step { return step }
    return nil
  }

  @Test(arguments: [
    ("deallocate s", "s", false, "s"), ("DEALLOCATE S;", "s", false, "S"), ("deallocate prepare s", "s", false, "s"),
    ("Deallocate \"S x\"", "S x", false, "\"S x\""), ("deallocate prepare", "prepare", false, "prepare"),
    ("deallocate prepare \"all\" ; ", "all", false, "\"all\""), ("deallocate /* x */ _1 -- y", "_1", false, "_1"),
    (" execute S(1, ';')", "s", true, "S"), ("execute \"a\"\"b\"", "a\"b", true, "\"a\"\"b\""),
  ])
  func oneStatementIsNamed(text: String, name: String, isExecute: Bool, written: String) {
    guard case .nameStatement(_, let reference) = reference(text) else {
      Issue.record("no reference")
      return
    }
    #expect(reference.name == WireText(name) && reference.isExecute == isExecute)
    let bytes = Array(text.utf8)
    let range = reference.range.lowerBound - 5..<reference.range.upperBound - 5
    #expect(String(decoding: bytes[range], as: UTF8.self) == written)
  }

  @Test(arguments: [
    "deallocate all", "deallocate prepare all", "deallocate", "deallocate s; select 1", "deallocates s",
    "deallocate \"s", "select 1", "", "discard all", "deallocate s t", "execute", "execute s; select 1",
    "explain execute s", "execute U&\"\\0061\"",
  ])
  func anythingElseIsLeftToTheServer(text: String) {
    #expect(reference(text) == nil)
  }

  private static let noParameters: [UInt8] = [0, 0]

  /// The body of a RowDescription with one column.
  private static func rows(type: UInt8, table: UInt8 = 0) -> [UInt8] {
    [0, 1, UInt8(ascii: "a"), 0, 0, 0, 0, table, 0, 1, 0, 0, 0, type, 0, 4, 0xff, 0xff, 0xff, 0xff, 0, 0]
  }
}
