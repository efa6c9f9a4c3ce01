import PostgresWire

/// How one client proves who it is: messages in, steps out. Knows no socket, no clock and no randomness of its own.
///
/// Whether the user is known changes neither the steps nor what is computed; only the verdict is never "accepted".
public struct LoginExchange: Sendable {
  private enum State {
    /// Nothing has been asked yet.
    case new
    case awaitsPassword
    case awaitsMD5(salt: UInt32)
    /// The choice of a mechanism, mostly with client-first.
    case awaitsMechanism
    /// client-first, which did not come with the mechanism.
    case awaitsFirst(ScramServer)
    case awaitsFinal(ScramServer)
    /// A derivation is under way, for this password.
    case derives(Password)
    case over
  }

  /// Random bytes that `init` wants.
  public static let randomnessNeeded = 22
  /// Bytes of a nonce, as in PostgreSQL (`SCRAM_RAW_NONCE_LEN`).
  private static let nonceLength = 18
  /// Bytes a message of SASL may have here: a client-final with channel binding has about 200.
  private static let longestMessage = 8192

  private let method: LoginMethod
  private let user: String
  private let verifiers: LoginVerifiers
  private let channelBinding: ChannelBinding
  private let randomness: [UInt8]
  private var state = State.new

  /// - Parameter randomness: `randomnessNeeded` unpredictable bytes, never used before.
  public init(
    _ method: LoginMethod, user: String, verifiers: LoginVerifiers, channelBinding: ChannelBinding,
    randomness: [UInt8]
  ) {
    precondition(randomness.count >= LoginExchange.randomnessNeeded, "too little randomness")
    self.method = method
    self.user = user
    self.verifiers = verifiers
    self.channelBinding = channelBinding
    self.randomness = randomness
  }

  /// The first step, always `ask`.
  public mutating func begin() -> LoginStep {
    switch method {
    case .password, .upstream:
      state = .awaitsPassword
      return .ask(.cleartextPassword)
    case .md5 where !verifiers.asksByScram(user):
      let salt = randomness.suffix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      state = .awaitsMD5(salt: salt)
      return .ask(.md5Password(salt: salt))
    case .md5, .scramSHA256:
      state = .awaitsMechanism
      return .ask(.sasl(mechanisms: mechanisms))
    }
  }

  private var mechanisms: [String] {
    channelBinding == .plaintext
      ? [ScramServer.mechanism] : [ScramServer.mechanismPlus, ScramServer.mechanism]
  }

  /// Takes the body of a message of type `p`, without type and length.
  public mutating func received(_ body: [UInt8]) -> LoginStep {
    let before = state
    state = .over
    do throws(LoginRefusal) {
      switch before {
      case .awaitsPassword: return try password(try text(of: body))
      case .awaitsMD5(let salt): return try md5(try text(of: body), salt)
      case .awaitsMechanism: return try mechanism(body)
      case .awaitsFirst(let scram): return try first(scram, body)
      case .awaitsFinal(let scram): return try final(scram, body)
      case .new, .derives, .over: preconditionFailure("a message that was not asked for")
      }
    } catch {
      return .refused(error)
    }
  }

  /// Takes the keys that `derive` was about.
  public mutating func derived(_ keys: DerivedKeys) -> LoginStep {
    guard case .derives(let password) = state else { preconditionFailure("keys that were not asked for") }
    state = .over
    let entry = verifiers.entry(for: user)
    let fitsKey = Bytes.areSame(keys.storedKey, entry.scram.storedKey) && entry.hasScram
    let fitsMD5 = fits(password, md5Of: entry)
    return fitsKey || fitsMD5 ? .accepted(last: nil) : .refused(.wrongPassword(user, entry.problem))
  }

  // MARK: Passwords in clear

  /// The text of a PasswordMessage: everything up to the zero byte at its end.
  private func text(of body: [UInt8]) throws(LoginRefusal) -> [UInt8] {
    guard body.last == 0, body.firstIndex(of: 0) == body.count - 1 else {
      throw LoginRefusal(
        sqlState: .protocolViolation, message: "invalid password packet size",
        logDetail: "the password has no zero byte at its end, or one inside")
    }
    return body.dropLast()
  }

  private mutating func password(_ bytes: [UInt8]) throws(LoginRefusal) -> LoginStep {
    // An empty password must never get as far as a server connection: libpq would take it for none, and find another
    // one in .pgpass.
    guard !bytes.isEmpty else { throw .wrongPassword(user, "an empty password") }
    guard bytes.count <= Password.longest else {
      throw .wrongPassword(user, "a password of \(bytes.count) bytes")
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw .wrongPassword(user, "a password that is not UTF-8 text")
    }
    let password = Password(text)
    if method == .upstream { return .verifyUpstream(password) }

    let entry = verifiers.entry(for: user)
    if verifiers.derivesPasswords {
      state = .derives(password)
      return .derive(
        Derivation(password: password, salt: entry.scram.salt, iterations: entry.scram.iterations))
    }
    let fitsMD5 = fits(password, md5Of: entry)
    let fitsPlain = fits(password, plainOf: entry)
    guard fitsMD5 || fitsPlain else { throw .wrongPassword(user, entry.problem) }
    return .accepted(last: nil)
  }

  /// SASLprep takes long enough to be measured from outside where a text is not ASCII. So it is done whether or not there
  /// is a plain password to compare with.
  private func fits(_ password: Password, plainOf entry: LoginVerifiers.Entry) -> Bool {
    let fitsPrepared = Bytes.areSame(SASLPrep.prepare(password.text), entry.prepared)
    guard case .plain(let right) = entry.secret else { return false }
    return password.isSame(as: right) || fitsPrepared
  }

  private func fits(_ password: Password, md5Of entry: LoginVerifiers.Entry) -> Bool {
    let digest = Hashes.md5Text(Array(password.text.utf8) + Array(user.utf8))
    guard case .md5(let right) = entry.secret, let digest else { return false }
    return Bytes.areSame(digest, right)
  }

  // MARK: MD5

  /// `md5` and MD5(MD5(password + user) + salt), all in hexadecimal digits.
  private func md5(_ answer: [UInt8], _ salt: UInt32) throws(LoginRefusal) -> LoginStep {
    guard !answer.isEmpty else { throw .wrongPassword(user, "an empty password") }
    let entry = verifiers.entry(for: user)
    let password: Password? = if case .plain(let password) = entry.secret { password } else { nil }
    let ofPassword = Hashes.md5Text(Array((password?.text ?? "").utf8) + Array(user.utf8))
    let inner: [UInt8]? =
      switch entry.secret {
      case .md5(let digest): digest
      case .plain: ofPassword
      case .scram, nil: nil
      }
    let saltBytes = (0..<4).map { UInt8(truncatingIfNeeded: salt >> UInt32(24 - 8 * $0)) }
    // Without MD5 there is no right answer. It must not become an empty one, which everybody could give.
    guard ofPassword != nil,
      let expected = Hashes.md5Text((inner ?? Array(repeating: 0, count: 32)) + saltBytes)
    else { throw .wrongPassword(user, "OpenSSL offers no MD5") }
    guard Bytes.areSame(answer, Array("md5".utf8) + expected), inner != nil else {
      throw .wrongPassword(user, entry.problem)
    }
    return .accepted(last: nil)
  }

  // MARK: SCRAM

  /// SASLInitialResponse: the name of the mechanism, and client-first with its length; length −1 where it comes later.
  private mutating func mechanism(_ body: [UInt8]) throws(LoginRefusal) -> LoginStep {
    guard body.count <= LoginExchange.longestMessage else {
      throw .violation("malformed SASL message", "\(body.count) bytes")
    }
    guard let end = body.firstIndex(of: 0), body.count - end - 1 >= 4 else {
      throw .violation("malformed SASL message", "SASLInitialResponse is cut off")
    }
    let name = String(decoding: body[..<end], as: UTF8.self)
    guard mechanisms.contains(name) else {
      throw .violation("client selected an invalid SASL authentication mechanism", "not one of \(mechanisms)")
    }
    let length = Int32(bitPattern: body[(end + 1)..<(end + 5)].reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
    let data = Array(body[(end + 5)...])
    let scram = ScramServer(
      verifiers.entry(for: user).scram, channelBinding: channelBinding, usesBinding: name == ScramServer.mechanismPlus,
      randomness: Array(randomness.prefix(LoginExchange.nonceLength)))
    if length == -1 && data.isEmpty {
      state = .awaitsFirst(scram)
      return .ask(.saslContinue([]))
    }
    guard Int(length) == data.count else {
      throw .violation("malformed SASL message", "a length of \(length) before \(data.count) bytes")
    }
    return try first(scram, data)
  }

  private mutating func first(_ scram: ScramServer, _ message: [UInt8]) throws(LoginRefusal) -> LoginStep {
    try checkLength(message)
    var scram = scram
    let answer = try scram.answer(first: message)
    state = .awaitsFinal(scram)
    return .ask(.saslContinue(answer))
  }

  private func final(_ scram: ScramServer, _ message: [UInt8]) throws(LoginRefusal) -> LoginStep {
    try checkLength(message)
    let entry = verifiers.entry(for: user)
    guard let answer = try scram.answer(final: message), entry.hasScram else {
      throw .wrongPassword(user, entry.problem)
    }
    return .accepted(last: .saslFinal(answer))
  }

  /// PostgreSQL's words; a NUL would end its strings early.
  private func checkLength(_ message: [UInt8]) throws(LoginRefusal) {
    guard !message.isEmpty else { throw .violation("malformed SCRAM message", "the message is empty") }
    guard message.count <= LoginExchange.longestMessage, !message.contains(0) else {
      throw .violation("malformed SCRAM message", "the message is too long or contains a zero byte")
    }
  }
}
