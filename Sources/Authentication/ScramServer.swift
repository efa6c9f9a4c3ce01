import PostgresWire

/// The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), with PostgreSQL's rules and error
/// texts (`auth-scram.c`): the name in the client's message is ignored, since the StartupMessage has named the user.
///
/// ```
///   client-first    n,,n=,r=<client nonce>
///   server-first    r=<both nonces>,s=<salt>,i=<iterations>
///   client-final    c=<channel binding>,r=<both nonces>,p=<proof>
///   server-final    v=<signature>
/// ```
struct ScramServer: Sendable {
  static let mechanism = "SCRAM-SHA-256"
  static let mechanismPlus = "SCRAM-SHA-256-PLUS"
  private static let bindingType = "tls-server-end-point"
  /// Bytes of a client's nonce. PostgreSQL's clients send 24.
  private static let longestNonce = 1024

  private let secret: ScramSecret
  private let channelBinding: ChannelBinding
  private let usesBinding: Bool
  private let serverNonce: [UInt8]

  private var flag = UInt8(ascii: "n")
  private var clientFirstBare: [UInt8] = []
  private var serverFirst: [UInt8] = []
  private var nonce: [UInt8] = []

  /// - Parameters:
  ///   - usesBinding: the client has chosen the mechanism with channel binding.
  ///   - randomness: for the nonce, as long as PostgreSQL's (`SCRAM_RAW_NONCE_LEN`).
  init(_ secret: ScramSecret, channelBinding: ChannelBinding, usesBinding: Bool, randomness: [UInt8]) {
    self.secret = secret
    self.channelBinding = channelBinding
    self.usesBinding = usesBinding
    serverNonce = Base64.encode(randomness)
  }

  // MARK: The client's first message

  /// Reads client-first and gives server-first.
  mutating func answer(first message: [UInt8]) throws(LoginRefusal) -> [UInt8] {
    var reader = Reader(message)
    try readBindingFlag(&reader)
    if reader.next == UInt8(ascii: "a") {
      throw LoginRefusal(
        sqlState: .featureNotSupported, message: "client uses authorization identity, but it is not supported",
        logDetail: "an authorization identity was sent")
    }
    try reader.expect(",")
    clientFirstBare = reader.rest
    if reader.next == UInt8(ascii: "m") {
      throw LoginRefusal(
        sqlState: .featureNotSupported, message: "client requires an unsupported SCRAM extension",
        logDetail: "a mandatory SCRAM extension was sent")
    }
    _ = try reader.attribute("n")
    try reader.expect(",")
    let clientNonce = try reader.attribute("r")
    guard !clientNonce.isEmpty, clientNonce.count <= ScramServer.longestNonce,
      clientNonce.allSatisfy({ 0x21...0x7e ~= $0 })
    else { throw LoginRefusal.violation("malformed SCRAM message", "the nonce is empty, too long or not printable") }
    nonce = clientNonce + serverNonce
    serverFirst =
      Array("r=".utf8) + nonce + Array(",s=".utf8) + Base64.encode(secret.salt) + Array(",i=\(secret.iterations)".utf8)
    return serverFirst
  }

  /// `n`: the client knows no channel binding; `y`: it does, but thinks that we do not; `p=…`: it uses it.
  private mutating func readBindingFlag(_ reader: inout Reader) throws(LoginRefusal) {
    flag = reader.next ?? 0
    reader.skip()
    switch flag {
    case UInt8(ascii: "n"), UInt8(ascii: "y"):
      if usesBinding {
        throw LoginRefusal.violation(
          "malformed SCRAM message", "the mechanism with channel binding was chosen, without channel binding data")
      }
      if flag == UInt8(ascii: "y"), case .tls = channelBinding {
        // Somebody in between has taken the mechanism out of our list.
        throw LoginRefusal(
          sqlState: .invalidAuthorizationSpecification, message: "SCRAM channel binding negotiation error",
          logDetail: "the client supports channel binding, but was told that there is none")
      }
    case UInt8(ascii: "p"):
      guard usesBinding else {
        throw LoginRefusal.violation(
          "malformed SCRAM message", "the mechanism without channel binding was chosen, with channel binding data")
      }
      try reader.expect("=")
      guard reader.until(UInt8(ascii: ",")) == Array(ScramServer.bindingType.utf8) else {
        throw LoginRefusal.violation("unsupported SCRAM channel-binding type", "not \(ScramServer.bindingType)")
      }
    default: throw LoginRefusal.violation("malformed SCRAM message", "unexpected channel-binding flag")
    }
    try reader.expect(",")
  }

  // MARK: The client's final message

  /// Reads client-final and gives server-final; nil for a wrong proof.
  func answer(final message: [UInt8]) throws(LoginRefusal) -> [UInt8]? {
    var reader = Reader(message)
    let binding = try reader.attribute("c")
    try reader.expect(",")
    let echoed = try reader.attribute("r")
    var withoutProof = message.count
    var proof: [UInt8]?
    while proof == nil {
      withoutProof = reader.offset
      try reader.expect(",")
      if reader.next == UInt8(ascii: "p") {
        proof = try reader.attribute("p")
      } else {
        _ = try reader.attribute(nil)
      }
    }
    guard reader.next == nil else {
      throw LoginRefusal.violation("malformed SCRAM message", "garbage at the end of client-final-message")
    }
    guard let proof = proof.flatMap({ Base64.decode($0) }), proof.count == 32 else {
      throw LoginRefusal.violation("malformed SCRAM message", "malformed proof in client-final-message")
    }
    try check(binding)
    guard echoed == nonce else { throw LoginRefusal.violation("invalid SCRAM response", "the nonce does not match") }

    let comma = [UInt8(ascii: ",")]
    let authMessage = clientFirstBare + comma + serverFirst + comma + message.prefix(withoutProof)
    let signature = Hashes.hmacSHA256(key: secret.storedKey, authMessage)
    let clientKey = zip(proof, signature).map { $0 ^ $1 }
    let answer = Array("v=".utf8) + Base64.encode(Hashes.hmacSHA256(key: secret.serverKey, authMessage))
    return Bytes.areSame(Hashes.sha256(clientKey), secret.storedKey) ? answer : nil
  }

  private func check(_ binding: [UInt8]) throws(LoginRefusal) {
    if usesBinding, case .tls(let hash) = channelBinding {
      let expected = Base64.encode(Array("p=\(ScramServer.bindingType),,".utf8) + hash)
      guard Bytes.areSame(binding, expected) else {
        throw LoginRefusal(
          sqlState: .invalidAuthorizationSpecification, message: "SCRAM channel binding check failed",
          logDetail: "the client's TLS ends at another certificate: somebody is in between")
      }
    } else {
      let expected = flag == UInt8(ascii: "y") ? "eSws" : "biws"
      guard binding == Array(expected.utf8) else {
        throw LoginRefusal.violation(
          "unexpected SCRAM channel-binding attribute in client-final-message", "not what was negotiated")
      }
    }
  }
}

/// Reads the attributes of a SCRAM message from left to right.
private struct Reader {
  private let bytes: [UInt8]
  private(set) var offset = 0

  init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  var next: UInt8? { offset < bytes.count ? bytes[offset] : nil }
  var rest: [UInt8] { Array(bytes[offset...]) }

  mutating func skip() { offset = min(offset + 1, bytes.count) }

  mutating func expect(_ character: Unicode.Scalar) throws(LoginRefusal) {
    guard next == UInt8(ascii: character) else {
      throw LoginRefusal.violation("malformed SCRAM message", "\"\(character)\" expected")
    }
    offset += 1
  }

  mutating func until(_ end: UInt8) -> [UInt8] {
    let start = offset
    while let byte = next, byte != end { offset += 1 }
    return Array(bytes[start..<offset])
  }

  /// `name=value`, up to the next comma; any letter where `name` is nil.
  mutating func attribute(_ name: Unicode.Scalar?) throws(LoginRefusal) -> [UInt8] {
    if let name {
      try expect(name)
    } else {
      guard let letter = next, (0x41...0x5a).contains(letter & 0xdf) else {
        throw LoginRefusal.violation("malformed SCRAM message", "an attribute expected")
      }
      offset += 1
    }
    try expect("=")
    return until(UInt8(ascii: ","))
  }
}
