/// What a transaction is opened with; nil is left to the session's defaults.
public struct TransactionModes: Equatable, Sendable {
  /// The levels of ISOLATION LEVEL, as they are written.
  public enum Isolation: String, Sendable {
    case serializable = "SERIALIZABLE"
    case repeatableRead = "REPEATABLE READ"
    case readCommitted = "READ COMMITTED"
    case readUncommitted = "READ UNCOMMITTED"
  }

  public var isolation: Isolation?
  public var isReadOnly: Bool?
  public var isDeferrable: Bool?

  public init(isolation: Isolation? = nil, isReadOnly: Bool? = nil, isDeferrable: Bool? = nil) {
    self.isolation = isolation
    self.isReadOnly = isReadOnly
    self.isDeferrable = isDeferrable
  }

  /// Modes that are said later take the place of earlier ones.
  public mutating func formUnion(_ later: TransactionModes) {
    isolation = later.isolation ?? isolation
    isReadOnly = later.isReadOnly ?? isReadOnly
    isDeferrable = later.isDeferrable ?? isDeferrable
  }

  /// The statement that opens a transaction with these modes.
  public var begin: String {
    var words = ["BEGIN"]
    if let isolation { words.append("ISOLATION LEVEL " + isolation.rawValue) }
    if let isReadOnly { words.append(isReadOnly ? "READ ONLY" : "READ WRITE") }
    if let isDeferrable { words.append(isDeferrable ? "DEFERRABLE" : "NOT DEFERRABLE") }
    return words.joined(separator: " ")
  }
}

/// What transactions of a session are where they are opened without modes (`default_transaction_read_only`,
/// `default_transaction_isolation`), as far as the session's settings are known.
public struct TransactionDefaults: Equatable, Sendable {
  public var isReadOnly = false
  public var isSerializable = false

  public init(isReadOnly: Bool = false, isSerializable: Bool = false) {
    self.isReadOnly = isReadOnly
    self.isSerializable = isSerializable
  }
}

/// One statement about the transaction that it stands in: alone in its text, and understood as a whole ("BEGIN", "SET
/// TRANSACTION" in PostgreSQL's documentation). Nothing of a transaction but these can be answered without a server.
public enum TransactionCommand: Equatable, Sendable {
  /// BEGIN.
  case begin(TransactionModes)
  /// START TRANSACTION, which has a command tag of its own.
  case start(TransactionModes)
  /// SET TRANSACTION, but for SNAPSHOT.
  case setModes(TransactionModes)
  /// COMMIT or END, without AND CHAIN.
  case commit
  /// ROLLBACK or ABORT, without AND CHAIN and TO.
  case rollback
  /// Nothing but white space, comments and semicolons.
  case empty

  /// What the text of a Query or Parse is; nil where it is anything else.
  ///
  /// - Parameters:
  ///   - text: up to its end or a zero byte.
  ///   - reading: how the session reads texts.
  public init?(_ text: Span<UInt8>, reading: SQLReading) {
    var parser = TransactionCommandParser(text, reading: reading)
    guard let command = parser.command(), parser.isAtEnd else { return nil }
    self = command
  }

  /// The modes of a block that it opens; nil where it opens none.
  public var opening: TransactionModes? {
    switch self {
    case .begin(let modes), .start(let modes): modes
    case .setModes, .commit, .rollback, .empty: nil
    }
  }

  /// What the server says when it has carried out the command.
  public var tag: String {
    switch self {
    case .begin: "BEGIN"
    case .start: "START TRANSACTION"
    case .setModes: "SET"
    case .commit: "COMMIT"
    case .rollback: "ROLLBACK"
    case .empty: ""
    }
  }
}

/// Reads one statement, a token ahead.
private struct TransactionCommandParser: ~Escapable {
  private var lexer: SQLLexer
  private var token: SQLLexer.Token

  @_lifetime(copy text)
  init(_ text: Span<UInt8>, reading: SQLReading) {
    lexer = SQLLexer(text, reading: reading)
    token = lexer.next()
    skipSemicolons()
  }

  var isAtEnd: Bool {
    mutating get {
      skipSemicolons()
      return token.kind == .end && !lexer.isUnclear
    }
  }

  mutating func command() -> TransactionCommand? {
    if token.kind == .end { return .empty }
    if take("begin") {
      skipNoiseWord()
      return modes(mayBeNone: true).map { .begin($0) }
    }
    if take("start") {
      guard take("transaction") else { return nil }
      return modes(mayBeNone: true).map { .start($0) }
    }
    if take("set") {
      _ = take("local")
      guard take("transaction") else { return nil }
      return modes(mayBeNone: false).map { .setModes($0) }
    }
    let isCommit = take("commit") || take("end")
    guard isCommit || take("rollback") || take("abort") else { return nil }
    skipNoiseWord()
    return isCommit ? .commit : .rollback
  }

  /// Modes with or without commas between them, up to the end of the statement; nil where one is not understood.
  private mutating func modes(mayBeNone: Bool) -> TransactionModes? {
    var modes = TransactionModes()
    if token.kind == .end || token.kind == .semicolon { return mayBeNone ? modes : nil }
    while true {
      guard takeMode(&modes) else { return nil }
      if token.kind == .end || token.kind == .semicolon { return modes }
      if token.kind == .comma { token = lexer.next() }
    }
  }

  private mutating func takeMode(_ modes: inout TransactionModes) -> Bool {
    if take("isolation") {
      guard take("level") else { return false }
      return takeLevel(&modes)
    }
    if take("read") {
      let isReadOnly = take("only")
      guard isReadOnly || take("write") else { return false }
      modes.isReadOnly = isReadOnly
      return true
    }
    let isNot = take("not")
    guard take("deferrable") else { return false }
    modes.isDeferrable = !isNot
    return true
  }

  private mutating func takeLevel(_ modes: inout TransactionModes) -> Bool {
    if take("serializable") {
      modes.isolation = .serializable
    } else if take("repeatable") {
      guard take("read") else { return false }
      modes.isolation = .repeatableRead
    } else {
      guard take("read") else { return false }
      let isCommitted = take("committed")
      guard isCommitted || take("uncommitted") else { return false }
      modes.isolation = isCommitted ? .readCommitted : .readUncommitted
    }
    return true
  }

  private mutating func skipNoiseWord() {
    if !take("work") { _ = take("transaction") }
  }

  private mutating func skipSemicolons() {
    while token.kind == .semicolon { token = lexer.next() }
  }

  /// Takes the token where it is this word.
  private mutating func take(_ word: StaticString) -> Bool {
    guard token.kind == .word, token.range.count == word.utf8CodeUnitCount, lexer.matches(token.start, word) else {
      return false
    }
    token = lexer.next()
    return true
  }
}
