/// Where a value lives within a section's type.
typealias SettingPath<Root, Value> = any WritableKeyPath<Root, Value> & Sendable

/// One key of a section: its name, how its value gets into the section's type, and how it is shown.
struct Key<Section>: Sendable {
  let name: String
  let read: @Sendable (TOMLValue, inout Section) throws(Refusal) -> Void
  /// Nil where the section does not set it.
  let show: @Sendable (Section) -> SettingValue?

  /// A key that always has a value.
  init<Value>(
    _ name: String, _ path: SettingPath<Section, Value>, _ format: ValueFormat<Value>
  ) {
    self.name = name
    read = { value, section throws(Refusal) in section[keyPath: path] = try format.read(value) }
    show = { section in format.show(section[keyPath: path]) }
  }

  /// A key that may be absent.
  init<Value>(
    ifSet name: String, _ path: SettingPath<Section, Value?>, _ format: ValueFormat<Value>
  ) {
    self.name = name
    read = { value, section throws(Refusal) in section[keyPath: path] = try format.read(value) }
    show = { section in section[keyPath: path].map(format.show) }
  }

  /// A key of a part of a section.
  init<Part>(_ key: Key<Part>, in path: SettingPath<Section, Part>) {
    name = key.name
    read = { value, section throws(Refusal) in try key.read(value, &section[keyPath: path]) }
    show = { section in key.show(section[keyPath: path]) }
  }
}

/// A key that `[pool]`, databases and users share.
struct PoolKey: Sendable {
  /// The key as one section sets it.
  let override: Key<PoolOverrides>
  /// Lays the value over the settings, where it is set.
  let apply: @Sendable (PoolOverrides, inout PoolSettings) -> Void
  /// The effective value.
  let show: @Sendable (PoolSettings) -> SettingValue

  var name: String { override.name }

  init<Value>(
    _ name: String,
    _ override: SettingPath<PoolOverrides, Value?>,
    _ setting: SettingPath<PoolSettings, Value>,
    _ format: ValueFormat<Value>
  ) {
    self.override = Key(ifSet: name, override, format)
    apply = { overrides, settings in
      if let value = overrides[keyPath: override] { settings[keyPath: setting] = value }
    }
    show = { settings in format.show(settings[keyPath: setting]) }
  }
}

/// Every key there is. Reading, showing, comparing and suggesting all follow from these tables.
enum Keys {
  static let server: [Key<ServerSettings>] = [
    Key("listen", \.listen, .addresses),
    Key(
      "workers", \.workers,
      ValueFormat<Int>.integer(ServerSettings.workerRange, example: 2, words: "auto").or("auto")),
    Key("max_clients", \.maxClients, .integer(1...1_000_000, example: 10_000)),
    Key("event_loop", \.eventLoop, .choice),
    Key(
      "client_login_timeout", \.clientLoginTimeout,
      .timeOrOff(example: "60s", zero: "nobody could log in; \"off\" waits for ever")),
    Key(
      "shutdown_timeout", \.shutdownTimeout,
      .timeOrOff(example: "60s", zero: "a second SIGTERM stops at once; \"off\" waits for ever")),
    Key(
      "tcp_keepidle", \.tcpKeepIdle,
      .timeOrOff(example: "60s", zero: "the kernel would ask all the time; \"off\" never asks")),
    Key(
      "tcp_keepintvl", \.tcpKeepInterval,
      .time(
        example: "10s", zero: "the kernel would ask all the time", off: "tcp_keepidle = \"off\" switches keepalive off")
    ),
    Key("tcp_keepcnt", \.tcpKeepCount, .integer(1...127, example: 6)),
    Key(
      "tcp_user_timeout", \.tcpUserTimeout,
      .timeOrOff(example: "30s", zero: "no client could be sent anything; \"off\" leaves it to the kernel")),
    Key("tls_mode", \.tlsMode, .choice),
    Key("tls_cert", \.tlsCertificate, ValueFormat<String>.path(example: "/etc/lifeguard/server.crt").optional),
    Key("tls_key", \.tlsKey, ValueFormat<String>.path(example: "/etc/lifeguard/server.key").optional),
    Key("tls_ca", \.tlsAuthority, ValueFormat<String>.path(example: "/etc/lifeguard/ca.crt").optional),
  ]

  static let pool: [PoolKey] = [
    PoolKey("mode", \.mode, \.mode, .choice),
    PoolKey(
      "pool_size", \.poolSize, \.poolSize,
      .integer(1...10_000, example: 5, floor: "a pool without a bound does not exist here")),
    PoolKey(
      "max_overflow", \.maxOverflow, \.maxOverflow,
      .integer(
        0...10_000, example: 10,
        floor: "a pool without a bound would use up the server's max_connections when load is highest")),
    PoolKey("min_size", \.minSize, \.minSize, .integer(0...10_000, example: 0)),
    PoolKey("pool_timeout", \.poolTimeout, \.poolTimeout, .timeOrOff(example: "30s", zero: nil)),
    PoolKey(
      "pool_recycle", \.poolRecycle, \.poolRecycle,
      .timeOrOff(example: "1h", zero: "each connection would be replaced at once; \"off\" never replaces them")),
    PoolKey("pool_pre_ping", \.poolPrePing, \.poolPrePing, .boolean),
    PoolKey(
      "pre_ping_idle", \.prePingIdle, \.prePingIdle,
      .time(example: "1s", off: "pool_pre_ping = false switches pings off")),
    PoolKey(
      "pre_ping_timeout", \.prePingTimeout, \.prePingTimeout,
      .time(example: "1s", zero: "no ping could succeed", off: "a dead server would keep its client waiting for ever")),
    PoolKey("use_lifo", \.useLIFO, \.useLIFO, .boolean),
    PoolKey(
      "overflow_linger", \.overflowLinger, \.overflowLinger,
      .time(example: "1s", off: "overflow would never be closed; to keep more connections raise pool_size")),
    PoolKey(
      "connect_timeout", \.connectTimeout, \.connectTimeout,
      .time(
        example: "5s", zero: "no connection could be opened",
        off: "a dial that hangs would keep its place in the pool for ever")),
    PoolKey(
      "cancel_timeout", \.cancelTimeout, \.cancelTimeout,
      .time(
        example: "5s", zero: "no cancel request could succeed",
        off: "a cancel that hangs would keep its server connection for ever")),
    PoolKey(
      "close_timeout", \.closeTimeout, \.closeTimeout,
      .time(
        example: "5s", zero: "a connection counts until the server has closed it",
        off: "a close that hangs would keep its place in the pool for ever")),
    PoolKey("reset_query", \.resetQuery, \.resetQuery, .string(example: "DISCARD ALL")),
    PoolKey("on_outage", \.onOutage, \.onOutage, .choice),
    PoolKey("session_state", \.sessionState, \.sessionState, .choice),
    PoolKey("hand_over_reset", \.handOverReset, \.handOverReset, .choice),
    PoolKey(
      "max_pinned", \.maxPinnedLimit, \.maxPinnedLimit,
      ValueFormat<Int>.integer(0...20_000, example: 10, words: "auto").or("auto")),
    PoolKey(
      "max_prepared_statements", \.maxPreparedStatements, \.maxPreparedStatements,
      .integer(0...100_000, example: 200)),
    PoolKey(
      "pool_workers", \.poolWorkers, \.poolWorkers,
      .integer(1...1024, example: 1)),
    PoolKey("max_lag", \.maxLag, \.maxLag, .timeOrOff(example: "10s", zero: "no replica could be used")),
    PoolKey("query_timeout", \.queryTimeout, \.queryTimeout, .timeOrOff(example: "30s", zero: nothingCouldRun)),
    PoolKey(
      "transaction_timeout", \.transactionTimeout, \.transactionTimeout,
      .timeOrOff(example: "5min", zero: nothingCouldRun)),
    PoolKey(
      "idle_transaction_timeout", \.idleTransactionTimeout, \.idleTransactionTimeout,
      .timeOrOff(example: "1min", zero: nothingCouldRun)),
    PoolKey(
      "client_idle_timeout", \.clientIdleTimeout, \.clientIdleTimeout,
      .timeOrOff(example: "1h", zero: nothingCouldRun)),
  ]

  private static let nothingCouldRun = "nothing could run; \"off\" sets no limit"

  static let database: [Key<DatabaseSettings>] =
    [
      Key("upstream", \.upstream, .upstream),
      Key("password", \.password, password),
      Key("read_upstream", \.readUpstream, ValueFormat<Conninfo>.upstream.optional),
      Key("max_connections", \.maxConnections, maxConnections),
    ] + pool.map { Key($0.override, in: \.overrides) }

  static let user: [Key<UserSettings>] =
    [Key("password", \.password, password), Key("max_connections", \.maxConnections, maxConnections)]
    + pool.map { Key($0.override, in: \.overrides) }

  private static let password = ValueFormat<PasswordSource>.password.optional

  /// PostgreSQL's own max_connections goes up to 262143.
  private static let maxConnections = ValueFormat<Int>.integer(
    1...262_143, example: 50, floor: "\"off\" sets no limit", words: "off"
  ).or("off")

  static let auth: [Key<AuthSettings>] = [
    Key(
      "method", \.method,
      .choice.refusing { $0 == .hba ? "= \(quoted($0.rawValue)) is not supported yet" : nil }),
    Key("file", \.file, ValueFormat<String>.path(example: "/etc/lifeguard/userlist.txt").optional),
    Key("allow_remote_trust", \.allowRemoteTrust, .boolean),
  ]

  static let admin: [Key<AdminSettings>] = [
    Key(
      "socket", \.socket,
      ValueFormat<String>.path(example: AdminSettings.defaultSocket, longest: ListenAddress.longestPath).optional),
    Key("users", \.users, .names),
    Key("stats_users", \.statsUsers, .names),
  ]

  static let http: [Key<HTTPSettings>] = [Key("listen", \.listen, ValueFormat<ListenAddress>.address.or("off"))]

  static let health: [Key<HealthSettings>] = [
    Key("interval", \.interval, .timeOrOff(example: "2s", zero: "a host would be probed without a pause")),
    Key(
      "timeout", \.timeout,
      .time(example: "1s", zero: "no probe could succeed", off: "a host that hangs would never be down")),
    Key("rise", \.rise, .integer(1...1000, example: 2, floor: "a host comes back for an answer")),
    Key("fall", \.fall, .integer(1...1000, example: 3, floor: "a host is down for a failure")),
  ]

  static let log: [Key<LogSettings>] = [
    Key("level", \.level, .choice),
    Key("format", \.format, .choice),
    Key("connections", \.connections, .boolean),
  ]

  /// The keys of each kind of section, by its header as documentation writes it.
  static let names: [(section: String, keys: [String])] = [
    ("server", server.map(\.name)), ("pool", pool.map(\.name)), ("databases.NAME", database.map(\.name)),
    ("users.NAME", user.map(\.name)), ("auth", auth.map(\.name)), ("admin", admin.map(\.name)),
    ("http", http.map(\.name)), ("health", health.map(\.name)), ("log", log.map(\.name)),
  ]

  static let sections = ["server", "pool", "databases", "users", "auth", "admin", "http", "health", "log"]
}
