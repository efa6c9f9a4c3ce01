import PostgresWire

/// PasswordMessage: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Frontend.Password(body: input.span) else { return }
  let again = body { writer in
    writer.password(input.text(message.password))
  }
  precondition(again == input)
}
