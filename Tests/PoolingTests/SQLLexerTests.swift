import PostgresWire
import Testing

@testable import Pooling

@Suite struct SQLLexerTests {
  /// The tokens of a text, each as its kind and its bytes, and whether something was unclear.
  private func tokens(
    _ bytes: [UInt8], conforming: Bool = true, encoding: TextEncoding = .asciiSafe
  ) -> (list: [String], isUnclear: Bool) {
    var lexer = SQLLexer(bytes.span, reading: SQLReading(standardConformingStrings: conforming, encoding: encoding))
    var list: [String] = []
    while true {
      let token = lexer.next()
      if token.kind == .end { return (list, lexer.isUnclear) }
      list.append("\(token.kind) \(String(decoding: bytes[token.range], as: UTF8.self))")
    }
  }

  private func tokens(_ text: String, conforming: Bool = true) -> [String] {
    tokens(Array(text.utf8), conforming: conforming).list
  }

  @Test(
    arguments: [
      ("select a_1 FROM t$2", ["word select", "word a_1", "word FROM", "word t$2"]),
      ("é été _x", ["word é", "word été", "word _x"]),
      (
        #""a" "b""c" U&"d\0061" u&"e" u & "f""#,
        [
          #"quotedIdentifier "a""#, #"quotedIdentifier "b""c""#, #"unicodeIdentifier U&"d\0061""#,
          #"unicodeIdentifier u&"e""#, "word u", "operator &", #"quotedIdentifier "f""#,
        ]
      ),
      ("a.b . c..d", ["word a", "dot .", "word b", "dot .", "word c", "dotDot ..", "word d"]),
    ])
  func namesAreWordsOrQuoted(text: String, expected: [String]) {
    #expect(tokens(text) == expected)
  }

  @Test(
    arguments: [
      ("'a''b' 'c'", ["string 'a''b'", "string 'c'"]),
      (#"'a\' 'b'"#, [#"string 'a\'"#, "string 'b'"]),
      (#"E'a\'b' e'\\' 'c'"#, [#"escapeString E'a\'b'"#, #"escapeString e'\\'"#, "string 'c'"]),
      ("N'a' b'01' X'1F' U&'d'", ["string N'a'", "bitString b'01'", "bitString X'1F'", "unicodeString U&'d'"]),
      // Two quotes end a bit string, and begin another constant.
      ("b'0''1'", ["bitString b'0'", "string '1'"]),
      ("'a'\n'b' 'c'", ["string 'a'\n'b'", "string 'c'"]),
      ("'a' -- x\n -- y\n 'b'", ["string 'a' -- x\n -- y\n 'b'"]),
      ("'a' -- x\r'b'", ["string 'a' -- x\r'b'"]),
      ("'a' -- x", ["string 'a'"]),
      ("'a' - 'b'", ["string 'a'", "operator -", "string 'b'"]),
      ("'a' /* x */\n'b'", ["string 'a'", "string 'b'"]),
      ("E'a'\n'\\''", ["escapeString E'a'\n'\\''"]),
      ("e 'a' xe'b'", ["word e", "string 'a'", "word xe", "string 'b'"]),
    ])
  func stringsEndWhereTheServerEndsThem(text: String, expected: [String]) {
    #expect(tokens(text) == expected)
  }

  @Test(
    arguments: [
      (#"'a\' 'b'"#, [#"string 'a\' '"#, "bitString b'"]),
      (#"N'a\'b'"#, [#"string N'a\'b'"#]),
      (#"b'0\' "c\""#, [#"bitString b'0\'"#, #"quotedIdentifier "c\""#]),
      (#"$$\$$ U&'\'"#, [#"dollarString $$\$$"#, #"unicodeString U&'\'"#]),
    ])
  func backslashesEscapeInPlainStringsWhereStringsDoNotConform(text: String, expected: [String]) {
    #expect(tokens(text, conforming: false) == expected)
  }

  @Test(
    arguments: [
      ("$$a$$ $x$b$$c$x$", ["dollarString $$a$$", "dollarString $x$b$$c$x$"]),
      ("$a$ $b$a$ $$ $x$$", ["dollarString $a$ $b$a$", "dollarString $$ $x$$"]),
      // Inside of a word a dollar sign is a letter; after a number or a parameter it is not.
      ("a$$b$$", ["word a$$b$$"]),
      ("1$$a$$ $1$$b$$", ["number 1", "dollarString $$a$$", "parameter $1", "dollarString $$b$$"]),
      ("$1 $12a $a $", ["parameter $1", "parameter $12", "word a", "other $", "word a", "other $"]),
      ("$1a$ $X$ $x$ $X$", ["parameter $1", "word a$", "dollarString $X$ $x$ $X$"]),
    ])
  func dollarsQuote(text: String, expected: [String]) {
    #expect(tokens(text) == expected)
  }

  @Test(
    arguments: [
      (
        "1 1.5 .5 1. 1e5 1.e-5 1e+",
        [
          "number 1", "number 1.5", "number .5", "number 1.", "number 1e5", "number 1.e-5", "number 1", "word e",
          "operator +",
        ]
      ),
      ("1..10", ["number 1", "dotDot ..", "number 10"]),
      ("0x1F 0o17 0b01 1_000 0x", ["number 0x1F", "number 0o17", "number 0b01", "number 1_000", "number 0", "word x"]),
      ("1into 1e'a' 0b'1'", ["number 1", "word into", "number 1", "escapeString e'a'", "number 0", "bitString b'1'"]),
    ])
  func numbersEndWhereTheyCanNoLongerGoOn(text: String, expected: [String]) {
    #expect(tokens(text) == expected)
  }

  @Test(
    arguments: [
      ("a<=b", ["word a", "operator <=", "word b"]),
      ("a=-1", ["word a", "operator =", "operator -", "number 1"]),
      ("a@-1", ["word a", "operator @-", "number 1"]),
      ("a+-- c\nb", ["word a", "operator +", "word b"]),
      ("a*/* c */b", ["word a", "operator *", "word b"]),
      (
        "a::b:=c:d[1]",
        [
          "word a", "doubleColon ::", "word b", "colonEquals :=", "word c", "colon :", "word d", "leftBracket [",
          "number 1", "rightBracket ]",
        ]
      ),
      ("f(a,b);", ["word f", "leftParenthesis (", "word a", "comma ,", "word b", "rightParenthesis )", "semicolon ;"]),
      ("a->>'b' ?| c", ["word a", "operator ->>", "string 'b'", "operator ?|", "word c"]),
      ("\\{", ["other \\", "other {"]),
    ])
  func operatorsStopAtComments(text: String, expected: [String]) {
    #expect(tokens(text) == expected)
  }

  @Test(
    arguments: [
      ("a/* b /* c */ d */e", ["word a", "word e"]), ("a--b\nc", ["word a", "word c"]), ("--a", []),
      ("/*/*/ */*/ a", ["word a"]), ("/***/a/**/b", ["word a", "word b"]), ("a\u{b}\u{c}\tb", ["word a", "word b"]),
    ])
  func commentsAreBlanks(text: String, expected: [String]) {
    #expect(tokens(text) == expected)
  }

  @Test func aZeroByteEndsTheText() {
    for text in ["a\0b", "a 'b\0c'", "a $x$\0$x$", "a /*\0*/ b", "a --\0\nb", "a \"\0\" b", "a E'\\\0'"] {
      #expect(tokens(text).filter { $0.hasPrefix("word") } == ["word a"])
    }
  }

  @Test(arguments: ["'a", "E'a\\", "\"a", "U&\"a", "U&'a", "B'a", "$$a$", "$a$ $b$", "/* /* */", "'a'\n'b", "$é$a$é$"])
  func whatIsNotTerminatedOrOnlyTheServerKnowsIsUnclear(text: String) {
    #expect(tokens(Array(text.utf8)).isUnclear)
  }

  @Test func trailingBytesThatLookLikeASCIIBelongToTheirCharacter() {
    // A character whose last byte is a backslash, then the quote that ends the string.
    let cases: [(TextEncoding, [UInt8])] = [
      (.shiftJIS, [0x83, 0x5c]), (.twoByte, [0xa6, 0x5c]), (.gb18030, [0x81, 0x5c]), (.johab, [0x8a, 0x5c]),
      (.gb18030, [0x81, 0x30, 0x81, 0x30, 0x82, 0x5c]),
    ]
    for (encoding, character) in cases {
      let text = Array("E'".utf8) + character + Array("' x".utf8)
      let result = tokens(text, encoding: encoding)
      #expect(result.list.last == "word x" && !result.isUnclear, "\(encoding)")
      #expect(tokens(text).isUnclear)
    }
    // A half-width kana is a character by itself.
    #expect(tokens(Array("E'".utf8) + [0xb1, 0x5c] + Array("'' x".utf8), encoding: .shiftJIS).list.last == "word x")
    // A word goes on with what looks like an operator, a number or a bracket.
    for (encoding, character) in [(TextEncoding.shiftJIS, [0x83, 0x5b] as [UInt8]), (.twoByte, [0xa6, 0x7c])] {
      #expect(tokens(Array("a".utf8) + character + Array("b c".utf8), encoding: encoding).list.count == 2)
    }
  }

  @Test(
    arguments: [
      ("SJIS", .shiftJIS), ("shift_jis", .shiftJIS), ("Shift-JIS-2004", .shiftJIS), ("windows-932", .shiftJIS),
      ("mskanji", .shiftJIS), ("BIG5", .twoByte), ("win950", .twoByte), ("GBK", .twoByte), ("Windows936", .twoByte),
      ("UHC", .twoByte), ("win949", .twoByte), ("GB 18030", .gb18030), ("JOHAB", .johab), ("UTF-8", .asciiSafe),
      ("unicode", .asciiSafe), ("LATIN1", .asciiSafe), ("latin10", .asciiSafe), ("ISO_8859-15", .asciiSafe),
      ("EUC_JP", .asciiSafe), ("WIN1252", .asciiSafe), ("windows-1258", .asciiSafe), ("KOI8-R", .asciiSafe),
      ("SQL_ASCII", .asciiSafe), ("TCVN-5712", .asciiSafe), ("alt", .asciiSafe), ("MULE_INTERNAL", .asciiSafe),
      ("latin11", nil), ("iso8859-11", nil), ("latin01", nil), ("ebcdic", nil), ("", nil),
    ] as [(WireText, TextEncoding?)])
  func encodingsAreKnownByEveryNameTheServerTakes(name: WireText, expected: TextEncoding?) {
    #expect(TextEncoding(clientEncoding: name) == expected)
  }
}
