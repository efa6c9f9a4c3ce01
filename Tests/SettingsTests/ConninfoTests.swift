import Settings
import Testing

@Suite("Connection strings")
struct ConninfoTests {
  @Test(
    "are read as libpq reads them",
    arguments: [
      ("host=db1 dbname=app", ["host=db1", "dbname=app"]),
      (" host = db1\tport\n=\n5 ", ["host=db1", "port=5"]),
      (#"password='it''s' "#, nil),
      (#"password='it\'s \\ x' user=a\ b"#, [#"password=it's \ x"#, "user=a b"]),
      ("password='' host=x", ["password=", "host=x"]),
      ("host=", ["host="]),
      ("host=a=b", ["host=a=b"]),
      ("", []),
      ("postgresql://", []),
      ("postgres://h", ["host=h"]),
      (
        "postgresql://u:p%40w@h:5433/db?sslmode=disable&options=-c%20x%3D1",
        ["user=u", "password=p@w", "host=h", "port=5433", "dbname=db", "sslmode=disable", "options=-c x=1"]
      ),
      ("postgresql://h1:1,h2,[::1]:3/db", ["host=h1,h2,::1", "port=1,,3", "dbname=db"]),
      ("postgresql://%2Fvar%2Frun/db", ["host=/var/run", "dbname=db"]),
      ("postgresql:///db?host=/tmp", ["dbname=db", "host=/tmp"]),
      ("postgresql://h?ssl=true", ["host=h", "sslmode=require"]),
      ("postgresql://@h", ["host=h"]),
      ("postgresql://u:@h", ["user=u", "host=h"]),
    ] as [(String, [String]?)])
  func reading(text: String, parameters: [String]?) {
    let conninfo = try? Conninfo.parse(text)
    #expect(conninfo?.parameters.map { "\($0.keyword)=\($0.value)" } == parameters)
  }

  @Test(
    "that are broken are refused without quoting them",
    arguments: [
      ("app", "a word without \"=\" after it (at byte 1)"),
      ("password=my secret host=x", "a word without \"=\" after it (at byte 13)"),
      ("host=x =y", "a \"=\" without a keyword before it (at byte 8)"),
      ("password='abc", "a quoted value without its closing quote (at byte 10)"),
      ("postgresql://u:a%zz@h", "a \"%\" that two hexadecimal digits do not follow (write it as %25) (at byte 17)"),
      ("postgresql://u:a%00@h", "a forbidden %00 (at byte 17)"),
      ("postgresql://u:a@b@h", "a second \"@\" (write it as %40 within user and password) (at byte 19)"),
      ("postgresql://[::1", "an IPv6 address without its closing bracket (at byte 15)"),
      ("postgresql://[]", "an empty IPv6 address (at byte 15)"),
      ("postgresql://[::1]x", "an unexpected character behind an IPv6 address (at byte 19)"),
      ("postgresql://h?a", "a URI parameter without \"=\" (at byte 16)"),
      ("postgresql://h?a=b=c", "a URI parameter with a second \"=\" (write it as %3D) (at byte 19)"),
      ("host=\0", "it contains a NUL character (at byte 1)"),
    ])
  func refusing(text: String, reason: String) {
    let error = #expect(throws: ConninfoError.self) { try Conninfo.parse(text) }
    #expect(error?.description == reason)
  }

  @Test("the last of a keyword counts, and an empty value counts as none")
  func lookup() throws {
    let conninfo = try Conninfo.parse("host=a host=b port=''")
    #expect(conninfo["host"] == "b")
    #expect(conninfo["port"] == nil)
    #expect(conninfo["user"] == nil)
    #expect(conninfo.text == "host=a host=b port=''")
  }

  @Test(
    "show no secret",
    arguments: [
      ("host=h password=geheim user=u", "host=h password=*** user=u"),
      ("password='ge\\'heim' password=x", "password=*** password=***"),
      ("postgresql://u:geheim@h/db?password=geheim&x=geheim", "postgresql://u:***@h/db?password=***&x=***"),
      ("postgresql://u@h/db?sslpassword=geheim&sslmode=disable", "postgresql://u@h/db?sslpassword=***&sslmode=disable"),
      ("pasword=geheim host=h", "pasword=*** host=h"),
    ])
  func masking(text: String, masked: String) throws {
    #expect(try Conninfo.parse(text).masked == masked)
  }

  @Test(
    "that cannot be served are refused, as upstreams",
    arguments: [
      ("gssencmode=prefer", "asks for gssencmode=prefer, but encrypted GSS connections cannot be pooled; leave it out"),
      ("port=99999", "has an invalid port; a port is a number from 1 to 65535"),
      ("postgresql://u:p/w", "has an invalid port; a port is a number from 1 to 65535"),
      ("app", "is no connection string: a word without \\\"=\\\" after it (at byte 1)"),
      ("", "is empty; write for example \\\"host=db1 dbname=app\\\""),
    ])
  func upstreams(text: String, reason: String) {
    let reason = reason.replacing("\\\"", with: "\"")
    #expect(
      problems(behindMinimum: "[databases.b]\nupstream = \"\(text)\"") == [
        "t.toml:6:12: [databases.b] upstream \(reason)"
      ])
    #expect(
      problems(behindMinimum: "[databases.b]\nupstream = \"dbname=b\"\nread_upstream = \"\(text)\"")
        == (text.isEmpty ? [] : ["t.toml:7:17: [databases.b] read_upstream \(reason)"]))
  }

  @Test(
    "harmless modes are accepted", arguments: ["gssencmode=disable", "sslmode=disable", "sslmode=prefer port=1,,2"])
  func accepted(text: String) {
    #expect(problems(behindMinimum: "[databases.b]\nupstream = \"\(text)\"").isEmpty)
  }
}
