import PostgresWire

/// CommandComplete: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Backend.CommandComplete(body: input.span) else { return }
  let again = body { writer in
    writer.commandComplete(input.text(message.tag))
  }
  precondition(again == input)
}
