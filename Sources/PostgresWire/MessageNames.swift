extension FrontendType {
  /// The message's name in the PostgreSQL documentation.
  public var messageName: StaticString {
    switch self {
    case .bind: "Bind"
    case .close: "Close"
    case .describe: "Describe"
    case .execute: "Execute"
    case .functionCall: "FunctionCall"
    case .flush: "Flush"
    case .parse: "Parse"
    case .query: "Query"
    case .sync: "Sync"
    case .terminate: "Terminate"
    case .copyDone: "CopyDone"
    case .copyData: "CopyData"
    case .copyFail: "CopyFail"
    case .password: "PasswordMessage"
    }
  }

  /// Checks the body of a message that has none: Sync, Flush, Terminate, CopyDone.
  public func checkEmpty(body: Span<UInt8>) throws(WireError) {
    try FieldReader(messageName).end(in: body)
  }
}

extension BackendType {
  /// The message's name in the PostgreSQL documentation.
  public var messageName: StaticString {
    switch self {
    case .parseComplete: "ParseComplete"
    case .bindComplete: "BindComplete"
    case .closeComplete: "CloseComplete"
    case .notificationResponse: "NotificationResponse"
    case .commandComplete: "CommandComplete"
    case .dataRow: "DataRow"
    case .errorResponse: "ErrorResponse"
    case .copyInResponse: "CopyInResponse"
    case .copyOutResponse: "CopyOutResponse"
    case .emptyQueryResponse: "EmptyQueryResponse"
    case .backendKeyData: "BackendKeyData"
    case .noticeResponse: "NoticeResponse"
    case .authentication: "Authentication"
    case .parameterStatus: "ParameterStatus"
    case .rowDescription: "RowDescription"
    case .functionCallResponse: "FunctionCallResponse"
    case .copyBothResponse: "CopyBothResponse"
    case .readyForQuery: "ReadyForQuery"
    case .copyDone: "CopyDone"
    case .copyData: "CopyData"
    case .noData: "NoData"
    case .portalSuspended: "PortalSuspended"
    case .parameterDescription: "ParameterDescription"
    case .negotiateProtocolVersion: "NegotiateProtocolVersion"
    }
  }

  /// Checks the body of a message that has none: ParseComplete, BindComplete, CloseComplete, EmptyQueryResponse,
  /// NoData, PortalSuspended, CopyDone.
  public func checkEmpty(body: Span<UInt8>) throws(WireError) {
    try FieldReader(messageName).end(in: body)
  }
}
