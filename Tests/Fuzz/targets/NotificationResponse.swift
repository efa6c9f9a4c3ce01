import PostgresWire

/// NotificationResponse: what decodes is written back byte for byte.
func fuzz(_ input: [UInt8]) {
  guard let message = try? Backend.Notification(body: input.span) else { return }
  let again = body { writer in
    writer.notification(
      processID: message.processID, channel: input.text(message.channel), payload: input.text(message.payload))
  }
  precondition(again == input)
}
