public import PostgresWire

/// What one client may have changed on its server connection, for longer than its transactions.
///
/// What a text may do is noted when it is sent (`note`). What has come of it (it may have failed, or been rolled back)
/// only the server knows: it is asked once, at the end of a transaction after which something may have changed
/// (`inspection`). From its answer follow the settings that the client takes with it to other connections, and what
/// pins it to this one (`conclude`).
///
/// ```
///   texts ──note──▶ may have changed ──inspection──▶ server ──conclude──▶ pins, settings
/// ```
public struct SessionState: Sendable {
  /// What the client has on the connection.
  public private(set) var pins: PinReasons = []
  /// The text after which the client came to be pinned, or may be: up to `statementLimit` bytes.
  public private(set) var statement = ""
  /// Something has been noted that may have changed the session in a way that no text shows.
  public private(set) var mayHide = false
  /// What the server is to be asked about.
  private var doubts: PinReasons = []
  private var touched = TouchedSettings()
  /// What becomes of texts that would pin the connection. Where that is ignored they are noted as hidden.
  var pinning = RequestScanner.Pinning.allowed

  /// Bytes that are kept of a statement.
  public static let statementLimit = 200

  init() {}

  /// What is parsed now may mean the same to nobody else: settings that parsing reads may have changed, and the server has
  /// not said to what, or names in it may be those of temporary tables.
  public var parsesForItself: Bool { touched.changesParsing || pins.union(doubts).contains(.temporary) }

  /// A LISTEN may be in force, or is.
  public var mayListen: Bool { pins.union(doubts).contains(.listening) }

  // MARK: What is sent

  /// A text is sent that may run in the present transaction.
  ///
  /// - Parameters:
  ///   - touched: the settings that it touches.
  ///   - isInBlock: it is not the first of its transaction.
  ///   - text: the beginning of it.
  mutating func note(
    _ effects: StatementEffects, _ touched: TouchedSettings?, isInBlock: Bool, _ text: @autoclosure () -> String
  ) {
    if effects.isHarmless { return }
    if effects.mayHide { mayHide = true }
    if !effects.isDisjoint(with: [.discardsAll, .discardsSequences]) { pins.remove(.sequences) }
    if let touched {
      self.touched.formUnion(touched)
      if touched.isIncomplete || touched.mayCreateTemporary { mayHide = true }
    }
    if effects.contains(.discardsAll) { self.touched.resetsAll = true }
    if pinning == .ignored {
      if !effects.pins.isEmpty { mayHide = true }
      return
    }
    var news = effects.pins
    if touched?.isIncomplete == true { news.insert(.setting) }
    if effects.contains(.usesSequenceState) && !isInBlock && pinning == .allowed { news.insert(.sequences) }
    if !news.subtracting(pins).isEmpty { statement = text() }
    // No inspection shows these.
    pins.formUnion(news.intersection([.library, .setting, .sequences]))
    doubts.formUnion(news.intersection(.inspected))
    doubts.formUnion(effects.unpins.intersection(pins))
    if effects.contains(.isUnclear) { doubts.formUnion(.inspected) }
    if touched?.mayCreateTemporary == true { doubts.insert(.temporary) }
  }

  /// Something runs of which no text is known.
  mutating func noteHidden() { mayHide = true }

  /// Something temporary may have been made although no text says so.
  public mutating func noteTemporary() {
    if pinning != .ignored { doubts.insert(.temporary) }
  }

  /// A function is called by its number: it may be any, also one that locks.
  mutating func noteFunctionCall() {
    mayHide = true
    if pinning != .ignored { doubts.insert(.advisoryLock) }
  }

  // MARK: The end of a transaction

  /// Whether there is something to look at when the transaction is over.
  @inline(__always)
  public var isInDoubt: Bool { !doubts.isEmpty || !touched.isEmpty || pins.contains(.unknown) }

  /// What the server is to be asked; nil where it need not be.
  ///
  /// - Parameters:
  ///   - known: the connection's settings; those that the server reports are not asked for.
  ///   - wanted: the client's.
  public func inspection(known: SessionSettings, wanted: SessionSettings) -> Inspection? {
    var names = touched.names
    var resets = touched.resets
    if touched.resetsAll {
      for setting in wanted.unreported + known.unreported where !names.contains(setting.key) {
        names.append(setting.key)
      }
      resets = names
    }
    names.removeAll { name in known.reported.contains { $0.key == name } }
    if names.isEmpty && doubts.isEmpty { return nil }
    return Inspection(kinds: doubts, names: names, resets: resets)
  }

  /// The settings that have gone back to the server's defaults as far as the server reports them, in small letters; nil
  /// stands for all.
  public var reportedResets: [String]? { touched.resetsAll ? nil : touched.resets }

  /// The server has answered, or there was nothing to ask.
  public mutating func conclude(_ inspection: Inspection?, left: PinReasons) {
    if let inspection {
      pins.subtract(inspection.kinds)
      pins.formUnion(left)
    }
    if touched.resetsAll && !touched.isIncomplete { pins.remove(.setting) }
    pins.remove(.unknown)
    doubts = []
    touched = TouchedSettings()
    if pins.isEmpty { statement = "" }
  }

  /// The server has not answered. It is asked again after the next transaction.
  public mutating func remainUnknown() { pins.insert(.unknown) }

  /// The beginning of a text, for people.
  public static func beginning(of bytes: Span<UInt8>, _ text: Range<Int>) -> String {
    let end = min(text.upperBound, text.lowerBound + statementLimit)
    return WireText(bytes, text.lowerBound..<bytes.end(ofTextIn: text.lowerBound..<end)).text
  }

  /// The next connection is another one.
  mutating func detached() {
    if mayHide || isInDoubt || !pins.isEmpty { self = SessionState() }
  }
}

/// One question to the server about what a client has left on the connection.
public struct Inspection: Sendable {
  /// What is asked about.
  public let kinds: PinReasons
  /// The settings that are asked for, in small letters.
  public let names: [String]
  /// Those of which the source is asked for, too.
  private let resets: [String]

  init(kinds: PinReasons, names: [String], resets: [String]) {
    self.kinds = kinds
    self.names = names
    self.resets = resets.filter(names.contains)
  }

  /// One statement with one row, in pure ASCII. Each column is about what is asked only there, as some are not cheap
  /// (`docs/session-state.md`).
  public var query: WireText {
    var columns = Inspection.questions.filter { kinds.contains($0.reason) }.map(\.question)
    for name in names { columns.append("pg_catalog.current_setting(\(SQLText.literal(name)), true)") }
    for name in resets {
      columns.append("(SELECT source FROM pg_catalog.pg_settings WHERE lower(name) = \(SQLText.literal(name)))")
    }
    return WireText("SELECT " + columns.joined(separator: ", "))
  }

  private static let questions: [(reason: PinReasons, question: String)] = [
    (.sqlStatement, "EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)"),
    (
      .temporary,
      "EXISTS (SELECT FROM pg_catalog.pg_depend WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass"
        + " AND refobjid = pg_catalog.pg_my_temp_schema())"
    ),
    (.listening, "EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"),
    (
      .advisoryLock,
      "EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())"
    ),
    (.heldCursor, "EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"),
  ]

  /// A setting of those that were asked for.
  public struct Setting: Equatable, Sendable {
    /// In small letters.
    public let name: String
    /// Its value in the session; nil where that is a new session's.
    public let value: WireText?

    public init(name: String, value: WireText?) {
      self.name = name
      self.value = value
    }
  }

  /// The answer to `query`.
  public struct Answer: Equatable, Sendable {
    /// What is left of `kinds`.
    public var left: PinReasons
    public var settings: [Setting]

    public init(left: PinReasons, settings: [Setting]) {
      self.left = left
      self.settings = settings
    }
  }

  /// Reads the body of the DataRow; nil where it does not fit the question.
  public func answer(_ row: Span<UInt8>) -> Answer? {
    guard let values = try? Backend.DataRow(body: row).values else { return nil }
    var columns = values.map { $0.map { WireText(row, $0) } }
    let asked = Inspection.questions.filter { kinds.contains($0.reason) }
    guard columns.count == asked.count + names.count + resets.count else { return nil }
    var answer = Answer(left: [], settings: [])
    for (reason, _) in asked where columns.removeFirst() != "f" { answer.left.insert(reason) }
    let sources = columns.suffix(resets.count)
    for (name, value) in zip(names, columns) {
      let isDefault: Bool
      if let place = resets.firstIndex(of: name) {
        switch sources[sources.startIndex + place]?.text {
        case "session": isDefault = false
        // Custom ones and the role, which are not in pg_settings.
        case nil: isDefault = value == nil || value == "" || value == "none"
        default: isDefault = true
        }
      } else {
        isDefault = value == nil
      }
      answer.settings.append(Setting(name: name, value: isDefault ? nil : value))
    }
    return answer
  }
}
