/// Tells at a glance that a text does nothing to its session, thirty-two bytes at a time: most of what applications send
/// is a SELECT, UPDATE or DELETE without a call.
///
/// Such a statement has an effect only where one of these is in it: an opening parenthesis (a call), a semicolon (another
/// statement), INTO (a temporary table), a name that begins with `pg_` (pg_temp, pg_settings), `&` (names in which
/// characters are escaped: `U&"…"`), or a byte that is not ASCII (which the server converts). Where none of them is
/// anywhere, it makes no difference what is a comment, a constant or a name, and how the session reads those; nor whether
/// one of them is unterminated, which the server refuses.
enum PlainStatement {
  /// Shorter texts are read by the lexer.
  private static let shortest = span + 2
  /// The bytes that are looked at in one go, with the letters behind them.
  private static let span = 2 * Block.scalarCount + lookahead
  /// "nto" and "pg_" are looked for from each byte on.
  private static let lookahead = 2

  private typealias Block = SIMD16<UInt8>

  /// Whether the text is one statement without any effect. False where that cannot be told so.
  @inline(__always)
  static func isPlain(_ text: Span<UInt8>) -> Bool {
    guard text.count >= shortest, beginsPlainly(text) else { return false }
    // A zero byte ends the text, and a semicolon before it nothing but the statement.
    var end = text.count
    if text[end - 1] == 0 { end -= 1 }
    if text[end - 1] == UInt8(ascii: ";") { end -= 1 }
    var offset = 0
    while true {
      let suspects = suspects(text, offset) | suspects(text, offset + Block.scalarCount)
      let bits = unsafe unsafeBitCast(suspects & each(0x80), to: SIMD2<UInt64>.self)
      if bits.x | bits.y != 0 { return false }
      if offset >= end - span { return true }
      offset = min(offset + 2 * Block.scalarCount, end - span)
    }
  }

  /// Whether the first word is one of those three, with a blank behind it.
  @inline(__always)
  private static func beginsPlainly(_ text: Span<UInt8>) -> Bool {
    let bytes = unsafe UInt64(littleEndian: text.bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: 0, as: UInt64.self))
    // A blank is made of nothing but itself and a zero byte, which ends a text that has no effect either.
    let word = (bytes | 0x0020_2020_2020_2020).byteSwapped >> 8
    return word == wordKey("select ") || word == wordKey("update ") || word == wordKey("delete ")
  }

  /// The top bit of each byte says that there, or two bytes on, is what may have an effect.
  @inline(__always)
  private static func suspects(_ text: Span<UInt8>, _ offset: Int) -> Block {
    let last = block(text, offset + lookahead)
    let first = block(text, offset) | each(0x20)
    let second = block(text, offset + 1) | each(0x20)
    let third = last | each(0x20)
    let into =
      equal(first, UInt8(ascii: "n")) & equal(second, UInt8(ascii: "t")) & equal(third, UInt8(ascii: "o"))
    // An underscore becomes 0x7f.
    let system = equal(first, UInt8(ascii: "p")) & equal(second, UInt8(ascii: "g")) & equal(third, 0x7f)
    return into | system | equal(last, UInt8(ascii: "(")) | equal(last, UInt8(ascii: ";"))
      | equal(last, UInt8(ascii: "&")) | last
  }

  /// All bits of each byte that is this one.
  @inline(__always)
  private static func equal(_ bytes: Block, _ byte: UInt8) -> Block {
    unsafe unsafeBitCast(bytes .== each(byte), to: Block.self)
  }

  @inline(__always)
  private static func each(_ byte: UInt8) -> Block { Block(repeating: byte) }

  /// The caller has seen that as many bytes are there.
  @inline(__always)
  private static func block(_ text: Span<UInt8>, _ offset: Int) -> Block {
    unsafe text.bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: Block.self)
  }
}
