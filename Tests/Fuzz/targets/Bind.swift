import PostgresWire

/// Bind: what decodes is written back byte for byte, and renaming changes nothing but the name.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Frontend.Bind(body: input.span) else { return }
  let again = body { writer in
    writer.bind(
      portal: input.text(message.portal), statement: input.text(message.statement),
      parameterFormats: input.codes(message.parameterFormats),
      parameters: input.values(message.parameters, count: message.parameterCount),
      resultFormats: input.codes(message.resultFormats))
  }
  precondition(again == input)

  let renamed = body { $0.bind(message, of: input.span, statement: "lifeguard_1") }
  guard let other = try? Frontend.Bind(body: renamed.span) else { preconditionFailure("renamed out of shape") }
  precondition(renamed.text(other.portal) == input.text(message.portal))
  precondition(renamed.text(other.statement) == "lifeguard_1")
  precondition(renamed[other.arguments] == input[message.arguments])
}
