import PostgresWire

/// DataRow: what decodes is written back with the same values.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Backend.DataRow(body: input.span) else { return }
  let again = body { writer in
    writer.dataRow(message.values.map { range in range.map { Array(input[$0]) } })
  }
  precondition(again == input)
}
