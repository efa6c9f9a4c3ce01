import PostgresWire

/// NegotiateProtocolVersion: what decodes is written back, the version as a whole number.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Backend.NegotiateProtocolVersion(body: input.span) else { return }
  let again = body { writer in
    writer.negotiateProtocolVersion(newest: message.newest, unknownOptions: message.unknownOptions.map(input.text))
  }
  precondition(again.dropFirst(4) == input.dropFirst(4))
  precondition(again.prefix(4) == input.prefix(4) || input.starts(with: [0, 0]))
}
