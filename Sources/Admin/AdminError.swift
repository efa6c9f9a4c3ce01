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

  /// 0A000: a command of PgBouncer's that Lifeguard does not have, and what there is instead.
  static func notHere(_ command: String, hint: String) -> AdminError {
    AdminError(sqlState: "0A000", message: "Lifeguard has no \(command)", hint: hint)
  }

  /// 3D000: no such database, in PgBouncer's words.
  public static func unknownDatabase(_ name: String) -> AdminError {
    AdminError(sqlState: "3D000", message: "no such database: \(name)", hint: "SHOW DATABASES lists them.")
  }

  /// 42704: no client has this number.
  public static func unknownClient(_ id: Int64) -> AdminError {
    AdminError(
      sqlState: "42704", message: "no such client: \(id)", hint: "SHOW CLIENTS has the clients in its column id.")
  }

  /// 57014: RESUME came before PAUSE had what it waited for.
  public static let pauseRevoked = AdminError(
    sqlState: "57014", message: "the pause ended before all server connections were closed")

  /// F0000: settings that cannot be taken; nothing has changed.
  ///
  /// - Parameter what: `reloaded` or `changed`.
  public static func settingsNot(_ what: String, _ problems: [String]) -> AdminError {
    AdminError(sqlState: "F0000", message: "settings not \(what): \(problems.joined(separator: "; "))")
  }
}
