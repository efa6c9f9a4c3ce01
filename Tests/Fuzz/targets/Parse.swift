import PostgresWire

/// Parse: what decodes is written back byte for byte, and renaming changes nothing but the name.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Frontend.Parse(body: input.span) else { return }
  let again = body { writer in
    writer.parse(
      statement: input.text(message.statement), text: input.text(message.text),
      parameterTypes: input.identifiers(message.parameterTypes))
  }
  precondition(again == input)

  let renamed = body { $0.parse(message, of: input.span, statement: "lifeguard_1") }
  guard let other = try? Frontend.Parse(body: renamed.span) else { preconditionFailure("renamed out of shape") }
  precondition(renamed.text(other.statement) == "lifeguard_1")
  precondition(renamed[other.definition] == input[message.definition])
}
