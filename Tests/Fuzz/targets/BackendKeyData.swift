import PostgresWire

/// BackendKeyData: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Backend.KeyData(body: input.span) else { return }
  let again = body { writer in
    writer.backendKeyData(message.key)
  }
  precondition(again == input)
}
