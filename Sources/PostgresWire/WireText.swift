/// Text as the peer sent it: bytes in an encoding that only the peer knows, without the zero byte that ends them.
///
/// Nothing is lost and nothing refused by keeping bytes. Compare and look up by the value itself, never by a string of
/// it: PostgreSQL tells names apart by their bytes, but Swift holds strings for equal that Unicode does, such as a
/// composed and a decomposed é.
public struct WireText: Hashable, Sendable {
  /// The bytes, without a terminator.
  public var bytes: [UInt8]

  /// Text of exactly these bytes.
  public init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  /// Text in UTF-8.
  public init(_ text: String) {
    bytes = Array(text.utf8)
  }

  /// A copy of the bytes of `range` in `body`, as decoders give ranges.
  public init(_ body: Span<UInt8>, _ range: Range<Int>) {
    bytes = []
    bytes.append(body.extracting(range))
  }

  /// The text for people: bytes that are not UTF-8 appear as U+FFFD.
  public var text: String { String(decoding: bytes, as: UTF8.self) }

  /// The text where the bytes are UTF-8, else nil.
  public var exactText: String? { String(exactly: bytes.span) }

  /// Whether there are no bytes.
  public var isEmpty: Bool { bytes.isEmpty }
}

extension String {
  /// The text of bytes that are UTF-8; nil for any others.
  init?(exactly bytes: Span<UInt8>) {
    var union: UInt8 = 0
    for index in bytes.indices { union |= bytes[index] }
    // Names are ASCII nearly always, and reading that costs a quarter of a validation.
    let text: String? = unsafe bytes.withUnsafeBufferPointer { bytes in
      unsafe union < 0x80 ? String(decoding: bytes, as: UTF8.self) : String(validating: bytes, as: UTF8.self)
    }
    guard let text else { return nil }
    self = text
  }
}

extension Span<UInt8> {
  /// Where the first zero byte of a range is, which ends a text; the range's end where it has none. The span has to have
  /// the range.
  public func end(ofTextIn range: Range<Int>) -> Int {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "no such range")
    var index = range.lowerBound
    while range.upperBound - index >= 8 {
      let eight = unsafe UInt64(littleEndian: bytes.unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self))
      // The top bit of each byte that is 0; above the first of them, perhaps those of others.
      let zeros = (eight &- 0x0101_0101_0101_0101) & ~eight & 0x8080_8080_8080_8080
      if zeros != 0 { return index + zeros.trailingZeroBitCount / 8 }
      index += 8
    }
    while index < range.upperBound && self[index] != 0 { index += 1 }
    return index
  }
}

extension WireText: CustomStringConvertible {
  public var description: String { text }
}

extension WireText: ExpressibleByStringInterpolation {
  public init(stringLiteral value: String) {
    self.init(value)
  }
}
