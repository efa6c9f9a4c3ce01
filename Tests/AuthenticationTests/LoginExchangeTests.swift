import Foundation
import PostgresWire
import Testing

@testable import Authentication

@Suite("How a client proves who it is")
struct LoginExchangeTests {
  /// The kinds of all steps of a login with a password in clear.
  private func clear(_ method: LoginMethod, _ user: String, _ password: [UInt8], _ list: Userlist) -> [String] {
    var exchange = exchange(method, user: user, list)
    var kinds = [exchange.begin().kind]
    var step = exchange.received(password)
    kinds.append(step.kind)
    if case .derive(let derivation) = step {
      step = exchange.derived(derivation.run())
      kinds.append(step.kind)
    }
    return kinds
  }

  private func scram(
    _ user: String, _ client: ScramClient, _ list: Userlist, method: LoginMethod = .scramSHA256,
    channelBinding: ChannelBinding = .plaintext, mechanism: String = "SCRAM-SHA-256"
  ) throws -> [String] {
    var exchange = exchange(method, user: user, list, channelBinding: channelBinding)
    var kinds = [exchange.begin().kind]
    var step = exchange.received(client.initial(mechanism))
    kinds.append(step.kind)
    if let first = step.continuation {
      step = exchange.received(try client.final(to: first))
      kinds.append(step.kind)
    }
    return kinds
  }

  private static let wrong = "refused 28P01 password authentication failed for user "

  // MARK: In clear

  @Test("the right password is taken, whatever the kind of the secret", arguments: ["plain", "md", "scram"])
  func clearRight(user: String) throws {
    #expect(
      clear(.password, user, Array("geheim\0".utf8), try userlist()) == [
        "ask password", "derive 16 4096", "accepted",
      ])
  }

  @Test(
    "a wrong password and an unknown user go the same way",
    arguments: ["plain", "md", "scram", "empty", "nobody"])
  func clearWrong(user: String) throws {
    #expect(
      clear(.password, user, Array("falsch\0".utf8), try userlist()) == [
        "ask password", "derive 16 4096", Self.wrong + "\"\(user)\"",
      ])
  }

  @Test("without SCRAM secrets nothing has to be derived")
  func clearWithoutScram() throws {
    let list = try Userlist.parse("\"a\" \"geheim\"\n", file: "u")
    #expect(clear(.password, "a", Array("geheim\0".utf8), list) == ["ask password", "accepted"])
    for user in ["a", "nobody"] {
      #expect(
        clear(.password, user, Array("geheim!\0".utf8), list) == ["ask password", Self.wrong + "\"\(user)\""])
    }
  }

  @Test("passwords are compared as SASLprep has them")
  func prepared() throws {
    let list = try Userlist.parse("\"a\" \"I\u{ad}X\u{a0}\u{2168}\"\n", file: "u")
    #expect(clear(.password, "a", Array("IX IX\0".utf8), list).last == "accepted")
    #expect(try scram("a", ScramClient(password: "IX IX"), list).last == "accepted")
  }

  @Test(
    "a password message that is none is a violation",
    arguments: [[], Array("geheim".utf8), Array("ge\0heim\0".utf8), [0, 0]] as [[UInt8]])
  func clearMalformed(body: [UInt8]) throws {
    for method in [LoginMethod.password, .md5, .upstream] {
      let kinds = clear(method, "plain", body, try userlist())
      #expect(kinds.last == "refused 08P01 invalid password packet size")
    }
  }

  @Test("very long passwords are wrong, without any work for them", arguments: [1025, 65_000])
  func clearLong(count: Int) throws {
    for method in [LoginMethod.password, .upstream] {
      let kinds = clear(method, "plain", [UInt8](repeating: 65, count: count) + [0], try userlist())
      #expect(kinds == ["ask password", Self.wrong + "\"plain\""])
    }
  }

  @Test("an upstream is asked for text only, never for an empty password")
  func upstream() throws {
    #expect(clear(.upstream, "x", Array("geheim\0".utf8), try userlist()) == ["ask password", "verify"])
    for body in [[0], [0xff, 0]] as [[UInt8]] {
      #expect(clear(.upstream, "x", body, try userlist()).last == Self.wrong + "\"x\"")
    }
  }

  // MARK: MD5

  private func md5(_ user: String, _ inner: String) throws -> [String] {
    var exchange = exchange(.md5, user: user, try userlist())
    let first = exchange.begin()
    guard case .ask(.md5Password(let salt)) = first else { return [first.kind] }
    let digest = Hashes.md5Text(Array(inner.utf8) + Array(user.utf8))! + bigEndian(Int32(bitPattern: salt))
    return [first.kind, exchange.received(Array("md5".utf8) + Hashes.md5Text(digest)! + [0]).kind]
  }

  @Test("MD5 of plain and MD5 secrets", arguments: ["plain", "md"])
  func md5Right(user: String) throws {
    #expect(try md5(user, "geheim") == ["ask md5", "accepted"])
    #expect(try md5(user, "falsch") == ["ask md5", Self.wrong + "\"\(user)\""])
  }

  @Test("MD5 goes the same way for users that there are not", arguments: ["nobody", "empty"])
  func md5Unknown(user: String) throws {
    #expect(try md5(user, "geheim") == ["ask md5", Self.wrong + "\"\(user)\""])
  }

  @Test("under md5 a SCRAM secret is asked for by SCRAM, and so is anybody where most secrets are of that kind")
  func md5Scram() throws {
    let client = ScramClient(password: "geheim")
    let steps = [#"ask ["SCRAM-SHA-256"]"#, "continue"]
    #expect(try scram("scram", client, try userlist(), method: .md5) == steps + ["accepted"])
    let secret = "SCRAM-SHA-256$4096:AAAA$\(text(Base64.encode(key))):\(text(Base64.encode(key)))"
    let list = try Userlist.parse("\"a\" \"\(secret)\"", file: "u")
    #expect(try scram("nobody", client, list, method: .md5) == steps + [Self.wrong + "\"nobody\""])
  }

  @Test("MD5 wants the whole answer", arguments: ["md5", "md", "\0", ""])
  func md5Short(answer: String) throws {
    for user in ["plain", "md", "nobody"] {
      var exchange = exchange(.md5, user: user, try userlist())
      _ = exchange.begin()
      #expect(exchange.received(Array(answer.utf8) + [0]).refusal != nil)
    }
  }

  // MARK: Names

  @Test(
    "names that only Unicode holds for the same are different users",
    arguments: [("\u{e9}", "e\u{301}"), ("K", "\u{212a}")])
  func names(one: String, other: String) throws {
    let both = try Userlist.parse("\"\(one)\" \"eins\"\n\"\(other)\" \"zwei\"\n", file: "u")
    #expect(both.users.count == 2 && both.warnings.isEmpty)
    #expect(both.plainPassword(of: one)?.text == "eins" && both.plainPassword(of: other)?.text == "zwei")
    #expect(clear(.password, one, Array("eins\0".utf8), both).last == "accepted")
    #expect(clear(.password, one, Array("zwei\0".utf8), both).last != "accepted")
    #expect(try scram(one, ScramClient(password: "zwei"), both).last != "accepted")
    let first = try Userlist.parse("\"\(one)\" \"eins\"\n", file: "u")
    #expect(clear(.password, other, Array("eins\0".utf8), first).last != "accepted")
    #expect(try scram(other, ScramClient(password: "eins"), first).last != "accepted")
  }

  // MARK: SCRAM

  @Test("the right password is taken", arguments: ["plain", "scram"])
  func scramRight(user: String) throws {
    #expect(
      try scram(user, ScramClient(password: "geheim"), try userlist()) == [
        #"ask ["SCRAM-SHA-256"]"#, "continue", "accepted",
      ])
  }

  @Test(
    "a wrong password, an unknown user and a secret that SCRAM cannot check go the same way",
    arguments: [("plain", "falsch"), ("scram", "falsch"), ("md", "geheim"), ("empty", ""), ("nobody", "geheim")])
  func scramWrong(user: String, password: String) throws {
    #expect(
      try scram(user, ScramClient(password: password), try userlist()) == [
        #"ask ["SCRAM-SHA-256"]"#, "continue", Self.wrong + "\"\(user)\"",
      ])
  }

  @Test("the log is told what really was wrong")
  func logDetails() throws {
    func detail(_ user: String) throws -> String? {
      var exchange = exchange(.scramSHA256, user: user, try userlist())
      _ = exchange.begin()
      let client = ScramClient(password: "falsch")
      let first = try #require(exchange.received(client.initial()).continuation)
      return exchange.received(try client.final(to: first)).refusal?.logDetail
    }
    #expect(try detail("plain") == "wrong password")
    #expect(try detail("nobody") == "no such user")
    #expect(try detail("empty") == "the user has no password")
    #expect(try detail("md") == "the user's secret is an MD5 secret, which SCRAM cannot check")
  }

  @Test("an unknown user has the same salt each time, and another one than other users")
  func mockSalts() throws {
    func first(_ user: String) throws -> String {
      var exchange = exchange(.scramSHA256, user: user, try userlist())
      _ = exchange.begin()
      return text(try #require(exchange.received(ScramClient(password: "x").initial()).continuation))
    }
    #expect(try first("nobody") == first("nobody"))
    #expect(try first("nobody") != first("somebody"))
    let fields = try first("nobody").split(separator: ",")
    #expect(fields.count == 3 && fields[2] == "i=4096")
    #expect(Base64.decode(fields[1].dropFirst(2).utf8)?.count == 16)
  }

  @Test("the server proves itself too, as in RFC 7677")
  func rfc7677() throws {
    let salt = try #require(Base64.decode("W22ZaJ0SNY7soEsUEjb6gQ==".utf8))
    let keys = Derivation(password: Password("pencil"), salt: salt, iterations: 4096).run()
    let secret = ScramSecret(iterations: 4096, salt: salt, storedKey: keys.storedKey, serverKey: keys.serverKey)
    let nonce = try #require(Base64.decode("VzYWSVd2VzYWSVd2".utf8))
    var server = ScramServer(secret, channelBinding: .plaintext, usesBinding: false, randomness: nonce)
    let client = ScramClient(password: "pencil")
    let first = try server.answer(first: Array("n,,n=user,r=rOprNGfwEbeRWgbNEkqO".utf8))
    #expect(text(first) == "r=rOprNGfwEbeRWgbNEkqOVzYWSVd2VzYWSVd2,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    let final = try #require(try server.answer(final: try client.final(to: first)))
    // The nonce of the RFC cannot be had from bytes, so the signature is computed here, the long way.
    let proof = text(try client.final(to: first)).components(separatedBy: ",p=")[0]
    let signature = Hashes.hmacSHA256(
      key: keys.serverKey, Array("n=user,r=rOprNGfwEbeRWgbNEkqO,\(text(first)),\(proof)".utf8))
    #expect(text(final) == "v=\(text(Base64.encode(signature)))")
  }

  @Test("the keys are those of RFC 7677's example")
  func rfc7677Keys() throws {
    let salt = try #require(Base64.decode("W22ZaJ0SNY7soEsUEjb6gQ==".utf8))
    let keys = Derivation(password: Password("pencil"), salt: salt, iterations: 4096).run()
    let authMessage =
      "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
      + "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    let proof = try #require(Base64.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".utf8))
    let signature = Hashes.hmacSHA256(key: keys.storedKey, Array(authMessage.utf8))
    #expect(Hashes.sha256(zip(proof, signature).map { $0 ^ $1 }) == keys.storedKey)
    #expect(
      text(Base64.encode(Hashes.hmacSHA256(key: keys.serverKey, Array(authMessage.utf8))))
        == "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
  }

  @Test("client-first may come after the mechanism")
  func lateFirst() throws {
    var exchange = exchange(.scramSHA256, user: "plain", try userlist())
    _ = exchange.begin()
    let client = ScramClient(password: "geheim")
    let asked = exchange.received(Array("SCRAM-SHA-256\0".utf8) + bigEndian(-1))
    #expect(asked.continuation == [])
    let first = try #require(exchange.received(client.first).continuation)
    #expect(exchange.received(try client.final(to: first)).isAccepted)
  }

  // MARK: Channel binding

  private static let hash: [UInt8] = Array(0..<32)
  private static let both = #"ask ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]"#
  private static let plus = "SCRAM-SHA-256-PLUS"

  @Test("over TLS SCRAM is bound to the certificate")
  func bound() throws {
    let client = ScramClient(password: "geheim", header: "p=tls-server-end-point,,", bound: Self.hash)
    let kinds = try scram(
      "plain", client, try userlist(), channelBinding: .tls(endPointHash: Self.hash), mechanism: Self.plus)
    #expect(kinds == [Self.both, "continue", "accepted"])
  }

  @Test("a certificate of somebody in between is noticed")
  func foreignCertificate() throws {
    let client = ScramClient(
      password: "geheim", header: "p=tls-server-end-point,,", bound: [UInt8](repeating: 1, count: 32))
    let kinds = try scram(
      "plain", client, try userlist(), channelBinding: .tls(endPointHash: Self.hash), mechanism: Self.plus)
    #expect(kinds.last == "refused 28000 SCRAM channel binding check failed")
  }

  @Test("a client without channel binding is let in over TLS; one that was told there is none is not")
  func downgrades() throws {
    let tls = ChannelBinding.tls(endPointHash: Self.hash)
    let list = try userlist()
    #expect(try scram("plain", ScramClient(password: "geheim"), list, channelBinding: tls).last == "accepted")
    #expect(
      try scram("plain", ScramClient(password: "geheim", header: "y,,"), list, channelBinding: tls).last
        == "refused 28000 SCRAM channel binding negotiation error")
    #expect(try scram("plain", ScramClient(password: "geheim", header: "y,,"), list).last == "accepted")
    let forged = ScramClient(password: "geheim", header: "y,,", forgedBinding: "biws")
    #expect(try scram("plain", forged, list).last?.hasPrefix("refused 08P01 unexpected SCRAM channel-binding") == true)
  }

  @Test("mechanism and binding have to fit")
  func mismatches() throws {
    let tls = ChannelBinding.tls(endPointHash: Self.hash)
    let list = try userlist()
    let bound = ScramClient(password: "geheim", header: "p=tls-server-end-point,,", bound: Self.hash)
    let malformed = "refused 08P01 malformed SCRAM message"
    #expect(try scram("plain", bound, list, channelBinding: tls).last == malformed)
    let plain = ScramClient(password: "geheim")
    #expect(try scram("plain", plain, list, channelBinding: tls, mechanism: Self.plus).last == malformed)
    #expect(
      try scram("plain", bound, list, mechanism: Self.plus).last
        == "refused 08P01 client selected an invalid SASL authentication mechanism")
    let other = ScramClient(password: "geheim", header: "p=tls-unique,,", bound: Self.hash)
    #expect(
      try scram("plain", other, list, channelBinding: tls, mechanism: Self.plus).last
        == "refused 08P01 unsupported SCRAM channel-binding type")
  }

  // MARK: Messages that are wrong

  @Test(
    "the length in SASLInitialResponse is believed only where it is right",
    arguments: [-2, -1, 0, 1, 31, 33, 8000, Int32.max, Int32.min])
  func initialLengths(length: Int32) throws {
    var exchange = exchange(.scramSHA256, user: "plain", try userlist())
    _ = exchange.begin()
    let client = ScramClient(password: "geheim")
    #expect(client.first.count == 32)
    let step = exchange.received(Array("SCRAM-SHA-256\0".utf8) + bigEndian(length) + client.first)
    #expect(step.kind == "refused 08P01 malformed SASL message")
  }

  @Test(
    "a first message that is damaged is refused by name",
    arguments: [
      "", "n", "n,", "n,,", "x,,n=,r=a", "n,,n=,r=", "n,,r=abc", "n,,n=a", "n,a,n=,r=abc", "n,,n=a,r=a b",
      "n,,n=a,r=\u{7f}", "n,,n=a,r=ä", "p,,n=,r=a", "y", "n,,m=x,n=,r=a", "n,a=other,n=,r=abc",
      "n,,n=,r=\(String(repeating: "a", count: 1025))",
    ])
  func damagedFirst(message: String) throws {
    var exchange = exchange(.scramSHA256, user: "plain", try userlist())
    _ = exchange.begin()
    let body = Array("SCRAM-SHA-256\0".utf8) + bigEndian(Int32(message.utf8.count)) + Array(message.utf8)
    let refusal = try #require(exchange.received(body).refusal)
    let expected: SQLState =
      message.contains("m=") || message.hasPrefix("n,a") ? .featureNotSupported : .protocolViolation
    #expect(refusal.sqlState == expected)
  }

  @Test("a nonce of the greatest length is taken")
  func longNonce() throws {
    let client = ScramClient(password: "geheim", nonce: String(repeating: "a", count: 1024))
    #expect(try scram("plain", client, try userlist()).last == "accepted")
  }

  @Test(
    "a final message that is damaged is refused",
    arguments: [
      "", "c=biws", "c=biws,r=NONCE", "c=biws,r=NONCE,p=", "c=biws,r=NONCE,p=AAAA", "c=biws,r=NONCE,p=%%%%",
      "c=biws,r=NONCE,p=PROOF,x=y", "c=biws,r=other,p=PROOF", "c=eSws,r=NONCE,p=PROOF", "r=NONCE,c=biws,p=PROOF",
      "c=biws,r=NONCE,1=2,p=PROOF", "c=biws,r=NONCE,p=PROOF,", "c=biws,r=,p=PROOF",
      "c=\(String(repeating: "A", count: 9000)),r=NONCE,p=PROOF",
    ])
  func damagedFinal(template: String) throws {
    var exchange = exchange(.scramSHA256, user: "plain", try userlist())
    _ = exchange.begin()
    let first = try #require(exchange.received(ScramClient(password: "geheim").initial()).continuation)
    let nonce = text(first).split(separator: ",")[0].dropFirst(2)
    let message = template.replacing("NONCE", with: nonce)
      .replacing("PROOF", with: text(Base64.encode([UInt8](repeating: 1, count: 32))))
    #expect(exchange.received(Array(message.utf8)).refusal?.sqlState == .protocolViolation)
  }

  @Test("extensions between nonce and proof are part of what is signed")
  func extensions() throws {
    var exchange = exchange(.scramSHA256, user: "plain", try userlist())
    _ = exchange.begin()
    let client = ScramClient(password: "geheim")
    let first = try #require(exchange.received(client.initial()).continuation)
    let final = text(try client.final(to: first)).replacing(",p=", with: ",x=y,p=")
    #expect(exchange.received(Array(final.utf8)).refusal?.sqlState == .invalidPassword)
  }

  @Test("a zero byte ends no message early")
  func zeroBytes() throws {
    var exchange = exchange(.scramSHA256, user: "plain", try userlist())
    _ = exchange.begin()
    let client = ScramClient(password: "geheim")
    let first = try #require(exchange.received(client.initial()).continuation)
    #expect(exchange.received(try client.final(to: first) + [0]).refusal?.sqlState == .protocolViolation)
  }
}
