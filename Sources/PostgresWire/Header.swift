/// The five bytes before every message once the startup phase is over: a type byte, then a length that counts itself
/// and the body but not the type byte (PostgreSQL documentation, "Message Formats").
public struct MessageHeader: Equatable, Sendable {
  /// Bytes a header takes on the wire.
  public static let size = 5

  /// The raw type byte.
  public var type: UInt8
  /// Bytes of the body, 0 or more.
  public var bodyLength: Int

  /// Bytes of the whole message, header included.
  @inlinable public var totalLength: Int { MessageHeader.size + bodyLength }

  @inlinable public init(type: UInt8, bodyLength: Int) {
    self.type = type
    self.bodyLength = bodyLength
  }

  /// Reads the header at `offset`.
  ///
  /// - Returns: nil where fewer than five bytes are there, or where the length field is below 4, its smallest legal
  ///   value; `bytes.count - offset` tells the two apart.
  @inlinable @inline(__always)
  public init?(_ bytes: Span<UInt8>, at offset: Int) {
    guard bytes.count - offset >= MessageHeader.size else { return nil }
    let length =
      Int(bytes[offset + 1]) << 24 | Int(bytes[offset + 2]) << 16 | Int(bytes[offset + 3]) << 8 | Int(bytes[offset + 4])
    guard length >= 4 else { return nil }
    self.init(type: bytes[offset], bodyLength: length - 4)
  }

  /// The header as it is on the wire.
  public var bytes: InlineArray<5, UInt8> {
    let length = UInt32(bodyLength + 4)
    return [
      type, UInt8(truncatingIfNeeded: length >> 24), UInt8(truncatingIfNeeded: length >> 16),
      UInt8(truncatingIfNeeded: length >> 8), UInt8(truncatingIfNeeded: length),
    ]
  }
}

/// The longest bodies that are let through, by kind of message. The numbers are PostgreSQL's own (`pqcomm.h`,
/// `postgres.c`), so that nothing the server would take is refused here and nothing it would refuse is buffered.
public enum LengthLimit {
  /// A packet of the startup phase, its length field included (`MAX_STARTUP_PACKET_LENGTH`).
  public static let startupPacket = 10_000
  /// A password or SASL message body (`PG_MAX_AUTH_TOKEN_LENGTH`).
  public static let authentication = 65_535
  /// Bodies of messages that only carry names and numbers (`PQ_SMALL_MESSAGE_LIMIT`).
  public static let small = 10_000
  /// Bodies of messages that carry user data (`PQ_LARGE_MESSAGE_LIMIT`).
  public static let large = 0x3fff_fffe
}
