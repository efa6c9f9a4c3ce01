import Foundation
import Testing

@testable import Upstream

@Suite struct ConnectionTargetTests {
  @Test(arguments: [
    "password=sec ret",
    "host=h password=sec ret=1",
    "password='sec ret",
    "password=x secret word",
    "postgresql://u:sec%ret@h",
    "postgresql://u:secret@[::1",
    "postgresql://u:secret@h:5432:x]/?a=b=c",
    "postgresql://u:secret/db",
    "postgresql://u:p@secret@h/db",
    "postgresql://h/db?password=secret&x",
    "host=h password=\u{0}secret",
  ])
  func errorsShowNoPieceOfAPassword(_ conninfo: String) {
    let error = #expect(throws: ConninfoError.self) { try ConnectionTarget(conninfo: conninfo) }
    let text = error?.text ?? ""
    #expect(!text.isEmpty && !text.contains("\n"))
    #expect(!text.contains("sec") && !text.contains("ret\"") && !text.contains("word\""), "\(text)")
  }

  @Test func errorsNameTheUnknownOption() {
    let error = #expect(throws: ConninfoError.self) { try ConnectionTarget(conninfo: "hots=db1 dbname=app") }
    #expect(error?.text == "invalid connection option \"hots\"")
    let override = #expect(throws: ConninfoError.self) {
      try ConnectionTarget(conninfo: "host=db1", overrides: [("usre", "app")])
    }
    #expect(override?.text == "invalid connection option \"usre\"")
  }

  @Test func printingAndDumpingShowHostsOnly() throws {
    let target = try ConnectionTarget(conninfo: "host=db1,db2 port=5433 password=hidden", overrides: [("user", "u")])
    var dumped = ""
    dump(target, to: &dumped)
    for text in ["\(target)", String(reflecting: target), "\([target])", dumped] {
      #expect(text.contains("db1:5433,db2:5433"))
      #expect(!text.contains("hidden"))
    }
  }

  @Test func hostsAndPortsArePairedAsLibpqDoes() throws {
    #expect(try labels("host=a,b port=1,2") == ["a:1", "b:2"])
    #expect(try labels("host=a,b port=7") == ["a:7", "b:7"])
    #expect(try labels("host=a,b port=7,") == ["a:7", "b:5432"])
    #expect(try labels("host=a,,b")[1].hasPrefix("/"))
    #expect(try labels("host=/tmp port=7") == ["/tmp:7"])
    #expect(try labels("hostaddr=::1") == ["[::1]:5432"])
    #expect(try labels("host=name hostaddr=10.0.0.1") == ["name:5432"])
    #expect(try labels("postgresql://u@[::1]:7,b/db") == ["[::1]:7", "b:5432"])
    #expect(throws: ConninfoError.self) { try labels("host=a,b port=1,2,3") }
    for port in ["0", "65536", "x", "-1"] {
      #expect(throws: ConninfoError.self) { try labels("host=a port=\(port)") }
    }
  }

  private func labels(_ conninfo: String) throws -> [String] {
    try ConnectionTarget(conninfo: conninfo).hosts.map(\.label)
  }

  @Test func overridesWinAndAreTakenLiterally() throws {
    let target = try ConnectionTarget(
      conninfo: "host=h user=a dbname=a password=p",
      overrides: [("user", "b"), ("dbname", "host=evil port=1"), ("password", "")])
    #expect(target.hosts.map(\.label) == ["h:5432"])
    #expect(value("user", target) == "b")
    #expect(value("dbname", target) == "host=evil port=1")
    #expect(value("password", target) == nil)
    #expect(value("fallback_application_name", target) == nil)
    #expect(throws: ConninfoError.self) { try ConnectionTarget(conninfo: "", overrides: [("user", "a\u{0}b")]) }
  }

  private func value(_ keyword: String, _ target: ConnectionTarget) -> String? {
    target.options.first { $0.keyword == keyword }?.value
  }

  @Test func tlsOptionsReachLibpqAsGiven() throws {
    let given = [
      "sslmode=verify-full", "sslcert=c", "sslkey=k", "sslrootcert=r", "sslcrl=l", "sslpassword=p", "sslcompression=0",
      "channel_binding=require", "ssl_min_protocol_version=TLSv1.3",
    ]
    let target = try ConnectionTarget(conninfo: "host=h " + given.joined(separator: " "))
    for option in given {
      let (keyword, text) = (option.prefix { $0 != "=" }, option.drop { $0 != "=" }.dropFirst())
      #expect(value(String(keyword), target) == String(text))
    }
    #expect(try value("sslmode", ConnectionTarget(conninfo: "host=h")) == nil)
  }

  @Test func onlyThePasswordGivenIsLeft() throws {
    let target = try ConnectionTarget(
      conninfo: "host=h user=a password=p passfile=/f", overrides: [("password", "q")], isPasswordOnly: true)
    #expect(value("password", target) == "q" && value("passfile", target) == "/dev/null")
  }

  @Test(arguments: [[], [("password", "")], [("password", "q"), ("password", "")]])
  func anEmptyPasswordIsNeverTheOnlyOne(_ overrides: [(String, String)]) async {
    let values = overrides.map(\.1)
    await #expect(processExitsWith: .failure) { [values = values as [String]] in
      _ = try ConnectionTarget(
        conninfo: "host=h password=p", overrides: values.map { ("password", $0) }, isPasswordOnly: true)
    }
  }

  @Test(arguments: [
    "postgresql://u:secret@h/db?sslpassword=secret&nonsense=1", "postgresql://u:secret@h/db?sslpassword=sec%ret",
    "host=h sslpassword=sec ret", "host=h sslpassword='sec ret", "host=h sslpassword=secret target_session_attrs=x",
  ])
  func errorsShowNoPieceOfAPassphrase(_ conninfo: String) {
    let error = #expect(throws: ConninfoError.self) { try ConnectionTarget(conninfo: conninfo) }
    let text = error?.text ?? ""
    #expect(!text.isEmpty && !text.contains("sec") && !text.contains("ret\""), "\(text)")
  }

  @Test func encryptionByGSSAPIIsRefused() throws {
    #expect(throws: ConninfoError.self) { try ConnectionTarget(conninfo: "host=h gssencmode=require") }
    #expect(throws: ConninfoError.self) { try ConnectionTarget(conninfo: "host=h gssencmode=prefer") }
    let target = try ConnectionTarget(conninfo: "host=h gssencmode=disable")
    #expect(value("gssencmode", target) == "disable")
  }

  @Test func unknownSessionAttributesAreRefused() {
    let error = #expect(throws: ConninfoError.self) {
      try ConnectionTarget(conninfo: "host=h target_session_attrs=master")
    }
    #expect(error?.text == "invalid target_session_attrs value: \"master\"")
  }

  @Test func tryingSomeHostsKeepsTheUpstream() throws {
    let target = try ConnectionTarget(conninfo: "host=a,b,c port=1")
    let rest = target.trying([target.hosts[2], target.hosts[1]])
    #expect(rest.hosts.map(\.name) == ["c", "b"])
    #expect(rest.upstream == target.upstream)
  }

  /// In a process of its own: only the environment tells libpq where the service file is.
  @Test func aServiceFileIsRead() async {
    await #expect(processExitsWith: .success) {
      let file = FileManager.default.temporaryDirectory.appendingPathComponent("pg_service-\(UUID()).conf")
      defer { try? FileManager.default.removeItem(at: file) }
      try
        "[strict]\nhost=svc1,svc2\nport=6000\nsslmode=verify-full\ntarget_session_attrs=standby\nuser=svc\npassword=x\n"
        .write(to: file, atomically: true, encoding: .utf8)
      unsafe setenv("PGSERVICEFILE", file.path, 1)
      let target = try ConnectionTarget(conninfo: "service=strict")
      #expect(target.upstream == "svc1:6000,svc2:6000")
      #expect(target.sessionAttributes == .standby)
      #expect(throws: ConninfoError.self) { try ConnectionTarget(conninfo: "service=other") }
    }
  }
}
