import Logs
import Proxy
import Reactor
import Settings

/// A pool event as it is logged.
struct LogEntry {
  var level: LogLevel
  var message: String
  /// What is written with the first one.
  var fields: [LogRecord.Field]
  /// What makes two of them the same, so that the second is only counted; nil where each is written.
  var sameness: [LogRecord.Field]?

  /// One that is written each time.
  init(_ level: LogLevel, _ message: String, _ fields: [(String, String)]) {
    self.level = level
    self.message = message
    self.fields = fields.map { LogRecord.Field($0.0, $0.1) }
  }

  /// One that is folded where `same` is the same.
  init(_ level: LogLevel, _ message: String, same: [(String, String)], _ more: [(String, String)] = []) {
    self.init(level, message, same + more)
    sameness = same.map { LogRecord.Field($0.0, $0.1) }
  }
}

extension PoolEvent {
  /// Levels, words and fields of the log. Clients and server connections that come and go are written one by one, as each
  /// has its number; what goes wrong is folded by pool or by the peer's address.
  var logEntry: LogEntry {
    switch self {
    case .clientOpened(let client, let pool, let peer, let tls):
      return LogEntry(
        .info, "client connected",
        [("client", "\(client)"), ("pool", pool), ("peer", peer.text)] + (tls.map { [("tls", $0)] } ?? []))
    case .handshakeFailed(let client, let peer, let reason):
      return LogEntry(
        .info, "TLS handshake failed", same: [("host", peer.host), ("error", reason)],
        [("client", "\(client)"), ("peer", peer.text)])
    case .loginRefused(let client, let database, let user, let peer, let reason):
      return LogEntry(
        .warning, "login refused",
        same: [("database", database), ("user", user), ("host", peer.host), ("reason", reason)],
        [("client", "\(client)"), ("peer", peer.text)])
    case .clientRefused(let client, let database, let user, let peer, let reason):
      return LogEntry(
        .info, "client turned away", same: [("host", peer.host), ("reason", reason)],
        [("client", "\(client)"), ("peer", peer.text), ("database", database), ("user", user)])
    case .clientClosed(let client, let pool, let peer, let reason, let seconds):
      return LogEntry(
        .info, "client closed",
        [
          ("client", "\(client)"), ("pool", pool), ("peer", peer.text), ("reason", reason),
          ("seconds", "\((seconds * 1000).rounded() / 1000)"),
        ])
    case .acceptFailed(let listener, let error):
      return LogEntry(.error, "cannot accept clients", same: [("listener", listener), ("error", error)])
    case .listenerPassed(let listener, let isInSettings):
      let message = "serving a listener that was passed" + (isInSettings ? "" : " and is not in [server] listen")
      return LogEntry(.notice, message, [("listener", listener)])
    case .hostUp(let host): return LogEntry(.notice, "host is up", [("host", host)])
    case .hostDown(let host, let reason):
      return LogEntry(.warning, "host is down", [("host", host), ("error", reason)])
    case .hostRole(let host, let role):
      return LogEntry(.notice, "host has this role now", [("host", host), ("role", role)])
    case .connectFailed(let pool, let text):
      return LogEntry(.warning, "cannot open a server connection", same: [("pool", pool), ("error", text)])
    case .serverOpened(let pool, let server, let host, let processID):
      return LogEntry(
        .info, "server connection opened",
        [("pool", pool), ("server", "\(server)"), ("host", host), ("backend", "\(processID)")])
    case .serverClosed(let pool, let server, let processID, let reason):
      return LogEntry(
        .info, "server connection closed",
        [("pool", pool), ("server", "\(server)"), ("backend", "\(processID)"), ("reason", reason)])
    case .serverLost(let pool, let server, let processID, let reason):
      return LogEntry(
        .warning, "server connection lost", same: [("pool", pool), ("reason", reason)],
        [("server", "\(server)"), ("backend", "\(processID)")])
    case .cancelFailed(let pool, let server, let text):
      return LogEntry(
        .warning, "cancel request failed", same: [("pool", pool), ("error", text)], [("server", "\(server)")])
    case .settingsRefused(let pool, let client, let text):
      return LogEntry(
        .warning, "server refused a client's settings", same: [("pool", pool), ("error", text)],
        [("client", "\(client)")])
    case .protocolViolated(let pool, let server, let processID, let type):
      return LogEntry(
        .error, "server sent what nobody asked for; its connection is closed",
        same: [("pool", pool), ("type", "0x\(String(type, radix: 16))")],
        [("server", "\(server)"), ("backend", "\(processID)")])
    case .waitTimedOut(let pool, let client):
      return LogEntry(
        .warning, "a client has waited for pool_timeout", same: [("pool", pool)], [("client", "\(client)")])
    case .limitExceeded(let pool, let client, let limit):
      return LogEntry(
        .warning, "a client has reached a time limit", same: [("pool", pool), ("limit", limit.rawValue)],
        [("client", "\(client)")])
    }
  }

  /// What SHOW EVENTS keeps of it: kind, pool and detail; nil for clients that come and go. Numbers of connections are
  /// left out, so that the same is counted. So are names that anybody may send: they would fill the list.
  var noted: (kind: String, pool: String?, detail: String)? {
    switch self {
    case .clientOpened, .clientClosed, .clientRefused, .handshakeFailed: nil
    case .loginRefused(_, _, _, let peer, let reason): ("login_refused", nil, "from \(peer.host): \(reason)")
    case .acceptFailed(let listener, let error): ("accept_failed", nil, "\(listener): \(error)")
    case .listenerPassed(let listener, let isInSettings):
      ("listener_passed", nil, isInSettings ? listener : "\(listener), which is not in [server] listen")
    case .hostUp(let host): ("host_up", nil, host)
    case .hostDown(let host, let reason): ("host_down", nil, "\(host): \(reason)")
    case .hostRole(let host, let role): ("host_role", nil, "\(host) is a \(role)")
    case .connectFailed(let pool, let text): ("connect_failed", pool, text)
    case .serverOpened(let pool, _, let host, _): ("server_opened", pool, host)
    case .serverClosed(let pool, _, _, let reason): ("server_closed", pool, reason)
    case .serverLost(let pool, _, _, let reason): ("server_lost", pool, reason)
    case .cancelFailed(let pool, _, let text): ("cancel_failed", pool, text)
    case .settingsRefused(let pool, _, let text): ("settings_refused", pool, text)
    case .protocolViolated(let pool, _, _, let type):
      ("protocol_violated", pool, "a message of type 0x\(String(type, radix: 16)) that nobody asked for")
    case .limitExceeded(let pool, _, let limit): ("limit_exceeded", pool, limit.rawValue)
    case .waitTimedOut(let pool, _): ("wait_timed_out", pool, "a client has waited for pool_timeout")
    }
  }
}

extension PeerAddress {
  /// Address and port.
  fileprivate var text: String { "\(host):\(port)" }
}
