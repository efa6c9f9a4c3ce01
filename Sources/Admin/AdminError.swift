/// Why the console refuses a command, ready to become an ErrorResponse.
public struct AdminError: Error, Sendable, Equatable, CustomStringConvertible {
  /// One of PostgreSQL's SQLSTATE codes.
  public var sqlState: String
  /// The primary message.
  public var message: String
  /// What to do instead.
  public var hint: String?

  /// An error with these fields.
  public init(sqlState: String, message: String, hint: String? = nil) {
    self.sqlState = sqlState
    self.message = message
    self.hint = hint
  }

  /// Message and hint.
  public var description: String { hint.map { "\(message); \($0)" } ?? message }

  /// 42601: not a command.
  static func syntax(_ message: String) -> AdminError {
    AdminError(sqlState: "42601", message: "syntax error: \(message)", hint: "SHOW HELP lists the commands.")
  }

  /// 0A000: a command of PgBouncer's that Lifeguard does not have.
  static func notThereYet(_ command: String) -> AdminError {
    AdminError(
      sqlState: "0A000", message: "\(command) is not there yet", hint: "SHOW HELP lists the commands.")
  }
}
