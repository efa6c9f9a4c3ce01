import Testing

@testable import Pooling

@Suite struct PlainStatementTests {
  private func isPlain(_ text: String) -> Bool { PlainStatement.isPlain(Array(text.utf8).span) }

  @Test(arguments: [
    "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;\0", "select a, b from orders where id = $1 limit 10",
    "UPDATE pgbench_accounts SET abalance = abalance + -17 WHERE aid = 12345;",
    "delete from \"shop_order\" where \"name\" = 'x' and at < '2024-01-01'\0",
    "Select 'it''s', $$x$$, a.b::text -- nothing\n from c /* d */ order by 1",
  ])
  func whatManyApplicationsSendIsPlain(text: String) { #expect(isPlain(text)) }

  /// Each of these, wherever it is in a statement of whatever length, is left to the lexer.
  @Test(arguments: ["(", ";", "&", "into", "INTO", "pg_", "PG_", "é"])
  func nothingThatMayHaveAnEffectIsMissedWhereverItIs(suspect: String) {
    for length in 7...120 {
      let statement = "select " + String(repeating: "a", count: length)
      for offset in 7...(7 + length) {
        let index = statement.index(statement.startIndex, offsetBy: offset)
        let text = String(statement[..<index]) + suspect + String(statement[index...])
        // One semicolon may end the statement.
        if suspect == ";" && offset == 7 + length { continue }
        for end in ["", ";", "\0", ";\0"] { #expect(!isPlain(text + end), "\(text)\(end)") }
      }
    }
  }

  @Test(arguments: [
    "begin", "select 1", "selects aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "/* */ select aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "insert aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "select aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa;;",
  ])
  func whatBeginsOrEndsOtherwiseIsLeftToTheLexer(text: String) { #expect(!isPlain(text)) }

  /// Texts of random pieces, however the session reads them: what is plain has no effect for the lexer either.
  @Test func whatIsPlainHasNoEffect() {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SimulationRandom(seed: seed)
    let pieces = [
      " ", "\n", "'", "''", "\\", "\"", "$", "$$", "$a$", "$1", "--", "/*", "*/", ".", ",", ":", "::", "=", "-", "/",
      "[",
      "]", ")", "e'", "E'", "u", "U'", "n'", "x'", "0x", "1.5", "a", "int", "to", "in", "temp", "pg", "_temp", "p",
      "commit",
      "begin", "listen", "set", "from", "where", "currval", "uescape", "\0", "\u{1}", "\u{7f}", "into", "pg_temp", ";",
      "(",
      "&",
    ]
    var plain = 0
    for _ in 0..<100_000 {
      var text = Array(["select ", "UPDATE ", "delete "][random.below(3)].utf8)
      // The last ones make it another matter: few texts have them.
      let known = random.permille(800) ? pieces.count - 5 : pieces.count
      for _ in 0..<random.below(30) { text += pieces[random.below(known)].utf8 }
      guard PlainStatement.isPlain(text.span) else { continue }
      plain += 1
      for encoding in [TextEncoding.asciiSafe, .shiftJIS, .gb18030] {
        for conforming in [true, false] {
          let reading = SQLReading(standardConformingStrings: conforming, encoding: encoding)
          let effects = StatementEffects.scanTokens(text.span, reading: reading)
          #expect(effects.subtracting(.isUnclear) == [], "seed \(seed): \(String(decoding: text, as: UTF8.self))")
        }
      }
    }
    #expect(plain > 10_000)
  }
}
