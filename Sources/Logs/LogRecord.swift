public import Settings
public import Telemetry

/// A log message with what belongs to it, before it becomes a line of text, a JSON object or fields of the journal.
///
/// Messages and names of fields are the daemon's own; values may be anybody's, such as the name of a user who is not let
/// in. Whatever they hold, a record stays one line, and one that does not touch the terminal it is read on.
public struct LogRecord: Sendable, Equatable {
  /// A name of lower-case letters and underscores, and a value.
  public struct Field: Sendable, Hashable {
    /// Such as `pool`.
    public var name: String
    /// Any text.
    public var value: String

    /// A field.
    public init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }
  }

  /// When it was written.
  public var time: UnixTime
  /// How important it is.
  public var level: LogLevel
  /// What happened, in words.
  public var message: String
  /// Whom and what it is about, in the order shown.
  public var fields: [Field]

  /// A record.
  public init(time: UnixTime, level: LogLevel, message: String, fields: [Field] = []) {
    self.time = time
    self.level = level
    self.message = message
    self.fields = fields
  }
}

extension UnixTime {
  /// UTC with milliseconds, as in ISO 8601: `2026-11-25T20:12:05.332Z`.
  var iso8601: String {
    let second = Array("\(self)".prefix(19))
    let milliseconds = String(1000 + (microseconds % 1_000_000 + 1_000_000) % 1_000_000 / 1000).dropFirst()
    return String(second[..<10]) + "T" + String(second[11...]) + ".\(milliseconds)Z"
  }
}
