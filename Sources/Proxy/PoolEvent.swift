public import Reactor
public import Telemetry

/// What happened in the data plane, for the log. Holds no secrets and no text of queries. `client` and `server` are the
/// numbers of connections, as in SHOW CLIENTS and SHOW SERVERS.
public enum PoolEvent: Sendable {
  /// - tls: version and cipher; nil without TLS.
  case clientOpened(client: Int64, pool: String, peer: PeerAddress, tls: String?)
  /// A TLS handshake with a client failed; in OpenSSL's words.
  case handshakeFailed(client: Int64, peer: PeerAddress, reason: String)
  /// A client could not prove who it is. The reason is for the log only.
  case loginRefused(client: Int64, database: String, user: String, peer: PeerAddress, reason: String)
  /// A client was turned away before it had a pool, with this error. Names are empty where they are not known yet.
  case clientRefused(client: Int64, database: String, user: String, peer: PeerAddress, reason: String)
  case clientClosed(client: Int64, pool: String, peer: PeerAddress, reason: String, seconds: Double)
  case acceptFailed(listener: String, error: String)
  /// A listener that the service manager has opened is served; it is the one of a setting, or there is none for it.
  case listenerPassed(listener: String, isInSettings: Bool)
  /// Probes have found a host up, or down, in its own words; or a host has another role than before.
  case hostUp(host: String)
  case hostDown(host: String, reason: String)
  case hostRole(host: String, role: String)
  case connectFailed(pool: String, text: String)
  case serverOpened(pool: String, server: Int64, host: String, processID: Int32)
  case serverClosed(pool: String, server: Int64, processID: Int32, reason: String)
  case serverLost(pool: String, server: Int64, processID: Int32, reason: String)
  case cancelFailed(pool: String, server: Int64, text: String)
  case settingsRefused(pool: String, client: Int64, text: String)
  case protocolViolated(pool: String, server: Int64, processID: Int32, type: UInt8)
  /// A client, or its transaction, has reached a time limit.
  case limitExceeded(pool: String, client: Int64, limit: TimeLimit)
  /// A client has waited for `pool_timeout`, and got no connection.
  case waitTimedOut(pool: String, client: Int64)
}
