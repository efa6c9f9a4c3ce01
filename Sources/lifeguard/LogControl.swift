import Logging
import Settings
import Synchronization

/// What of the log may change while the daemon runs. Every logger and the log writer look here each time.
final class LogControl: Sendable {
  /// The place in `LogLevel.allCases`.
  private let levelIndex = Atomic(0)
  private let connections = Atomic(true)

  init(_ settings: LogSettings) { apply(settings) }

  /// Takes what the settings say.
  func apply(_ settings: LogSettings) {
    level = settings.level
    logsConnections = settings.connections
  }

  /// The least important messages that are written.
  var level: LogLevel {
    get { LogLevel.allCases[levelIndex.load(ordering: .relaxed)] }
    set { levelIndex.store(LogLevel.allCases.firstIndex(of: newValue) ?? 0, ordering: .relaxed) }
  }

  /// Whether clients that come and go are logged.
  var logsConnections: Bool {
    get { connections.load(ordering: .relaxed) }
    set { connections.store(newValue, ordering: .relaxed) }
  }

  /// Messages of this level are written.
  func writes(_ level: LogLevel) -> Bool { level.logging >= self.level.logging }
}

extension LogLevel {
  /// swift-log has the same words.
  var logging: Logger.Level { Logger.Level(rawValue: rawValue)! }

  init(_ level: Logger.Level) { self = LogLevel(rawValue: level.rawValue)! }
}
