import PostgresWire

/// ParameterStatus: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Backend.ParameterStatus(body: input.span) else { return }
  let again = body { writer in
    writer.parameterStatus(name: input.text(message.name), value: input.text(message.value))
  }
  precondition(again == input)
}
