import PostgresWire

/// Query: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Frontend.Query(body: input.span) else { return }
  let again = body { writer in
    writer.query(input.text(message.text))
  }
  precondition(again == input)
}
