import PostgresWire

/// ErrorResponse and NoticeResponse: what decodes is written back, and looking up a field copies nothing else.
func fuzz(_ input: [UInt8]) {
  guard let error = try? ErrorFields(body: input.span) else { return }
  precondition(body { $0.errorResponse(error) } == input)
  _ = error.severity
  _ = error.code
  for field in error.fields {
    guard let range = try? ErrorFields.range(of: field.kind, in: input.span) else {
      preconditionFailure("a field that is there was not found")
    }
    precondition(input.text(range) == error[field.kind])
  }
}
