import Foundation
import Settings
import Testing

@Suite("Where passwords for servers come from")
struct PasswordSourceTests {
  private func source(_ value: String) throws -> PasswordSource? {
    try settings("password = \(value)").databases["app"]?.password
  }

  @Test("the settings, the environment, a file, a credential")
  func places() throws {
    #expect(try source("\"geheim\"") == .literal("geheim"))
    #expect(try source("{ env = \"APP_PASSWORD\" }") == .environment("APP_PASSWORD"))
    #expect(try source("{ file = \"/run/secrets/app\" }") == .file("/run/secrets/app"))
    #expect(try source("{ credential = \"app\" }") == .credential("app"))
    #expect(try source("\"\"") == nil)
    #expect(try settings("[users.alice]\npassword = \"x\"").users["alice"]?.password == .literal("x"))
  }

  @Test(
    "anything else is refused",
    arguments: [
      ("5", "5:12: [databases.app] password must be a table with one key, such as { env = \"APP_PASSWORD\" }, not 5"),
      (
        "{ env = \"A\", file = \"/b\" }",
        "5:12: [databases.app] password must name one place: { env = \"…\" }, { file = \"…\" } or { credential = \"…\" }"
      ),
      (
        "{ enw = \"A\" }",
        "5:14: [databases.app] password cannot come from \"enw\", only from { env = \"…\" }, { file = \"…\" } or "
          + "{ credential = \"…\" }; did you mean \"env\"?"
      ),
      ("{ file = \"app\" }", "5:14: [databases.app] password file must be an absolute path"),
      ("{ credential = \"../x\" }", "5:14: [databases.app] password credential must be a name, not a path"),
      ("{ env = \"\" }", "5:14: [databases.app] password env must be a string with text in it"),
      ("{ env = 5 }", "5:14: [databases.app] password env must be a string with text in it"),
    ])
  func refused(value: String, problem: String) {
    #expect(problems(behindMinimum: "password = \(value)") == ["t.toml:\(problem)"])
  }

  @Test("a literal is warned about, and never shown")
  func hidden() throws {
    let settings = try settings("password = \"geheim\"")
    #expect(settings.warnings.first?.message.hasPrefix("password stands here for everybody") == true)
    #expect(settings.effectiveText().contains("password = \"********\""))
    var dumped = ""
    dump(settings.databases["app"]?.password, to: &dumped)
    for shown in [
      "\(settings)", "\(String(reflecting: settings))", dumped, settings.effectiveText(), "\(settings.warnings)",
    ] {
      #expect(!shown.contains("geheim"))
    }
  }

  @Test("a changed literal is a change, without either password")
  func changes() throws {
    let changes = try settings("password = \"neu-geheim\"").differences(from: settings("password = \"geheim\""))
    #expect(changes.map(\.description) == ["databases.app.password ******** (a hidden part changed)"])
  }

  @Test("a place is shown as it is set, and can be read again")
  func shown() throws {
    let first = try settings("password = { env = \"A\" }")
    #expect(first.effectiveText().contains("password = { env = \"A\" }"))
    #expect(try Settings.parse(text: first.effectiveText(), file: "t.toml").differences(from: first).isEmpty)
  }

  @Test("resolving reads what is there")
  func resolving() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("lifeguard-password-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = folder.appendingPathComponent("app")
    try Data("ge heim \n".utf8).write(to: file)

    func resolve(_ source: PasswordSource, _ environment: [String: String] = [:]) throws -> String {
      try source.resolve { environment[$0] }
    }
    #expect(try resolve(.literal("x")) == "x")
    #expect(try resolve(.environment("A"), ["A": "y"]) == "y")
    #expect(try resolve(.file(file.path)) == "ge heim ")
    #expect(try resolve(.credential("app"), ["CREDENTIALS_DIRECTORY": folder.path]) == "ge heim ")
    try Data("z\r\n".utf8).write(to: file)
    #expect(try resolve(.file(file.path)) == "z")
    try Data("z\r".utf8).write(to: file)
    #expect(try resolve(.file(file.path)) == "z\r")
    try Data("z\n\n".utf8).write(to: file)
    #expect(try resolve(.file(file.path)) == "z\n")
  }

  @Test("what is missing is named, and nothing else")
  func missing() throws {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("lifeguard-password-\(UUID())")
    defer { try? FileManager.default.removeItem(at: file) }
    func message(_ source: PasswordSource, _ environment: [String: String] = [:]) -> String? {
      do {
        _ = try source.resolve { environment[$0] }
        return nil
      } catch {
        return error.message
      }
    }
    #expect(message(.environment("A")) == "the environment variable \"A\" is not set")
    #expect(message(.environment("A"), ["A": ""]) == "the environment variable \"A\" is empty")
    #expect(
      message(.file("/nonexistent/x")) == "the file \"/nonexistent/x\" cannot be opened: No such file or directory")
    #expect(message(.file("/tmp"))?.hasPrefix("the file \"/tmp\" cannot be read: ") == true)
    #expect(message(.credential("a"))?.hasPrefix("the credential \"a\" needs $CREDENTIALS_DIRECTORY") == true)
    for (bytes, reason) in [
      ([UInt8](), "is empty"), ([10], "is empty"), ([1, 0, 2], "is no text"), ([0xff], "is no text"),
      ([UInt8](repeating: 65, count: 70_000), "is too large for a password"),
    ] {
      try Data(bytes).write(to: file)
      #expect(message(.file(file.path)) == "the file \"\(file.path)\" \(reason)")
    }
  }
}
