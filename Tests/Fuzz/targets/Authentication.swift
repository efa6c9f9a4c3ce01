import PostgresWire

/// Authentication requests: what decodes and can be written is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let request = try? Backend.Authentication(body: input.span) else { return }
  var writer = MessageWriter()
  switch request {
  case .ok: writer.authenticationOk()
  case .cleartextPassword: writer.authenticationCleartextPassword()
  case .md5Password(let salt): writer.authenticationMD5Password(salt: salt)
  case .sasl(let mechanisms): writer.authenticationSASL(mechanisms: mechanisms.map(input.text))
  case .saslContinue(let data): writer.authenticationSASLContinue(Array(input[data]))
  case .saslFinal(let data): writer.authenticationSASLFinal(Array(input[data]))
  case .kerberosV5, .gss, .gssContinue, .sspi, .other: return
  }
  precondition(Array(writer.bytes.dropFirst(MessageHeader.size)) == input)
}
