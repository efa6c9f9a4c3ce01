import Foundation
import Testing

@testable import Authentication

@Suite("userlist.txt")
struct UserlistTests {
  private func problem(_ text: String) -> String? {
    do {
      _ = try Userlist.parse(text, file: "u.txt")
      return nil
    } catch {
      return error.message
    }
  }

  @Test("names, secrets, quotes, comments and what follows")
  func format() throws {
    let list = try Userlist.parse(
      "; a comment\n\n\"a\" \"x\"\n  \"b \"\"q\"\"\"\t\"y \"\"z\"\"\" \"ignored\" too\r\n ;\"c\" \"d\"\n\"ä\" \"ö;\"",
      file: "u")
    #expect(Set(list.users) == ["a", "b \"q\"", "ä"])
    #expect(list.plainPassword(of: "a")?.text == "x")
    #expect(list.plainPassword(of: "b \"q\"")?.text == "y \"z\"")
    #expect(list.plainPassword(of: "ä")?.text == "ö;")
    #expect(list.plainPassword(of: "c") == nil)
    #expect(list.warnings.isEmpty)
  }

  @Test("only plain secrets can be used elsewhere")
  func kinds() throws {
    let list = try userlist("\"upper\" \"md5475B59D9E4B9A42EA0E8A1881BF7C056\"\n\"short\" \"md5475b\"\n")
    #expect(list.plainPassword(of: "plain")?.text == "geheim")
    for user in ["md", "scram", "empty"] { #expect(list.plainPassword(of: user) == nil) }
    #expect(list.plainPassword(of: "short")?.text == "md5475b")
    #expect(list.plainPassword(of: "upper") != nil)
  }

  @Test("what is doubtful is warned about")
  func warnings() throws {
    let list = try Userlist.parse("\"a\" \"x\"\n\"a\" \"y\"\n\"b\" \"\"\n", file: "u")
    #expect(list.plainPassword(of: "a")?.text == "y")
    #expect(
      list.warnings == [
        "line 2: user \"a\" is there twice, and the last one counts",
        "line 3: user \"b\" has no password, so none is right",
      ])
  }

  @Test(
    "problems name file and line, and never a secret",
    arguments: [
      ("\"a\" \"geheim", "u.txt, line 1: the double quote of the secret is not closed"),
      ("\n\"a", "u.txt, line 2: the double quote of the name is not closed"),
      ("a geheim", "u.txt, line 1: the name must stand in double quotes: \"name\" \"secret\""),
      ("\"a\" geheim", "u.txt, line 1: the secret must stand in double quotes: \"name\" \"secret\""),
      ("\"a\"", "u.txt, line 1: the secret must stand in double quotes: \"name\" \"secret\""),
      ("\"\" \"geheim\"", "u.txt, line 1: the name is empty"),
      ("\"a\" \"ge\0heim\"", "u.txt, line 1: the secret contains a NUL character"),
      (
        "\"a\" \"SCRAM-SHA-256$4096:geheim\"",
        "u.txt, line 1: the secret begins like a SCRAM secret, but is not whole"
      ),
      (
        "\"a\" \"\(String(repeating: "g", count: 1025))\"",
        "u.txt, line 1: the secret has 1025 bytes; at most 1024 are taken"
      ),
    ])
  func problems(text: String, message: String) { #expect(problem(text) == message) }

  @Test(
    "a SCRAM secret is whole or refused",
    arguments: [
      "SCRAM-SHA-256$0:AAAA$K:K", "SCRAM-SHA-256$1000001:AAAA$K:K", "SCRAM-SHA-256$-1:AAAA$K:K",
      "SCRAM-SHA-256$4096:$K:K", "SCRAM-SHA-256$4096:AAA$K:K", "SCRAM-SHA-256$4096:AAAA$K", "SCRAM-SHA-256$4096:AAAA",
      "SCRAM-SHA-256$4096:AAAA$AAAA:K", "SCRAM-SHA-256$4096:AAAA$K:K:K", "SCRAM-SHA-256$4096:AAAA$K:K$",
      "SCRAM-SHA-256$99999999999999999999:AAAA$K:K", "SCRAM-SHA-256$+1:AAAA$K:K",
    ])
  func scramSecrets(template: String) {
    let key = text(Base64.encode([UInt8](repeating: 1, count: 32)))
    #expect(ScramSecret(template.replacing("K", with: key)) == nil)
    #expect(ScramSecret("SCRAM-SHA-256$4096:AAAA$\(key):\(key)") != nil)
  }

  @Test("files that cannot be read say why")
  func files() throws {
    func message(_ path: String) -> String? {
      do {
        _ = try Userlist.load(path: path)
        return nil
      } catch {
        return error.message
      }
    }
    #expect(message("/nonexistent/u") == "/nonexistent/u: cannot be opened: No such file or directory")
    #expect(message("/tmp")?.hasPrefix("/tmp: cannot be read: ") == true)
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("lifeguard-userlist-\(UUID())")
    defer { try? FileManager.default.removeItem(at: file) }
    try Data([0x22, 0xff, 0x22]).write(to: file)
    #expect(message(file.path) == "\(file.path): is not UTF-8 text")
    try Data("\"a\" \"b\"\n".utf8).write(to: file)
    #expect(try Userlist.load(path: file.path).users == ["a"])
  }

  @Test("nothing shows a secret")
  func hidden() throws {
    let list = try userlist()
    let verifiers = LoginVerifiers(list, method: .scramSHA256, key: key)
    var exchange = LoginExchange(
      .password, user: "plain", verifiers: verifiers, channelBinding: .plaintext, randomness: randomness)
    _ = exchange.begin()
    let step = exchange.received(Array("geheim\0".utf8))
    var dumped = ""
    dump(list, to: &dumped)
    dump(verifiers, to: &dumped)
    dump(step, to: &dumped)
    dump(exchange, to: &dumped)
    dump(Password("geheim"), to: &dumped)
    for shown in ["\(list)", "\(verifiers)", "\(step)", "\(exchange)", String(reflecting: Password("geheim")), dumped] {
      #expect(!shown.contains("geheim"))
    }
  }

  @Test("nothing shows the keys and digests that secrets consist of")
  func hiddenKeys() throws {
    let list = try userlist()
    let verifiers = LoginVerifiers(list, method: .scramSHA256, key: key)
    var exchange = LoginExchange(
      .scramSHA256, user: "scram", verifiers: verifiers, channelBinding: .plaintext, randomness: randomness)
    _ = exchange.begin()
    _ = exchange.received(ScramClient(password: "geheim").initial())
    let scram = verifiers.entry(for: "scram").scram
    for keyBytes in [scram.storedKey, scram.serverKey, Array(Hashes.md5Text(Array("geheimmd".utf8))!)] {
      let inline = "\(keyBytes)".dropFirst().dropLast()
      let listed = keyBytes.prefix(4).map { "- \($0)\n" }
      for value: Any in [exchange, scram, verifiers.entry(for: "scram"), verifiers.entry(for: "md"), list] {
        var dumped = ""
        dump(value, to: &dumped)
        let isDumped = dumped.replacing(" ", with: "").contains(listed.joined().replacing(" ", with: ""))
        #expect(!isDumped && !"\(value)".contains(inline) && !String(reflecting: value).contains(inline))
      }
    }
  }

  @Test("what has not changed is not derived again")
  func reuse() throws {
    let before = LoginVerifiers(try userlist(), method: .scramSHA256, key: key)
    let after = LoginVerifiers(
      try userlist("\"new\" \"neu\"\n"), method: .scramSHA256, key: key, reusing: before)
    #expect(after.entry(for: "plain").scram.storedKey == before.entry(for: "plain").scram.storedKey)
    #expect(after.entry(for: "new").hasScram && !before.entry(for: "new").hasScram)
    let changed = try Userlist.parse("\"plain\" \"anders\"", file: "u")
    let third = LoginVerifiers(changed, method: .scramSHA256, key: key, reusing: after)
    #expect(third.entry(for: "plain").scram.storedKey != before.entry(for: "plain").scram.storedKey)
  }
}

@Suite("Base64 and SASLprep")
struct EncodingTests {
  @Test(
    "RFC 4648's examples",
    arguments: [
      ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
      ("foobar", "Zm9vYmFy"),
    ])
  func examples(plain: String, encoded: String) {
    #expect(text(Base64.encode(Array(plain.utf8))) == encoded)
    #expect(Base64.decode(encoded.utf8) == Array(plain.utf8))
  }

  @Test(
    "anything that is not exactly Base64 is refused",
    arguments: [
      "Z", "Zg", "Zg=", "Zg===", "====", "Zh==", "Zm9=", "Zm=v", "Z===", " Zg==", "Zg==\n", "Zg==Zg==", "Zm-v",
    ])
  func strict(encoded: String) { #expect(Base64.decode(encoded.utf8) == nil) }

  @Test("every byte survives")
  func roundTrip() {
    let bytes = (0...255).map { UInt8($0) }
    for count in 0..<bytes.count {
      #expect(Base64.decode(Base64.encode(Array(bytes.prefix(count)))) == Array(bytes.prefix(count)))
    }
  }

  @Test(
    "RFC 4013's examples, and what stays as it is",
    arguments: [
      ("I\u{ad}X", "IX"), ("user", "user"), ("USER", "USER"), ("\u{aa}", "a"), ("\u{2168}", "IX"),
      ("\u{07}", "\u{07}"), ("\u{627}1", "\u{627}1"), ("\u{ad}", "\u{ad}"), ("a\u{a0}b", "a b"),
      ("\u{1f600}", "\u{1f600}"),
    ])
  func saslprep(input: String, output: String) { #expect(SASLPrep.prepare(input) == Array(output.utf8)) }
}
