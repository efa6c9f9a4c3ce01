import PostgresWire
import Testing

/// The messages that `write` writes, as bytes.
func written(_ write: (inout MessageWriter) -> Void) -> [UInt8] {
  var writer = MessageWriter()
  write(&writer)
  return writer.bytes
}

/// The body of the one message that `write` writes; its header must be right.
func body(_ type: UInt8, _ write: (inout MessageWriter) -> Void) -> [UInt8] {
  let message = written(write)
  #expect(MessageHeader(message.span, at: 0) == MessageHeader(type: type, bodyLength: message.count - 5))
  return Array(message.dropFirst(5))
}

func body(_ type: FrontendType, _ write: (inout MessageWriter) -> Void) -> [UInt8] { body(type.rawValue, write) }

func body(_ type: BackendType, _ write: (inout MessageWriter) -> Void) -> [UInt8] { body(type.rawValue, write) }

/// The text at `range` of `body`.
func text(_ body: [UInt8], _ range: Range<Int>) -> String { WireText(body.span, range).text }

/// Decodes `body`, after checking that the decoder answers hostile variants of it with a value or an error, never a
/// trap: the body cut short anywhere and one byte too long (both must be errors), and every byte replaced by extremes.
func decodeStrictly<Message>(
  _ body: [UInt8], _ decode: (Span<UInt8>) throws(WireError) -> Message,
  sourceLocation: SourceLocation = #_sourceLocation
) throws -> Message {
  for count in 0..<body.count {
    #expect(throws: WireError.self, "cut after \(count) bytes", sourceLocation: sourceLocation) {
      _ = try decode(Array(body.prefix(count)).span)
    }
  }
  #expect(throws: WireError.self, "one byte too long", sourceLocation: sourceLocation) {
    _ = try decode((body + [0]).span)
  }
  for index in body.indices {
    for byte: UInt8 in [0x00, 0x01, 0x7f, 0x80, 0xff] {
      var hostile = body
      hostile[index] = byte
      _ = try? decode(hostile.span)
    }
  }
  return try decode(body.span)
}
