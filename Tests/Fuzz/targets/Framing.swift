import PostgresWire

/// A stream of messages: headers follow each other, and each message meets the decoder of its type from both sides.
func fuzz(_ input: [UInt8]) {
  var offset = 0
  while let header = MessageHeader(input.span, at: offset) {
    precondition(header.bodyLength >= 0)
    let end = offset + header.totalLength
    guard end <= input.count else { break }
    let body = Array(input[(offset + MessageHeader.size)..<end])
    if let type = FrontendType(rawValue: header.type), body.count <= type.bodyLimit {
      decode(type, body)
    }
    if let type = BackendType(rawValue: header.type) {
      decode(type, body)
    }
    offset = end
  }
  precondition(offset <= input.count)
}

private func decode(_ type: FrontendType, _ body: [UInt8]) {
  switch type {
  case .bind: _ = try? Frontend.Bind(body: body.span)
  case .close: _ = try? Frontend.Close(body: body.span)
  case .describe: _ = try? Frontend.Describe(body: body.span)
  case .execute: _ = try? Frontend.Execute(body: body.span)
  case .functionCall: _ = try? Frontend.FunctionCall(body: body.span)
  case .parse: _ = try? Frontend.Parse(body: body.span)
  case .query: _ = try? Frontend.Query(body: body.span)
  case .copyFail: _ = try? Frontend.CopyFail(body: body.span)
  case .password:
    _ = try? Frontend.Password(body: body.span)
    _ = try? Frontend.SASLInitialResponse(body: body.span)
  case .flush, .sync, .terminate, .copyDone: try? type.checkEmpty(body: body.span)
  case .copyData: break
  }
}

private func decode(_ type: BackendType, _ body: [UInt8]) {
  switch type {
  case .notificationResponse: _ = try? Backend.Notification(body: body.span)
  case .commandComplete: _ = try? Backend.CommandComplete(body: body.span)
  case .dataRow: _ = try? Backend.DataRow(body: body.span)
  case .errorResponse, .noticeResponse: _ = try? ErrorFields(body: body.span)
  case .copyInResponse, .copyOutResponse, .copyBothResponse: _ = try? Backend.CopyResponse(body: body.span)
  case .backendKeyData: _ = try? Backend.KeyData(body: body.span)
  case .authentication: _ = try? Backend.Authentication(body: body.span)
  case .parameterStatus: _ = try? Backend.ParameterStatus(body: body.span)
  case .rowDescription: _ = try? Backend.RowDescription(body: body.span)
  case .functionCallResponse: _ = try? Backend.FunctionCallResponse(body: body.span)
  case .readyForQuery: _ = try? Backend.ReadyForQuery(body: body.span)
  case .parameterDescription: _ = try? Backend.ParameterDescription(body: body.span)
  case .negotiateProtocolVersion: _ = try? Backend.NegotiateProtocolVersion(body: body.span)
  case .parseComplete, .bindComplete, .closeComplete, .emptyQueryResponse, .noData, .portalSuspended, .copyDone:
    try? type.checkEmpty(body: body.span)
  case .copyData: break
  }
}
