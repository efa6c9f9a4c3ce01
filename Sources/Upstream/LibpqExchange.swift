import CLibpq
import CLinux
import Glibc

/// Drives libpq (`PQconnectStartParams`, `PQconnectPoll`) to one address, with a limit in time of its own.
struct LibpqExchange {
  let options: [ConnectionOption]
  let host: UpstreamHost
  let address: String?
  let upstream: String
  /// The attempts before this one.
  let earlier: [DialAttempt]
  /// Nanoseconds of CLOCK_MONOTONIC.
  let limit: Int64
  /// Readable as soon as the attempt is to end.
  let wakeDescriptor: Int32

  enum Outcome {
    case connected(ServerLink)
    case failed(DialAttempt)
    case woken
  }

  /// How far the connection had come before libpq's last step.
  private enum Stage {
    case connecting
    case awaitingAuthentication
    case authenticated

    init(_ status: ConnStatusType) {
      switch status {
      case CONNECTION_STARTED, CONNECTION_NEEDED: self = .connecting
      case CONNECTION_MADE, CONNECTION_SSL_STARTUP, CONNECTION_AWAITING_RESPONSE: self = .awaitingAuthentication
      default: self = .authenticated
      }
    }
  }

  func run() -> Outcome {
    guard let connection = unsafe Libpq.startConnecting(options) else { return failed(.other, "out of memory") }
    // Nothing from the server has been read so far, so these come in time for its first message.
    unsafe _ = PQsetErrorVerbosity(connection, PQERRORS_VERBOSE)
    let notices = unsafe NoticeCollector(connection)
    let outcome = unsafe drive(connection)
    unsafe notices.detach(from: connection)
    switch outcome {
    case .some(let outcome):
      unsafe PQfinish(connection)
      return outcome
    case nil:
      let link = unsafe ServerLink(connection, host: host, upstream: upstream, notices: notices.lines, after: earlier)
      return link.map { .connected($0) } ?? failed(.other, "out of memory")
    }
  }

  /// nil: connected.
  private func drive(_ connection: OpaquePointer) -> Outcome? {
    guard unsafe PQstatus(connection) != CONNECTION_BAD else {
      return unsafe refused(connection, at: .connecting, ended: false)
    }
    var interest = Int16(POLLOUT)
    // Where sslmode is allow or prefer, libpq may begin again, without TLS or with it: on another socket, with the errors
    // of both attempts in one message.
    var earlier = ""
    while true {
      let descriptor = unsafe PQsocket(connection)
      let stage = unsafe Stage(PQstatus(connection))
      var ended = false
      switch Waiting.wait(wakeDescriptor, descriptor, interest, nanoseconds: limit - Clock.now()) {
      // Before the connection stands, looking at the socket would take its error away from libpq.
      case .ready(let events): ended = stage != .connecting && hasEnded(descriptor, events)
      case .timeout: return failed(.timeout, "connection to server \(place) failed: timeout expired")
      case .woken: return .woken
      case .failed(let error): return failed(.other, "waiting for the server failed (poll: errno \(error))")
      }
      let progress = unsafe PQconnectPoll(connection)
      if stage != .connecting, unsafe Stage(PQstatus(connection)) == .connecting {
        earlier = unsafe String(cString: PQerrorMessage(connection))
      }
      switch progress {
      case PGRES_POLLING_READING: interest = Int16(POLLIN)
      case PGRES_POLLING_WRITING: interest = Int16(POLLOUT)
      case PGRES_POLLING_OK: return nil
      default: return unsafe refused(connection, at: stage, ended: ended, after: earlier)
      }
    }
  }

  /// Whether the peer has closed or reset the connection with nothing left to read. An error is left in place for libpq.
  private func hasEnded(_ descriptor: Int32, _ events: Int16) -> Bool {
    if events & Int16(POLLERR) != 0 { return true }
    guard events & (Int16(POLLHUP) | Waiting.peerClosed) != 0 else { return false }
    var byte: UInt8 = 0
    return unsafe recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT)) == 0
  }

  /// Makes an attempt of what libpq says after it has given up. Of two errors the last one counts; but often pg_hba.conf
  /// has no entry for one of the two attempts, and then it is the other one that tells something.
  private func refused(
    _ connection: OpaquePointer, at stage: Stage, ended: Bool, after earlier: String = ""
  ) -> Outcome {
    let message = unsafe String(cString: PQerrorMessage(connection))
    let isRepeated = !earlier.isEmpty && message.hasPrefix(earlier)
    let (text, lastState) = LibpqText.split(isRepeated ? String(message.dropFirst(earlier.count)) : message)
    let first = isRepeated ? LibpqText.split(earlier) : (text: "", sqlState: nil)
    var sqlState = lastState
    if let firstState = first.sqlState, lastState?.hasPrefix("28") == true { sqlState = firstState }
    let kind: DialFailureKind
    if let sqlState {
      kind = DialFailureKind(sqlState: sqlState)
    } else if unsafe PQconnectionNeedsPassword(connection) != 0 {
      kind = .authentication
    } else if Self.wrongRoleTexts.contains(where: text.contains) {
      kind = .wrongRole
    } else if Self.isAboutTLS(text) {
      kind = .tls
    } else if stage == .connecting {
      // No descriptor left is our trouble, not the host's.
      kind = text.contains("could not create socket") ? .other : .unreachable
    } else {
      // OpenSSL may meet the end in the same step that read the last byte.
      let hasEnded = ended || Self.lostTexts.contains(where: text.contains)
      kind = stage == .awaitingAuthentication && hasEnded ? .unreachable : .other
    }
    return failed(kind, LibpqText.oneLine(first.text + "\n" + text), sqlState)
  }

  /// What libpq says when `target_session_attrs` is not satisfied; it has no code for that. The texts are not
  /// translated, because nothing in this program calls `setlocale`.
  private static let wrongRoleTexts = [
    "session is read-only", "session is not read-only", "server is in hot standby mode",
    "server is not in hot standby mode",
  ]

  /// Whether TLS is not to be had as the settings want it: certificates, keys and their files, the host's name, a server
  /// without TLS or without channel binding. libpq has no code for that either.
  static func isAboutTLS(_ text: String) -> Bool {
    let words = LibpqText.droppingQuoted(text)
    return tlsTexts.contains(where: words.contains) && !notTLSTexts.contains(where: words.contains)
  }

  private static let tlsTexts = ["SSL", "certificate", "private key", "channel binding"]
  /// What libpq says of a connection that ends amid TLS, with a close_notify or without.
  private static let lostTexts = [
    "SSL SYSCALL error", "SSL connection has been closed unexpectedly", "unexpected eof while reading",
  ]
  /// The network's fault, a server that has no memory or process left, and a peer that is no PostgreSQL.
  private static let notTLSTexts =
    lostTexts + [
      "server sent an error response during SSL exchange", "received invalid response to SSL negotiation",
    ]

  private func failed(_ kind: DialFailureKind, _ text: String, _ sqlState: String? = nil) -> Outcome {
    .failed(DialAttempt(host: host, address: address, kind: kind, sqlState: sqlState, text: text))
  }

  /// The host in libpq's own form.
  private var place: String {
    if host.isUnixSocket { return "on socket \"\(host.name)/.s.PGSQL.\(host.port)\"" }
    let resolved = address.map { $0 == host.name ? "" : " (\($0))" } ?? ""
    return "at \"\(host.name)\"\(resolved), port \(host.port)"
  }
}
