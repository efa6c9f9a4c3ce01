import PostgresWire

/// What a query string does to the transaction it is sent in, as far as its first words tell.
public enum TransactionStatement: Equatable, Sendable {
  /// Nothing but white space, comments and semicolons.
  case empty
  /// BEGIN or START TRANSACTION comes first.
  case begin
  /// A single ROLLBACK or ABORT.
  case rollback
  /// A single COMMIT, END or PREPARE TRANSACTION.
  case commit
  /// Anything else.
  case other

  /// Looks at the text of a Query or Parse; a terminating zero byte may be there or not.
  public init(_ text: Span<UInt8>) {
    var scanner = WordScanner(text)
    while scanner.skip(text, UInt8(ascii: ";")) {}
    let first = scanner.word(text)
    switch first {
    case .none: self = scanner.isAtEnd(text) ? .empty : .other
    case .begin: self = .begin
    case .start: self = scanner.word(text) == .transaction ? .begin : .other
    case .commit, .end: self = scanner.isPlainEnd(text) ? .commit : .other
    case .rollback, .abort: self = scanner.isPlainEnd(text) ? .rollback : .other
    case .prepare: self = scanner.word(text) == .transaction ? .commit : .other
    case .work, .transaction, .call, .do, .other: self = .other
    }
  }

  /// Whether a text that makes temporary tables says ON COMMIT DROP.
  static func dropsOnCommit(_ text: Span<UInt8>, _ reading: SQLReading) -> Bool {
    var lexer = SQLLexer(text, reading: reading)
    var words = (lexer.next(), lexer.next(), lexer.next())
    while words.2.kind != .end {
      if words.0.isWord("on"), words.1.isWord("commit"), words.2.isWord("drop") { return true }
      words = (words.1, words.2, lexer.next())
    }
    return false
  }

  /// Whether sending this text inside a transaction block may commit something: COMMIT and its like, CALL and DO, which
  /// may have it inside, and strings of several statements.
  public static func mayCommit(_ text: Span<UInt8>) -> Bool {
    var scanner = WordScanner(text)
    switch scanner.word(text) {
    case .commit, .end, .prepare, .call, .do: return true
    default: break
    }
    while scanner.offset < text.count && text[scanner.offset] != UInt8(ascii: ";") { scanner.offset += 1 }
    while scanner.skip(text, UInt8(ascii: ";")) {}
    return !scanner.isAtEnd(text)
  }
}

/// Reads the words at the beginning of a statement, past white space and comments.
private struct WordScanner {
  enum Word {
    case begin, start, transaction, commit, end, rollback, abort, prepare, work, call, `do`
    case other
  }

  var offset = 0

  init(_ text: Span<UInt8>) {}

  /// The next word; nil where something else comes, or nothing.
  mutating func word(_ text: Span<UInt8>) -> Word? {
    skipBlanks(text)
    let start = offset
    while offset < text.count, isLetter(text[offset]) { offset += 1 }
    guard offset > start else { return nil }
    let word = start..<offset
    switch (word.count, text[start] | 0x20) {
    case (2, UInt8(ascii: "d")): return matches(text, word, "do") ? .do : .other
    case (3, UInt8(ascii: "e")): return matches(text, word, "end") ? .end : .other
    case (4, UInt8(ascii: "w")): return matches(text, word, "work") ? .work : .other
    case (4, UInt8(ascii: "c")): return matches(text, word, "call") ? .call : .other
    case (5, UInt8(ascii: "b")): return matches(text, word, "begin") ? .begin : .other
    case (5, UInt8(ascii: "s")): return matches(text, word, "start") ? .start : .other
    case (5, UInt8(ascii: "a")): return matches(text, word, "abort") ? .abort : .other
    case (6, UInt8(ascii: "c")): return matches(text, word, "commit") ? .commit : .other
    case (7, UInt8(ascii: "p")): return matches(text, word, "prepare") ? .prepare : .other
    case (8, UInt8(ascii: "r")): return matches(text, word, "rollback") ? .rollback : .other
    case (11, UInt8(ascii: "t")): return matches(text, word, "transaction") ? .transaction : .other
    default: return .other
    }
  }

  /// Nothing but WORK, TRANSACTION and semicolons follows.
  mutating func isPlainEnd(_ text: Span<UInt8>) -> Bool {
    switch word(text) {
    case .none, .work, .transaction: break
    default: return false
    }
    while skip(text, UInt8(ascii: ";")) {}
    return isAtEnd(text)
  }

  mutating func isAtEnd(_ text: Span<UInt8>) -> Bool {
    skipBlanks(text)
    return offset == text.count || text[offset] == 0
  }

  mutating func skip(_ text: Span<UInt8>, _ byte: UInt8) -> Bool {
    skipBlanks(text)
    guard offset < text.count, text[offset] == byte else { return false }
    offset += 1
    return true
  }

  /// White space, `-- comments` and `/* nested /* comments */ */`.
  private mutating func skipBlanks(_ text: Span<UInt8>) {
    while offset < text.count {
      switch text[offset] {
      case 0x09...0x0d, 0x20: offset += 1
      case UInt8(ascii: "-") where isPair(text, offset, "--"):
        while offset < text.count && text[offset] != 0x0a && text[offset] != 0x0d { offset += 1 }
      case UInt8(ascii: "/") where isPair(text, offset, "/*"): skipComment(text)
      default: return
      }
    }
  }

  private mutating func skipComment(_ text: Span<UInt8>) {
    var depth = 0
    while offset < text.count {
      if isPair(text, offset, "/*") {
        depth += 1
        offset += 2
      } else if isPair(text, offset, "*/") {
        depth -= 1
        offset += 2
        if depth == 0 { return }
      } else {
        offset += 1
      }
    }
  }

  private func isPair(_ text: Span<UInt8>, _ offset: Int, _ pair: StaticString) -> Bool {
    offset + 1 < text.count && matches(text, offset..<offset + 2, pair)
  }

  /// Compares with a lower-case ASCII word, ignoring case.
  private func matches(_ text: Span<UInt8>, _ range: Range<Int>, _ word: StaticString) -> Bool {
    guard word.utf8CodeUnitCount == range.count else { return false }
    return word.withUTF8Buffer { word in
      for index in 0..<range.count {
        let byte = text[range.lowerBound + index]
        let lower = isLetter(byte) ? byte | 0x20 : byte
        if unsafe lower != word[index] { return false }
      }
      return true
    }
  }

  private func isLetter(_ byte: UInt8) -> Bool { (0x41...0x5a).contains(byte & 0xdf) }
}
