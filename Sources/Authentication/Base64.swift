/// Base64 with padding (RFC 4648, section 4), and nothing else: no white space, no missing padding, no stray bits.
enum Base64 {
  private static let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
  private static let padding = UInt8(ascii: "=")

  static func encode(_ bytes: [UInt8]) -> [UInt8] {
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count + 2) / 3 * 4)
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let count = min(3, bytes.count - start)
      var group: UInt32 = 0
      for index in 0..<3 { group = group << 8 | (index < count ? UInt32(bytes[start + index]) : 0) }
      for index in 0..<4 {
        text.append(index <= count ? digits[Int(group >> UInt32(18 - 6 * index) & 63)] : padding)
      }
    }
    return text
  }

  /// nil where the text is not what `encode` gives for some bytes.
  static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    guard text.count % 4 == 0 else { return nil }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count / 4 * 3)
    var group: UInt32 = 0
    var count = 0
    var padded = 0
    for character in text {
      if character == padding {
        padded += 1
        group <<= 6
      } else {
        guard padded == 0, let digit = value(character) else { return nil }
        group = group << 6 | digit
      }
      count += 1
      guard count % 4 == 0 else { continue }
      guard padded <= 2 else { return nil }
      for index in 0..<3 - padded { bytes.append(UInt8(truncatingIfNeeded: group >> UInt32(16 - 8 * index))) }
      if padded > 0 {
        // Padding ends the text, and the bits that it cuts off are zero.
        guard count == text.count, group & (padded == 1 ? 0xff : 0xffff) == 0 else { return nil }
      }
      group = 0
    }
    return bytes
  }

  private static func value(_ character: UInt8) -> UInt32? {
    switch character {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - UInt8(ascii: "A"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - UInt8(ascii: "a")) + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character - UInt8(ascii: "0")) + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
  }
}
