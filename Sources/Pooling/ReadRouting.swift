/// Which transactions may run on a standby, by what their texts and their session say.
///
/// Read-only transactions may, unless they are SERIALIZABLE, which a standby refuses, and unless the first statement asks
/// for what only the primary can do, or what means something else on each server: transaction numbers, sequences, advisory
/// locks, LISTEN, temporary tables, anything that is not a plain read. What is not understood goes to the primary. Later
/// statements are not looked at: they are where the first one is.
public enum ReadRouting {
  /// Where a transaction goes.
  public enum Target: Equatable, Sendable {
    case primary, standby
  }

  /// Whether a transaction with these modes may run on a standby, as far as it is known by its modes.
  public static func isRead(_ modes: TransactionModes, _ defaults: TransactionDefaults) -> Bool {
    let isSerializable = modes.isolation.map { $0 == .serializable } ?? defaults.isSerializable
    return (modes.isReadOnly ?? defaults.isReadOnly) && !isSerializable
  }

  /// Whether a text, as the first of a read-only transaction, may run on a standby.
  ///
  /// - Parameters:
  ///   - text: one statement, up to its end or a zero byte. Several are the primary's.
  ///   - reading: how the session reads texts.
  public static func isRead(_ text: Span<UInt8>, reading: SQLReading) -> Bool {
    let effects = StatementEffects.scan(text, reading: reading)
    guard effects.isDisjoint(with: primaryOnly) else { return false }
    var lexer = SQLLexer(text, reading: reading)
    var first = lexer.next()
    while first.kind == .semicolon { first = lexer.next() }
    switch first.key {
    case _ where first.kind == .leftParenthesis: break
    case wordKey("select"), wordKey("with"), wordKey("values"), wordKey("table"), wordKey("show"), wordKey("explain"),
      wordKey("declare"), wordKey("set"), wordKey("reset"):
      break
    case wordKey("copy"): if !effects.contains(.copiesOut) { return false }
    default:
      guard lexer.isWord(first, "savepoint") else { return false }
    }
    return !namesPrimary(&lexer, isSetting: first.isWord("set") || first.isWord("reset"))
  }

  /// What only the primary can do, or what is better kept where the session's other state is.
  private static let primaryOnly: StatementEffects = [
    .hasSeveralStatements, .isUnclear, .begins, .ends, .listens, .unlistens, .notifies, .locksAdvisory,
    .unlocksAdvisory, .createsTemporary, .declaresHoldCursor, .loads, .prepares, .executes, .deallocates,
    .discardsAll, .discardsPlans, .discardsTemporary, .discardsSequences, .usesSequenceState, .callsProcedure,
    .copiesIn, .drops,
  ]

  /// Whether the rest of a text calls a function that is the primary's, or sets a mode of this transaction by its setting
  /// (`transaction_read_only`) or the isolation of later ones, which a standby refuses where the primary does not.
  ///
  /// - Parameter isSetting: it is a SET or RESET.
  private static func namesPrimary(_ lexer: inout SQLLexer, isSetting: Bool) -> Bool {
    var previous = SQLLexer.Token(kind: .end, start: 0, end: 0)
    while true {
      let token = lexer.next()
      switch token.kind {
      case .end: return false
      case .word where isSetting:
        if lexer.matches(token.start, "transaction") || lexer.matches(token.start, "default_transaction_isolation") {
          return true
        }
      case .leftParenthesis: if isPrimarys(previous, lexer) { return true }
      default: break
      }
      previous = token
    }
  }

  /// Whether the name before a parenthesis is that of a function of the primary's. Of functions of the system's that are
  /// not known, all are taken for that.
  private static func isPrimarys(_ name: SQLLexer.Token, _ lexer: borrowing SQLLexer) -> Bool {
    let isQuoted = name.kind == .quotedIdentifier
    guard isQuoted || name.kind == .word else { return false }
    let range = isQuoted ? name.start + 1..<name.end - 1 : name.range
    switch FunctionNames.meaning(lexer.text, range, isQuoted: isQuoted) {
    case .primaryOnly: return true
    case .unknown:
      return lexer.matches(range.lowerBound, "pg_") || lexer.matches(range.lowerBound, "txid_")
        || lexer.matches(range.lowerBound, "lo_")
    case .keyword, .harmless, .setsSetting, .locksAdvisory, .unlocksAdvisory, .usesSequenceState, .notifies:
      return false
    }
  }
}
