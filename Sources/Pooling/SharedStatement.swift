public import PostgresWire

/// A prepared statement of the protocol as clients share it: the text, the parameter types and the settings that parsing
/// reads, stored once a worker however many clients and server connections have it.
///
/// Clients name statements as they like; on server connections a statement is called by its number. It lives for as long
/// as a client or a server connection has it.
public final class SharedStatement {
  /// What makes two statements one.
  struct Key: Hashable {
    /// All of a Parse message behind the statement's name.
    var definition: [UInt8]
    /// The settings that parsing reads.
    var parsing: [UInt8]
  }

  /// Unique among all that a worker has ever had.
  public let id: UInt32
  /// What it is called on server connections.
  public let serverName: WireText
  /// What its text does to transactions.
  let kind: TransactionStatement
  let mayCommit: Bool
  /// What its text does to the session.
  public let effects: StatementEffects
  let touched: TouchedSettings?
  /// What clients have been told of its parameters and rows; nil where nobody has asked. What it says never changes: where the
  /// server describes it otherwise (a table was altered), that is another statement.
  public internal(set) var shape: StatementShape?
  /// A server has taken it.
  public internal(set) var isProven = false
  /// Clients have been told what its rows are.
  public var knowsRows: Bool { shape?.knowsRows ?? false }

  /// All of a Parse message behind the statement's name.
  public var definition: [UInt8] { key.definition }

  let key: Key
  /// How its text is read.
  fileprivate let reading: SQLReading
  private weak var table: StatementTable?

  fileprivate init(_ key: Key, reading: SQLReading, id: UInt32, table: StatementTable) {
    self.key = key
    self.reading = reading
    self.id = id
    self.table = table
    serverName = WireText(SharedStatement.namePrefix + String(id))
    let definition = key.definition.span
    let text = definition.extracting(0..<definition.end(ofTextIn: 0..<definition.count))
    kind = TransactionStatement(text)
    mayCommit = TransactionStatement.mayCommit(text)
    effects = StatementEffects.scan(text, reading: reading)
    touched = effects.touchesSettings ? TouchedSettings(text, reading: reading) : nil
  }

  /// The beginning of its text.
  public var beginning: String {
    let definition = key.definition
    return SessionState.beginning(of: definition.span, 0..<definition.count)
  }

  deinit { table?.forget(self) }

  /// What all names on server connections begin with.
  public static let namePrefix = "lifeguard_"
}

/// What a statement's parameters and rows are, as Describe says it: what a client may rely on when it reads them.
public struct StatementShape: Equatable, Sendable {
  /// nil where nobody has asked.
  private var parameters: [UInt8]?
  /// nil where nobody has asked; empty where there are none.
  private var rows: [UInt8]?

  /// Nothing is known yet.
  public init() {}

  var knowsRows: Bool { rows != nil }

  /// Whether both may be the same statement's.
  func isCompatible(with other: StatementShape) -> Bool {
    (parameters == nil || other.parameters == nil || parameters == other.parameters)
      && (rows == nil || other.rows == nil || rows == other.rows)
  }

  /// Takes what is not known yet.
  mutating func formUnion(_ other: StatementShape) {
    parameters = parameters ?? other.parameters
    rows = rows ?? other.rows
  }

  /// Takes the body of a ParameterDescription: it is kept as it is.
  public mutating func take(parameters body: Span<UInt8>) {
    var bytes: [UInt8] = []
    for index in body.indices { bytes.append(body[index]) }
    parameters = bytes
  }

  /// Takes NoData: there are no rows.
  public mutating func takeNoRows() { rows = [] }

  /// Takes the body of a RowDescription: name, type and type modifier of each column. Which table a column comes from may
  /// change, as it does when the table is made anew.
  public mutating func take(rows body: Span<UInt8>) {
    var bytes: [UInt8] = []
    var offset = 2
    while offset < body.count {
      while offset < body.count && body[offset] != 0 {
        bytes.append(body[offset])
        offset += 1
      }
      bytes.append(0)
      // The zero byte, then table (4), column (2), type (4), size (2), modifier (4), format (2).
      for index in [7, 8, 9, 10, 13, 14, 15, 16] where offset + index < body.count {
        bytes.append(body[offset + index])
      }
      offset += 19
    }
    rows = bytes
  }
}

/// All shared statements of one worker.
public final class StatementTable {
  /// Not counted: a statement takes itself out when it is gone. (Weak references would make each use of it, all over the
  /// relay, three times as dear.)
  private struct Entry {
    unowned(unsafe) let statement: SharedStatement
  }

  private var statements: [SharedStatement.Key: Entry] = [:]
  private var lastID: UInt32 = 0

  public init() {}

  /// How many there are.
  public var count: Int { statements.count }

  /// The statement of a Parse message.
  ///
  /// - Parameters:
  ///   - definition: all of the message behind the statement's name.
  ///   - settings: those of the connection.
  ///   - isAlone: it means the same to nobody else (`SessionState.parsesForItself`).
  public func statement(
    _ definition: [UInt8], settings: SessionSettings, isAlone: Bool = false
  ) -> SharedStatement {
    var key = SharedStatement.Key(definition: definition, parsing: settings.parsing)
    if isAlone || StatementTable.dependsOnSession(definition.span, settings.reading) {
      key.parsing += "\(lastID)".utf8
    }
    return unsafe statements[key]?.statement ?? add(key, settings.reading)
  }

  /// Another statement of the same text, for those who parse it from now on: the old one has another shape.
  func replace(_ old: SharedStatement) -> SharedStatement {
    guard let newer = unsafe statements[old.key]?.statement, newer !== old else { return add(old.key, old.reading) }
    return newer
  }

  /// Whether what the text means is up to the session that parses it: which cursor or statement has the name.
  private static func dependsOnSession(_ text: Span<UInt8>, _ reading: SQLReading) -> Bool {
    var lexer = SQLLexer(text, reading: reading)
    let first = lexer.next()
    return first.isWord("fetch") || first.isWord("move") || first.isWord("execute")
  }

  /// Another statement of the same text and of no shape yet, for those who parse it from now on.
  public func fresh(_ old: SharedStatement) -> SharedStatement {
    let newer = replace(old)
    return newer.shape == nil ? newer : add(old.key, old.reading)
  }

  /// Whoever parses from now on gets new statements: the server has said that something has changed.
  public func retireAll() { statements = [:] }

  private func add(_ key: SharedStatement.Key, _ reading: SQLReading) -> SharedStatement {
    lastID += 1
    let statement = SharedStatement(key, reading: reading, id: lastID, table: self)
    statements[key] = Entry(statement: statement)
    return statement
  }

  fileprivate func forget(_ statement: SharedStatement) {
    // Another one may have taken its place.
    if let entry = statements[statement.key], unsafe entry.statement === statement { statements[statement.key] = nil }
  }
}

/// The statements that one client has, by its own names.
public final class ClientStatements {
  private struct Entry {
    var name: WireText
    var statement: SharedStatement
  }

  /// By a hash of the name, so that a lookup makes no copy of the name; almost always one each.
  private var entries: [UInt64: [Entry]] = [:]
  /// How many there are.
  public private(set) var count = 0
  /// Bytes of their texts; a text that has two names counts twice.
  public private(set) var bytes = 0

  public init() {}

  /// The statement that a range of a message names.
  public func find(_ bytes: Span<UInt8>, _ name: Range<Int>) -> SharedStatement? {
    entries[ClientStatements.hash(bytes, name)]?.first { ClientStatements.isEqual($0.name, bytes, name) }?.statement
  }

  func find(_ name: WireText) -> SharedStatement? { find(name.bytes.span, name.bytes.indices) }

  /// Gives a statement a name, whatever had it.
  public func define(_ name: WireText, _ statement: SharedStatement) {
    remove(name)
    entries[ClientStatements.hash(name), default: []].append(Entry(name: name, statement: statement))
    count += 1
    bytes += statement.definition.count
  }

  /// Forgets a name; false where it is not known.
  @discardableResult
  public func remove(_ name: WireText) -> Bool {
    let hash = ClientStatements.hash(name)
    guard var bucket = entries[hash], let index = bucket.firstIndex(where: { $0.name == name }) else { return false }
    bytes -= bucket.remove(at: index).statement.definition.count
    entries[hash] = bucket.isEmpty ? nil : bucket
    count -= 1
    return true
  }

  /// A name means another statement from now on, where it is known.
  public func rename(_ name: WireText, to statement: SharedStatement) {
    if find(name) != nil { define(name, statement) }
  }

  /// All names of a statement mean another one from now on.
  public func replace(_ old: SharedStatement, by new: SharedStatement) {
    let names = entries.values.flatMap { $0.filter { $0.statement === old }.map(\.name) }
    for name in names { define(name, new) }
  }

  /// Some name of the statement with this number. Looks at all of them.
  func name(of id: UInt32) -> WireText? {
    for bucket in entries.values {
      if let entry = bucket.first(where: { $0.statement.id == id }) { return entry.name }
    }
    return nil
  }

  /// A name for each statement.
  var namesByID: [UInt32: WireText] {
    entries.values.reduce(into: [:]) { names, bucket in
      for entry in bucket { names[entry.statement.id] = entry.name }
    }
  }

  /// Forgets all names.
  public func removeAll() {
    entries = [:]
    count = 0
    bytes = 0
  }

  private static func hash(_ name: WireText) -> UInt64 { hash(name.bytes.span, name.bytes.indices) }

  /// FNV-1a. Names that collide only slow down the client that has chosen them.
  private static func hash(_ bytes: Span<UInt8>, _ range: Range<Int>) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for index in range { hash = (hash ^ UInt64(bytes[index])) &* 0x100_0000_01b3 }
    return hash
  }

  private static func isEqual(_ name: WireText, _ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
    guard name.bytes.count == range.count else { return false }
    for index in name.bytes.indices where name.bytes[index] != bytes[range.lowerBound + index] { return false }
    return true
  }
}
