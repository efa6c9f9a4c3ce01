import PostgresWire

/// FunctionCallResponse: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Backend.FunctionCallResponse(body: input.span) else { return }
  let again = body { writer in
    writer.functionCallResponse(message.value.map { Array(input[$0]) })
  }
  precondition(again == input)
}
