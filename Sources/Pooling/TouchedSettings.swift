import PostgresWire

/// The settings that a text may change for longer than its transaction, by name.
///
/// What becomes of them (a rollback, an error, a savepoint) no text shows: the server is asked when the transaction is
/// over.
public struct TouchedSettings: Equatable, Sendable {
  /// In small letters, each once.
  public private(set) var names: [String] = []
  /// Those among `names` that may have gone back to their defaults.
  public private(set) var resets: [String] = []
  /// RESET ALL or DISCARD ALL.
  public internal(set) var resetsAll = false
  /// A setting is changed whose name the text does not show.
  public private(set) var isIncomplete = false
  /// One that parsing reads and the server does not report may have changed, if only for the transaction.
  public private(set) var changesParsing = false
  /// How later texts are read may have changed, if only for the transaction.
  public var changesReading: Bool { namesReading || resetsAll || isIncomplete }
  private var namesReading = false
  /// The search path may name pg_temp, if only for the transaction: then each CREATE makes something temporary.
  public private(set) var mayCreateTemporary = false

  /// Nothing is touched.
  public init() {}

  /// What a text touches.
  ///
  /// - Parameters:
  ///   - text: of which `StatementEffects` says `setsSession`, `setsLocal` or `resetsAll`.
  ///   - reading: how the session reads texts when the server parses this one.
  public init(_ text: Span<UInt8>, reading: SQLReading) {
    var lexer = SQLLexer(text, reading: reading)
    var start = 0
    while true {
      let token = lexer.next()
      guard token.kind == .semicolon || token.kind == .end else { continue }
      let statement = text.extracting(start..<token.start)
      if let command = SettingCommand(statement, reading: reading) {
        note(command)
      } else {
        noteCalls(SettingCommandParser(statement, reading: reading))
      }
      if token.kind == .end { return }
      start = token.end
    }
  }

  /// Whether nothing has to be looked at.
  public var isEmpty: Bool { names.isEmpty && !resetsAll && !isIncomplete }

  /// Takes what another text touches.
  public mutating func formUnion(_ other: TouchedSettings) {
    for name in other.names { insert(name, isReset: other.resets.contains(name)) }
    resetsAll = resetsAll || other.resetsAll
    isIncomplete = isIncomplete || other.isIncomplete
    changesParsing = changesParsing || other.changesParsing
    namesReading = namesReading || other.namesReading
    mayCreateTemporary = mayCreateTemporary || other.mayCreateTemporary
  }

  private mutating func insert(_ name: String, isReset: Bool = false) {
    if !names.contains(name) { names.append(name) }
    if isReset && !resets.contains(name) { resets.append(name) }
  }

  // MARK: Statements

  private static let parsingNames: Set<String> = [
    "array_nulls", "backslash_quote", "transform_null_equals", "xmloption",
  ]

  /// A setting gets another value.
  ///
  /// - Parameter value: as it was written; nil where the text does not show it.
  private mutating func note(_ name: WireText, _ value: WireText?, isLocal: Bool, isReset: Bool = false) {
    guard name.bytes.allSatisfy({ $0 < 0x80 }) else {
      isIncomplete = isIncomplete || !isLocal
      return
    }
    let key = name.text.lowercased()
    if TouchedSettings.parsingNames.contains(key) { changesParsing = true }
    if key == "standard_conforming_strings" || key == "client_encoding" { namesReading = true }
    if key == "search_path", !isReset, value.map({ $0.text.lowercased().contains("pg_temp") }) ?? true {
      mayCreateTemporary = true
    }
    guard !isLocal else { return }
    insert(key, isReset: isReset)
    // Whatever the session authorization becomes, the role is left for it.
    if key == "session_authorization" { insert("role", isReset: true) }
  }

  private mutating func note(_ command: SettingCommand) {
    switch command {
    case .set(let name, let value, let isLocal): note(name, value.raw, isLocal: isLocal)
    case .setDefault(let name, let isLocal): note(name, nil, isLocal: isLocal, isReset: true)
    case .setConfig(let name, let value, let isLocal): note(name, value, isLocal: isLocal)
    case .reset(let name): note(name, nil, isLocal: false, isReset: true)
    case .resetAll: resetsAll = true
    case .role(let value, let isLocal): note("role", value.raw, isLocal: isLocal, isReset: value.constant == "none")
    case .sessionAuthorization(let value, let isLocal): note("session_authorization", value.raw, isLocal: isLocal)
    case .characteristics(_, let isLocal):
      for name in ["isolation", "read_only", "deferrable"] {
        note(WireText("default_transaction_" + name), nil, isLocal: isLocal)
      }
    case .timeZone(let value, let isLocal): note("timezone", value.raw, isLocal: isLocal)
    case .names(let value, let isLocal): note("client_encoding", value.raw, isLocal: isLocal)
    case .transactionOnly, .savepoint, .rollbackTo, .release, .listen, .unlisten, .deallocate, .prepare, .execute: break
    }
  }

  /// A statement that is more than one of these commands: its calls of set_config are looked for.
  private mutating func noteCalls(_ parser: consuming SettingCommandParser) {
    var parser = parser
    // SET and RESET, as far as they are not understood.
    if parser.isWord("set") && !parser.isNextWord("local") || parser.isWord("reset") { isIncomplete = true }
    let isQuery = parser.isWord("select")
    while parser.token.kind != .end {
      if parser.takeCatalogName("pg_settings") {
        isIncomplete = isIncomplete || !isQuery
      } else if parser.takeCatalogName("set_config") {
        if parser.takeKind(.leftParenthesis) { noteCall(&parser) }
      } else {
        parser.advance()
      }
    }
  }

  /// The arguments of set_config.
  private mutating func noteCall(_ parser: inout SettingCommandParser) {
    var name: WireText?
    if let constant = parser.takeString()?.constant, parser.token.kind == .comma { name = constant }
    var depth = 1
    var isTrue = false
    var arguments = 1
    while parser.token.kind != .end {
      let token = parser.token
      if token.kind == .leftParenthesis { depth += 1 }
      if token.kind == .rightParenthesis {
        depth -= 1
        if depth == 0 { break }
      }
      if token.kind == .comma && depth == 1 { arguments += 1 }
      isTrue = token.isWord("true")
      if parser.takeCatalogName("set_config") {
        if parser.takeKind(.leftParenthesis) { noteCall(&parser) }
      } else {
        parser.advance()
      }
    }
    let isLocal = isTrue && arguments == 3
    if let name {
      note(name, nil, isLocal: isLocal)
    } else if !isLocal {
      isIncomplete = true
    }
  }
}

extension SettingCommandParser {
  func isWord(_ word: StaticString) -> Bool { token.isWord(word) }

  /// Whether the token after the present one is `word`.
  func isNextWord(_ word: StaticString) -> Bool { tokenAfter.isWord(word) }

  /// Takes the present token where it is this name, quoted or not.
  mutating func takeCatalogName(_ expected: String) -> Bool {
    guard token.kind == .word || token.kind == .quotedIdentifier, presentName?.text == expected else { return false }
    advance()
    return true
  }
}
