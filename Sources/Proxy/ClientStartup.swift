import Pooling
import PostgresWire
import Reactor
import Settings

/// The first packets of a connection: requests for encryption, a cancel request, or the StartupMessage (PostgreSQL
/// documentation, "Start-up", "SSL Session Encryption" and "Canceling Requests in Progress").
///
/// ```
///   accepted ──SSLRequest──▶ 'S', TLS handshake ──▶ StartupMessage ──▶ who is it? (ClientLogin)
///      └─────ClientHello───▶ TLS handshake with ALPN ──┘      │
///      └───────────────────StartupMessage─────────────────────┘
/// ```
extension Client {
  /// The type of a TLS record that a ClientHello comes in (RFC 8446, section 5.1). No packet of PostgreSQL's begins
  /// with it: it would be 370 million bytes long.
  private static let handshakeRecord: UInt8 = 22

  /// Reads one packet without a type byte. Returns whether to go on.
  func startupStep(_ bytes: Span<UInt8>, _ cursor: inout Int) -> Bool {
    if cursor < bytes.count, bytes[cursor] == Client.handshakeRecord, let context = offeredTLS {
      // `sslnegotiation=direct`
      worker.loop.startTLS(on: self, context, requiresALPN: true, received: bytes.extracting(cursor...))
      isEncrypted = true
      entry?.received -= bytes.count - cursor
      cursor = bytes.count
      return false
    }
    let packet: InitialPacket
    let rest = bytes.extracting(cursor...)
    let length: Int
    do {
      guard let whole = try InitialPacket.length(rest), rest.count >= whole else { return false }
      length = whole
      cursor += length
      if let known = worker.startups[rest.extracting(..<length)] { return start(known) }
      packet = try InitialPacket(body: rest.extracting(4..<length))
    } catch {
      close(with: ErrorFields(.fatal, error.sqlState, WireText("\(error)")))
      return false
    }
    switch packet {
    case .ssl:
      guard !isEncrypted else { return fail(.protocolViolation, "an SSLRequest came inside of TLS") }
      guard let context = offeredTLS else { return answer("N") }
      // What follows was sent before the server had said a word: by somebody in the middle (CVE-2021-23214).
      guard cursor == bytes.count else {
        return fail(.protocolViolation, "received unencrypted data after SSL request")
      }
      _ = answer("S")
      worker.loop.startTLS(on: self, context, requiresALPN: false, received: Span())
      isEncrypted = true
      return false
    case .gssEncryption: return answer("N")
    case .cancel(let key):
      worker.environment.cancel(key)
      worker.closeClient(self, reason: "cancel request")
      return false
    case .startup(let message):
      guard let startup = ClientStartup(message) else {
        return fail(.protocolViolation, "the name of the user or the database is not UTF-8 text")
      }
      worker.startups.remember(rest.extracting(..<length), startup)
      return start(startup)
    }
  }

  /// What TLS may begin with, where it may: not inside of TLS, and never on Unix sockets, as in PostgreSQL.
  private var offeredTLS: TLSServerContext? { isEncrypted || peer.isUnix ? nil : worker.configuration.tls }

  private func answer(_ letter: Unicode.Scalar) -> Bool {
    send([UInt8(ascii: letter)].span)
    return true
  }

  private func start(_ startup: ClientStartup) -> Bool {
    name = startup.name
    let server = worker.settings.server
    guard startup.replication == .off else {
      return fail(.featureNotSupported, "replication connections cannot be pooled: connect to the server directly")
    }
    if worker.environment.quota.isUsedUp(server.maxClients) { return failTooManyClients() }
    if worker.isDraining { return fail(.cannotConnectNow, "the connection pooler is shutting down") }
    if server.tlsMode.requiresTLS && !isEncrypted && !peer.isUnix {
      return fail(
        .invalidAuthorizationSpecification,
        "connections without TLS are not allowed here (tls_mode \"\(server.tlsMode.rawValue)\")")
    }
    if startup.needsNegotiation {
      send { $0.negotiateProtocolVersion(newest: .v3_0, unknownOptions: startup.unknownOptions) }
    }
    switch startup.settings {
    case .success(let settings): entry?.settings = settings
    case .failure(let error): return fail(.invalidParameterValue, "\(error)")
    }
    return beginAuthentication()
  }

  func failTooManyClients() -> Bool {
    fail(
      .tooManyConnections, "sorry, too many clients already (max_clients \(worker.settings.server.maxClients))")
  }

  /// Ends the connection with an error that is not about a pool.
  ///
  /// - Returns: false, for there is nothing to go on with.
  func fail(_ code: SQLState, _ message: String, hint: WireText? = nil) -> Bool {
    close(with: ErrorFields(.fatal, code, WireText(message), hint: hint))
    return false
  }
}

extension PeerAddress {
  /// Connected over a Unix socket.
  var isUnix: Bool { host == "unix" }
}
