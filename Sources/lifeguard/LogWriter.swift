import Locking
import Logging
import Logs
import Proxy
import Settings
import Telemetry

/// Takes the data plane's events off its threads: they are queued without waiting, and a task writes them to the log and
/// notes them for SHOW EVENTS. When the reader of the log is too slow, the newest are dropped and counted.
///
/// The task lets a little time pass before it looks at what is queued: to wake it costs more than to write a line, and where
/// clients come and go by the thousand it is woken once for many.
final class LogWriter: Sendable {
  private static let queued = 10_000
  private static let gathering = Duration.milliseconds(5)

  private struct Sameness: Hashable {
    var message: String
    var fields: [LogRecord.Field]
  }

  private struct Queue {
    var events: [PoolEvent] = []
    var dropped = 0
  }

  private let queue = Mutex(Queue())
  /// Something is queued, or repetitions have to be counted.
  private let news: AsyncStream<Void>
  private let continuation: AsyncStream<Void>.Continuation
  private let logger: Logger
  private let control: LogControl
  private let events: EventLog

  init(logger: Logger, control: LogControl, events: EventLog) {
    self.logger = logger
    self.control = control
    self.events = events
    (news, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
  }

  /// Queues an event; any thread, at once. What would not be written is not queued.
  func take(_ event: PoolEvent) {
    switch event {
    case .clientOpened, .clientClosed: if !(control.logsConnections && control.writes(.info)) { return }
    default: break
    }
    let isFirst = queue.withLock { queue in
      guard queue.events.count < LogWriter.queued else {
        queue.dropped += 1
        return false
      }
      queue.events.append(event)
      return queue.events.count == 1
    }
    if isFirst { continuation.yield() }
  }

  /// No more events will come; `run` ends after those that are queued.
  func finish() { continuation.finish() }

  /// Writes events until `finish`.
  func run() async {
    var repetitions = Repetitions<Sameness, LogEntry>()
    var wakesAt: Int64?
    for await _ in news {
      // Where the daemon ends meanwhile, the rest is written below.
      try? await Task.sleep(for: LogWriter.gathering)
      let now = MonotonicClock.nanoseconds
      writeQueued(at: now, &repetitions)
      if let wake = wakesAt, wake <= now { wakesAt = nil }
      if wakesAt == nil, let end = repetitions.nextEnd {
        wakesAt = end
        wake(after: .nanoseconds(end - now))
      }
    }
    writeQueued(at: MonotonicClock.nanoseconds, &repetitions)
    writeCounts(repetitions.ended(at: .max))
  }

  private func writeQueued(at now: Int64, _ repetitions: inout Repetitions<Sameness, LogEntry>) {
    writeCounts(repetitions.ended(at: now))
    let taken = queue.withLock { queue in
      defer { queue = Queue() }
      return queue
    }
    if taken.dropped > 0 { logger.warning("log messages dropped", metadata: ["count": "\(taken.dropped)"]) }
    for event in taken.events { write(event, at: now, &repetitions) }
  }

  private func wake(after time: Duration) {
    Task { [continuation] in
      try await Task.sleep(for: time)
      continuation.yield()
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
