/// What a user's password is checked against.
enum Secret: Sendable {
  /// The password itself.
  case plain(Password)
  /// `md5` and 32 lower-case hexadecimal digits, without the `md5`: MD5 of password and name.
  case md5([UInt8])
  /// A SCRAM secret as in `pg_authid`.
  case scram(ScramSecret)

  /// Reads the second field of a userlist's line.
  ///
  /// - Throws: why it is none, without any piece of it.
  init(_ text: String) throws(Malformed) {
    if text.hasPrefix(ScramSecret.prefix) {
      guard let scram = ScramSecret(text) else {
        throw Malformed(reason: "the secret begins like a SCRAM secret, but is not whole")
      }
      self = .scram(scram)
    } else if let digest = Secret.md5Digest(text) {
      self = .md5(digest)
    } else {
      self = .plain(Password(text))
    }
  }

  struct Malformed: Error {
    let reason: String
  }

  /// PostgreSQL's rule for what is an MD5 secret (`get_password_type`), which takes lower-case digits only.
  private static func md5Digest(_ text: String) -> [UInt8]? {
    let bytes = Array(text.utf8)
    guard bytes.count == 35, text.hasPrefix("md5") else { return nil }
    let digest = Array(bytes[3...])
    let isHexadecimal = digest.allSatisfy {
      (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
    }
    return isHexadecimal ? digest : nil
  }
}

/// Printing and dumping shows no secret: an MD5 secret is as good as the password, for whoever logs in by MD5.
extension Secret: CustomStringConvertible, CustomReflectable {
  var description: String { "Secret(…)" }
  var customMirror: Mirror { Mirror(self, children: []) }
}

/// What a server keeps of a password for SCRAM-SHA-256 (RFC 5802, section 3): enough to check a client and to prove
/// itself to it, not enough to log in elsewhere.
struct ScramSecret: Sendable {
  static let prefix = "SCRAM-SHA-256$"
  /// PostgreSQL's and RFC 7677's.
  static let usualIterations = 4096
  /// So that nobody is kept busy for long by a secret that came from elsewhere.
  static let mostIterations = 1_000_000

  let iterations: Int
  let salt: [UInt8]
  let storedKey: [UInt8]
  let serverKey: [UInt8]

  init(iterations: Int, salt: [UInt8], storedKey: [UInt8], serverKey: [UInt8]) {
    self.iterations = iterations
    self.salt = salt
    self.storedKey = storedKey
    self.serverKey = serverKey
  }

  /// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`; nil for anything else.
  init?(_ text: String) {
    let fields = text.dropFirst(ScramSecret.prefix.count).utf8.split(
      separator: UInt8(ascii: "$"), omittingEmptySubsequences: false)
    guard text.hasPrefix(ScramSecret.prefix), fields.count == 2 else { return nil }
    let colon = UInt8(ascii: ":")
    let first = fields[0].split(separator: colon, omittingEmptySubsequences: false)
    let second = fields[1].split(separator: colon, omittingEmptySubsequences: false)
    guard first.count == 2, second.count == 2, first[0].allSatisfy({ (0x30...0x39).contains($0) }),
      let iterations = Int(String(decoding: first[0], as: UTF8.self)),
      1...ScramSecret.mostIterations ~= iterations, let salt = Base64.decode(first[1]), !salt.isEmpty,
      let storedKey = Base64.decode(second[0]), storedKey.count == 32, let serverKey = Base64.decode(second[1]),
      serverKey.count == 32
    else { return nil }
    self.init(iterations: iterations, salt: salt, storedKey: storedKey, serverKey: serverKey)
  }
}

/// Printing and dumping shows no keys: whoever has the ServerKey can pass for the server.
extension ScramSecret: CustomStringConvertible, CustomReflectable {
  var description: String { "ScramSecret(…)" }
  var customMirror: Mirror { Mirror(self, children: []) }
}
