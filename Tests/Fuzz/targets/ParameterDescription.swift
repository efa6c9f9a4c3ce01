import PostgresWire

/// ParameterDescription: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Backend.ParameterDescription(body: input.span) else { return }
  let again = body { writer in
    writer.parameterDescription(input.identifiers(message.types))
  }
  precondition(again == input)
}
