/// Why a dial failed, as far as what to do next depends on it.
public enum DialFailureKind: Sendable, Hashable, CaseIterable {
  /// Nobody there: refused, no such host or socket, no route, or the connection ended before authentication.
  case unreachable
  /// The host's share of the deadline passed without an answer.
  case timeout
  /// The server refuses the user (class 28), or asks for a password that is not known.
  case authentication
  /// 3D000: no such database.
  case unknownDatabase
  /// 53300: the server, the database or the role has no connection left.
  case tooManyConnections
  /// 57P03: starting up, shutting down, or in recovery.
  case startingUp
  /// 42501: no CONNECT privilege.
  case insufficientPrivilege
  /// The server answers, but is not what `target_session_attrs` asks for.
  case wrongRole
  /// TLS is not to be had as the settings want it: a certificate that does not verify, another host's name, a file that
  /// cannot be read, a server without TLS.
  case tls
  /// The dial was cancelled by us.
  case cancelled
  /// Anything else: another SQLSTATE, a peer that does not speak the protocol, no descriptors left, …
  case other

  /// What the SQLSTATE of a refused connection means.
  init(sqlState: String) {
    switch sqlState {
    case "3D000": self = .unknownDatabase
    case "53300": self = .tooManyConnections
    case "57P03": self = .startingUp
    case "42501": self = .insufficientPrivilege
    case _ where sqlState.hasPrefix("28"): self = .authentication
    default: self = .other
    }
  }

  /// Whether another host may do better. libpq, too, ends at the first host that refuses the user.
  var allowsNextHost: Bool {
    switch self {
    case .unreachable, .timeout, .startingUp, .wrongRole: true
    case .authentication, .unknownDatabase, .tooManyConnections, .insufficientPrivilege, .tls, .cancelled,
      .other:
      false
    }
  }
}

/// How one address of one host failed.
public struct DialAttempt: Sendable, Hashable {
  public let host: UpstreamHost
  /// The address tried; nil for Unix sockets and names that could not be resolved.
  public let address: String?
  public let kind: DialFailureKind
  /// Of the server's error, where there was one.
  public let sqlState: String?
  /// libpq's own words in one line, without secrets.
  public let text: String

  /// An attempt as a dial makes it, or one that failed after libpq was done with it.
  public init(host: UpstreamHost, address: String?, kind: DialFailureKind, sqlState: String?, text: String) {
    self.host = host
    self.address = address
    self.kind = kind
    self.sqlState = sqlState
    self.text = text
  }
}

/// A dial that gave no connection.
public struct DialFailure: Error, Sendable, Hashable {
  /// The kind of the attempt that ended the dial. Where all hosts were tried in vain, that of the host that got
  /// furthest: starting up, then wrong role, then time-out, then unreachable. A circuit breaker, which belongs to a
  /// host, looks at `attempts`.
  public let kind: DialFailureKind
  /// Of the attempt that gave `kind`.
  public let sqlState: String?
  /// The texts of all attempts, in one line, without secrets.
  public let text: String
  /// In the order in which they were made; empty where none was.
  public let attempts: [DialAttempt]

  /// The hosts tried, each once.
  public var hostsTried: [UpstreamHost] {
    var hosts: [UpstreamHost] = []
    for attempt in attempts where !hosts.contains(attempt.host) { hosts.append(attempt.host) }
    return hosts
  }

  /// A failure that is no attempt's.
  init(_ kind: DialFailureKind, _ text: String, after attempts: [DialAttempt] = []) {
    self.kind = kind
    self.sqlState = nil
    self.text = text
    self.attempts = attempts
  }

  /// The failure that these attempts amount to.
  init(attempts: [DialAttempt]) {
    precondition(!attempts.isEmpty)
    let furthestFirst: [DialFailureKind] = [.startingUp, .wrongRole, .timeout, .unreachable]
    let decisive =
      attempts.first { !$0.kind.allowsNextHost }
      ?? furthestFirst.lazy.compactMap { kind in attempts.first { $0.kind == kind } }.first
      ?? attempts[0]
    self.kind = decisive.kind
    self.sqlState = decisive.sqlState
    self.text = attempts.map(\.text).joined(separator: "; ")
    self.attempts = attempts
  }
}
