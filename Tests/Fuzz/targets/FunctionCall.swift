import PostgresWire

/// FunctionCall: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Frontend.FunctionCall(body: input.span) else { return }
  let again = body { writer in
    writer.functionCall(
      message.functionID, argumentFormats: input.codes(message.argumentFormats),
      arguments: input.values(message.arguments, count: message.argumentCount), resultFormat: message.resultFormat)
  }
  precondition(again == input)
}
