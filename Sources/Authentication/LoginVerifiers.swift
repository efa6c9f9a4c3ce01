internal import Dispatch
internal import Locking
internal import PostgresWire

/// What logins are checked against: the secrets of a userlist, made ready. Immutable, shared by all workers, and made
/// again at each reload.
///
/// An unknown user has a secret too, one that no password fits, and goes the same way as a wrong password: the same
/// messages, the same computations. Its salt follows from its name and a key, so that it is the same each time, as
/// PostgreSQL's is (`mock_scram_secret`).
public struct LoginVerifiers: Sendable {
  /// By name, which only its bytes tell apart (see `Userlist`).
  private let entries: [WireText: Entry]
  private let key: [UInt8]
  /// Some secret is a SCRAM secret, so checking a password in clear against it takes a derivation. Then everybody's does.
  let derivesPasswords: Bool
  /// What unknown users are asked for under `md5`.
  private let mostAreScram: Bool

  /// A user as logins see it.
  struct Entry: Sendable {
    var secret: Secret?
    /// The bytes of a plain password as SASLprep has them; of anything else, none.
    var prepared: [UInt8] = []
    /// The user's own, or derived from its plain password; else one that nothing fits.
    var scram: ScramSecret
    /// Whether `scram` is worth anything.
    var hasScram: Bool
    /// Why it cannot be: for the log.
    var problem: String
  }

  /// Makes the secrets ready. Where plain passwords are needed for SCRAM, their keys are derived here: about a
  /// millisecond of one processor each, on all processors.
  ///
  /// - Parameters:
  ///   - key: at least 16 secret bytes, the same for as long as the daemon runs.
  ///   - previous: what was there before; what has not changed is taken from it.
  public init(
    _ userlist: Userlist, method: LoginMethod, key: [UInt8], reusing previous: LoginVerifiers? = nil
  ) {
    precondition(key.count >= 16, "the key is too short to be a secret")
    self.key = key
    let scramCount = userlist.secrets.values.count { if case .scram = $0 { true } else { false } }
    mostAreScram = scramCount > userlist.secrets.count - scramCount
    derivesPasswords = method == .password && scramCount > 0
    let needsScram = method == .scramSHA256 || derivesPasswords

    var entries: [WireText: Entry] = [:]
    var toDerive: [(user: WireText, derivation: Derivation)] = []
    for (user, secret) in userlist.secrets {
      switch secret {
      case .plain(let password) where password.text.isEmpty:
        entries[user] = Entry(
          secret: nil, scram: LoginVerifiers.mock(user, key), hasScram: false, problem: "the user has no password")
      case .plain(let password):
        entries[user] = Entry(
          secret: secret, prepared: SASLPrep.prepare(password.text), scram: LoginVerifiers.mock(user, key),
          hasScram: false, problem: "wrong password")
        guard needsScram else { continue }
        if let known = previous?.entries[user], known.hasScram, previous?.key == key,
          case .plain(let old) = known.secret,
          old.isSame(as: password)
        {
          entries[user] = known
        } else {
          let salt = LoginVerifiers.salt(of: user, key)
          toDerive.append(
            (user, Derivation(password: password, salt: salt, iterations: ScramSecret.usualIterations)))
        }
      case .md5:
        entries[user] = Entry(
          secret: secret, scram: LoginVerifiers.mock(user, key), hasScram: false,
          problem: needsScram && !derivesPasswords
            ? "the user's secret is an MD5 secret, which SCRAM cannot check" : "wrong password")
      case .scram(let scram):
        entries[user] = Entry(secret: secret, scram: scram, hasScram: true, problem: "wrong password")
      }
    }
    let jobs = toDerive
    let derived = Mutex<[(user: WireText, scram: ScramSecret)]>([])
    DispatchQueue.concurrentPerform(iterations: jobs.count) { index in
      let (user, derivation) = jobs[index]
      let keys = derivation.run()
      let scram = ScramSecret(
        iterations: derivation.iterations, salt: derivation.salt, storedKey: keys.storedKey, serverKey: keys.serverKey)
      derived.withLock { $0.append((user, scram)) }
    }
    for (user, scram) in derived.withLock({ $0 }) {
      entries[user]?.scram = scram
      entries[user]?.hasScram = true
    }
    self.entries = entries
  }

  /// What is known of a user, or what stands in for it. The stand-in is made for known users too, so that the time it
  /// takes does not tell them from others.
  func entry(for user: String) -> Entry {
    let name = WireText(user)
    let standIn = Entry(secret: nil, scram: LoginVerifiers.mock(name, key), hasScram: false, problem: "no such user")
    return entries[name] ?? standIn
  }

  /// Whether a user is asked by SCRAM under `md5`.
  func asksByScram(_ user: String) -> Bool {
    switch entries[WireText(user)]?.secret {
    case .scram: true
    case .plain, .md5: false
    case nil: mostAreScram
    }
  }

  /// As long as PostgreSQL's (`SCRAM_DEFAULT_SALT_LEN`).
  private static func salt(of user: WireText, _ key: [UInt8]) -> [UInt8] {
    Array(Hashes.hmacSHA256(key: key, Array("salt".utf8) + user.bytes).prefix(16))
  }

  /// A secret that nothing fits: nobody can find what SHA-256 turns into that.
  private static func mock(_ user: WireText, _ key: [UInt8]) -> ScramSecret {
    let nothing = Hashes.hmacSHA256(key: key, Array("mock".utf8) + user.bytes)
    return ScramSecret(
      iterations: ScramSecret.usualIterations, salt: salt(of: user, key), storedKey: nothing, serverKey: nothing)
  }
}

extension LoginVerifiers: CustomStringConvertible, CustomReflectable {
  public var description: String { "LoginVerifiers(\(entries.count) users)" }
  public var customMirror: Mirror { Mirror(self, children: []) }
}
