/// Keys to be derived from a password: a millisecond or more of processor time, to be spent on another thread than one
/// that serves clients.
public struct Derivation: Sendable {
  let password: Password
  let salt: [UInt8]
  let iterations: Int

  /// Derives them (RFC 5802, section 3).
  public func run() -> DerivedKeys {
    let salted = Hashes.pbkdf2(SASLPrep.prepare(password.text), salt: salt, iterations: iterations)
    return DerivedKeys(
      storedKey: Hashes.sha256(Hashes.hmacSHA256(key: salted, Array("Client Key".utf8))),
      serverKey: Hashes.hmacSHA256(key: salted, Array("Server Key".utf8)))
  }
}

/// What a derivation gives. Secret.
public struct DerivedKeys: Sendable {
  let storedKey: [UInt8]
  let serverKey: [UInt8]
}

extension Derivation: CustomStringConvertible, CustomReflectable {
  public var description: String { "Derivation(…)" }
  public var customMirror: Mirror { Mirror(self, children: []) }
}

extension DerivedKeys: CustomStringConvertible, CustomReflectable {
  public var description: String { "DerivedKeys(…)" }
  public var customMirror: Mirror { Mirror(self, children: []) }
}
