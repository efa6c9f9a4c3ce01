import PostgresWire

/// Packets of the startup phase: what decodes is written, and then decodes to the same.
func fuzz(_ input: [UInt8]) {
  _ = try? InitialPacket.length(input.span)
  guard let packet = try? InitialPacket(body: input.span) else { return }
  var writer = MessageWriter()
  switch packet {
  case .ssl: writer.sslRequest()
  case .gssEncryption: writer.gssEncryptionRequest()
  case .cancel(let key): writer.cancelRequest(key)
  case .startup(let message):
    _ = try? message.settings()
    writer.startup(message)
  }
  let again = Array(writer.bytes.dropFirst(4))
  guard let reread = try? InitialPacket(body: again.span) else { preconditionFailure("cannot read what was written") }
  precondition(reread == packet)
}
