public import Reactor

/// What happened in the data plane, for the log. Holds no secrets and no text of queries.
public enum PoolEvent: Sendable {
  /// - tls: version and cipher; nil without TLS.
  case clientOpened(pool: String, peer: PeerAddress, tls: String?)
  /// A TLS handshake with a client failed; in OpenSSL's words.
  case handshakeFailed(peer: PeerAddress, reason: String)
  /// A client could not prove who it is. The reason is for the log only.
  case loginRefused(database: String, user: String, peer: PeerAddress, reason: String)
  case clientClosed(pool: String, peer: PeerAddress, reason: String, seconds: Double)
  case acceptFailed(listener: String, error: String)
  case connectFailed(pool: String, text: String)
  case serverOpened(pool: String, host: String, processID: Int32)
  case serverClosed(pool: String, processID: Int32, reason: String)
  case serverLost(pool: String, processID: Int32, reason: String)
  case cancelFailed(pool: String, text: String)
  case settingsRefused(pool: String, text: String)
  case protocolViolated(pool: String, processID: Int32, type: UInt8)
}
