/// Why a client keeps its server connection between transactions, as SHOW PINS, metrics and errors call it.
public enum PinReason: String, CaseIterable, Sendable {
  /// A statement prepared by the protocol that is not shared.
  case statement = "prepared statement"
  /// An unnamed statement that has been parsed and not used yet.
  case unnamedStatement = "unnamed statement"
  case sqlStatement = "PREPARE"
  case temporary = "temporary table"
  case listening = "LISTEN"
  case advisoryLock = "advisory lock"
  case heldCursor = "WITH HOLD cursor"
  case library = "LOAD"
  /// A setting was changed whose name the statement did not show.
  case setting = "setting of unknown name"
  /// The client asks for what its sequences gave in earlier transactions.
  case sequences = "currval, lastval"
  /// The server could not be asked what is left.
  case unknown = "unknown state"
}
