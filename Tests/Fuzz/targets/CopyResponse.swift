import PostgresWire

/// CopyInResponse, CopyOutResponse, CopyBothResponse: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Backend.CopyResponse(body: input.span) else { return }
  let again = body { writer in
    writer.copyInResponse(isBinary: message.isBinary, columnFormats: input.codes(message.columnFormats))
  }
  precondition(again == input)
}
