import CLibpq
import Synchronization

/// One connection to PostgreSQL that libpq has opened and still owns: its `PGconn`, and what there is to know about it.
///
/// The socket is lent: whoever has the link reads and writes protocol frames on `descriptor`, and never closes it.
/// libpq's result functions are never called any more (but by a prober, which lends its links to nobody). The end of a connection is: Terminate by the borrower, wait for
/// EOF, stop watching the descriptor, `finish()`.
///
/// Unchecked, because it holds a pointer. All properties are constants, read once on the dialing thread; the only use of
/// the pointer afterwards is `finish()`, and `isFinished` lets only one caller reach it.
@safe public final class ServerLink: @unchecked Sendable {
  /// The socket, non-blocking. Valid until `finish()`.
  public let descriptor: Int32
  /// The backend's process id as the server reports it in BackendKeyData; 0 where it reports none.
  public let processID: Int32
  /// As libpq counts: 150004 is 15.4, 90624 is 9.6.24.
  public let serverVersion: Int32
  /// The host that answered.
  public let host: UpstreamHost
  /// Its numeric address; empty for Unix sockets.
  public let address: String
  /// The user and database that libpq has logged in with.
  public let user: String
  public let database: String
  /// The values that the server has reported (ParameterStatus), in the order of `reportedParameterNames`; without those
  /// that this server does not report.
  public let parameters: [(name: String, value: String)]
  /// NoticeResponse messages that came during the login, one line each; at most `noticeLimit`.
  public let notices: [String]
  /// The `SSL*` (OpenSSL) of a connection with TLS, lent like the socket: whoever has the link puts BIOs of its own into
  /// it, and takes them out before `finish()`. Only the worker that has the link uses it. nil without TLS.
  public let tlsHandle: UnsafeMutableRawPointer?
  /// The version of TLS, such as "TLSv1.3", and the cipher; nil without TLS.
  public let tlsVersion: String?
  public let tlsCipher: String?
  /// The server has asked for a password, and taken the one it was given. False where it lets the user in for another
  /// reason, such as `trust` or a client certificate.
  public let usedPassword: Bool
  /// How the hosts fared that were tried before this one, in order.
  public let failedAttempts: [DialAttempt]
  /// Cancels what runs on this connection. The request itself goes in clear also where the connection has TLS: `PQcancel`
  /// knows no other way.
  public let cancelHandle: CancelHandle

  let connection: OpaquePointer
  private let isFinished = Atomic(false)

  /// How many notices of a login are kept.
  public static let noticeLimit = 20

  /// The parameters that PostgreSQL 9.0 to 18 report to clients (documentation, "Asynchronous Operations" in
  /// "Message Flow"). libpq has no list of what it got, so each name is asked for.
  public static let reportedParameterNames = [
    "application_name", "client_encoding", "DateStyle", "default_transaction_read_only", "in_hot_standby",
    "integer_datetimes", "IntervalStyle", "is_superuser", "scram_iterations", "search_path", "server_encoding",
    "server_version", "session_authorization", "standard_conforming_strings", "TimeZone",
  ]

  /// Takes over a `PGconn` that is connected. nil, with the connection closed, where there is no memory for its cancel
  /// key.
  init?(
    _ connection: OpaquePointer, host: UpstreamHost, upstream: String, notices: [String], after: [DialAttempt]
  ) {
    precondition(unsafe PQstatus(connection) == CONNECTION_OK && PQsocket(connection) >= 0)
    guard unsafe PQsetnonblocking(connection, 1) == 0, let cancel = unsafe PQgetCancel(connection) else {
      unsafe PQfinish(connection)
      return nil
    }
    unsafe self.connection = connection
    self.host = host
    self.notices = notices
    failedAttempts = after
    cancelHandle = unsafe CancelHandle(cancel, upstream: upstream)
    descriptor = unsafe PQsocket(connection)
    processID = unsafe PQbackendPID(connection)
    serverVersion = unsafe PQserverVersion(connection)
    address = unsafe PQhostaddr(connection).map { unsafe String(cString: $0) } ?? ""
    unsafe tlsHandle = PQsslStruct(connection, "OpenSSL")
    tlsVersion = unsafe PQsslAttribute(connection, "protocol").map { unsafe String(cString: $0) }
    tlsCipher = unsafe PQsslAttribute(connection, "cipher").map { unsafe String(cString: $0) }
    usedPassword = unsafe PQconnectionUsedPassword(connection) != 0
    user = unsafe PQuser(connection).map { unsafe String(cString: $0) } ?? ""
    database = unsafe PQdb(connection).map { unsafe String(cString: $0) } ?? ""
    parameters = Self.reportedParameterNames.compactMap { name in
      unsafe PQparameterStatus(connection, name).map { unsafe (name, String(cString: $0)) }
    }
  }

  deinit { finish() }

  /// Closes the socket and frees the `PGconn` (`PQfinish`, which also tries to send a Terminate). Any thread, but only
  /// once nobody watches or uses the descriptor any more. Further calls do nothing.
  public func finish() {
    if isFinished.exchange(true, ordering: .acquiringAndReleasing) { return }
    unsafe PQfinish(connection)
  }
}
