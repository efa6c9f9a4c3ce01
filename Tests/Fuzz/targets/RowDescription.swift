import PostgresWire

/// RowDescription: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Backend.RowDescription(body: input.span) else { return }
  let again = body { writer in
    writer.rowDescription(message.columns.map { (input.text($0.name), $0.attributes) })
  }
  precondition(again == input)
}
