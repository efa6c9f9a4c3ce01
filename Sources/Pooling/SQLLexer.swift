/// Divides SQL text into tokens where PostgreSQL's own scanner does (its src/backend/parser/scan.l; "Lexical Structure"
/// in its documentation). Comments and white space come between tokens. A zero byte ends the text, as it ends a message.
///
/// Where versions differ, the reading is chosen that the older ones have and the newer ones refuse: `1into` is a number
/// and a word. What is refused has no effect, so that nothing is missed.
public struct SQLLexer: ~Escapable {
  public enum Kind: UInt8, Sendable {
    /// The end of the text. It comes again and again.
    case end
    /// An identifier without quotes, or a keyword.
    case word
    /// `"name"`
    case quotedIdentifier
    /// `U&"name"`
    case unicodeIdentifier
    /// `'text'`, `N'text'`: backslashes mean something only where standard_conforming_strings is off.
    case string
    /// `E'text'`
    case escapeString
    /// `U&'text'`
    case unicodeString
    /// `B'01'`, `X'1f'`
    case bitString
    /// `$tag$text$tag$`
    case dollarString
    case number
    /// `$1`
    case parameter
    /// One or more of `+-*/<>=~!@#%^&|` and the backquote and question mark.
    case `operator`
    case leftParenthesis, rightParenthesis, leftBracket, rightBracket
    case comma, semicolon, dot, dotDot, colon, doubleColon, colonEquals
    /// A byte that no token begins with.
    case other
  }

  public struct Token: Sendable {
    public var kind: Kind
    public var start: Int
    public var end: Int
    /// Of a word the last eight bytes, with small letters, the last one lowest; so words up to seven letters long are
    /// told apart by it. 0 for anything but words, 1 for words that are not ASCII.
    public var key: UInt64 = 0

    /// Where the token is in the text.
    public var range: Range<Int> { start..<end }
  }

  let text: Span<UInt8>
  private let reading: SQLReading
  /// Where the next token is looked for.
  private(set) var offset: Int
  /// Whether something was not terminated, or cannot be told from the bytes.
  public private(set) var isUnclear = false

  /// - Parameters:
  ///   - reading: how the session reads texts at the time this one is parsed.
  ///   - offset: where to begin; it must not be inside of a token.
  @_lifetime(copy text)
  public init(_ text: Span<UInt8>, reading: SQLReading, from offset: Int = 0) {
    self.text = text
    self.reading = reading
    self.offset = offset
  }

  /// The same text from another place on.
  @_lifetime(copy self)
  func again(from offset: Int) -> SQLLexer {
    SQLLexer(text, reading: reading, from: offset)
  }

  /// The next token.
  @inline(__always)
  public mutating func next() -> Token {
    while offset < text.count {
      let start = offset
      let byte = text[start]
      switch SQLLexer.beginnings[Int(byte)] {
      case .blank: offset = start + 1
      case .letter: return word(start)
      case .foreign: return foreignWord(start, start)
      case .digit: return number(start)
      case .leftParenthesis: return punctuation(.leftParenthesis)
      case .rightParenthesis: return punctuation(.rightParenthesis)
      case .leftBracket: return punctuation(.leftBracket)
      case .rightBracket: return punctuation(.rightBracket)
      case .comma: return punctuation(.comma)
      case .semicolon: return punctuation(.semicolon)
      case .dot:
        if isDigit(byteOrZero(start + 1), base: 10) { return number(start) }
        return byteOrZero(start + 1) == byte ? punctuation(.dotDot, length: 2) : punctuation(.dot)
      case .colon:
        switch byteOrZero(start + 1) {
        case UInt8(ascii: ":"): return punctuation(.doubleColon, length: 2)
        case UInt8(ascii: "="): return punctuation(.colonEquals, length: 2)
        default: return punctuation(.colon)
        }
      case .quote:
        offset = start + 1
        return constant(.string, start, escapes: !reading.standardConformingStrings)
      case .doubleQuote:
        offset = start + 1
        return quotedIdentifier(.quotedIdentifier, start)
      case .dollar: return dollar(start)
      case .minus:
        guard byteOrZero(start + 1) == byte else { return symbol(start) }
        skipLine()
      case .slash:
        guard byteOrZero(start + 1) == UInt8(ascii: "*") else { return symbol(start) }
        skipComment()
      case .symbol:
        let following = byteOrZero(start + 1)
        if following == UInt8(ascii: " ") || SQLLexer.letters[Int(following)] != 0 { return punctuation(.operator) }
        return symbol(start)
      case .other: return punctuation(.other)
      case .end: return Token(kind: .end, start: start, end: start)
      }
    }
    return Token(kind: .end, start: text.count, end: text.count)
  }

  /// What a byte begins.
  private enum Beginning: UInt8 {
    case end, blank, letter, foreign, digit, leftParenthesis, rightParenthesis, leftBracket, rightBracket, comma
    case semicolon, dot, colon, quote, doubleQuote, dollar, minus, slash, symbol, other
  }

  private static let beginnings: InlineArray<256, Beginning> = [
    .end, .other, .other, .other, .other, .other, .other, .other, .other, .blank, .blank, .blank, .blank, .blank,
    .other, .other, .other, .other, .other, .other, .other, .other, .other, .other, .other, .other, .other, .other,
    .other, .other, .other, .other, .blank, .symbol, .doubleQuote, .symbol, .dollar, .symbol, .symbol, .quote,
    .leftParenthesis, .rightParenthesis, .symbol, .symbol, .comma, .minus, .dot, .slash, .digit, .digit, .digit, .digit,
    .digit, .digit, .digit, .digit, .digit, .digit, .colon, .semicolon, .symbol, .symbol, .symbol, .symbol, .symbol,
    .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter,
    .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter,
    .leftBracket, .other, .rightBracket, .symbol, .letter, .symbol, .letter, .letter, .letter, .letter, .letter,
    .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter,
    .letter, .letter, .letter, .letter, .letter, .letter, .letter, .letter, .other, .symbol, .other, .symbol, .other,
    .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign,
    .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign,
    .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign,
    .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign,
    .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign,
    .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign,
    .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign,
    .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign,
    .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign,
    .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign,
    .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign,
    .foreign, .foreign, .foreign, .foreign, .foreign, .foreign, .foreign,
  ]

  // MARK: Words

  /// What a byte of a word is compared as: small letters, digits and `$` stand for themselves, `_` is 0x7f (what it
  /// becomes where eight bytes are made small at a time), the rest is 0.
  private static let letters: InlineArray<256, UInt8> = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0, 0, 0, 0, 0, 0,
    0, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f,
    0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0, 0, 0, 0, 0x7f,
    0, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f,
    0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  ]

  @inline(__always)
  private mutating func word(_ start: Int) -> Token {
    var key: UInt64 = 0
    var end = start
    while let bytes = eight(at: end) {
      // In each byte the top bit says that it is neither a letter nor an underscore. Above a byte that is not ASCII the
      // sums are wrong, which does not matter, as the word stops there.
      let small = bytes | SQLLexer.each(0x20)
      let letters = (small &+ SQLLexer.each(0x1f)) & ~(small &+ SQLLexer.each(0x05))
      let underscores = ~((bytes ^ SQLLexer.each(0x5f)) &+ SQLLexer.each(0x7f))
      let others = (~(letters | underscores) | bytes) & SQLLexer.each(0x80)
      if others == 0 {
        key = small.byteSwapped
        end &+= 8
        continue
      }
      let bits = UInt64(truncatingIfNeeded: others.trailingZeroBitCount & 0x38)
      // In two steps, as a shift by 64 is none.
      key = key &<< bits | (small.byteSwapped &>> 8) &>> (56 &- bits)
      end &+= Int(bits >> 3)
      // Most words have a blank after them, which is skipped at once.
      guard UInt8(truncatingIfNeeded: bytes &>> bits) == UInt8(ascii: " ") else { break }
      offset = end &+ 1
      return Token(kind: .word, start: start, end: end, key: key)
    }
    while end < text.count {
      let letter = SQLLexer.letters[Int(text[end])]
      if letter == 0 { break }
      key = key << 8 | UInt64(letter)
      end += 1
    }
    if end < text.count {
      if text[end] >= 0x80 { return foreignWord(start, end) }
      if end == start + 1, let constant = prefixed(start) { return constant }
    }
    offset = end
    return Token(kind: .word, start: start, end: end, key: key)
  }

  /// A word that is not ASCII from `end` on.
  private mutating func foreignWord(_ start: Int, _ end: Int) -> Token {
    offset = end
    while offset < text.count {
      let byte = text[offset]
      if byte < 0x80 && SQLLexer.letters[Int(byte)] == 0 { break }
      skipCharacter()
    }
    return Token(kind: .word, start: start, end: offset, key: 1)
  }

  /// The constant, or quoted identifier, that the one letter at `start` says the kind of.
  private mutating func prefixed(_ start: Int) -> Token? {
    let quote = text[start + 1]
    switch (text[start] | 0x20, quote) {
    case (UInt8(ascii: "e"), UInt8(ascii: "'")):
      offset = start + 2
      return constant(.escapeString, start, escapes: true)
    case (UInt8(ascii: "n"), UInt8(ascii: "'")):
      offset = start + 2
      return constant(.string, start, escapes: !reading.standardConformingStrings)
    case (UInt8(ascii: "b"), UInt8(ascii: "'")), (UInt8(ascii: "x"), UInt8(ascii: "'")):
      offset = start + 2
      return constant(.bitString, start, escapes: false, doubles: false)
    case (UInt8(ascii: "u"), UInt8(ascii: "&")) where byteOrZero(start + 2) == UInt8(ascii: "'"):
      offset = start + 3
      return constant(.unicodeString, start, escapes: false)
    case (UInt8(ascii: "u"), UInt8(ascii: "&")) where byteOrZero(start + 2) == UInt8(ascii: "\""):
      offset = start + 3
      return quotedIdentifier(.unicodeIdentifier, start)
    default: return nil
    }
  }

  private mutating func quotedIdentifier(_ kind: Kind, _ start: Int) -> Token {
    let quote = UInt8(ascii: "\"")
    while offset < text.count {
      if let bytes = eight(at: offset) {
        let others = SQLLexer.zeros(bytes ^ SQLLexer.each(quote)) | SQLLexer.zeros(bytes) | bytes & SQLLexer.each(0x80)
        if others == 0 {
          offset &+= 8
          continue
        }
        offset += others.trailingZeroBitCount >> 3
      }
      let byte = text[offset]
      if byte == quote {
        offset += 1
        guard byteOrZero(offset) == quote else { return Token(kind: kind, start: start, end: offset) }
        offset += 1
      } else if byte == 0 {
        break
      } else if byte < 0x80 {
        offset += 1
      } else {
        skipCharacter()
      }
    }
    return unterminated(kind, start)
  }

  // MARK: Constants

  /// A constant in single quotes from after its first quote on.
  ///
  /// - Parameters:
  ///   - escapes: a backslash takes the next character with it.
  ///   - doubles: two quotes are one in the text.
  private mutating func constant(_ kind: Kind, _ start: Int, escapes: Bool, doubles: Bool = true) -> Token {
    let quote = UInt8(ascii: "'")
    while offset < text.count {
      let byte = text[offset]
      if byte == quote {
        offset += 1
        if doubles && byteOrZero(offset) == quote {
          offset += 1
        } else if let next = continuation() {
          offset = next
        } else {
          return Token(kind: kind, start: start, end: offset)
        }
      } else if byte == 0 {
        break
      } else if byte == UInt8(ascii: "\\") && escapes {
        offset += 1
        skipCharacter()
      } else if byte < 0x80 {
        offset += 1
      } else {
        skipCharacter()
      }
    }
    return unterminated(kind, start)
  }

  /// After a closing quote: where the constant goes on, which it does after white space with a line's end in it and
  /// another quote. `-- comments` count as white space there, others do not.
  private func continuation() -> Int? {
    var rest = self
    var isOnNextLine = false
    while rest.offset < text.count {
      switch text[rest.offset] {
      case 0x0a, 0x0d:
        isOnNextLine = true
        rest.offset += 1
      case UInt8(ascii: " "), 0x09, 0x0b, 0x0c: rest.offset += 1
      case UInt8(ascii: "-") where byteOrZero(rest.offset + 1) == UInt8(ascii: "-"): rest.skipLine()
      case UInt8(ascii: "'"): return isOnNextLine ? rest.offset + 1 : nil
      default: return nil
      }
    }
    return nil
  }

  /// What begins with a dollar sign: a parameter, a constant, or nothing.
  private mutating func dollar(_ start: Int) -> Token {
    offset = start + 1
    if (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byteOrZero(offset)) {
      while (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byteOrZero(offset)) { offset += 1 }
      return Token(kind: .parameter, start: start, end: offset)
    }
    var isASCII = true
    while byteOrZero(offset) != UInt8(ascii: "$") {
      let byte = byteOrZero(offset)
      guard byte >= 0x80 || SQLLexer.letters[Int(byte)] != 0 else {
        offset = start + 1
        return Token(kind: .other, start: start, end: offset)
      }
      if byte >= 0x80 { isASCII = false }
      skipCharacter()
    }
    offset += 1
    // The server compares tags after it has converted them, which can make different bytes equal.
    if !isASCII { isUnclear = true }
    let tag = start..<offset
    while offset < text.count, text[offset] != 0 {
      if text[offset] == UInt8(ascii: "$") && repeats(tag, at: offset) {
        offset += tag.count
        return Token(kind: .dollarString, start: start, end: offset)
      }
      skipCharacter()
    }
    return unterminated(.dollarString, start)
  }

  private func repeats(_ range: Range<Int>, at offset: Int) -> Bool {
    guard text.count - offset >= range.count else { return false }
    for distance in 0..<range.count where text[range.lowerBound + distance] != text[offset + distance] { return false }
    return true
  }

  /// Digits with underscores, hexadecimal, octal and binary ones, fractions, exponents. What follows without a blank is
  /// another token.
  private mutating func number(_ start: Int) -> Token {
    offset = start
    while (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byteOrZero(offset)) { offset += 1 }
    let following = byteOrZero(offset)
    // Almost all numbers end here.
    if SQLLexer.letters[Int(following)] == 0 && following != UInt8(ascii: ".") {
      return Token(kind: .number, start: start, end: offset)
    }
    offset = start
    if text[start] == UInt8(ascii: "0") {
      offset = start + 2
      switch byteOrZero(start + 1) | 0x20 {
      case UInt8(ascii: "x"): skipDigits(base: 16)
      case UInt8(ascii: "o"): skipDigits(base: 8)
      case UInt8(ascii: "b"): skipDigits(base: 2)
      default: break
      }
      if offset > start + 2 { return Token(kind: .number, start: start, end: offset) }
      offset = start
    }
    skipDigits(base: 10)
    if byteOrZero(offset) == UInt8(ascii: "."), byteOrZero(offset + 1) != UInt8(ascii: ".") {
      offset += 1
      if isDigit(byteOrZero(offset), base: 10) { skipDigits(base: 10) }
    }
    if byteOrZero(offset) | 0x20 == UInt8(ascii: "e") {
      var exponent = offset + 1
      if byteOrZero(exponent) == UInt8(ascii: "+") || byteOrZero(exponent) == UInt8(ascii: "-") { exponent += 1 }
      if isDigit(byteOrZero(exponent), base: 10) {
        offset = exponent
        skipDigits(base: 10)
      }
    }
    return Token(kind: .number, start: start, end: offset)
  }

  private mutating func skipDigits(base: UInt8) {
    while true {
      if isDigit(byteOrZero(offset), base: base) {
        offset += 1
      } else if byteOrZero(offset) == UInt8(ascii: "_"), isDigit(byteOrZero(offset + 1), base: base) {
        offset += 2
      } else {
        return
      }
    }
  }

  private func isDigit(_ byte: UInt8, base: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0") < base
    case UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"): base == 16
    default: false
    }
  }

  // MARK: Operators and punctuation

  @inline(__always)
  private mutating func punctuation(_ kind: Kind, length: Int = 1) -> Token {
    let start = offset
    offset = start + length
    return Token(kind: kind, start: start, end: offset)
  }

  /// As many operator characters as there are, but a comment begins in the middle of them too, and only an operator
  /// with an unusual character in it ends with a sign.
  private mutating func symbol(_ start: Int) -> Token {
    var end = start
    var mayEndWithSign = false
    scan: while end < text.count {
      let byte = text[end]
      switch byte {
      case UInt8(ascii: "-") where byteOrZero(end + 1) == byte: break scan
      case UInt8(ascii: "/") where byteOrZero(end + 1) == UInt8(ascii: "*"): break scan
      case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "*"), UInt8(ascii: "/"), UInt8(ascii: "<"),
        UInt8(ascii: ">"), UInt8(ascii: "="):
        end += 1
      case UInt8(ascii: "~"), UInt8(ascii: "!"), UInt8(ascii: "@"), UInt8(ascii: "#"), UInt8(ascii: "%"),
        UInt8(ascii: "^"), UInt8(ascii: "&"), UInt8(ascii: "|"), UInt8(ascii: "`"), UInt8(ascii: "?"):
        mayEndWithSign = true
        end += 1
      default: break scan
      }
    }
    if !mayEndWithSign {
      while end > start + 1, text[end - 1] == UInt8(ascii: "+") || text[end - 1] == UInt8(ascii: "-") { end -= 1 }
    }
    offset = end
    return Token(kind: .operator, start: start, end: end)
  }

  // MARK: Pieces

  private mutating func skipLine() {
    while offset < text.count, text[offset] != 0x0a, text[offset] != 0x0d, text[offset] != 0 { skipCharacter() }
  }

  /// A comment, and those inside of it.
  private mutating func skipComment() {
    var depth = 0
    while offset < text.count, text[offset] != 0 {
      let byte = text[offset]
      if byte == UInt8(ascii: "/") && byteOrZero(offset + 1) == UInt8(ascii: "*") {
        depth += 1
        offset += 2
      } else if byte == UInt8(ascii: "*") && byteOrZero(offset + 1) == UInt8(ascii: "/") {
        depth -= 1
        offset += 2
        if depth == 0 { return }
      } else {
        skipCharacter()
      }
    }
    isUnclear = true
  }

  private mutating func unterminated(_ kind: Kind, _ start: Int) -> Token {
    isUnclear = true
    return Token(kind: kind, start: start, end: offset)
  }

  /// Past one character; nowhere at the text's end.
  private mutating func skipCharacter() {
    guard offset < text.count, text[offset] != 0 else { return }
    offset += reading.encoding.length(text, at: offset)
  }

  /// The bytes of the character at `offset`.
  func length(at offset: Int) -> Int { reading.encoding.length(text, at: offset) }

  private func byteOrZero(_ offset: Int) -> UInt8 {
    offset < text.count ? text[offset] : 0
  }

  /// The eight bytes from `offset` on, the first one lowest; nil where there are fewer.
  @inline(__always)
  private func eight(at offset: Int) -> UInt64? {
    guard text.count - offset >= 8 else { return nil }
    return unsafe UInt64(littleEndian: text.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }

  /// Eight times the same byte.
  @inline(__always)
  private static func each(_ byte: UInt8) -> UInt64 { 0x0101_0101_0101_0101 &* UInt64(byte) }

  /// The top bit of each byte that is 0; above the first of them, perhaps those of others.
  @inline(__always)
  private static func zeros(_ bytes: UInt64) -> UInt64 { (bytes &- each(1)) & ~bytes & each(0x80) }
}

extension SQLLexer.Token {
  /// Whether this is `word`, which has at most seven letters: its key tells.
  @inline(__always)
  func isWord(_ word: StaticString) -> Bool { key == wordKey(word) }
}

extension SQLLexer {
  /// Whether the token is `word`, which is written in small letters and longer than the key tells.
  @inline(__always)
  func isWord(_ token: Token, _ word: StaticString) -> Bool {
    token.key == wordKey(word) && token.range.count == word.utf8CodeUnitCount && matches(token.start, word)
  }

  /// Whether the text goes on with `word`, which is written in small letters, from `start`, without regard to case.
  func matches(_ start: Int, _ word: StaticString) -> Bool {
    guard text.count - start >= word.utf8CodeUnitCount else { return false }
    return word.withUTF8Buffer { letters in
      for index in 0..<letters.count {
        let letter = unsafe letters[index]
        let byte = text[start + index]
        if byte != letter && ((UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte) != letter {
          return false
        }
      }
      return true
    }
  }
}

/// The key of tokens that are this word, which is written in small letters.
@inline(__always)
func wordKey(_ word: StaticString) -> UInt64 {
  word.withUTF8Buffer { letters in
    var key: UInt64 = 0
    for index in 0..<letters.count {
      let letter = unsafe letters[index]
      key = key << 8 | UInt64(letter == UInt8(ascii: "_") ? 0x7f : letter)
    }
    return key
  }
}
