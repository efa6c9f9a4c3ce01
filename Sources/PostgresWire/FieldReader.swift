/// Reads the fields of one message body in order. Every decoder of this module is a list of calls to it.
///
/// The span is an argument of each call instead of a stored property, so that the reader stays an ordinary value.
/// Invariant: `0 <= offset <= bytes.count`, so the subtractions below cannot overflow.
struct FieldReader {
  /// The message's name in the PostgreSQL documentation, for errors.
  let message: StaticString
  /// Bytes read so far.
  private(set) var offset = 0

  init(_ message: StaticString) {
    self.message = message
  }

  mutating func uint8(_ field: StaticString, in bytes: Span<UInt8>) throws(WireError) -> UInt8 {
    let start = try take(1, field, in: bytes).lowerBound
    return bytes[start]
  }

  mutating func uint16(_ field: StaticString, in bytes: Span<UInt8>) throws(WireError) -> UInt16 {
    let start = try take(2, field, in: bytes).lowerBound
    return UInt16(bytes[start]) << 8 | UInt16(bytes[start + 1])
  }

  mutating func int16(_ field: StaticString, in bytes: Span<UInt8>) throws(WireError) -> Int16 {
    Int16(bitPattern: try uint16(field, in: bytes))
  }

  mutating func uint32(_ field: StaticString, in bytes: Span<UInt8>) throws(WireError) -> UInt32 {
    let start = try take(4, field, in: bytes).lowerBound
    return UInt32(bytes[start]) << 24 | UInt32(bytes[start + 1]) << 16 | UInt32(bytes[start + 2]) << 8
      | UInt32(bytes[start + 3])
  }

  mutating func int32(_ field: StaticString, in bytes: Span<UInt8>) throws(WireError) -> Int32 {
    Int32(bitPattern: try uint32(field, in: bytes))
  }

  /// Text up to a zero byte; the range leaves that byte out.
  mutating func text(_ field: StaticString, in bytes: Span<UInt8>) throws(WireError) -> Range<Int> {
    let start = offset
    let end = bytes.end(ofTextIn: start..<bytes.count)
    guard end < bytes.count else { throw .missingTerminator(place(field, start)) }
    offset = end + 1
    return start..<end
  }

  /// The next `count` bytes, `count` being 0 or more.
  mutating func take(_ count: Int, _ field: StaticString, in bytes: Span<UInt8>) throws(WireError) -> Range<Int> {
    guard count <= bytes.count - offset else { throw .truncated(place(field, offset)) }
    let start = offset
    offset += count
    return start..<offset
  }

  /// A value with a 32-bit length in front: nil is null (length -1).
  mutating func value(_ field: StaticString, in bytes: Span<UInt8>) throws(WireError) -> Range<Int>? {
    let lengthOffset = offset
    let length = Int(try int32(field, in: bytes))
    if length == -1 { return nil }
    guard length >= 0 else { throw .negativeLength(length, place(field, lengthOffset)) }
    return try take(length, field, in: bytes)
  }

  /// A 16-bit count of entries that take at least `size` bytes each. PostgreSQL reads these counts unsigned
  /// (`pq_getmsgint`), so that up to 65,535 parameters are legal.
  mutating func count(
    _ field: StaticString, of size: Int, in bytes: Span<UInt8>
  ) throws(WireError) -> Int {
    let start = offset
    let count = Int(try uint16(field, in: bytes))
    guard count * size <= bytes.count - offset else { throw .impossibleCount(count, place(field, start)) }
    return count
  }

  /// A list with a 16-bit count in front whose entries take exactly `size` bytes: the range of the entries.
  mutating func list(
    _ field: StaticString, of size: Int, in bytes: Span<UInt8>
  ) throws(WireError) -> Range<Int> {
    let count = try count(field, of: size, in: bytes)
    return try take(count * size, field, in: bytes)
  }

  /// All bytes that are left.
  mutating func rest(in bytes: Span<UInt8>) -> Range<Int> {
    let start = offset
    offset = bytes.count
    return start..<offset
  }

  /// Checks that nothing is left.
  func end(in bytes: Span<UInt8>) throws(WireError) {
    guard offset == bytes.count else {
      throw .trailingBytes(bytes.count - offset, place("end", offset))
    }
  }

  func place(_ field: StaticString, _ offset: Int) -> WireError.Place {
    WireError.Place(message: "\(message)", field: "\(field)", offset: offset)
  }
}
