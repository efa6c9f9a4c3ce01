public import PostgresWire

/// A text that does nothing but execute or deallocate one prepared statement by its name. The protocol's statements and
/// those of SQL have their names in common.
public struct StatementReference: Equatable, Sendable {
  /// EXECUTE; else it is DEALLOCATE.
  public let isExecute: Bool
  /// As the server knows it.
  public let name: WireText
  /// Where the name is written.
  public let range: Range<Int>

  /// - Parameter text: where in `bytes` the SQL is.
  init?(_ bytes: Span<UInt8>, _ text: Range<Int>, reading: SQLReading) {
    var parser = SettingCommandParser(bytes.extracting(text), reading: reading)
    isExecute = parser.isWord("execute")
    guard isExecute || parser.isKeyword("deallocate") else { return nil }
    parser.advance()
    if !isExecute && parser.isWord("prepare") && parser.hasNameNext { parser.advance() }
    // ALL is reserved, hence never a name without quotes.
    if parser.isWord("all") { return nil }
    guard let name = parser.presentName else { return nil }
    self.name = name
    range = text.lowerBound + parser.token.start..<text.lowerBound + parser.token.end
    parser.advance()
    if !isExecute && !parser.isWhole { return nil }
  }
}

extension SettingCommandParser {
  /// Whether the token is `word`, of any length.
  func isKeyword(_ word: String) -> Bool { token.kind == .word && presentName?.text == word }

  /// Whether a name follows the present token.
  var hasNameNext: Bool {
    let next = tokenAfter
    return next.kind == .word || next.kind == .quotedIdentifier
  }
}
