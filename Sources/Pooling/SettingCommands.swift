public import PostgresWire

/// One statement that changes what a session keeps by name: settings, savepoints, listening, prepared statements.
///
/// Names are what the server makes of them: small letters where they are not quoted. What has names longer than the
/// server keeps (63 bytes), names beyond ASCII without quotes, or names with Unicode escapes is not understood.
public enum SettingCommand: Hashable, Sendable {
  /// The right-hand side of a SET.
  public struct Value: Hashable, Sendable {
    /// What can be sent again as it is: `SET name = raw`, `SET TIME ZONE raw`.
    public var raw: WireText
    /// What it is as text, where it is one constant or one word and that can be told. A setting that is a list takes
    /// it for one element.
    public var constant: WireText?
  }

  /// SET [SESSION | LOCAL] name = value, also SET SCHEMA and SET XML OPTION.
  case set(name: WireText, Value, isLocal: Bool)
  /// SET … TO DEFAULT.
  case setDefault(name: WireText, isLocal: Bool)
  /// SELECT set_config(name, value, is_local), all constants. Unlike in SET, the value of a list is the whole list, and
  /// the name is as it was written.
  case setConfig(name: WireText, value: WireText, isLocal: Bool)
  case reset(name: WireText)
  case resetAll
  /// SET ROLE, also as SET role = value.
  case role(Value, isLocal: Bool)
  case sessionAuthorization(Value, isLocal: Bool)
  /// SET SESSION CHARACTERISTICS AS TRANSACTION, with the modes as they were written.
  case characteristics(modes: WireText, isLocal: Bool)
  /// SET TRANSACTION and SET CONSTRAINTS, which end with the transaction.
  case transactionOnly
  case timeZone(Value, isLocal: Bool)
  case names(Value, isLocal: Bool)
  case savepoint(WireText)
  case rollbackTo(WireText)
  case release(WireText)
  case listen(WireText)
  /// UNLISTEN; nil is `*`.
  case unlisten(WireText?)
  /// DEALLOCATE; nil is ALL.
  case deallocate(WireText?)
  case prepare(WireText)
  case execute(WireText)

  /// What the one statement in `text` is; nil where it is none of these, there are several, or it is not understood.
  ///
  /// What is understood may still be refused by the server.
  ///
  /// - Parameters:
  ///   - reading: how the session reads texts when the server parses this one.
  public init?(_ text: Span<UInt8>, reading: SQLReading) {
    var parser = SettingCommandParser(text, reading: reading)
    guard let command = parser.command(), parser.isWhole else { return nil }
    self = command
  }
}

/// Reads one statement, a token ahead.
struct SettingCommandParser: ~Escapable {
  private var lexer: SQLLexer
  private let standardConformingStrings: Bool
  private(set) var token: SQLLexer.Token
  /// Where the token before `token` ends.
  private var end = 0

  @_lifetime(copy text)
  init(_ text: Span<UInt8>, reading: SQLReading) {
    lexer = SQLLexer(text, reading: reading)
    standardConformingStrings = reading.standardConformingStrings
    token = lexer.next()
    while token.kind == .semicolon { advance() }
  }

  /// Whether nothing but semicolons is left, and all of it was clear.
  var isWhole: Bool {
    mutating get {
      while token.kind == .semicolon { advance() }
      return token.kind == .end && !lexer.isUnclear
    }
  }

  private var isAtEnd: Bool { token.kind == .semicolon || token.kind == .end }

  mutating func advance() {
    end = token.end
    token = lexer.next()
  }

  // MARK: Statements

  mutating func command() -> SettingCommand? {
    guard let word = takeWord() else { return nil }
    switch word {
    case "set": return set()
    case "reset": return reset()
    case "select": return setConfig()
    case "savepoint": return takeName().map(SettingCommand.savepoint)
    case "release": return takeName(after: "savepoint").map(SettingCommand.release)
    case "rollback":
      if !take("work") { _ = take("transaction") }
      guard take("to") else { return nil }
      return takeName(after: "savepoint").map(SettingCommand.rollbackTo)
    case "listen": return takeName().map(SettingCommand.listen)
    case "unlisten":
      if takeOperator("*") { return .unlisten(nil) }
      return takeName().map(SettingCommand.unlisten)
    case "deallocate":
      if take("all") { return .deallocate(nil) }
      let isAfterPrepare = token.kind == .word && self.word(token) == "prepare"
      guard let name = takeName(after: "prepare") else { return nil }
      // ALL is reserved, hence never a name without quotes.
      return isAfterPrepare && name.text == "all" && lexer.text[end - 1] != UInt8(ascii: "\"")
        ? .deallocate(nil) : .deallocate(name)
    case "prepare":
      let isTransaction = token.kind == .word && self.word(token) == "transaction"
      guard let name = takeName() else { return nil }
      if isTransaction && !(token.kind == .leftParenthesis || token.kind == .word && self.word(token) == "as") {
        return nil
      }
      skipStatement()
      return .prepare(name)
    case "execute":
      guard let name = takeName() else { return nil }
      skipStatement()
      return .execute(name)
    default: return nil
    }
  }

  private mutating func set() -> SettingCommand? {
    let scope = token
    let isLocal = take("local")
    let hasScope = isLocal || take("session")
    // A setting may be named local.something; that is not SET LOCAL.
    if hasScope, token.kind == .dot { return assignment(name(of: scope), isLocal: false) }
    if hasScope, !isLocal {
      if take("authorization") { return authorization(isLocal: false) }
      if take("characteristics") { return characteristics(isLocal: false) }
    }
    let first = token
    guard token.kind == .word || token.kind == .quotedIdentifier else { return nil }
    advance()
    if isSettingName { return assignment(name(of: first), isLocal: isLocal) }
    switch first.kind == .word ? word(first) : "" {
    case "time":
      if take("zone") { return timeZone(isLocal: isLocal) }
    case "names":
      if isAtEnd || take("default") { return .setDefault(name: "client_encoding", isLocal: isLocal) }
      if let value = takeString() { return .names(value, isLocal: isLocal) }
    case "role":
      if let value = takeNameOrString() { return .role(value, isLocal: isLocal) }
    case "session":
      if take("authorization") { return authorization(isLocal: isLocal) }
      if take("characteristics") { return characteristics(isLocal: isLocal) }
    case "schema":
      if let value = takeString() { return .set(name: "search_path", value, isLocal: isLocal) }
    case "xml":
      if take("option"), let value = takeNameOrString() { return .set(name: "xmloption", value, isLocal: isLocal) }
    case "transaction", "constraints":
      skipStatement()
      return .transactionOnly
    default: break
    }
    return nil
  }

  private mutating func authorization(isLocal: Bool) -> SettingCommand? {
    if take("default") { return .setDefault(name: "session_authorization", isLocal: isLocal) }
    return takeNameOrString().map { .sessionAuthorization($0, isLocal: isLocal) }
  }

  private mutating func characteristics(isLocal: Bool) -> SettingCommand? {
    guard take("as"), take("transaction"), !isAtEnd else { return nil }
    let start = token.start
    skipStatement()
    return .characteristics(modes: raw(start..<end), isLocal: isLocal)
  }

  private mutating func timeZone(isLocal: Bool) -> SettingCommand? {
    if take("default") || take("local") { return .setDefault(name: "timezone", isLocal: isLocal) }
    guard token.kind == .word, word(token) == "interval" else {
      return takeValue().map { .timeZone($0, isLocal: isLocal) }
    }
    let start = token.start
    skipStatement()
    return .timeZone(SettingCommand.Value(raw: raw(start..<end), constant: nil), isLocal: isLocal)
  }

  /// What comes after the first part of a setting's name.
  private mutating func assignment(_ first: WireText?, isLocal: Bool) -> SettingCommand? {
    guard var name = first else { return nil }
    while token.kind == .dot {
      advance()
      guard let part = takeName() else { return nil }
      name.bytes += [UInt8(ascii: ".")] + part.bytes
    }
    guard takeOperator("=") || take("to") else { return nil }
    if take("default") { return .setDefault(name: name, isLocal: isLocal) }
    guard !isAtEnd else { return nil }
    let start = token.start
    guard var value = takeValue() else { return nil }
    while token.kind == .comma {
      advance()
      guard takeValue() != nil else { return nil }
      value.constant = nil
    }
    value.raw = raw(start..<end)
    switch name.text {
    case "role": return .role(value, isLocal: isLocal)
    case "session_authorization": return .sessionAuthorization(value, isLocal: isLocal)
    default: return .set(name: name, value, isLocal: isLocal)
    }
  }

  private mutating func reset() -> SettingCommand? {
    let first = token
    if take("all") { return .resetAll }
    guard var name = takeName() else { return nil }
    if first.kind == .word {
      switch name.text {
      case "time" where take("zone"): return .reset(name: "timezone")
      case "session" where take("authorization"): return .reset(name: "session_authorization")
      case "transaction" where take("isolation"): return take("level") ? .reset(name: "transaction_isolation") : nil
      default: break
      }
    }
    while token.kind == .dot {
      advance()
      guard let part = takeName() else { return nil }
      name.bytes += [UInt8(ascii: ".")] + part.bytes
    }
    return .reset(name: name)
  }

  /// After SELECT: a call of set_config and nothing else.
  private mutating func setConfig() -> SettingCommand? {
    guard var function = takeName() else { return nil }
    if token.kind == .dot, function.text == "pg_catalog" {
      advance()
      guard let name = takeName() else { return nil }
      function = name
    }
    guard function.text == "set_config", takeKind(.leftParenthesis),
      let name = takeString()?.constant, takeKind(.comma),
      let value = takeString()?.constant, takeKind(.comma), token.kind == .word
    else { return nil }
    let isLocal: Bool
    switch takeWord() {
    case "true": isLocal = true
    case "false": isLocal = false
    default: return nil
    }
    guard takeKind(.rightParenthesis) else { return nil }
    if take("as") || !isAtEnd { guard takeName() != nil else { return nil } }
    return .setConfig(name: name, value: value, isLocal: isLocal)
  }

  // MARK: Values

  /// One element of a list: a constant, a word or a number with its sign.
  private mutating func takeValue() -> SettingCommand.Value? {
    if let value = takeNameOrString() { return value }
    let start = token.start
    let isSigned = takeOperator("-")
    if !isSigned { _ = takeOperator("+") }
    guard token.kind == .number else { return nil }
    let digits = raw(token.range)
    advance()
    // The server reads integers and writes them anew.
    let isPlain = digits.bytes.count <= 9 && digits.bytes.allSatisfy { (0x30...0x39).contains($0) }
    let isCanonical = isPlain && (digits.bytes[0] != UInt8(ascii: "0") || digits.bytes.count == 1 && !isSigned)
    return SettingCommand.Value(
      raw: raw(start..<end),
      constant: isCanonical ? WireText((isSigned ? [UInt8(ascii: "-")] : []) + digits.bytes) : nil)
  }

  private mutating func takeNameOrString() -> SettingCommand.Value? {
    if let value = takeString() { return value }
    let range = token.range
    return takeName().map { SettingCommand.Value(raw: raw(range), constant: $0) }
  }

  /// A string constant of any kind.
  mutating func takeString() -> SettingCommand.Value? {
    guard !lexer.isUnclear else { return nil }
    let constant: WireText?
    switch token.kind {
    case .string:
      // The grammar has no national constants here.
      guard lexer.text[token.start] == UInt8(ascii: "'") else { return nil }
      constant = unquoted(from: token.start + 1, escapes: !standardConformingStrings)
    case .escapeString: constant = unquoted(from: token.start + 2, escapes: true)
    case .unicodeString:
      let text = unquoted(from: token.start + 3, escapes: false)
      constant = text?.bytes.contains(UInt8(ascii: "\\")) == true ? nil : text
    case .dollarString:
      var tag = token.start + 1
      while lexer.text[tag] != UInt8(ascii: "$") { tag += 1 }
      let length = tag + 1 - token.start
      guard token.range.count >= 2 * length else { return nil }
      constant = raw(token.start + length..<token.end - length)
    default: return nil
    }
    let isUnicode = token.kind == .unicodeString
    let range = token.range
    advance()
    if isUnicode, token.kind == .word, word(token) == "uescape" { return nil }
    return SettingCommand.Value(raw: raw(range), constant: constant)
  }

  /// The text of a constant whose first quote is before `start`; nil where what is escaped cannot be told from ASCII.
  private func unquoted(from start: Int, escapes: Bool) -> WireText? {
    let quote = UInt8(ascii: "'")
    var bytes: [UInt8] = []
    var offset = start
    while offset < token.end - 1 {
      let byte = lexer.text[offset]
      if byte >= 0x80 {
        let length = lexer.length(at: offset)
        for index in offset..<offset + length { bytes.append(lexer.text[index]) }
        offset += length
      } else if byte == UInt8(ascii: "\\") && escapes {
        guard let (character, length) = escaped(at: offset + 1) else { return nil }
        bytes.append(character)
        offset += 1 + length
      } else if byte == quote && lexer.text[offset + 1] == quote {
        bytes.append(quote)
        offset += 2
      } else if byte == quote {
        // The constant goes on in another line.
        offset += 1
        while lexer.text[offset] != quote {
          if lexer.text[offset] == UInt8(ascii: "-") {
            while lexer.text[offset] != 0x0a && lexer.text[offset] != 0x0d { offset += lexer.length(at: offset) }
          }
          offset += 1
        }
        offset += 1
      } else {
        bytes.append(byte)
        offset += 1
      }
    }
    return WireText(bytes)
  }

  /// The character after a backslash, and how many bytes it is written in.
  private func escaped(at offset: Int) -> (UInt8, Int)? {
    func digits(from start: Int, _ limit: Int, radix: Int) -> (UInt8, Int)? {
      var value = 0
      var count = 0
      while count < limit, start + count < token.end,
        let digit = Character(Unicode.Scalar(lexer.text[start + count])).hexDigitValue, digit < radix
      {
        value = value * radix + digit
        count += 1
      }
      guard count > 0, (1..<0x80).contains(value) else { return nil }
      return (UInt8(value), count)
    }
    switch lexer.text[offset] {
    case UInt8(ascii: "b"): return (0x08, 1)
    case UInt8(ascii: "f"): return (0x0c, 1)
    case UInt8(ascii: "n"): return (0x0a, 1)
    case UInt8(ascii: "r"): return (0x0d, 1)
    case UInt8(ascii: "t"): return (0x09, 1)
    case UInt8(ascii: "v"): return (0x0b, 1)
    case UInt8(ascii: "0")...UInt8(ascii: "7"): return digits(from: offset, 3, radix: 8)
    case UInt8(ascii: "x"): return digits(from: offset + 1, 2, radix: 16).map { ($0, $1 + 1) }
    case UInt8(ascii: "u"), UInt8(ascii: "U"), 0x80...: return nil
    case let byte: return (byte, 1)
    }
  }

  // MARK: Tokens

  /// The token after the present one.
  var tokenAfter: SQLLexer.Token {
    var rest = lexer
    return rest.next()
  }

  /// What the present token names; nil where it is no name.
  var presentName: WireText? { name(of: token) }

  private func raw(_ range: Range<Int>) -> WireText { WireText(lexer.text, range) }

  /// A word in small letters.
  private func word(_ token: SQLLexer.Token) -> String { raw(token.range).text.lowercased() }

  private mutating func takeWord() -> String? {
    guard token.kind == .word else { return nil }
    let word = word(token)
    advance()
    return word
  }

  private mutating func take(_ expected: String) -> Bool {
    guard token.kind == .word, word(token) == expected else { return false }
    advance()
    return true
  }

  mutating func takeKind(_ kind: SQLLexer.Kind) -> Bool {
    guard token.kind == kind else { return false }
    advance()
    return true
  }

  private mutating func takeOperator(_ expected: String) -> Bool {
    guard token.kind == .operator, raw(token.range).text == expected else { return false }
    advance()
    return true
  }

  /// An identifier as the server knows it.
  private mutating func takeName() -> WireText? {
    guard let name = name(of: token) else { return nil }
    advance()
    return name
  }

  /// A name with a keyword before it that may be left out, or be the name itself.
  private mutating func takeName(after keyword: String) -> WireText? {
    let isKeyword = take(keyword)
    return isKeyword && isAtEnd ? WireText(keyword) : takeName()
  }

  /// The name that the token is.
  private func name(of token: SQLLexer.Token) -> WireText? {
    let name: WireText
    switch token.kind {
    case .word:
      guard token.key != 1 else { return nil }
      name = WireText(raw(token.range).bytes.map { (0x41...0x5a).contains($0) ? $0 | 0x20 : $0 })
    case .quotedIdentifier:
      var bytes: [UInt8] = []
      var offset = token.start + 1
      while offset < token.end - 1 {
        let length = lexer.length(at: offset)
        for index in offset..<min(offset + length, token.end - 1) { bytes.append(lexer.text[index]) }
        offset += lexer.text[offset] == UInt8(ascii: "\"") ? 2 : length
      }
      name = WireText(bytes)
    default: return nil
    }
    // The server counts after it has converted the name, which may make it longer.
    let limit = name.bytes.allSatisfy { $0 < 0x80 } ? 63 : 20
    return (1...limit).contains(name.bytes.count) ? name : nil
  }

  /// Whether what follows the token makes the token before a setting's name, even if it could be a keyword.
  private var isSettingName: Bool {
    switch token.kind {
    case .dot: true
    case .operator: raw(token.range).text == "="
    case .word: word(token) == "to"
    default: false
    }
  }

  private mutating func skipStatement() {
    while !isAtEnd { advance() }
  }
}
