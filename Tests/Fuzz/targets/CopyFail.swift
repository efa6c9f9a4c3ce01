import PostgresWire

/// CopyFail: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Frontend.CopyFail(body: input.span) else { return }
  let again = body { writer in
    writer.copyFail(input.text(message.reason))
  }
  precondition(again == input)
}
