import DequeModule
public import PostgresWire

/// The shared statements that one server connection has, and what the requests under way will do to them.
///
/// What a request does is noted when it is sent, as what follows in the same pipeline relies on it; each noted request has
/// an entry in the connection's ledger (`Ledger.sent(_:by:isNoted:)`). When the ledger says that it has succeeded, its note
/// is dropped; when it has failed or was skipped after an error, what it did is undone, the latest first.
public struct ServerStatements {
  /// What a request under way does.
  public enum Note {
    /// A client gives a statement a name; `parses` where the request makes it on the server, too.
    case define(ClientStatements, WireText, SharedStatement, parses: Bool)
    /// A client closes a statement; others may have it, and so it stays on the server.
    case undefine(ClientStatements, WireText, SharedStatement)
    /// A client deallocates a statement, by SQL; it goes from the server, too.
    case deallocate(ClientStatements, WireText, SharedStatement)
    /// The daemon makes a statement on the server that a client has named elsewhere.
    case parse(SharedStatement)
    /// The daemon closes a statement on the server.
    case close(SharedStatement)
    /// The server describes a statement, to a client by this name, or only to the daemon.
    case describe(SharedStatement, (ClientStatements, WireText)?)
    /// The server describes the rows of a statement's portal.
    case describeRows(SharedStatement)
    /// It is sure to fail; the client is told this instead of the server's error.
    case refusal(AnyObject)
    /// Where it fails, the statement that it is about is the one that its client calls so.
    case name(WireText)
  }

  private struct Use {
    var statement: SharedStatement
    /// Rises from use to use.
    var time: UInt64
  }

  private var uses: [Use] = []
  /// Where in `uses` a statement is, by its number.
  private var places: [UInt32: Int] = [:]
  private var notes: Deque<Note> = []
  private var time: UInt64 = 0
  /// What was used since then may be needed by requests under way.
  private var keepSince: UInt64 = 0
  /// The names of statements whose definitions were undone, for the errors of requests that relied on them.
  private var formerNames: [UInt32: WireText] = [:]
  /// The request that has just failed is about the statement of this name.
  private var failedName: WireText?

  public init() {}

  /// How many the server has.
  public var count: Int { uses.count }

  /// Requests under way may still change what the server or a client has.
  public var isUnsettled: Bool { !notes.isEmpty }

  /// A request uses it now. Returns whether the server has it, or will when it comes to the request.
  public mutating func use(_ statement: SharedStatement) -> Bool {
    guard let place = places[statement.id] else { return false }
    time += 1
    uses[place].time = time
    return true
  }

  /// A request with an entry of its own in the ledger has been sent.
  public mutating func note(_ note: Note) {
    switch note {
    case .define(let client, let name, let statement, let parses):
      client.define(name, statement)
      if parses { add(statement) }
    case .undefine(let client, let name, _): client.remove(name)
    case .deallocate(let client, let name, let statement):
      client.remove(name)
      remove(statement)
    case .parse(let statement): add(statement)
    case .close(let statement): remove(statement)
    case .describe, .describeRows, .refusal, .name: break
    }
    notes.append(note)
  }

  private mutating func add(_ statement: SharedStatement) {
    if use(statement) { return }
    time += 1
    places[statement.id] = uses.count
    uses.append(Use(statement: statement, time: time))
  }

  /// The last one takes its place.
  private mutating func remove(_ statement: SharedStatement) {
    guard let place = places.removeValue(forKey: statement.id) else { return }
    let last = uses.removeLast()
    guard place < uses.count else { return }
    uses[place] = last
    places[last.statement.id] = place
  }

  /// The statement to close where there are more than `limit`: the one not used for longest; nil where none is to spare.
  public func excess(over limit: Int) -> SharedStatement? {
    guard uses.count > limit else { return nil }
    let oldest = uses.min { $0.time < $1.time }
    return oldest.flatMap { $0.time > keepSince ? nil : $0.statement }
  }

  /// Nothing is under way: whatever was used may be closed.
  public mutating func settled() {
    keepSince = time
    if !formerNames.isEmpty { formerNames = [:] }
  }

  /// Noted requests have succeeded. The last of them may have been a Describe.
  public mutating func succeeded(_ count: Int) -> Note? {
    var last: Note?
    for _ in 0..<count {
      last = notes.removeFirst()
      if case .define(_, _, let statement, parses: true)? = last { statement.isProven = true }
    }
    return last
  }

  /// Noted requests have failed, or were skipped.
  ///
  /// - Returns: what the client is to be told, where the first of them was sure to fail.
  @discardableResult
  public mutating func failed(_ count: Int) -> AnyObject? {
    let undone = Array(notes.prefix(count))
    notes.removeFirst(count)
    for note in undone.reversed() { undo(note) }
    failedName = nil
    switch undone.first {
    case .refusal(let refusal): return refusal
    case .name(let name): failedName = name
    case .define(_, let name, _, _), .undefine(_, let name, _), .deallocate(_, let name, _),
      .describe(_, (_, let name)?):
      failedName = name
    case .parse, .close, .describe(_, nil), .describeRows, nil: break
    }
    return nil
  }

  /// What a client calls the statement with this name on the server, or has called it when it sent what is under way.
  public func name(of serverName: WireText, in client: ClientStatements) -> WireText? {
    guard let id = UInt32(serverName.text.dropFirst(SharedStatement.namePrefix.count)) else { return nil }
    return failedName ?? formerNames[id] ?? client.name(of: id)
  }

  /// The server has not got it.
  public mutating func forget(_ statement: SharedStatement) { remove(statement) }

  /// The connection is lost: nothing under way can be relied on.
  public mutating func abandon() { failed(notes.count) }

  /// The server has forgotten all statements, and so has the client where it has asked for that, but those that requests
  /// behind make anew.
  public mutating func forgetAll(of client: ClientStatements? = nil) {
    uses = []
    places = [:]
    if let client {
      formerNames.merge(client.namesByID) { old, _ in old }
      client.removeAll()
    }
    let following = notes
    notes = []
    for note in following { self.note(note) }
  }

  private mutating func undo(_ note: Note) {
    switch note {
    case .define(let client, let name, let statement, let parses):
      if client.find(name) === statement { client.remove(name) }
      formerNames[statement.id] = name
      if parses { remove(statement) }
    case .undefine(let client, let name, let statement):
      if client.find(name) == nil { client.define(name, statement) }
    case .deallocate(let client, let name, let statement):
      if client.find(name) == nil { client.define(name, statement) }
      add(statement)
    case .parse(let statement): remove(statement)
    case .close(let statement): add(statement)
    case .describe, .describeRows, .refusal, .name: break
    }
  }
}

extension SharedStatement {
  /// The server has described it.
  ///
  /// - Returns: nil where that is what clients have been told, or nobody has been told anything; else the statement that
  ///   has this shape.
  public func described(as shape: StatementShape, in table: StatementTable) -> SharedStatement? {
    guard let known = self.shape else {
      self.shape = shape
      return nil
    }
    if known.isCompatible(with: shape) {
      self.shape?.formUnion(shape)
      return nil
    }
    let other = table.replace(self)
    if other.shape == nil { other.shape = shape }
    return other
  }
}
