import CSystemd
import Glibc
import Logging
import Logs
import Settings
import Telemetry

/// Where log messages go, and in which form.
enum LogOutput {
  case text, json, journal

  init(_ format: LogFormat) {
    switch format {
    case .auto: self = LogOutput.isJournalOnStandardError && LogOutput.hasJournal ? .journal : .text
    case .journal: self = LogOutput.hasJournal ? .journal : .text
    case .text: self = .text
    case .json: self = .json
    }
  }

  /// Writes one record. What the journal does not take goes to standard error as text.
  func write(_ record: LogRecord) {
    switch self {
    case .json: StandardError.write(record.jsonLine)
    case .journal where LogOutput.sendToJournal(record.journalFields): break
    case .text, .journal: StandardError.write(record.textLine)
    }
  }

  /// Standard error is the journal's stream of this service: JOURNAL_STREAM holds its device and inode (systemd.exec(5)).
  /// A daemon whose standard error goes elsewhere must not fill the journal only because it inherited the variable.
  private static var isJournalOnStandardError: Bool {
    guard let stream = unsafe getenv("JOURNAL_STREAM") else { return false }
    var status = stat()
    guard unsafe fstat(STDERR_FILENO, &status) == 0 else { return false }
    return unsafe String(cString: stream) == "\(status.st_dev):\(status.st_ino)"
  }

  /// There is a journal: libsystemd drops messages silently where there is none.
  private static var hasJournal: Bool { unsafe access("/run/systemd/journal/socket", W_OK) == 0 }

  /// - Returns: whether the journal has taken it.
  private static func sendToJournal(_ fields: [[UInt8]]) -> Bool {
    var bytes = fields.flatMap { $0 }
    return unsafe bytes.withUnsafeMutableBytes { buffer in
      var start = 0
      let parts = unsafe fields.map { field in
        defer { start += field.count }
        return unsafe iovec(iov_base: buffer.baseAddress! + start, iov_len: field.count)
      }
      return unsafe sd_journal_sendv(parts, Int32(parts.count)) >= 0
    }
  }
}

/// swift-log's messages as records. All loggers share the level of one `LogControl`.
struct RecordLogHandler: LogHandler {
  let control: LogControl
  let output: LogOutput
  var metadata: Logger.Metadata = [:]

  var logLevel: Logger.Level {
    get { control.level.logging }
    set { control.level = LogLevel(newValue) }
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: Logging.LogEvent) {
    let all = metadata.merging(event.metadata ?? [:]) { $1 }
    output.write(
      LogRecord(
        time: .now, level: LogLevel(event.level), message: "\(event.message)",
        fields: all.sorted { $0.key < $1.key }.map { LogRecord.Field($0.key, "\($0.value)") }))
  }
}
