extension Settings {
  /// These settings with one key changed, validated as a whole: for the console's SET.
  ///
  /// - Parameters:
  ///   - path: section and key as in SHOW CONFIG, such as `pool.pool_size` or `databases.app.pool_size`; the key alone
  ///     where only one section has it.
  ///   - text: the value, with or without TOML's quotes.
  /// - Throws: what is wrong with the key, the value, or with the settings as they would be. Keys that take effect only
  ///   at a start are refused.
  public func setting(_ path: String, to text: String) throws(SettingsError) -> Settings {
    let place = try Settings.place(of: path)
    if Settings.needsRestart(section: place.section, key: place.key) {
      throw Settings.refusal(place, "\(place.key) takes effect only at a start: change it in the settings file")
    }
    guard let value = Settings.value(text) else { return try setting(place, to: .string(text)) }
    do {
      return try setting(place, to: value)
    } catch {
      // A number or a word that the key wants as text.
      if let settings = try? setting(place, to: .string(text)) { return settings }
      throw error
    }
  }

  private func setting(_ place: KeyPath, to value: TOMLValue.Content) throws(SettingsError) -> Settings {
    var reader = SettingsReader(file: "SET", changing: self)
    return try reader.change(place, to: TOMLValue(content: value))
  }

  /// The section and the key of `section.key`, `databases.NAME.key`, `users.NAME.key`, or of a key alone.
  private static func place(of path: String) throws(SettingsError) -> KeyPath {
    guard let dot = path.lastIndex(of: ".") else {
      let homes = Keys.names.filter { $0.keys.contains(path) && !$0.section.contains(".") }
      if homes.count == 1 { return KeyPath(section: homes[0].section, key: path) }
      let place = KeyPath(section: "", key: path)
      if homes.isEmpty {
        let foreign = Suggestions.foreignNames[path].map { "\($0.section).\($0.key)" }
        throw refusal(
          place, "unknown key \(quoted(path, limit: 60))",
          suggestion: foreign ?? Suggestions.nearest(to: path, among: Keys.names.flatMap(\.keys)))
      }
      throw refusal(place, "say which one: \(homes.map { "\($0.section).\(path)" }.joined(separator: ", "))")
    }
    let section = String(path[..<dot])
    let key = String(path[path.index(after: dot)...])
    for kind in ["databases", "users"] where section.hasPrefix("\(kind).") {
      return KeyPath(section: "\(kind).\(keyPart(String(section.dropFirst(kind.count + 1))))", key: key)
    }
    return KeyPath(section: section, key: key)
  }

  /// The value that a text stands for in TOML; nil where it is no TOML, or several keys.
  private static func value(_ text: String) -> TOMLValue.Content? {
    guard let entries = try? TOMLDocument.parse("value = \(text)"), entries.count == 1 else { return nil }
    return entries[0].value.content
  }

  static func refusal(_ place: KeyPath, _ message: String, suggestion: String? = nil) -> SettingsError {
    SettingsError([
      Problem(file: "SET", section: place.section, key: place.key, message: message, suggestion: suggestion)
    ])
  }
}
