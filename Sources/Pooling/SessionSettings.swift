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
  public var key: String { name.lowercased() }

  /// Whether the value is one of those that switch a setting on.
  var isOn: Bool { ["on", "true", "yes", "1"].contains { $0.hasPrefix(value.text.lowercased()) } }
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
  /// The search path names pg_temp: any CREATE may make something temporary.
  public let mayCreateTemporary: Bool
  /// How the session reads SQL.
  public let reading: SQLReading
  /// What its transactions are where they do not say it.
  public let transactionDefaults: TransactionDefaults

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
    mayCreateTemporary =
      settings.first { $0.key == "search_path" }?.value.text.lowercased().contains("pg_temp") ?? false
    transactionDefaults = TransactionDefaults(
      isReadOnly: settings.first { $0.key == "default_transaction_read_only" }?.isOn ?? false,
      isSerializable: settings.first { $0.key == "default_transaction_isolation" }?.value.text.lowercased()
        == "serializable")
    reading = SQLReading(
      standardConformingStrings: settings.first { $0.key == "standard_conforming_strings" }?.value != "off",
      encoding: settings.first { $0.key == "client_encoding" }.flatMap { TextEncoding(clientEncoding: $0.value) }
        ?? .asciiSafe)
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
  ]

  /// Whether a client cannot log in with a value of its own for this setting (in small letters).
  public static func isRefusedAtLogin(_ key: String) -> Bool { facts.contains(key) || key == "session_authorization" }

  /// What turns a session with these settings into one with `wanted`, and what its client must be told because it
  /// cannot be changed.
  ///
  /// Settings are changed as the user that logged in, as the client may have been when it changed them: session
  /// authorization and role are left before and taken up after all else.
  public func differences(to wanted: SessionSettings) -> SettingsDifference {
    var difference = SettingsDifference()
    var facts: [SessionSetting] = []
    var changesAuthorization = false
    for setting in wanted.reported {
      let current = reported.first { $0.name == setting.name }
      if current?.value == setting.value { continue }
      if setting.key == "session_authorization" {
        changesAuthorization = true
      } else if SessionSettings.facts.contains(setting.key) {
        if let current { facts.append(current) }
      } else {
        difference.changes.append(.set(setting))
      }
    }
    for setting in wanted.unreported where setting.key != "role" && !unreported.contains(setting) {
      difference.changes.append(.set(setting))
    }
    for setting in unreported
    where setting.key != "role" && !wanted.unreported.contains(where: { $0.key == setting.key }) {
      difference.changes.append(.reset(setting.name))
    }
    let role = unreported.first { $0.key == "role" }
    let wantedRole = wanted.unreported.first { $0.key == "role" }
    let changesRole =
      changesAuthorization || role?.value != wantedRole?.value
      || role != nil && !difference.changes.allSatisfy(SettingsDifference.isForAnybody)
    if changesRole {
      if role != nil { difference.changes.insert(.reset("role"), at: 0) }
      if changesAuthorization {
        difference.changes.insert(.reset("session_authorization"), at: 0)
        if let authorization = wanted.reported.first(where: { $0.key == "session_authorization" }) {
          difference.changes.append(.set(authorization))
        }
      }
      if let wantedRole { difference.changes.append(.set(wantedRole)) }
    }
    // Whether a session is a superuser's follows from these.
    difference.facts = facts.filter { $0.key != "is_superuser" || !changesRole }
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
      case .reset(let name): text += "RESET \(SQLText.identifier(name));"
      }
    }
    return WireText(text)
  }

  private static func setting(_ setting: SessionSetting, encoding: WireText) -> String {
    if setting.value.bytes.allSatisfy({ $0 < 0x80 }) {
      if plain.contains(setting.key) { return "SET \(setting.name) TO \(SQLText.literal(setting.value.text));" }
      return
        "SELECT pg_catalog.set_config(\(SQLText.literal(setting.name)), \(SQLText.literal(setting.value.text)), false);"
    }
    let digits = Array("0123456789abcdef".utf8)
    let hexadecimal = String(
      decoding: setting.value.bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    return "SELECT pg_catalog.set_config(\(SQLText.literal(setting.name)), pg_catalog.convert_from("
      + "pg_catalog.decode('\(hexadecimal)', 'hex'), \(SQLText.literal(encoding.text))), false);"
  }

  /// A change that any role may make.
  static func isForAnybody(_ change: Change) -> Bool {
    guard case .set(let setting) = change else { return false }
    return plain.contains(setting.key)
  }

  /// Whether the server cannot refuse the changes, as it has taken these values before and any role may set them. What
  /// names something that may be gone by now it can refuse, and what only a superuser may set.
  ///
  /// - Parameter wanted: the settings to which the changes lead.
  public func isSure(for wanted: SessionSettings) -> Bool {
    changes.allSatisfy { change in
      switch change {
      case .set(let setting):
        SettingsDifference.plain.contains(setting.key)
          || wanted.reported.contains(setting) && !SettingsDifference.naming.contains(setting.key)
      case .reset: true
      }
    }
  }

  private static let naming: Set<String> = ["search_path", "session_authorization"]

  /// Settings that any role may set, and for which SET with one string literal means what a StartupMessage means; it is
  /// cheaper than a SELECT.
  private static let plain: Set<String> = [
    "application_name", "bytea_output", "client_encoding", "client_min_messages", "datestyle",
    "default_transaction_deferrable", "default_transaction_isolation", "default_transaction_read_only",
    "extra_float_digits", "idle_in_transaction_session_timeout", "intervalstyle", "jit", "lock_timeout",
    "maintenance_work_mem", "standard_conforming_strings", "statement_timeout", "synchronous_commit", "timezone",
    "work_mem",
  ]
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
