import PostgresWire

/// SASLInitialResponse: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Frontend.SASLInitialResponse(body: input.span) else { return }
  let again = body { writer in
    writer.saslInitialResponse(
      mechanism: input.text(message.mechanism), response: message.response.map { Array(input[$0]) })
  }
  precondition(again == input)
}
