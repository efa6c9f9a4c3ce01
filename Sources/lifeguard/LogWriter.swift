import Logging
import Logs
import Proxy
import Settings
import Synchronization
import Telemetry

/// Takes the data plane's events off its threads: they are queued without waiting, and a task writes them to the log and
/// notes them for SHOW EVENTS. When the reader of the log is too slow, the oldest are dropped and counted.
final class LogWriter: Sendable {
  private static let queued = 10_000

  private enum Item: Sendable {
    case event(PoolEvent)
    /// Look for repetitions whose count is due.
    case repetitionsDue
  }

  private struct Sameness: Hashable {
    var message: String
    var fields: [LogRecord.Field]
  }

  private let items: AsyncStream<Item>
  private let continuation: AsyncStream<Item>.Continuation
  private let dropped = Atomic(0)
  private let logger: Logger
  private let control: LogControl
  private let events: EventLog

  init(logger: Logger, control: LogControl, events: EventLog) {
    self.logger = logger
    self.control = control
    self.events = events
    (items, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(LogWriter.queued))
  }

  /// Queues an event; any thread, at once. What would not be written is not queued: it would wake the task for nothing,
  /// once for each client that comes and once for each that goes.
  func take(_ event: PoolEvent) {
    switch event {
    case .clientOpened, .clientClosed: if !(control.logsConnections && control.writes(.info)) { return }
    default: break
    }
    if case .dropped = continuation.yield(.event(event)) { dropped.wrappingAdd(1, ordering: .relaxed) }
  }

  /// No more events will come; `run` ends after those that are queued.
  func finish() { continuation.finish() }

  /// Writes events until `finish`.
  func run() async {
    var repetitions = Repetitions<Sameness, LogEntry>()
    var wakesAt: Int64?
    for await item in items {
      let now = MonotonicClock.nanoseconds
      writeCounts(repetitions.ended(at: now))
      let lost = dropped.exchange(0, ordering: .relaxed)
      if lost > 0 { logger.warning("log messages dropped", metadata: ["count": "\(lost)"]) }
      if case .event(let event) = item { write(event, at: now, &repetitions) }
      if let wake = wakesAt, wake <= now { wakesAt = nil }
      if wakesAt == nil, let end = repetitions.nextEnd {
        wakesAt = end
        wake(after: .nanoseconds(end - now))
      }
    }
    writeCounts(repetitions.ended(at: .max))
  }

  private func wake(after time: Duration) {
    Task { [continuation] in
      try await Task.sleep(for: time)
      continuation.yield(.repetitionsDue)
    }
  }

  private func write(_ event: PoolEvent, at now: Int64, _ repetitions: inout Repetitions<Sameness, LogEntry>) {
    if let (kind, pool, detail) = event.noted { events.note(kind: kind, pool: pool, detail: detail, at: .now) }
    let entry = event.logEntry
    guard control.writes(entry.level) else { return }
    if let sameness = entry.sameness {
      let key = Sameness(message: entry.message, fields: sameness)
      guard repetitions.happens(key, entry, at: now) else { return }
    }
    log(entry.level, entry.message, entry.fields)
  }

  private func writeCounts(_ counts: [(message: LogEntry, repetitions: Int)]) {
    for (entry, count) in counts {
      let times = count == 1 ? "1 time" : "\(count) times"
      log(
        entry.level, "\(entry.message) … repeated \(times)",
        (entry.sameness ?? []) + [LogRecord.Field("repeated", "\(count)")])
    }
  }

  private func log(_ level: LogLevel, _ message: String, _ fields: [LogRecord.Field]) {
    let metadata = fields.map { ($0.name, Logger.MetadataValue.string($0.value)) }
    logger.log(level: level.logging, "\(message)", metadata: Logger.Metadata(metadata) { $1 })
  }
}
