import PostgresWire
import Testing

@testable import Pooling

@Suite struct SessionSettingsTests {
  private func setting(_ name: String, _ value: WireText) -> SessionSetting { SessionSetting(name: name, value: value) }

  private func query(_ changes: SettingsDifference.Change..., encoding: WireText = "UTF8") -> String {
    SettingsDifference(changes: changes).query(encoding: encoding).text
  }

  // MARK: Differences

  @Test func equalSettingsDifferInNothing() {
    var table = SessionSettingsTable()
    let one = table.settings(reported: [setting("TimeZone", "UTC")], unreported: [setting("search_path", "a")])
    #expect(one.differences(to: one) == SettingsDifference())
  }

  @Test func whatDiffersIsSetAndFactsAreToldInstead() {
    var table = SessionSettingsTable()
    let server = table.settings(
      reported: [setting("TimeZone", "UTC"), setting("DateStyle", "ISO"), setting("server_version", "15.1")])
    let client = table.settings(
      reported: [
        setting("TimeZone", "CET"), setting("DateStyle", "ISO"), setting("server_version", "15.2"),
        setting("in_hot_standby", "off"), setting("application_name", "x"),
      ])
    let difference = server.differences(to: client)
    #expect(difference.changes == [.set(setting("application_name", "x")), .set(setting("TimeZone", "CET"))])
    #expect(difference.facts == [setting("server_version", "15.1")])
  }

  @Test func unreportedSettingsAreSetAndThoseOfAnotherClientReset() {
    var table = SessionSettingsTable()
    let server = table.settings(reported: [], unreported: [setting("search_path", "a"), setting("work_mem", "4MB")])
    let client = table.settings(reported: [], unreported: [setting("search_path", "b"), setting("geqo", "off")])
    #expect(
      server.differences(to: client).changes
        == [.set(setting("geqo", "off")), .set(setting("search_path", "b")), .reset("work_mem")])
    let plain = table.settings(reported: [])
    #expect(server.differences(to: plain).changes == [.reset("search_path"), .reset("work_mem")])
    #expect(plain.differences(to: plain).changes.isEmpty)
  }

  @Test func namesAreComparedWithoutCase() {
    var table = SessionSettingsTable()
    let one = table.settings(
      reported: [setting("TimeZone", "UTC")], unreported: [setting("Work_Mem", "1"), setting("work_mem", "2")])
    #expect(one["timezone"] == "UTC" && one["TIMEZONE"] == "UTC" && one["WORK_MEM"] == "2" && one["geqo"] == nil)
    #expect(one.unreported.count == 1)
    let other = table.settings(reported: [setting("TimeZone", "UTC")], unreported: [setting("WORK_MEM", "2")])
    #expect(!one.differences(to: other).changes.contains(.reset("work_mem")))
  }

  // MARK: The query

  @Test func plainSettingsAreSetWithOneLiteral() {
    #expect(query(.set(setting("TimeZone", "UTC"))) == "SET TimeZone TO 'UTC';")
    #expect(query(.set(setting("application_name", "it's"))) == "SET application_name TO 'it''s';")
    #expect(query(.set(setting("application_name", ""))) == "SET application_name TO '';")
  }

  @Test func otherSettingsGoThroughSetConfig() {
    #expect(
      query(.set(setting("search_path", "\"$user\", public")))
        == "SELECT pg_catalog.set_config('search_path', '\"$user\", public', false);")
    #expect(
      query(.set(setting("a'b.c", "d"))) == "SELECT pg_catalog.set_config('a''b.c', 'd', false);")
  }

  @Test func backslashesReadTheSameUnderEitherLiteralRule() {
    #expect(query(.set(setting("application_name", "a\\b'c"))) == "SET application_name TO E'a\\\\b''c';")
    #expect(query(.set(setting("application_name", "\\';--"))) == "SET application_name TO E'\\\\'';--';")
  }

  @Test func bytesBeyondASCIITravelInHexadecimal() {
    let name = WireText([0x63, 0x61, 0x66, 0xe9])
    #expect(
      query(.set(setting("application_name", name)), encoding: "LATIN1")
        == "SELECT pg_catalog.set_config('application_name', pg_catalog.convert_from(pg_catalog.decode('636166e9', "
        + "'hex'), 'LATIN1'), false);")
    #expect(query(.set(setting("application_name", "é"))).contains("decode('c3a9', 'hex'), 'UTF8')"))
  }

  @Test func everyQueryIsPlainASCIIWhateverTheValue() {
    for byte in 1...255 as ClosedRange<UInt8> {
      let difference = SettingsDifference(changes: [.set(setting("application_name", WireText([byte, 0x27])))])
      let bytes = difference.query(encoding: "SQL_ASCII").bytes
      #expect(bytes.allSatisfy { $0 < 0x80 && $0 != 0 }, "byte \(byte)")
      #expect(bytes.filter { $0 == 0x27 }.count.isMultiple(of: 2), "byte \(byte)")
    }
  }

  @Test func resetQuotesEachPartOfTheName() {
    #expect(query(.reset("work_mem")) == "RESET \"work_mem\";")
    #expect(query(.reset("my.setting")) == "RESET \"my\".\"setting\";")
    #expect(query(.reset("a\"b")) == "RESET \"a\"\"b\";")
  }

  @Test func changesAreOneStringInTheirOrder() {
    #expect(
      query(.set(setting("TimeZone", "UTC")), .reset("work_mem"), .set(setting("DateStyle", "ISO, MDY")))
        == "SET TimeZone TO 'UTC';RESET \"work_mem\";SET DateStyle TO 'ISO, MDY';")
    #expect(query() == "")
  }

  // MARK: The table

  @Test func equalSettingsAreTheSameObject() {
    var table = SessionSettingsTable()
    let one = table.settings(reported: [setting("b", "1"), setting("a", "2")])
    let other = table.settings(reported: [setting("a", "0"), setting("a", "2"), setting("b", "1")])
    #expect(one === other && one.reported.map(\.name) == ["a", "b"])
    let third = table.settings(reported: [setting("a", "2"), setting("b", "2")])
    #expect(third !== one && third.identity != one.identity)
    #expect(table.settings(reported: [], unreported: one.reported) !== one)
  }

  @Test func aReportedValueLeadsToTheObjectThatHasIt() {
    var table = SessionSettingsTable()
    let utc = table.settings(reported: [setting("TimeZone", "UTC")], unreported: [setting("work_mem", "1")])
    let cet = table.settings(utc, reporting: "TimeZone", value: "CET")
    #expect(cet["TimeZone"] == "CET" && cet["work_mem"] == "1" && utc["TimeZone"] == "UTC")
    #expect(table.settings(cet, reporting: "TimeZone", value: "UTC") === utc)
    #expect(table.settings(utc, reporting: "TimeZone", value: "UTC") === utc)
  }

  @Test func aSettingThatComesToBeReportedIsNoLongerUnreported() {
    var table = SessionSettingsTable()
    let before = table.settings(reported: [], unreported: [setting("Search_Path", "a"), setting("geqo", "on")])
    let after = table.settings(before, reporting: "search_path", value: "b")
    #expect(after.reported == [setting("search_path", "b")] && after.unreported == [setting("geqo", "on")])
  }

  @Test func reportedOfOneAndUnreportedOfAnother() {
    var table = SessionSettingsTable()
    let one = table.settings(reported: [setting("a", "1")], unreported: [setting("b", "1")])
    let other = table.settings(reported: [setting("a", "2")], unreported: [setting("b", "2")])
    let mixed = table.settings(reportedOf: one, unreportedOf: other)
    #expect(mixed.reported == one.reported && mixed.unreported == other.unreported)
    #expect(table.settings(reportedOf: one, unreportedOf: one) === one)
  }

  @Test func objectsInUseKeepTheirIdentityThroughSweepsAndOthersAreFreed() {
    var table = SessionSettingsTable()
    let kept = (0..<100).map { table.settings(reported: [setting("kept", "\($0)")]) }
    let identity = table.settings(reported: [setting("freed", "0")]).identity
    for number in 1..<2000 { _ = table.settings(reported: [setting("freed", "\(number)")]) }
    #expect(table.settings(reported: [setting("freed", "0")]).identity != identity)
    for (number, settings) in kept.enumerated() {
      #expect(table.settings(reported: [setting("kept", "\(number)")]) === settings)
    }
    #expect(Set(kept.map(\.identity)).count == kept.count)
  }
}
