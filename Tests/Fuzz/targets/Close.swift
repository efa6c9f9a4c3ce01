import PostgresWire

/// Close: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Frontend.Close(body: input.span) else { return }
  let again = body { writer in
    writer.close(message.target, input.text(message.name))
  }
  precondition(again == input)
}
