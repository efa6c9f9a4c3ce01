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
    #expect(server.has(one) && find("s") === one && server.isUnsettled)
    _ = server.succeeded(1)
    #expect(server.has(one) && find("s") === one && !server.isUnsettled)

    server.note(.undefine(client, "s", one))
    server.note(.define(client, "s", two, parses: true))
    #expect(find("s") === two && client.count == 1)
    server.failed(2)
    #expect(find("s") === one && !server.has(two) && client.count == 1)
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
    #expect(!server.has(one) && server.has(two))
    #expect(find("one") == nil && find("two") === two)
  }

  @Test func theOneNotUsedForLongestIsClosedButNoneThatIsUnderWay() {
    var server = ServerStatements()
    let statements = (0..<4).map { statement("select \($0)") }
    for statement in statements { server.note(.parse(statement)) }
    _ = server.succeeded(4)
    #expect(server.excess(over: 2) == nil, "they may all be needed by what is under way")
    server.settled()
    server.use(statements[0])
    #expect(server.excess(over: 4) == nil)
    #expect(server.excess(over: 3) === statements[1])
    server.note(.close(statements[1]))
    #expect(server.excess(over: 2) === statements[2])
    server.failed(1)
    #expect(server.has(statements[1]), "its Close was skipped")
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

  @Test(arguments: [
    ("deallocate s", "s"), ("DEALLOCATE S;", "s"), ("deallocate prepare s", "s"), ("Deallocate \"S x\"", "S x"),
    ("deallocate prepare \"all\" ; ", "all"), ("deallocate /* x */ _1 -- y", "_1"),
  ])
  func aSingleDeallocateIsUnderstood(text: String, name: String) {
    #expect(TransactionStatement.deallocated(Array(text.utf8).span) == WireText(name))
  }

  @Test(arguments: [
    "deallocate all", "deallocate", "deallocate prepare", "deallocate s; select 1", "deallocate \"a\"\"b\"",
    "deallocates s",
    "deallocate \"s", "select 1", "", "discard all", "deallocate s t",
  ])
  func anythingElseIsLeftToTheServer(text: String) {
    #expect(TransactionStatement.deallocated(Array(text.utf8).span) == nil)
  }

  private static let noParameters: [UInt8] = [0, 0]

  /// The body of a RowDescription with one column.
  private static func rows(type: UInt8, table: UInt8 = 0) -> [UInt8] {
    [0, 1, UInt8(ascii: "a"), 0, 0, 0, 0, table, 0, 1, 0, 0, 0, type, 0, 4, 0xff, 0xff, 0xff, 0xff, 0, 0]
  }
}
