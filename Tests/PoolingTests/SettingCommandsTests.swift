import PostgresWire
import Testing

@testable import Pooling

@Suite struct SettingCommandsTests {
  private func command(_ text: String, conforming: Bool = true) -> SettingCommand? {
    let bytes = Array(text.utf8)
    return SettingCommand(bytes.span, reading: SQLReading(standardConformingStrings: conforming, encoding: .asciiSafe))
  }

  private static func value(_ raw: WireText, _ constant: WireText? = nil) -> SettingCommand.Value {
    SettingCommand.Value(raw: raw, constant: constant)
  }

  @Test(
    arguments: [
      ("SET a = 1", .set(name: "a", value("1", "1"), isLocal: false)),
      ("set session A to 'It''s';", .set(name: "a", value("'It''s'", "It's"), isLocal: false)),
      (" /* x */ set local \"A b\".c = On -- x", .set(name: "A b.c", value("On", "on"), isLocal: true)),
      ("set local.a = 1", .set(name: "local.a", value("1", "1"), isLocal: false)),
      ("set session.a to 1", .set(name: "session.a", value("1", "1"), isLocal: false)),
      ("set time.zone = 1", .set(name: "time.zone", value("1", "1"), isLocal: false)),
      ("set search_path to a, \"$user\" , 'b'", .set(name: "search_path", value("a, \"$user\" , 'b'"), isLocal: false)),
      ("set a = -5", .set(name: "a", value("-5", "-5"), isLocal: false)),
      ("set a =+ 5", .set(name: "a", value("+ 5", "5"), isLocal: false)),
      ("set a = 1.50", .set(name: "a", value("1.50"), isLocal: false)),
      ("set a = 010", .set(name: "a", value("010"), isLocal: false)),
      ("set a = default", .setDefault(name: "a", isLocal: false)),
      ("set local a to DEFAULT", .setDefault(name: "a", isLocal: true)),
      ("set schema 'x'", .set(name: "search_path", value("'x'", "x"), isLocal: false)),
      ("set xml option content", .set(name: "xmloption", value("content", "content"), isLocal: false)),
      ("set a = $$x$$", .set(name: "a", value("$$x$$", "x"), isLocal: false)),
      ("set a = E'\\x41\\n\\'\\101'", .set(name: "a", value("E'\\x41\\n\\'\\101'", "A\n'A"), isLocal: false)),
      ("set a = E'\\u0041'", .set(name: "a", value("E'\\u0041'"), isLocal: false)),
      ("set a = 'b' -- x\n 'é'", .set(name: "a", value("'b' -- x\n 'é'", "bé"), isLocal: false)),
      ("set role x", .role(value("x", "x"), isLocal: false)),
      ("set role to 'X'", .role(value("'X'", "X"), isLocal: false)),
      ("set local role none", .role(value("none", "none"), isLocal: true)),
      ("set role = default", .setDefault(name: "role", isLocal: false)),
      ("set session authorization 'x'", .sessionAuthorization(value("'x'", "x"), isLocal: false)),
      ("set session session authorization x", .sessionAuthorization(value("x", "x"), isLocal: false)),
      ("set local session authorization default", .setDefault(name: "session_authorization", isLocal: true)),
      (
        "set session characteristics as transaction read only, deferrable",
        .characteristics(modes: "read only, deferrable", isLocal: false)
      ),
      ("set time zone 'UTC'", .timeZone(value("'UTC'", "UTC"), isLocal: false)),
      ("set local time zone -7", .timeZone(value("-7", "-7"), isLocal: true)),
      (
        "set time zone interval '-08:00' hour to minute",
        .timeZone(value("interval '-08:00' hour to minute"), isLocal: false)
      ),
      ("set time zone local", .setDefault(name: "timezone", isLocal: false)),
      ("set names 'latin1'", .names(value("'latin1'", "latin1"), isLocal: false)),
      ("set names", .setDefault(name: "client_encoding", isLocal: false)),
      ("set transaction isolation level serializable", .transactionOnly),
      ("set constraints all deferred", .transactionOnly),
      ("reset a.\"B\"", .reset(name: "a.B")), ("reset ALL", .resetAll), ("reset time zone", .reset(name: "timezone")),
      ("reset session authorization", .reset(name: "session_authorization")), ("reset role", .reset(name: "role")),
      ("reset transaction isolation level", .reset(name: "transaction_isolation")),
      ("select set_config('A', 'x', false)", .setConfig(name: "A", value: "x", isLocal: false)),
      ("SELECT pg_catalog.\"set_config\"('a', E'\\t', TRUE) AS b;", .setConfig(name: "a", value: "\t", isLocal: true)),
    ] as [(String, SettingCommand)])
  func settingsAreReadWithTheirValues(text: String, expected: SettingCommand) {
    #expect(command(text) == expected)
  }

  @Test(
    arguments: [
      ("savepoint A", .savepoint("a")), ("savepoint \"A\"\"\"", .savepoint("A\"")), ("release a", .release("a")),
      ("release savepoint a", .release("a")), ("release savepoint", .release("savepoint")),
      ("rollback to a", .rollbackTo("a")), ("rollback work to savepoint a", .rollbackTo("a")),
      ("rollback transaction to savepoint;", .rollbackTo("savepoint")),
      ("listen a", .listen("a")), ("unlisten a", .unlisten("a")), ("unlisten *", .unlisten(nil)),
      ("deallocate a", .deallocate("a")), ("deallocate prepare a", .deallocate("a")),
      ("deallocate all", .deallocate(nil)),
      ("deallocate prepare all", .deallocate(nil)), ("deallocate \"all\"", .deallocate("all")),
      ("deallocate prepare \"all\"", .deallocate("all")), ("deallocate prepare", .deallocate("prepare")),
      ("prepare a as select 1", .prepare("a")), ("prepare \"A\" (int) as select $1;", .prepare("A")),
      ("prepare transaction as select 1", .prepare("transaction")), ("execute a", .execute("a")),
      ("execute a (1, f(2))", .execute("a")),
    ] as [(String, SettingCommand)])
  func namesAreReadAsTheServerKnowsThem(text: String, expected: SettingCommand) {
    #expect(command(text) == expected)
  }

  @Test(arguments: [
    "", "select 1", "set a = 1; set b = 2", "set a", "set a =", "set a = 'x", "set a = b c", "set a = 1,", "set é = 1",
    "set U&\"a\" = 1", "set a from current", "set local", "reset", "reset all a", "rollback", "rollback to",
    "abort to a",
    "prepare transaction 'x'", "prepare", "listen", "listen a.b", "unlisten", "deallocate", "savepoint a b",
    "select set_config('a', $1, false)", "select set_config('a', 'b', f())", "select set_config('a', 'b', false), 1",
    "select set_config('a', 'b', false) from t", "select x.set_config('a', 'b', false)", "set a = n'x'",
    "set a = U&'x' uescape '!'", "savepoint \"\"",
    "savepoint a234567890123456789012345678901234567890123456789012345678901234",
  ])
  func whatIsNotUnderstoodIsNil(text: String) {
    #expect(command(text) == nil)
  }

  @Test func backslashesInPlainStringsFollowTheSetting() {
    #expect(command(#"set a = '\\'"#) == .set(name: "a", Self.value(#"'\\'"#, #"\\"#), isLocal: false))
    #expect(
      command(#"set a = '\\'"#, conforming: false) == .set(name: "a", Self.value(#"'\\'"#, #"\"#), isLocal: false))
  }

  @Test func everyBeginningOfATextCanBeRead() {
    let texts = [
      "set local \"a\"\"\".b = E'\\x4\\101\\u', $x$ $x$, -1",
      "select pg_catalog.set_config('a', 'b' --\n'c', true) as d",
      "set time zone interval(3) '1'", "deallocate prepare \"all\"", "set a = U&'\\' uescape '!'",
      "set a = 'b'\n'c''\\",
    ]
    for text in texts {
      let bytes = Array(text.utf8)
      for start in 0...bytes.count {
        for end in start...bytes.count {
          for conforming in [true, false] {
            let part = Array(bytes[start..<end])
            _ = SettingCommand(
              part.span, reading: SQLReading(standardConformingStrings: conforming, encoding: .shiftJIS))
          }
        }
      }
    }
  }
}
