import PostgresWire

/// ReadyForQuery: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Backend.ReadyForQuery(body: input.span) else { return }
  let again = body { writer in
    writer.readyForQuery(message.status)
  }
  precondition(again == input)
}
