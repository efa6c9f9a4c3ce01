/// Turns one settings text into `Settings`, and collects everything that is wrong with it.
struct SettingsReader {
  private let file: String
  /// Single keys are changed: what is wrong stands in no line of a file.
  private var isChanging = false
  private var settings = Settings()
  private var problems: [Problem] = []

  init(file: String) { self.file = file }

  /// A reader that changes single keys of settings that are valid.
  init(file: String, changing settings: Settings) {
    self.file = file
    self.settings = settings
    self.settings.warnings = []
    isChanging = true
  }

  /// Changes one key.
  mutating func change(_ place: Settings.KeyPath, to value: TOMLValue) throws(SettingsError) -> Settings {
    let entry = TOMLEntry(key: place.key, position: nil, value: value)
    if let name = settings.databases.keys.first(where: { "databases.\(keyPart($0))" == place.section }) {
      var database = settings.databases[name]!
      readKeys([entry], of: place.section, Keys.database, into: &database)
      settings.databases[name] = database
    } else if let name = settings.users.keys.first(where: { "users.\(keyPart($0))" == place.section }) {
      var user = settings.users[name]!
      readKeys([entry], of: place.section, Keys.user, into: &user)
      settings.users[name] = user
    } else if Keys.sections.contains(place.section), !["databases", "users"].contains(place.section) {
      readSection(TOMLEntry(key: place.section, position: nil, value: TOMLValue(content: .table([entry]))))
    } else {
      add("there is no such section", section: place.section, key: place.key, at: nil)
    }
    // Rules about several keys look at those that have been set.
    settings.origins[place] = settings.origins[place] ?? .nowhere
    var changed = try finish(auth: nil)
    if changed.origins[place] == .nowhere { changed.origins[place] = nil }
    return changed
  }

  mutating func read(_ text: String) throws(SettingsError) -> Settings {
    let sections: [TOMLEntry]
    do {
      sections = try TOMLDocument.parse(text)
    } catch {
      throw SettingsError([syntaxProblem(error, in: text)])
    }
    for section in sections { readSection(section) }
    return try finish(auth: sections.first { $0.key == "auth" })
  }

  /// Looks at all settings together.
  private mutating func finish(auth: TOMLEntry?) throws(SettingsError) -> Settings {
    checkServer(auth: auth)
    checkTLS()
    checkAuthentication()
    checkPools()
    checkReads()
    warn()
    if !problems.isEmpty { throw SettingsError(problems.sorted(by: Self.comesFirst)) }
    settings.warnings.sort(by: Self.comesFirst)
    return settings
  }

  // MARK: Sections

  private mutating func readSection(_ section: TOMLEntry) {
    guard Keys.sections.contains(section.key) else { return refuseUnknownSection(section) }
    guard case .table(let entries) = section.value.content else {
      add("\(section.key) must be a section: [\(section.key)]", at: section.position)
      return
    }
    switch section.key {
    case "server": readKeys(entries, of: section.key, Keys.server, into: \.server)
    case "pool": readPool(entries)
    case "databases": readDatabases(entries)
    case "users": readUsers(entries)
    case "auth": readKeys(entries, of: section.key, Keys.auth, into: \.auth)
    case "admin": readKeys(entries, of: section.key, Keys.admin, into: \.admin)
    case "http": readKeys(entries, of: section.key, Keys.http, into: \.http)
    case "health": readKeys(entries, of: section.key, Keys.health, into: \.health)
    case "log": readKeys(entries, of: section.key, Keys.log, into: \.log)
    default: preconditionFailure("section \(section.key) has no reader")
    }
  }

  private mutating func readKeys<Section>(
    _ entries: [TOMLEntry], of section: String, _ keys: [Key<Section>], into path: WritableKeyPath<Settings, Section>
  ) {
    var result = settings[keyPath: path]
    readKeys(entries, of: section, keys, into: &result)
    settings[keyPath: path] = result
  }

  private mutating func readKeys<Section>(
    _ entries: [TOMLEntry], of section: String, _ keys: [Key<Section>], into target: inout Section
  ) {
    for entry in entries {
      guard let key = keys.first(where: { $0.name == entry.key }) else {
        refuseUnknownKey(entry, in: section, known: keys.map(\.name))
        continue
      }
      if let position = entry.position { settings.origins[.init(section: section, key: key.name)] = position }
      do {
        try key.read(entry.value, &target)
      } catch {
        add(
          "\(key.name) \(error.message)", section: section, key: key.name,
          suggestion: error.suggestion, at: error.position ?? entry.value.position)
      }
    }
  }

  private mutating func readPool(_ entries: [TOMLEntry]) {
    var overrides = PoolOverrides()
    readKeys(entries, of: "pool", Keys.pool.map(\.override), into: &overrides)
    settings.pool = settings.pool.applying(overrides)
  }

  private mutating func readDatabases(_ entries: [TOMLEntry]) {
    for entry in entries {
      let header = "databases.\(keyPart(entry.key))"
      guard let keys = subsection(entry, of: "databases", header: header, shouldHave: "upstream = \"…\"") else {
        continue
      }
      if Settings.reservedDatabases.contains(entry.key) {
        add("is a reserved name: clients reach the admin console by it", section: header, at: entry.position)
      }
      var database = DatabaseSettings(name: entry.key, upstream: Conninfo(text: "", parameters: []))
      readKeys(keys, of: header, Keys.database, into: &database)
      if !keys.contains(where: { $0.key == "upstream" }) {
        add(
          "upstream is missing: a connection string, such as \"host=db1 dbname=app\"", section: header, key: "upstream",
          at: entry.position)
      }
      settings.databases[entry.key] = database
    }
  }

  private mutating func readUsers(_ entries: [TOMLEntry]) {
    for entry in entries {
      let header = "users.\(keyPart(entry.key))"
      guard let keys = subsection(entry, of: "users", header: header, shouldHave: "keys of its own") else { continue }
      if entry.key == "*" {
        add("is no user: what holds for all users stands in [pool]", section: header, at: entry.position)
      }
      var user = UserSettings(name: entry.key)
      readKeys(keys, of: header, Keys.user, into: &user)
      settings.users[entry.key] = user
    }
  }

  /// The keys of `[databases.NAME]` or `[users.NAME]`, after a look at the name.
  private mutating func subsection(
    _ entry: TOMLEntry, of section: String, header: String, shouldHave: String
  ) -> [TOMLEntry]? {
    guard case .table(let keys) = entry.value.content else {
      add(
        "\(keyPart(entry.key)) must be a section of its own: [\(header)] with \(shouldHave)",
        section: section, key: entry.key, suggestion: suggestion(for: entry.key, in: section, known: []),
        at: entry.position)
      return nil
    }
    if let reason = nameProblem(entry.key) { add(reason, section: header, at: entry.position) }
    return keys
  }

  // MARK: What is unknown

  private mutating func refuseUnknownSection(_ section: TOMLEntry) {
    if case .table = section.value.content {
      let foreign = ["pgbouncer": "server", "logging": "log", "metrics": "http", "authentication": "auth"]
      let meant = foreign[section.key] ?? Suggestions.nearest(to: section.key, among: Keys.sections)
      add("unknown section [\(keyPart(section.key))]", suggestion: meant.map { "[\($0)]" }, at: section.position)
    } else {
      add(
        "\(quoted(section.key, limit: 60)) stands outside of any section", key: section.key,
        suggestion: suggestion(for: section.key, in: "", known: []), at: section.position)
    }
  }

  private mutating func refuseUnknownKey(_ entry: TOMLEntry, in section: String, known: [String]) {
    if case .table = entry.value.content {
      add(
        "unknown section [\(section).\(keyPart(entry.key))]", section: section, key: entry.key,
        suggestion: section == "pool" ? "[databases.\(keyPart(entry.key))]" : nil, at: entry.position)
    } else {
      add(
        "unknown key \(quoted(entry.key, limit: 60))", section: section, key: entry.key,
        suggestion: suggestion(for: entry.key, in: section, known: known), at: entry.position)
    }
  }

  /// The key of this section that was meant, or `[section] key` where it belongs into another one.
  private func suggestion(for key: String, in section: String, known: [String]) -> String? {
    if let foreign = Suggestions.foreignNames[key] {
      return known.contains(foreign.key) ? foreign.key : "[\(foreign.section)] \(foreign.key)"
    }
    if let home = Keys.names.first(where: { $0.keys.contains(key) }) { return "[\(home.section)] \(key)" }
    if let near = Suggestions.nearest(to: key, among: known) { return near }
    // A word outside of any section may be near to anything; elsewhere only this section's keys count.
    guard section.isEmpty, let near = Suggestions.nearest(to: key, among: Keys.names.flatMap(\.keys)) else {
      return nil
    }
    return Keys.names.first { $0.keys.contains(near) }.map { "[\($0.section)] \(near)" }
  }

  // MARK: What does not fit together

  private mutating func checkServer(auth: TOMLEntry?) {
    let listeners = settings.server.listen
    if let listener = settings.http.listen, listeners.contains(listener) {
      add(
        "listen names \(listener), where clients connect", section: "http", key: "listen",
        at: origin("http", "listen") ?? origin("server", "listen"))
    }
    if let socket = settings.admin.socket, listeners.contains(.unix(path: socket)) {
      add(
        "socket names \(socket), where clients connect", section: "admin", key: "socket",
        at: origin("admin", "socket"))
    }
    // What could not be read has left its default in place, about which nothing should be said.
    if problems.contains(where: { $0.section == "auth" || $0.keyPath == "server.listen" }) { return }
    if !isChanging, origin("auth", "method") == nil, let listener = listeners.first(where: \.isTCP) {
      add(
        Self.missingMethod(listener), section: "auth", key: "method",
        at: auth?.position ?? origin("server", "listen"))
    } else if settings.auth.method == .trust, !settings.auth.allowRemoteTrust,
      let listener = listeners.first(where: { !$0.isLocal })
    {
      add(
        "method = \"trust\" lets anybody who reaches \(listener) be any user; listen on loopback or a Unix socket, or "
          + "set allow_remote_trust = true", section: "auth", key: "method", at: origin("auth", "method"))
    }
  }

  private static func missingMethod(_ listener: ListenAddress) -> String {
    "method is missing: clients connect over TCP (\(listener)), so it must say how they prove who they are: "
      + alternatives(AuthMethod.allCases.filter { $0 != .hba }.map(\.rawValue))
  }

  private mutating func checkTLS() {
    let server = settings.server
    let mode = "tls_mode = \(quoted(server.tlsMode.rawValue))"
    let files = [
      ("tls_cert", server.tlsCertificate, server.tlsMode.offersTLS, "the certificate shown to clients"),
      ("tls_key", server.tlsKey, server.tlsMode.offersTLS, "the certificate's private key"),
      ("tls_ca", server.tlsAuthority, server.tlsMode.requiresClientCertificate, "who signs clients' certificates"),
    ]
    for (key, file, isNeeded, what) in files where isNeeded && file == nil && !hasProblem("server", key) {
      add("\(mode) needs \(key): \(what)", section: "server", key: key, at: origin("server", "tls_mode"))
    }
  }

  private mutating func checkAuthentication() {
    if hasProblem("auth", "method") { return }
    let method = settings.auth.method
    switch method {
    case .password, .md5, .scramSHA256:
      if settings.auth.file == nil && !hasProblem("auth", "file") {
        add(
          "method = \(quoted(method.rawValue)) needs file: the users and their secrets", section: "auth", key: "file",
          at: origin("auth", "method"))
      }
    case .cert:
      if !settings.server.tlsMode.requiresClientCertificate && !hasProblem("server", "tls_mode") {
        add(
          "method = \"cert\" needs [server] tls_mode = \"verify-ca\" or \"verify-full\"", section: "auth",
          key: "method", at: origin("auth", "method"))
      }
    case .trust, .hba, .upstream: break
    }
  }

  private func hasProblem(_ section: String, _ key: String) -> Bool {
    problems.contains { $0.section == section && $0.key == key }
  }

  /// Rules about two keys at once hold for every pool, that is for each combination of sections that set any of them.
  private mutating func checkPools() {
    let pool = settings.pool
    checkPool(pool, layers: ["pool"])
    let databases = settings.databases.values.sorted { $0.name < $1.name }
    let users = settings.users.values.sorted { $0.name < $1.name }
    for database in databases {
      checkPool(pool.applying(database.overrides), layers: ["databases.\(keyPart(database.name))"])
    }
    for user in users { checkPool(pool.applying(user.overrides), layers: ["users.\(keyPart(user.name))"]) }
    for database in databases where setsCoupledKey("databases.\(keyPart(database.name))") {
      for user in users where setsCoupledKey("users.\(keyPart(user.name))") {
        checkPool(
          pool.applying(database.overrides).applying(user.overrides),
          layers: ["databases.\(keyPart(database.name))", "users.\(keyPart(user.name))"])
      }
    }
  }

  /// A pool for reads is the same users' as the pool beside it.
  private mutating func checkReads() {
    for database in settings.databases.values {
      let section = "databases.\(keyPart(database.name))"
      if let user = database.readUpstream?["user"], user != database.upstream["user"] {
        add(
          "read_upstream names another user than upstream", section: section, key: "read_upstream",
          at: origin(section, "read_upstream"))
      }
      if let other = settings.readsDatabase(calledBy: database.name) {
        add(
          "is what the pools for reads of [databases.\(keyPart(other.name))] are called", section: section,
          at: origin(section, "upstream"))
      }
    }
  }

  private static let sizeKeys = ["min_size", "pool_size"]
  private static let pinKeys = ["max_pinned", "pool_size", "max_overflow"]

  private func setsCoupledKey(_ section: String) -> Bool {
    (Self.sizeKeys + Self.pinKeys).contains { origin(section, $0) != nil }
  }

  /// `layers` are the sections that make this pool differ from those already checked.
  private mutating func checkPool(_ pool: PoolSettings, layers: [String]) {
    if pool.minSize > pool.poolSize {
      addToPool("min_size = \(pool.minSize) is above pool_size = \(pool.poolSize)", keys: Self.sizeKeys, layers: layers)
    }
    if let limit = pool.maxPinnedLimit, limit >= pool.bound {
      addToPool(
        "max_pinned = \(limit) must be below pool_size + max_overflow = \(pool.bound), or pins could use up the pool",
        keys: Self.pinKeys, layers: layers)
    }
  }

  private mutating func addToPool(_ message: String, keys: [String], layers: [String]) {
    let guilty = layers.compactMap { section in keys.first { origin(section, $0) != nil }.map { (section, $0) } }
    // Where a layer sets none of the keys, the layers below it have the same problem and have said so.
    guard guilty.count == layers.count, let (section, key) = guilty.last else { return }
    let isKnown = problems.contains { problem in
      layers.count > 1 && layers.contains(problem.section) && keys.contains(problem.key)
    }
    if isKnown { return }
    let context = layers.count > 1 ? " (together with [\(layers[0])])" : ""
    add(message + context, section: section, key: key, at: origin(section, key))
  }

  // MARK: What is doubtful

  private mutating func warn() {
    if settings.databases.isEmpty {
      settings.warnings.append(
        Problem(
          file: file, section: "databases", key: "",
          message: "there is none, so every client will be refused; add [databases.NAME] with upstream = \"…\""))
    }
    for case .unix(let path) in settings.server.listen
    where !(path.split(separator: "/").last?.hasPrefix(".s.PGSQL.") ?? false) {
      warn(
        "listen names \(path), but libpq's clients look for DIRECTORY/.s.PGSQL.PORT", section: "server", key: "listen")
    }
    warnOfTLS()
    for (kind, sources) in [
      ("databases", settings.databases.mapValues(\.password)), ("users", settings.users.mapValues(\.password)),
    ] {
      for case (let name, .literal?) in sources {
        warn(
          "password stands here for everybody who may read the file; better { env = … }, { file = … } or "
            + "{ credential = … }", section: "\(kind).\(keyPart(name))", key: "password")
      }
    }
    warnOfReads()
  }

  private mutating func warnOfReads() {
    for database in settings.databases.values where database.readUpstream != nil {
      let pool = settings.pool.applying(database.overrides)
      let section = "databases.\(keyPart(database.name))"
      if pool.mode != .transaction {
        warn(
          "read_upstream has no effect: mode is \(quoted(pool.mode.rawValue))", section: section, key: "read_upstream")
      } else if pool.maxLag != nil, settings.health.interval == nil {
        warn(
          "read_upstream has no effect: max_lag is set, and [health] interval = \"off\" measures no lag",
          section: section, key: "read_upstream")
      }
    }
  }

  private mutating func warnOfTLS() {
    let server = settings.server
    if !server.tlsMode.offersTLS {
      for (key, file) in [("tls_cert", server.tlsCertificate), ("tls_key", server.tlsKey)] where file != nil {
        warn("\(key) has no effect: tls_mode is \"disable\"", section: "server", key: key)
      }
    }
    let method = settings.auth.method
    if method == .password || method == .upstream, !server.tlsMode.requiresTLS,
      let listener = server.listen.first(where: { !$0.isLocal })
    {
      warn(
        "method = \(quoted(method.rawValue)) lets passwords cross the network in clear (\(listener)); set [server] "
          + "tls_mode = \"require\"", section: "auth", key: "method")
    }
  }

  private mutating func warn(_ message: String, section: String, key: String) {
    let position = origin(section, key)
    settings.warnings.append(
      Problem(
        file: file, line: position?.line, column: position?.column, section: section, key: key, message: message))
  }

  // MARK: Problems

  private func origin(_ section: String, _ key: String) -> SourcePosition? {
    settings.origins[.init(section: section, key: key)]
  }

  private mutating func add(
    _ message: String, section: String = "", key: String = "", suggestion: String? = nil, at origin: SourcePosition?
  ) {
    let position = isChanging ? nil : origin
    problems.append(
      Problem(
        file: file, line: position?.line, column: position?.column, section: section, key: key, message: message,
        suggestion: suggestion))
  }

  private func syntaxProblem(_ error: TOMLSyntaxError, in text: String) -> Problem {
    var position = error.position
    var message = "not TOML: \(error.message)"
    if let name = Self.redefined(error.message) {
      message = "\(quoted(name, limit: 60)) is set twice"
      // toml++ stands behind the value by now; the key is what to look at.
      position.column = Self.firstColumn(ofLine: position.line, in: text)
    } else if error.message.contains("while parsing decimal"), error.message.contains("saw '") {
      message += " (a time with its unit is a string: \"30s\")"
    }
    return Problem(
      file: file, line: position.line, column: position.column, section: "", key: "", message: message)
  }

  /// The column of the first character that is no blank.
  private static func firstColumn(ofLine line: Int, in text: String) -> Int {
    let lines = text.unicodeScalars.split(separator: "\n", maxSplits: line, omittingEmptySubsequences: false)
    guard lines.indices.contains(line - 1) else { return 1 }
    return lines[line - 1].prefix { $0 == " " || $0 == "\t" }.count + 1
  }

  /// The key of toml++'s "cannot redefine existing KIND 'KEY'".
  private static func redefined(_ message: String) -> String? {
    guard message.contains("cannot redefine existing"), message.last == "'" else { return nil }
    let parts = message.split(separator: "'")
    return parts.count == 2 ? String(parts[1]) : nil
  }

  private static func comesFirst(_ a: Problem, _ b: Problem) -> Bool {
    (a.line ?? .max, a.column ?? .max, a.keyPath) < (b.line ?? .max, b.column ?? .max, b.keyPath)
  }
}
