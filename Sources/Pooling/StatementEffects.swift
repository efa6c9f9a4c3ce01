/// What SQL text may do to the session it runs in, as far as PostgreSQL's syntax shows it.
///
/// Nothing that the syntax can express is missed; what is told may turn out not to happen (a statement fails, `END` ends
/// the body of a function). What no text shows: what functions, procedures, DO blocks, triggers, rules, views and
/// statements that were prepared before do inside; functions that stand behind operators, casts and columns; and
/// `search_path` with pg_temp in front, as a string, which makes each CREATE a temporary one.
public struct StatementEffects: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32

  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// BEGIN, START TRANSACTION, and AND CHAIN after what ends a transaction.
  public static let begins = Self(rawValue: 1 << 0)
  /// COMMIT, END, ROLLBACK, ABORT, PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
  public static let ends = Self(rawValue: 1 << 1)
  public static let setsSavepoint = Self(rawValue: 1 << 2)
  public static let rollsBackToSavepoint = Self(rawValue: 1 << 3)
  public static let releasesSavepoint = Self(rawValue: 1 << 4)
  /// SET and RESET of anything but ALL, an UPDATE of pg_settings, a call of set_config, whether it is local or not.
  public static let setsSession = Self(rawValue: 1 << 5)
  /// SET LOCAL, SET TRANSACTION, SET CONSTRAINTS.
  public static let setsLocal = Self(rawValue: 1 << 6)
  /// RESET ALL, DISCARD ALL.
  public static let resetsAll = Self(rawValue: 1 << 7)
  public static let discardsAll = Self(rawValue: 1 << 8)
  public static let discardsPlans = Self(rawValue: 1 << 9)
  public static let discardsTemporary = Self(rawValue: 1 << 10)
  public static let discardsSequences = Self(rawValue: 1 << 11)
  /// CREATE TEMPORARY, SELECT INTO TEMPORARY, and any mention of the schema pg_temp.
  public static let createsTemporary = Self(rawValue: 1 << 12)
  public static let drops = Self(rawValue: 1 << 13)
  /// DECLARE … WITH HOLD.
  public static let declaresHoldCursor = Self(rawValue: 1 << 14)
  public static let closesCursor = Self(rawValue: 1 << 15)
  public static let listens = Self(rawValue: 1 << 16)
  public static let unlistens = Self(rawValue: 1 << 17)
  public static let notifies = Self(rawValue: 1 << 18)
  /// An advisory lock that outlives the transaction.
  public static let locksAdvisory = Self(rawValue: 1 << 19)
  public static let unlocksAdvisory = Self(rawValue: 1 << 20)
  public static let loads = Self(rawValue: 1 << 21)
  /// PREPARE of a statement. Its text counts as if it ran.
  public static let prepares = Self(rawValue: 1 << 22)
  /// EXECUTE of a prepared statement, whose text is not here.
  public static let executes = Self(rawValue: 1 << 23)
  public static let deallocates = Self(rawValue: 1 << 24)
  /// currval, lastval.
  public static let usesSequenceState = Self(rawValue: 1 << 25)
  /// COPY … FROM STDIN.
  public static let copiesIn = Self(rawValue: 1 << 26)
  /// COPY … TO STDOUT.
  public static let copiesOut = Self(rawValue: 1 << 27)
  /// CALL, DO.
  public static let callsProcedure = Self(rawValue: 1 << 28)
  /// A name before a parenthesis that is no keyword and none of the harmless built-in functions.
  public static let callsUnknownFunction = Self(rawValue: 1 << 29)
  /// There is more than one statement.
  public static let hasSeveralStatements = Self(rawValue: 1 << 30)
  /// A string, comment or quoted name is not terminated, or a name or tag can be known to the server only.
  public static let isUnclear = Self(rawValue: 1 << 31)

  /// The effects of all statements of a text, in one pass and without allocation.
  ///
  /// - Parameters:
  ///   - text: up to its end or a zero byte. Of a text that was cut, the caller knows no more than what is here.
  ///   - reading: how the session reads texts when the server parses this one. A string of several statements is
  ///     parsed whole before any of them runs.
  public static func scan(_ text: Span<UInt8>, reading: SQLReading) -> StatementEffects {
    PlainStatement.isPlain(text) ? [] : scanTokens(text, reading: reading)
  }

  /// As `scan`, token by token, whatever the text is.
  static func scanTokens(_ text: Span<UInt8>, reading: SQLReading) -> StatementEffects {
    var scanner = EffectScanner(SQLLexer(text, reading: reading))
    return scanner.run()
  }
}

/// Follows the tokens of a text. The first word of a statement says what is looked for in the rest.
private struct EffectScanner: ~Escapable {
  /// What the next token is looked at for.
  private enum Phase: UInt8 {
    /// No token of the statement has come.
    case start
    /// SELECT and the like: calls, INTO, and names of the system.
    case plain
    /// A statement that may have another one inside: EXPLAIN, PREPARE, CREATE.
    case nesting
    case create, into
    /// After what ends a transaction: AND CHAIN.
    case chain
    case startTransaction, rollback
    case set, setLocal, reset, discard, prepare, prepareTransaction, copy, declare
  }

  private var lexer: SQLLexer
  private var effects: StatementEffects = []
  private var phase = Phase.start
  private var phaseAfterInto = Phase.plain
  private var hasStatement = false
  /// The token before the present one, and what is needed of the one before that.
  private var previous = SQLLexer.Token(kind: .end, start: 0, end: 0)
  private var earlierKind = SQLLexer.Kind.end
  private var earlierKey: UInt64 = 0
  /// The name before the last dot.
  private var qualifier = SQLLexer.Token(kind: .end, start: 0, end: 0)
  /// Where the first word of the statement ends.
  private var firstEnd = 0
  /// After INSERT INTO, COPY, PREPARE and EXECUTE: where the name begins that a parenthesis may follow.
  private var target: Int?
  /// The statement may be an UPDATE, or have one inside.
  private var mayUpdate = false
  /// `OPERATOR (…)` or `DISTINCT ON (…)` came before, after which a call may follow a closing parenthesis.
  private var mayCallAfterParenthesis = false

  @_lifetime(copy lexer)
  init(_ lexer: consuming SQLLexer) {
    self.lexer = lexer
  }

  mutating func run() -> StatementEffects {
    while true {
      let token = lexer.next()
      if phase != .plain { follow(token) }
      switch token.kind {
      case .word:
        if token.isWord("into") { into(token) }
        if lexer.text[token.start] | 0x20 == UInt8(ascii: "p") { name(token.range) }
      case .leftParenthesis:
        if previous.kind == .word || previous.kind == .quotedIdentifier || previous.kind == .unicodeIdentifier {
          call()
        }
      case .dot: qualifier = previous
      case .quotedIdentifier: name(token.start + 1..<token.end)
      case .unicodeIdentifier: unicodeName(token)
      case .semicolon: finish()
      case .end:
        finish()
        if lexer.isUnclear { effects.insert(.isUnclear) }
        return effects
      default: break
      }
      earlierKind = previous.kind
      earlierKey = previous.key
      previous = token
    }
  }

  /// The end of a statement.
  private mutating func finish() {
    if phase == .rollback { effects.insert(.ends) }
    phase = .start
    target = nil
    mayCallAfterParenthesis = false
  }

  /// The first token of a statement. What begins with a parenthesis is a query.
  private mutating func begin(_ token: SQLLexer.Token) {
    if hasStatement { effects.insert(.hasSeveralStatements) }
    hasStatement = true
    phase = .plain
    mayUpdate = !token.isWord("select")
    firstEnd = token.end
    let length = token.end - token.start
    switch token.key {
    case wordKey("select"), wordKey("insert"), wordKey("update"), wordKey("delete"), wordKey("with"): break
    case wordKey("begin"): effects.insert(.begins)
    case wordKey("start"): phase = .startTransaction
    case wordKey("commit"), wordKey("end"):
      effects.insert(.ends)
      phase = .chain
    case wordKey("rollback") where length == 8, wordKey("abort"): phase = .rollback
    case wordKey("savepoint") where length == 9: effects.insert(.setsSavepoint)
    case wordKey("release"): effects.insert(.releasesSavepoint)
    case wordKey("set"): phase = .set
    case wordKey("reset"): phase = .reset
    case wordKey("discard"): phase = .discard
    case wordKey("create"): phase = .create
    case wordKey("drop"): effects.insert(.drops)
    case wordKey("explain"): phase = .nesting
    case wordKey("prepare"): phase = .prepare
    case wordKey("execute"):
      effects.insert(.executes)
      target = token.end
    case wordKey("deallocate") where length == 10: effects.insert(.deallocates)
    case wordKey("copy"):
      target = token.end
      phase = .copy
    case wordKey("declare"): phase = .declare
    case wordKey("close"): effects.insert(.closesCursor)
    case wordKey("listen"): effects.insert(.listens)
    case wordKey("unlisten") where length == 8: effects.insert(.unlistens)
    case wordKey("notify"): effects.insert(.notifies)
    case wordKey("load"): effects.insert(.loads)
    case wordKey("call"), wordKey("do"): effects.insert(.callsProcedure)
    default: break
    }
  }

  /// A token that needs a closer look.
  private mutating func follow(_ token: SQLLexer.Token) {
    if token.kind == .semicolon || token.kind == .end { return }
    switch phase {
    case .plain: break
    case .start: begin(token)
    case .nesting:
      if token.isWord("execute") { effects.insert(.executes) }
      if token.isWord("create") { phase = .create }
    case .create:
      switch token.key {
      case wordKey("or"), wordKey("replace"), wordKey("global"), wordKey("local"): break
      default:
        noteTemporary(token)
        phase = .nesting
      }
    case .into:
      if token.isWord("global") || token.isWord("local") { return }
      noteTemporary(token)
      phase = phaseAfterInto
    case .startTransaction:
      if isWord(token, "transaction") { effects.insert(.begins) }
      phase = .plain
    case .chain: if token.isWord("chain") && previous.isWord("and") { effects.insert(.begins) }
    case .rollback:
      if token.isWord("work") || isWord(token, "transaction") { return }
      effects.insert(token.isWord("to") ? .rollsBackToSavepoint : .ends)
      phase = .chain
    case .set:
      phase = .plain
      if token.isWord("local") || isWord(token, "transaction") || isWord(token, "constraints") {
        effects.insert(.setsLocal)
        phase = .setLocal
      } else {
        effects.insert(.setsSession)
      }
    case .setLocal:
      // A setting may be named local.something.
      if token.kind == .dot { effects.insert(.setsSession) }
      phase = .plain
    case .reset:
      effects.insert(token.isWord("all") ? .resetsAll : .setsSession)
      phase = .plain
    case .discard:
      switch token.key {
      case wordKey("all"): effects.formUnion([.discardsAll, .resetsAll])
      case wordKey("plans"): effects.insert(.discardsPlans)
      case wordKey("temp"), wordKey("temporary"): effects.insert(.discardsTemporary)
      case wordKey("sequences"): effects.insert(.discardsSequences)
      default: break
      }
      phase = .plain
    case .prepare:
      target = token.start
      if isWord(token, "transaction") {
        phase = .prepareTransaction
      } else {
        effects.insert(.prepares)
        phase = .nesting
      }
    case .prepareTransaction:
      // A statement may be named transaction.
      switch token.kind {
      case .string, .escapeString, .unicodeString, .dollarString: effects.insert(.ends)
      default: effects.insert(.prepares)
      }
      phase = .nesting
    case .copy:
      guard token.isWord("stdin") || token.isWord("stdout") else { return }
      // The server takes either name for either direction.
      if previous.isWord("from") { effects.insert(.copiesIn) }
      if previous.isWord("to") { effects.insert(.copiesOut) }
    case .declare: if token.isWord("hold") && previous.isWord("with") { effects.insert(.declaresHoldCursor) }
    }
  }

  private mutating func noteTemporary(_ token: SQLLexer.Token) {
    if token.isWord("temp") || isWord(token, "temporary") { effects.insert(.createsTemporary) }
  }

  /// SELECT … INTO, INSERT INTO, or SELECT insert INTO, where `insert` is a column.
  private mutating func into(_ token: SQLLexer.Token) {
    if previous.isWord("insert") { target = token.end }
    guard phase == .plain || phase == .nesting else { return }
    phaseAfterInto = phase
    phase = .into
  }

  // MARK: Names

  /// A name of the system's that tells by itself; `range` may go beyond the name, but not before it.
  private mutating func name(_ range: Range<Int>) {
    guard range.count >= 7, lexer.text[range.lowerBound + 2] == UInt8(ascii: "_") else { return }
    if matches(range.lowerBound, "pg_temp") { effects.insert(.createsTemporary) }
    // A rule makes an UPDATE of this view call set_config.
    if mayUpdate && matches(range.lowerBound, "pg_settings") { effects.insert(.setsSession) }
  }

  /// What `U&"…"` means can be told where nothing in it is escaped.
  private mutating func unicodeName(_ token: SQLLexer.Token) {
    var isPlain = true
    for offset in token.range where lexer.text[offset] == UInt8(ascii: "\\") { isPlain = false }
    var rest = lexer
    if !isPlain || rest.next().isWord("uescape") { effects.insert(.isUnclear) }
    name(token.start + 3..<token.end)
  }

  /// An opening parenthesis follows a name, or a keyword.
  private mutating func call() {
    let isTarget = target.map { self.isTarget($0, previous.end) } ?? false
    target = nil
    // EXPLAIN (…), VALUES (…)
    if isTarget || previous.kind == .word && previous.end == firstEnd { return }
    let isQualified = earlierKind == .dot
    let isOwn = isQualified && !isCatalog(qualifier)
    let meaning: FunctionMeaning
    switch previous.kind {
    case .word: meaning = FunctionNames.meaning(lexer.text, previous.range, isQuoted: false)
    case .quotedIdentifier:
      meaning = FunctionNames.meaning(lexer.text, previous.start + 1..<previous.end - 1, isQuoted: true)
    default: meaning = FunctionNames.meaning(lexer.text, previous.start + 3..<previous.end - 1, isQuoted: true)
    }
    switch meaning {
    case .keyword, .harmless, .primaryOnly:
      if meaning == .keyword && !isQualified { noteBarrier() }
      if isOwn { effects.insert(.callsUnknownFunction) }
    case .setsSetting: effects.insert(.setsSession)
    case .locksAdvisory: effects.insert(.locksAdvisory)
    case .unlocksAdvisory: effects.insert(.unlocksAdvisory)
    case .usesSequenceState: effects.insert(.usesSequenceState)
    case .notifies: effects.insert(.notifies)
    case .unknown: if isQualified || !isConstruct() { effects.insert(.callsUnknownFunction) }
    }
  }

  private mutating func noteBarrier() {
    if isWord(previous, "operator") || previous.isWord("on") && isEarlier("distinct") {
      mayCallAfterParenthesis = true
    }
  }

  /// Whether the unknown name before a parenthesis is no function because of what is around it.
  private func isConstruct() -> Bool {
    // OVER (…), FILTER (…), the columns of an alias
    if earlierKind == .rightParenthesis { return !mayCallAfterParenthesis }
    // type (modifier)
    if earlierKind == .doubleColon { return true }
    if earlierKind == .word {
      switch earlierKey {
      // The columns of an alias, or a type in CAST; WITH name (column) AS
      case wordKey("as"), wordKey("with"), wordKey("recursive"): return true
      default: break
      }
      switch previous.key {
      case wordKey("by"):
        if isEarlier("order") || isEarlier("group") || isEarlier("partition") { return true }
      case wordKey("key"): if isEarlier("primary") || isEarlier("foreign") { return true }
      case wordKey("join"):
        if isEarlier("inner") || isEarlier("left") || isEarlier("right") || isEarlier("full") || isEarlier("outer")
          || isEarlier("cross") || isEarlier("natural")
        {
          return true
        }
      case wordKey("varying"): if isEarlier("character") || isEarlier("char") || isEarlier("bit") { return true }
      case wordKey("sets"): if isEarlier("grouping") { return true }
      case wordKey("conflict") where previous.range.count == 8: if isEarlier("on") { return isBeforeDo() }
      default: break
      }
    }
    // No argument begins with these.
    var rest = lexer
    let next = rest.next()
    return next.isWord("select") || next.isWord("with") || next.isWord("where")
  }

  /// Whether DO follows the closing parenthesis of what was just opened, as it does in ON CONFLICT (…) DO. It is not
  /// looked for farther than conflict targets are long.
  private func isBeforeDo() -> Bool {
    var rest = lexer
    var depth = 1
    for _ in 0..<64 {
      switch rest.next().kind {
      case .leftParenthesis: depth += 1
      case .rightParenthesis:
        depth -= 1
        if depth == 0 { return rest.next().isWord("do") }
      case .end: return false
      default: break
      }
    }
    return false
  }

  /// Whether `name`, `schema.name` or `name AS alias` is all there is from `start` to `end`.
  private func isTarget(_ start: Int, _ end: Int) -> Bool {
    var rest = lexer.again(from: start)
    var isAfterName = false
    while true {
      let token = rest.next()
      switch token.kind {
      case .word where isAfterName:
        guard token.isWord("as") else { return false }
        isAfterName = false
      case .word, .quotedIdentifier, .unicodeIdentifier:
        if isAfterName { return false }
        isAfterName = true
      case .dot: isAfterName = false
      default: return false
      }
      if token.end >= end { return token.end == end && isAfterName }
    }
  }

  private func isCatalog(_ token: SQLLexer.Token) -> Bool {
    switch token.kind {
    case .word: token.range.count == 10 && matches(token.start, "pg_catalog")
    case .quotedIdentifier: token.range.count == 12 && matches(token.start + 1, "pg_catalog")
    default: false
    }
  }

  // MARK: Comparing

  /// Whether the token before the previous one is `word`.
  private func isEarlier(_ word: StaticString) -> Bool { earlierKey == wordKey(word) }

  /// Whether the token is `word`, which is written in small letters and longer than the key tells.
  private func isWord(_ token: SQLLexer.Token, _ word: StaticString) -> Bool { lexer.isWord(token, word) }

  /// Whether the text goes on with `word` from `start`, without regard to case.
  private func matches(_ start: Int, _ word: StaticString) -> Bool { lexer.matches(start, word) }
}
