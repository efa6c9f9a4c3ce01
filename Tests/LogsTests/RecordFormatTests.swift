import Settings
import Telemetry
import Testing

@testable import Logs

@Suite("Forms of a log record")
struct RecordFormatTests {
  private static let hostile = "a\"b\\c\nd\r\t\u{1b}[31m\u{9b}\u{2028}\u{202e}\0é🐘"

  private func record(_ value: String, message: String = "client connected", level: LogLevel = .info) -> LogRecord {
    LogRecord(
      time: UnixTime(microseconds: 1_795_708_325_332_999), level: level, message: message,
      fields: [.init("pool", value), .init("client", "17")])
  }

  @Test("text is time, level, message and fields on one line")
  func text() {
    #expect(record("app/app").textLine == "2026-11-26T15:52:05.332Z info client connected pool=app/app client=17")
    #expect(record("").textLine.hasSuffix("pool=\"\" client=17"))
    #expect(record("two words").textLine.hasSuffix("pool=\"two words\" client=17"))
  }

  @Test("text stays one line and commands no terminal, whatever a value or a message holds")
  func hostileText() {
    for line in [record(Self.hostile).textLine, record("app", message: Self.hostile).textLine] {
      #expect(
        line.unicodeScalars.allSatisfy {
          ![.control, .format, .lineSeparator, .paragraphSeparator].contains($0.properties.generalCategory)
        })
      #expect(line.contains("\\n") && line.contains("é🐘"))
    }
    #expect(record("a\"b\\c d").textLine.contains(#"pool="a\"b\\c d" "#))
  }

  @Test("a value cannot pass for another field")
  func forgedField() {
    #expect(record("x client=1").textLine.contains(#"pool="x client=1" client=17"#))
  }

  @Test("JSON is one object on one line, with escapes")
  func json() {
    #expect(
      record("app/app").jsonLine
        == #"{"time":"2026-11-26T15:52:05.332Z","level":"info","message":"client connected","pool":"app/app","client":"17"}"#
    )
    let line = record(Self.hostile).jsonLine
    #expect(line.contains(#""pool":"a\"b\\c\nd\r\t\u001b[31m\u009b\u2028"#))
    #expect(line.contains(#"\u0000é🐘""#))
    #expect(!line.contains("\n"))
  }

  @Test("the journal gets the message with its fields, a priority, and each field by itself")
  func journal() {
    let fields = record("app/app").journalFields.map { String(decoding: $0, as: UTF8.self) }
    #expect(
      fields == [
        "MESSAGE=client connected pool=app/app client=17", "PRIORITY=6", "SYSLOG_IDENTIFIER=lifeguard",
        "LIFEGUARD_POOL=app/app", "LIFEGUARD_CLIENT=17",
      ])
  }

  @Test("a value of the journal is whole, its MESSAGE one line")
  func hostileJournal() {
    let fields = record(Self.hostile).journalFields
    #expect(!fields[0].contains(UInt8(ascii: "\n")))
    #expect(fields[3] == Array("LIFEGUARD_POOL=\(Self.hostile)".utf8))
  }

  @Test(
    "names of journal fields are ones that the journal takes", arguments: ["event_loop", "é-x y", "1", "_a", "a=b"])
  func journalNames(name: String) {
    var record = record("x")
    record.fields = [.init(name + String(repeating: "n", count: 80), "v")]
    let field = record.journalFields[3]
    let journalName = field.prefix { $0 != UInt8(ascii: "=") }
    #expect(journalName.count <= 64 && journalName.starts(with: Array("LIFEGUARD_".utf8)))
    let allowed = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_".utf8)
    #expect(journalName.allSatisfy { allowed.contains($0) })
  }

  @Test("levels have the priorities of syslog")
  func priorities() {
    #expect(LogLevel.allCases.map(\.journalPriority) == [7, 7, 6, 5, 4, 3, 2])
  }
}
