public import PostgresWire

/// One setting of a session and its value.
public struct SessionSetting: Hashable, Sendable {
  /// The name as the server or the client wrote it.
  public var name: String
  /// The value, in the client's encoding.
  public var value: WireText

  public init(name: String, value: WireText) {
    self.name = name
    self.value = value
  }

  /// PostgreSQL ignores case in names of settings.
  var key: String { name.lowercased() }
}

/// The settings of one session as far as they are known: those that the server reports by ParameterStatus, and those a
/// client asked for in its StartupMessage. Immutable and shared; two sessions with equal settings have the same object
/// (`SessionSettingsTable`), so that comparing them costs nothing.
public final class SessionSettings: Sendable {
  /// Reported by the server, ordered by key.
  public let reported: [SessionSetting]
  /// Set by a StartupMessage and not reported, ordered by key.
  public let unreported: [SessionSetting]
  /// Unique while the object lives: what the pool compares.
  public let identity: UInt32

  /// The values that parsing a statement reads, in one text: statements that were parsed under other ones are other
  /// statements.
  public let parsing: [UInt8]

  private static let parsingKeys = [
    "array_nulls", "backslash_quote", "client_encoding", "datestyle", "intervalstyle", "role", "search_path",
    "standard_conforming_strings", "timezone", "transform_null_equals", "xmloption",
  ]

  fileprivate init(_ contents: Contents, identity: UInt32) {
    let settings = contents.reported + contents.unreported
    parsing = SessionSettings.parsingKeys.reduce(into: []) { text, key in
      text += settings.first { $0.key == key }?.value.bytes ?? []
      text.append(0)
    }
    reported = contents.reported
    unreported = contents.unreported
    self.identity = identity
  }

  fileprivate struct Contents: Hashable {
    var reported: [SessionSetting]
    var unreported: [SessionSetting]
  }

  fileprivate var contents: Contents { Contents(reported: reported, unreported: unreported) }

  /// The reported value of a setting, by any spelling of its name.
  public subscript(name: String) -> WireText? {
    let key = name.lowercased()
    return reported.first { $0.key == key }?.value ?? unreported.first { $0.key == key }?.value
  }

  /// Settings that a client cannot set: the server's own facts. A client is told when they differ.
  public static let facts: Set<String> = [
    "server_version", "server_encoding", "integer_datetimes", "in_hot_standby", "is_superuser",
    "session_authorization",
  ]

  /// What turns a session with these settings into one with `wanted`, and what its client must be told because it
  /// cannot be changed.
  public func differences(to wanted: SessionSettings) -> SettingsDifference {
    var difference = SettingsDifference()
    for setting in wanted.reported {
      let current = reported.first { $0.name == setting.name }
      if current?.value == setting.value { continue }
      if SessionSettings.facts.contains(setting.key) {
        if let current { difference.facts.append(current) }
      } else {
        difference.changes.append(.set(setting))
      }
    }
    for setting in wanted.unreported where !unreported.contains(setting) { difference.changes.append(.set(setting)) }
    for setting in unreported where !wanted.unreported.contains(where: { $0.key == setting.key }) {
      difference.changes.append(.reset(setting.name))
    }
    return difference
  }
}

/// The way from one session's settings to another's.
public struct SettingsDifference: Equatable, Sendable {
  public enum Change: Hashable, Sendable {
    case set(SessionSetting)
    /// Back to what the server gives a new session.
    case reset(String)
  }

  /// To be applied to the server session, in this order.
  public var changes: [Change] = []
  /// Facts of the server session that differ from what the client was told.
  public var facts: [SessionSetting] = []

  /// The query that applies the changes: one string, so all or none. It is pure ASCII, hence means the same in every
  /// client encoding; values with other bytes travel in hexadecimal.
  ///
  /// - Parameter encoding: the `client_encoding` in which the values were sent.
  public func query(encoding: WireText) -> WireText {
    var text = ""
    for change in changes {
      switch change {
      case .set(let setting): text += SettingsDifference.setting(setting, encoding: encoding)
      case .reset(let name): text += "RESET \(SettingsDifference.identifier(name));"
      }
    }
    return WireText(text)
  }

  private static func setting(_ setting: SessionSetting, encoding: WireText) -> String {
    if setting.value.bytes.allSatisfy({ $0 < 0x80 }) {
      if plain.contains(setting.key) { return "SET \(setting.name) TO \(literal(setting.value.text));" }
      return "SELECT pg_catalog.set_config(\(literal(setting.name)), \(literal(setting.value.text)), false);"
    }
    let digits = Array("0123456789abcdef".utf8)
    let hexadecimal = String(
      decoding: setting.value.bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    return "SELECT pg_catalog.set_config(\(literal(setting.name)), pg_catalog.convert_from("
      + "pg_catalog.decode('\(hexadecimal)', 'hex'), \(literal(encoding.text))), false);"
  }

  /// Settings for which SET with one string literal means what a StartupMessage means; it is cheaper than a SELECT.
  private static let plain: Set<String> = [
    "application_name", "client_encoding", "datestyle", "intervalstyle", "timezone", "standard_conforming_strings",
    "default_transaction_read_only", "extra_float_digits", "statement_timeout", "lock_timeout",
    "idle_in_transaction_session_timeout", "default_transaction_isolation",
  ]

  /// A string literal that reads the same whether or not standard_conforming_strings is on.
  private static func literal(_ text: String) -> String {
    let quoted = text.replacing("'", with: "''")
    return text.contains("\\") ? "E'\(quoted.replacing("\\", with: "\\\\"))'" : "'\(quoted)'"
  }

  /// A setting's name as SQL: each part quoted.
  private static func identifier(_ name: String) -> String {
    name.split(separator: ".", omittingEmptySubsequences: false)
      .map { "\"\($0.replacing("\"", with: "\"\""))\"" }.joined(separator: ".")
  }
}

/// Gives equal settings the same object.
public struct SessionSettingsTable {
  private var table: [SessionSettings.Contents: SessionSettings] = [:]
  private var lastIdentity: UInt32 = 0
  /// Entries at which those that nobody holds any more are swept out.
  private var sweepAt = 64

  public init() {}

  /// Settings with these values. Names may come twice; the later one counts.
  public mutating func settings(reported: [SessionSetting], unreported: [SessionSetting] = []) -> SessionSettings {
    intern(
      SessionSettings.Contents(
        reported: SessionSettingsTable.ordered(reported), unreported: SessionSettingsTable.ordered(unreported)))
  }

  /// The same settings, but one that the server reports has this value.
  public mutating func settings(
    _ settings: SessionSettings, reporting name: String, value: WireText
  ) -> SessionSettings {
    var contents = settings.contents
    if let index = contents.reported.firstIndex(where: { $0.name == name }) {
      if contents.reported[index].value == value { return settings }
      contents.reported[index].value = value
    } else {
      contents.reported = SessionSettingsTable.ordered(
        contents.reported + [SessionSetting(name: name, value: value)])
      contents.unreported.removeAll { $0.key == name.lowercased() }
    }
    return intern(contents)
  }

  /// The reported settings of one with the unreported ones of another.
  public mutating func settings(
    reportedOf one: SessionSettings, unreportedOf other: SessionSettings
  ) -> SessionSettings {
    if one === other { return one }
    return intern(SessionSettings.Contents(reported: one.reported, unreported: other.unreported))
  }

  private mutating func intern(_ contents: SessionSettings.Contents) -> SessionSettings {
    if let known = table[contents] { return known }
    if table.count >= sweepAt { sweep() }
    lastIdentity &+= 1
    let settings = SessionSettings(contents, identity: lastIdentity)
    table[contents] = settings
    return settings
  }

  /// Drops what nobody else holds. (Weak references would do it by themselves, but an object that has one is counted
  /// the slow way, on every checkout.)
  private mutating func sweep() {
    for contents in Array(table.keys) {
      guard var settings = table.removeValue(forKey: contents) else { continue }
      if !isKnownUniquelyReferenced(&settings) { table[contents] = settings }
    }
    sweepAt = max(64, table.count * 2)
  }

  private static func ordered(_ settings: [SessionSetting]) -> [SessionSetting] {
    var latest: [String: SessionSetting] = [:]
    for setting in settings { latest[setting.key] = setting }
    return latest.sorted { $0.key < $1.key }.map(\.value)
  }
}
