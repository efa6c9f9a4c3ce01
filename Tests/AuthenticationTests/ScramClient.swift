@testable import Authentication

/// The client's side of SCRAM-SHA-256 (RFC 5802), for tests: each step can be made wrong.
struct ScramClient {
  var password: String
  var nonce = "rOprNGfwEbeRWgbNEkqO"
  /// The GS2 header, such as `n,,` or `p=tls-server-end-point,,`.
  var header = "n,,"
  /// What the binding is about, behind the header.
  var bound: [UInt8] = []
  /// The binding of the final message, where it is not what the header says.
  var forgedBinding: String?

  var firstBare: String { "n=user,r=\(nonce)" }
  var first: [UInt8] { Array((header + firstBare).utf8) }

  /// SASLInitialResponse.
  func initial(_ mechanism: String = "SCRAM-SHA-256") -> [UInt8] {
    Array(mechanism.utf8) + [0] + bigEndian(Int32(first.count)) + first
  }

  /// The answer to server-first.
  func final(to serverFirst: [UInt8]) throws -> [UInt8] {
    let text = String(decoding: serverFirst, as: UTF8.self)
    var fields: [Substring: Substring] = [:]
    for field in text.split(separator: ",") { fields[field.prefix(1)] = field.dropFirst(2) }
    guard let both = fields["r"], let saltText = fields["s"], let salt = Base64.decode(saltText.utf8),
      let iterations = Int(fields["i"] ?? "")
    else { throw Unexpected(text: text) }
    let binding = forgedBinding ?? String(decoding: Base64.encode(Array(header.utf8) + bound), as: UTF8.self)
    let withoutProof = "c=\(binding),r=\(both)"
    let salted = Hashes.pbkdf2(SASLPrep.prepare(password), salt: salt, iterations: iterations)
    let clientKey = Hashes.hmacSHA256(key: salted, Array("Client Key".utf8))
    let authMessage = Array("\(firstBare),\(text),\(withoutProof)".utf8)
    let signature = Hashes.hmacSHA256(key: Hashes.sha256(clientKey), authMessage)
    let proof = Base64.encode(zip(clientKey, signature).map { $0 ^ $1 })
    return Array("\(withoutProof),p=".utf8) + proof
  }

  struct Unexpected: Error {
    var text: String
  }
}

func bigEndian(_ number: Int32) -> [UInt8] {
  (0..<4).map { UInt8(truncatingIfNeeded: number >> Int32(24 - 8 * $0)) }
}

/// Random bytes that are always the same ones.
let randomness = (0..<LoginExchange.randomnessNeeded).map { UInt8($0) }
let key = [UInt8](repeating: 7, count: 32)

/// Users of every kind; the password of each is "geheim" where there is one.
func userlist(_ more: String = "") throws -> Userlist {
  let keys = Derivation(password: Password("geheim"), salt: Array("lifeguard-sample".utf8), iterations: 4096).run()
  let scram =
    "SCRAM-SHA-256$4096:\(text(Base64.encode(Array("lifeguard-sample".utf8))))$\(text(Base64.encode(keys.storedKey)))"
    + ":\(text(Base64.encode(keys.serverKey)))"
  let digest = text(Hashes.md5Text(Array("geheimmd".utf8))!)
  return try Userlist.parse(
    "\"plain\" \"geheim\"\n\"md\" \"md5\(digest)\"\n\"scram\" \"\(scram)\"\n\"empty\" \"\"\n" + more, file: "u.txt")
}

func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

func exchange(
  _ method: LoginMethod, user: String, _ list: Userlist, channelBinding: ChannelBinding = .plaintext
) -> LoginExchange {
  LoginExchange(
    method, user: user, verifiers: LoginVerifiers(list, method: method, key: key), channelBinding: channelBinding,
    randomness: randomness)
}

extension LoginStep {
  var request: LoginRequest? { if case .ask(let request) = self { request } else { nil } }
  var continuation: [UInt8]? { if case .ask(.saslContinue(let data)) = self { data } else { nil } }
  var refusal: LoginRefusal? { if case .refused(let refusal) = self { refusal } else { nil } }
  var isAccepted: Bool { if case .accepted = self { true } else { false } }
  /// What kind of step it is, whatever is in it.
  var kind: String {
    switch self {
    case .ask(.cleartextPassword): "ask password"
    case .ask(.md5Password): "ask md5"
    case .ask(.sasl(let mechanisms)): "ask \(mechanisms)"
    case .ask(.saslContinue): "continue"
    case .ask(.saslFinal): "final"
    case .derive(let derivation): "derive \(derivation.salt.count) \(derivation.iterations)"
    case .accepted: "accepted"
    case .verifyUpstream: "verify"
    case .refused(let refusal): "refused \(refusal.sqlState) \(refusal.message)"
    }
  }
}
