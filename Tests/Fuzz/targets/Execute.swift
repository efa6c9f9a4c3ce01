import PostgresWire

/// Execute: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Frontend.Execute(body: input.span) else { return }
  let again = body { writer in
    writer.execute(portal: input.text(message.portal), maximumRows: message.maximumRows)
  }
  precondition(again == input)
}
