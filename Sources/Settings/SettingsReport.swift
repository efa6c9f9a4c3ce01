/// One effective key, for `check --print` and SHOW CONFIG. Never holds a secret.
public struct SettingsRow: Sendable, Equatable {
  /// The section as in its header, such as `pool` or `databases.app`.
  public var section: String
  /// The key.
  public var key: String
  /// The value without quotes, such as `30s`.
  public var value: String
  /// The value as TOML, such as `"30s"`.
  public var literal: String
  /// What holds where nothing is set; empty where that is nothing.
  public var defaultValue: String
  /// The line of the file that sets it; nil where none does.
  public var line: Int?

  /// Whether a change of it takes effect only after a restart.
  public var needsRestart: Bool { Settings.needsRestart(section: section, key: key) }
}

/// One key that a reload changes. Never shows a secret.
public struct SettingsChange: Sendable, Equatable, CustomStringConvertible {
  /// The section as in its header.
  public var section: String
  /// The key.
  public var key: String
  /// The value before; nil where the key was not set.
  public var old: String?
  /// The value from now on; nil where the key is no longer set.
  public var new: String?
  /// Whether only something hidden differs, such as a password.
  public var isHidden: Bool

  /// Whether it takes effect only after a restart.
  public var needsRestart: Bool { Settings.needsRestart(section: section, key: key) }

  /// Such as `pool.pool_size 5 -> 10`.
  public var description: String {
    let path = "\(section).\(key)"
    if isHidden { return "\(path) \(new ?? "") (a hidden part changed)" }
    return "\(path) \(old.map(shown) ?? "(not set)") -> \(new.map(shown) ?? "(not set)")"
  }

  private func shown(_ value: String) -> String { value.isEmpty ? "\"\"" : value }
}

extension Settings {
  /// Keys, as `section.key`, whose change takes effect only after a restart. A pool key among them means the
  /// databases' and users' own as well.
  public static let restartOnlyKeys: Set<String> = [
    "server.listen", "server.workers", "server.event_loop", "pool.pool_workers", "admin.socket", "http.listen",
    "log.format", "server.tcp_keepidle", "server.tcp_keepintvl", "server.tcp_keepcnt", "server.tcp_user_timeout",
  ]

  static func needsRestart(section: String, key: String) -> Bool {
    let isOverride = section.hasPrefix("databases.") || section.hasPrefix("users.")
    return restartOnlyKeys.contains("\(isOverride ? "pool" : section).\(key)")
  }

  /// Every key with its effective value: all of the fixed sections, and what databases and users set.
  public func effective() -> [SettingsRow] {
    let defaults = Settings()
    var rows: [SettingsRow] = []

    func add(_ section: String, _ key: String, _ value: SettingValue, default initial: SettingValue?) {
      rows.append(
        SettingsRow(
          section: section, key: key, value: value.plain, literal: value.literal, defaultValue: initial?.plain ?? "",
          line: origins[.init(section: section, key: key)]?.line))
    }
    func add<Section>(_ section: String, _ keys: [Key<Section>], _ value: Section, default initial: Section) {
      for key in keys {
        if let shown = key.show(value) { add(section, key.name, shown, default: key.show(initial)) }
      }
    }
    func addWhatIsSet<Section>(_ section: String, _ keys: [Key<Section>], _ value: Section, default initial: Section) {
      for key in keys {
        guard let shown = key.show(value), shown != key.show(initial) else { continue }
        let poolDefault = Keys.pool.first { $0.name == key.name }?.show(defaults.pool)
        add(section, key.name, shown, default: poolDefault ?? key.show(initial))
      }
    }

    add("server", Keys.server, server, default: defaults.server)
    for key in Keys.pool { add("pool", key.name, key.show(pool), default: key.show(defaults.pool)) }
    let noDatabase = DatabaseSettings(name: "", upstream: Conninfo(text: "", parameters: []))
    for database in databases.values.sorted(by: { $0.name < $1.name }) {
      addWhatIsSet("databases.\(keyPart(database.name))", Keys.database, database, default: noDatabase)
    }
    for user in users.values.sorted(by: { $0.name < $1.name }) {
      addWhatIsSet("users.\(keyPart(user.name))", Keys.user, user, default: UserSettings(name: ""))
    }
    add("auth", Keys.auth, auth, default: defaults.auth)
    var named = admin
    named.socket = admin.socket ?? AdminSettings.defaultSocket
    var unnamed = defaults.admin
    unnamed.socket = AdminSettings.defaultSocket
    add("admin", Keys.admin, named, default: unnamed)
    add("http", Keys.http, http, default: defaults.http)
    add("health", Keys.health, health, default: defaults.health)
    add("log", Keys.log, log, default: defaults.log)
    return rows
  }

  /// The effective settings as a TOML text, secrets masked. It can be read again.
  public func effectiveText() -> String {
    var text = ""
    var section = ""
    for row in effective() {
      if row.section != section {
        text += (section.isEmpty ? "" : "\n") + "[\(row.section)]\n"
        section = row.section
      }
      text += "\(row.key) = \(row.literal)\n"
    }
    return text
  }

  /// What changes from `old` to these settings, in the order of the sections.
  public func differences(from old: Settings) -> [SettingsChange] {
    let before = old.effective()
    let after = effective()
    let beforeByPath = Dictionary(uniqueKeysWithValues: before.map { (KeyPath(section: $0.section, key: $0.key), $0) })
    let afterPaths = Set(after.map { KeyPath(section: $0.section, key: $0.key) })

    var changes: [SettingsChange] = []
    for row in after {
      let path = KeyPath(section: row.section, key: row.key)
      let previous = beforeByPath[path]?.value
      let isHidden = previous == row.value && secret(at: path) != old.secret(at: path)
      if previous != row.value || isHidden {
        changes.append(
          SettingsChange(section: row.section, key: row.key, old: previous, new: row.value, isHidden: isHidden))
      }
    }
    for row in before where !afterPaths.contains(KeyPath(section: row.section, key: row.key)) {
      changes.append(SettingsChange(section: row.section, key: row.key, old: row.value, new: nil, isHidden: false))
    }
    return changes
  }

  /// The text behind a masked value, to see whether it changed.
  private func secret(at path: KeyPath) -> String? {
    let database = databases.values.first { "databases.\(keyPart($0.name))" == path.section }
    switch path.key {
    case "upstream": return database?.upstream.text
    case "read_upstream": return database?.readUpstream?.text
    case "password":
      let user = users.values.first { "users.\(keyPart($0.name))" == path.section }
      guard case .literal(let text) = database?.password ?? user?.password else { return nil }
      return text
    default: return nil
    }
  }
}
