import Pooling
import PostgresWire
import Settings
import Telemetry

/// Why a client's request is answered by the daemon with an error. Primary texts of errors on connections that stay
/// open begin with `pool "…"`, and the server's own words go to DETAIL: drivers take phrases such as "terminating
/// connection" for a lost connection.
final class Refusal: Sendable {
  let code: SQLState
  let message: WireText
  let detail: WireText?
  let hint: WireText?
  /// It is the server's error, passed on as it was, or what the server would say.
  let isServers: Bool

  init(
    code: SQLState, message: WireText, detail: WireText? = nil, hint: WireText? = nil, isServers: Bool = false
  ) {
    self.code = code
    self.message = message
    self.detail = detail
    self.hint = hint
    self.isServers = isServers
  }

  /// As it is sent to a client; one of the daemon's own names the client's connection.
  func fields(_ severity: ErrorFields.Severity = .error, to client: Client) -> ErrorFields {
    let fields = ErrorFields(severity, code, message, detail: detail, hint: hint)
    return isServers ? fields : fields.naming(client: client.id)
  }
}

extension Refusal {
  /// The wait for a connection has run out. The text is SQLAlchemy's.
  static func timeout(_ pool: Pool, detail: String? = nil) -> Refusal {
    let pins =
      pool.pinnedInAll > 0
      ? "\(pool.pinnedInAll) of at most \(pool.settings.bound) server connections are pinned by clients (SHOW PINS)."
      : nil
    let timeout = pool.settings.poolTimeout ?? .zero
    let hundredths = timeout.components.seconds * 100 + timeout.components.attoseconds / 10_000_000_000_000_000
    let fraction = hundredths % 100
    return Refusal(
      code: .tooManyConnections,
      message: WireText(
        "\(pool.quotedLabel) limit of size \(pool.settings.poolSize) overflow \(pool.settings.maxOverflow) reached, "
          + "connection timed out, timeout \(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction) s"),
      detail: (detail ?? pins).map { WireText($0) })
  }

  /// No server connection can be opened, and waiting would not help or is not wanted.
  static func unavailable(_ pool: Pool, code: SQLState, detail: String) -> Refusal {
    Refusal(
      code: code, message: WireText("\(pool.quotedLabel) cannot open a server connection"), detail: WireText(detail))
  }

  /// The client cancelled its request before it had a connection.
  static func cancelled(_ pool: Pool) -> Refusal {
    Refusal(
      code: .queryCanceled, message: WireText("\(pool.quotedLabel) canceling statement due to user request"),
      detail: "The request was waiting for a server connection.")
  }

  /// The database has been taken out of the settings.
  static func retired(_ pool: Pool) -> Refusal {
    Refusal(
      code: .invalidCatalogName, message: WireText("\(pool.quotedLabel) is no longer served"),
      detail: "The database was removed from the settings.")
  }

  /// The server connection died while the client's request was under way.
  static func connectionLost(_ pool: Pool, code: SQLState, detail: String) -> Refusal {
    Refusal(
      code: code, message: WireText("\(pool.quotedLabel) lost the server connection of the request or its transaction"),
      detail: WireText(detail))
  }

  /// A request in a transaction block that is lost.
  static func blockLost(_ pool: Pool?) -> Refusal {
    Refusal(
      code: .inFailedTransaction,
      message: WireText(
        "\(pool?.quotedLabel ?? "pool"): the transaction is lost, commands are ignored until its end (ROLLBACK)"))
  }

  /// A statement would pin the connection, and may not.
  static func pin(_ pool: Pool, _ pins: PinReasons, statement: String) -> Refusal {
    let reasons = pins.reasons.map(\.rawValue).joined(separator: ", ")
    if pool.settings.sessionState == .reject {
      return Refusal(
        code: .featureNotSupported,
        message: WireText("\(pool.quotedLabel) rejects session state (\(reasons)) in \(pool.settings.mode) mode"),
        detail: WireText("Statement: \(statement)"),
        hint: "session_state = \"pin\" lets the client keep its server connection; so does mode = \"session\".")
    }
    return Refusal(
      code: .tooManyConnections,
      message: WireText(
        "\(pool.quotedLabel) has max_pinned \(pool.settings.maxPinned) connections pinned already, and this statement "
          + "would pin another (\(reasons))"),
      detail: WireText("Statement: \(statement)"),
      hint: "SHOW PINS on the console says who has them. Raise pool_size, max_overflow or max_pinned.")
  }

  /// A BEGIN in statement mode.
  static func blockInStatementMode(_ pool: Pool) -> Refusal {
    Refusal(
      code: .featureNotSupported,
      message: WireText("\(pool.quotedLabel) does not allow transaction blocks in statement mode"),
      detail: "The transaction was rolled back.", hint: "Use mode = \"transaction\" for this pool.")
  }
}
