/// Cuts the text of a command into words, as PostgreSQL's scanner would: comments are blanks, `''` and `""` are quotes
/// within quotes. Unquoted words keep their case, as in PgBouncer, so that names need no quotes.
struct AdminScanner {
  /// A piece of a command.
  enum Token: Equatable {
    /// An unquoted word or a number.
    case word(String)
    /// What stood in single or double quotes.
    case quoted(String)
    /// Any other character.
    case symbol(Character)

    /// The word in lower case; nil for anything else.
    var keyword: String? {
      if case .word(let word) = self { return word.lowercased() }
      return nil
    }
  }

  private var rest: Substring

  /// All pieces of a text.
  static func tokens(of text: String) throws(AdminError) -> [Token] {
    var scanner = AdminScanner(rest: text[...])
    var tokens: [Token] = []
    while let token = try scanner.next() { tokens.append(token) }
    return tokens
  }

  private mutating func next() throws(AdminError) -> Token? {
    try skipBlanks()
    guard let first = rest.first else { return nil }
    if first == "'" || first == "\"" { return .quoted(try quoted(by: first)) }
    if Self.isWordCharacter(first) {
      let word = rest.prefix(while: Self.isWordCharacter)
      rest = rest[word.endIndex...]
      return .word(String(word))
    }
    rest.removeFirst()
    return .symbol(first)
  }

  private mutating func skipBlanks() throws(AdminError) {
    while let first = rest.first {
      if first.isWhitespace {
        rest.removeFirst()
      } else if rest.hasPrefix("--") {
        rest = rest.drop { !$0.isNewline }
      } else if rest.hasPrefix("/*") {
        try skipBlockComment()
      } else {
        return
      }
    }
  }

  /// Block comments nest, as in PostgreSQL.
  private mutating func skipBlockComment() throws(AdminError) {
    var depth = 0
    repeat {
      if rest.hasPrefix("/*") {
        depth += 1
        rest = rest.dropFirst(2)
      } else if rest.hasPrefix("*/") {
        depth -= 1
        rest = rest.dropFirst(2)
      } else if rest.isEmpty {
        throw .syntax("a comment is not closed")
      } else {
        rest.removeFirst()
      }
    } while depth > 0
  }

  private mutating func quoted(by quote: Character) throws(AdminError) -> String {
    rest.removeFirst()
    var text = ""
    while let character = rest.popFirst() {
      if character != quote {
        text.append(character)
      } else if rest.first == quote {
        rest.removeFirst()
        text.append(quote)
      } else {
        return text
      }
    }
    throw .syntax("a quote is not closed")
  }

  private static func isWordCharacter(_ character: Character) -> Bool {
    character.isLetter || character.isNumber || character == "_" || character == "$"
  }
}
