import Glibc
import Logging
import Proxy

/// Takes the data plane's events off its threads: they are queued without waiting, and a task writes them. When the
/// reader of the log is too slow, the oldest are dropped and counted.
struct LogWriter {
  private static let queued = 10_000

  private let events: AsyncStream<PoolEvent>
  private let continuation: AsyncStream<PoolEvent>.Continuation
  private let logger: Logger
  private let logsConnections: Bool

  init(logger: Logger, logsConnections: Bool) {
    self.logger = logger
    self.logsConnections = logsConnections
    (events, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(LogWriter.queued))
  }

  /// Queues an event; any thread, at once. What would not be written is not queued: it would wake the task for nothing,
  /// once for each client that comes and once for each that goes.
  var sink: @Sendable (PoolEvent) -> Void {
    let writesConnections = logsConnections && logger.logLevel <= .info
    return { [continuation] event in
      switch event {
      case .clientOpened, .clientClosed: if writesConnections { continuation.yield(event) }
      default: continuation.yield(event)
      }
    }
  }

  /// No more events will come; `run` ends after those that are queued.
  func finish() { continuation.finish() }

  /// Writes events until `finish`.
  func run() async {
    for await event in events { write(event) }
  }

  private func write(_ event: PoolEvent) {
    switch event {
    case .clientOpened(let pool, let peer, let tls):
      var metadata: Logger.Metadata = ["pool": "\(pool)", "peer": "\(peer.host):\(peer.port)"]
      if let tls { metadata["tls"] = "\(tls)" }
      logger.info("client connected", metadata: metadata)
    case .handshakeFailed(let peer, let reason):
      logger.info(
        "TLS handshake failed", metadata: ["peer": "\(peer.host):\(peer.port)", "error": "\(reason)"])
    case .loginRefused(let database, let user, let peer, let reason):
      logger.warning(
        "login refused",
        metadata: [
          "database": "\(database)", "user": "\(user)", "peer": "\(peer.host):\(peer.port)", "reason": "\(reason)",
        ])
    case .clientClosed(let pool, let peer, let reason, let seconds):
      logger.info(
        "client closed",
        metadata: [
          "pool": "\(pool)", "peer": "\(peer.host):\(peer.port)", "reason": "\(reason)",
          "seconds": "\((seconds * 1000).rounded() / 1000)",
        ])
    case .acceptFailed(let listener, let error):
      logger.error("cannot accept clients", metadata: ["listener": "\(listener)", "error": "\(error)"])
    case .connectFailed(let pool, let text):
      logger.warning("cannot open a server connection", metadata: ["pool": "\(pool)", "error": "\(text)"])
    case .serverOpened(let pool, let host, let processID):
      logger.info(
        "server connection opened", metadata: ["pool": "\(pool)", "host": "\(host)", "backend": "\(processID)"])
    case .serverClosed(let pool, let processID, let reason):
      logger.info(
        "server connection closed", metadata: ["pool": "\(pool)", "backend": "\(processID)", "reason": "\(reason)"])
    case .serverLost(let pool, let processID, let reason):
      logger.warning(
        "server connection lost", metadata: ["pool": "\(pool)", "backend": "\(processID)", "reason": "\(reason)"])
    case .cancelFailed(let pool, let text):
      logger.warning("cancel request failed", metadata: ["pool": "\(pool)", "error": "\(text)"])
    case .settingsRefused(let pool, let text):
      logger.warning("server refused a client's settings", metadata: ["pool": "\(pool)", "error": "\(text)"])
    case .protocolViolated(let pool, let processID, let type):
      logger.error(
        "server sent what nobody asked for; its connection is closed",
        metadata: ["pool": "\(pool)", "backend": "\(processID)", "type": "0x\(String(type, radix: 16))"])
    }
  }
}

/// swift-log's messages as text lines: time, level, message, then `key=value`.
struct TextLogHandler: LogHandler {
  var logLevel = Logger.Level.info
  var metadata: Logger.Metadata = [:]

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: Logging.LogEvent) {
    let all = metadata.merging(event.metadata ?? [:]) { $1 }
    let fields = all.sorted { $0.key < $1.key }.map { " \($0.key)=\(TextLogHandler.quoted("\($0.value)"))" }.joined()
    StandardError.write("\(TextLogHandler.timestamp()) \(event.level) \(event.message)\(fields)")
  }

  /// A value as one word, or in quotes.
  private static func quoted(_ value: String) -> String {
    let needsQuotes = value.isEmpty || value.utf8.contains { $0 <= 0x20 || $0 == UInt8(ascii: "\"") || $0 == 0x7f }
    return needsQuotes ? value.debugDescription : value
  }

  /// UTC with milliseconds, as in ISO 8601.
  private static func timestamp() -> String {
    var now = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &now)
    var parts = unsafe tm()
    unsafe gmtime_r(&now.tv_sec, &parts)
    var text = [CChar](repeating: 0, count: 32)
    let length = unsafe strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S", &parts)
    let milliseconds = String(1000 + now.tv_nsec / 1_000_000).dropFirst()
    return String(decoding: text.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self) + ".\(milliseconds)Z"
  }
}
