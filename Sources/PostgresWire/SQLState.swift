/// A five-character error code (PostgreSQL documentation, appendix "PostgreSQL Error Codes").
public struct SQLState: Hashable, Sendable {
  /// The five characters, each a digit or an upper-case ASCII letter.
  public let code: String

  /// - Returns: nil where `code` is not five digits or upper-case ASCII letters.
  public init?(_ code: String) {
    guard code.utf8.count == 5, code.utf8.allSatisfy({ 0x30...0x39 ~= $0 || 0x41...0x5a ~= $0 }) else { return nil }
    self.code = code
  }

  private init(known code: StaticString) {
    self.code = "\(code)"
  }

  /// The first two characters, which name the class of the condition.
  public var classCode: Substring { code.prefix(2) }
}

extension SQLState: CustomStringConvertible {
  public var description: String { code }
}

/// The codes that a pooler sends or looks for, each with its condition name.
extension SQLState {
  /// `successful_completion`
  public static let successfulCompletion = SQLState(known: "00000")
  /// `warning`
  public static let warning = SQLState(known: "01000")
  /// `connection_exception`
  public static let connectionException = SQLState(known: "08000")
  /// `sqlclient_unable_to_establish_sqlconnection`
  public static let unableToEstablishConnection = SQLState(known: "08001")
  /// `sqlserver_rejected_establishment_of_sqlconnection`
  public static let rejectedConnection = SQLState(known: "08004")
  /// `connection_failure`
  public static let connectionFailure = SQLState(known: "08006")
  /// `protocol_violation`
  public static let protocolViolation = SQLState(known: "08P01")
  /// `feature_not_supported`
  public static let featureNotSupported = SQLState(known: "0A000")
  /// `invalid_parameter_value`
  public static let invalidParameterValue = SQLState(known: "22023")
  /// `active_sql_transaction`
  public static let activeTransaction = SQLState(known: "25001")
  /// `read_only_sql_transaction`
  public static let readOnlyTransaction = SQLState(known: "25006")
  /// `no_active_sql_transaction`
  public static let noActiveTransaction = SQLState(known: "25P01")
  /// `in_failed_sql_transaction`
  public static let inFailedTransaction = SQLState(known: "25P02")
  /// `idle_in_transaction_session_timeout`
  public static let idleInTransactionSessionTimeout = SQLState(known: "25P03")
  /// `transaction_timeout`
  public static let transactionTimeout = SQLState(known: "25P04")
  /// `invalid_sql_statement_name`
  public static let invalidStatementName = SQLState(known: "26000")
  /// `invalid_authorization_specification`
  public static let invalidAuthorizationSpecification = SQLState(known: "28000")
  /// `invalid_password`
  public static let invalidPassword = SQLState(known: "28P01")
  /// `invalid_cursor_name`
  public static let invalidCursorName = SQLState(known: "34000")
  /// `invalid_catalog_name`
  public static let invalidCatalogName = SQLState(known: "3D000")
  /// `serialization_failure`
  public static let serializationFailure = SQLState(known: "40001")
  /// `statement_completion_unknown`
  public static let statementCompletionUnknown = SQLState(known: "40003")
  /// `insufficient_privilege`
  public static let insufficientPrivilege = SQLState(known: "42501")
  /// `syntax_error`
  public static let syntaxError = SQLState(known: "42601")
  /// `undefined_object`
  public static let undefinedObject = SQLState(known: "42704")
  /// `duplicate_prepared_statement`
  public static let duplicatePreparedStatement = SQLState(known: "42P05")
  /// `too_many_connections`
  public static let tooManyConnections = SQLState(known: "53300")
  /// `configuration_limit_exceeded`
  public static let configurationLimitExceeded = SQLState(known: "53400")
  /// `program_limit_exceeded`
  public static let programLimitExceeded = SQLState(known: "54000")
  /// `object_not_in_prerequisite_state`
  public static let objectNotInPrerequisiteState = SQLState(known: "55000")
  /// `cant_change_runtime_param`
  public static let cantChangeRuntimeParameter = SQLState(known: "55P02")
  /// `query_canceled`
  public static let queryCanceled = SQLState(known: "57014")
  /// `admin_shutdown`
  public static let adminShutdown = SQLState(known: "57P01")
  /// `crash_shutdown`
  public static let crashShutdown = SQLState(known: "57P02")
  /// `cannot_connect_now`
  public static let cannotConnectNow = SQLState(known: "57P03")
  /// `database_dropped`
  public static let databaseDropped = SQLState(known: "57P04")
  /// `idle_session_timeout`
  public static let idleSessionTimeout = SQLState(known: "57P05")
  /// `system_error`
  public static let systemError = SQLState(known: "58000")
  /// `internal_error`
  public static let internalError = SQLState(known: "XX000")
}
