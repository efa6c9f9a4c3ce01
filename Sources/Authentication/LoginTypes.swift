public import PostgresWire

/// How a client is asked to prove who it is.
public enum LoginMethod: Sendable, Equatable {
  /// The password in clear.
  case password
  /// An MD5 of password, name and a random salt; by SCRAM where the secret is a SCRAM secret, as in PgBouncer.
  case md5
  /// SCRAM-SHA-256, over TLS also with channel binding.
  case scramSHA256
  /// The password in clear, which the server is to judge.
  case upstream
}

/// What SCRAM can be bound to.
public enum ChannelBinding: Sendable, Equatable {
  /// Nothing: no TLS.
  case plaintext
  /// The hash of the server's certificate (`tls-server-end-point`, RFC 5929).
  case tls(endPointHash: [UInt8])
}

/// What an exchange wants done next.
public enum LoginStep: Sendable {
  /// Send this, and hand the next message of type `p` to `received`.
  case ask(LoginRequest)
  /// Run this elsewhere, and hand the keys to `derived`.
  case derive(Derivation)
  /// Let the client in, after this message.
  case accepted(last: LoginRequest?)
  /// Let the server judge this password.
  case verifyUpstream(Password)
  /// Turn the client away.
  case refused(LoginRefusal)
}

/// An authentication request, by the names of PostgreSQL's documentation ("Message Formats").
public enum LoginRequest: Sendable, Equatable {
  case cleartextPassword
  case md5Password(salt: UInt32)
  case sasl(mechanisms: [String])
  case saslContinue([UInt8])
  case saslFinal([UInt8])
}

/// Why a client is turned away.
public struct LoginRefusal: Error, Sendable, Equatable {
  /// For the client.
  public let sqlState: SQLState
  /// For the client: tells nothing about which users there are.
  public let message: String
  /// For the log: what really was wrong, without secrets.
  public let logDetail: String

  public init(sqlState: SQLState, message: String, logDetail: String) {
    self.sqlState = sqlState
    self.message = message
    self.logDetail = logDetail
  }

  /// The same words for an unknown user and a wrong password.
  static func wrongPassword(_ user: String, _ detail: String) -> LoginRefusal {
    LoginRefusal(
      sqlState: .invalidPassword, message: "password authentication failed for user \"\(user)\"", logDetail: detail)
  }

  static func violation(_ message: String, _ detail: String) -> LoginRefusal {
    LoginRefusal(sqlState: .protocolViolation, message: message, logDetail: "\(message): \(detail)")
  }
}
