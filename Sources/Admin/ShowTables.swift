public import Telemetry

extension AdminTable {
  /// The answer to `SHOW subject`.
  ///
  /// - Parameters:
  ///   - daemon: must have its clients for SHOW CLIENTS, and its servers for SHOW SERVERS.
  ///   - settings: the rows of SHOW CONFIG.
  ///   - stats: the averages of SHOW STATS.
  public static func show(
    _ subject: ShowSubject, of daemon: DaemonSnapshot, settings: [SettingRow], stats: StatsPeriods
  ) -> AdminTable {
    switch subject {
    case .activeSockets: sockets(daemon, withIdle: false)
    case .clients: clients(daemon)
    case .config: config(settings)
    case .databases: databases(daemon)
    case .dnsHosts: nothing([.text("hostname") { _ in nil }, .int8("ttl") { _ in 0 }, .text("addrs") { _ in nil }])
    case .dnsZones: nothing([.text("zonename") { _ in nil }, .int8("serial") { _ in 0 }, .int4("count") { _ in 0 }])
    case .events: events(daemon)
    case .health: health(daemon)
    case .help: help()
    case .lists: lists(daemon)
    case .mem: memory(daemon)
    case .peerPools:
      nothing(
        ["peer_id", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active_cancel", "sv_login"].map {
          .int4($0) { _ in 0 }
        })
    case .peers:
      nothing([
        .int4("peer_id") { _ in 0 }, .text("host") { _ in nil }, .int4("port") { _ in 0 },
        .int4("pool_size") { _ in 0 },
      ])
    case .pins: pins(daemon)
    case .pools: pools(daemon)
    case .servers: servers(daemon)
    case .sockets: sockets(daemon, withIdle: true)
    case .state: state(daemon)
    case .stats: AdminTable.stats(daemon, stats)
    case .statsAverages: statsAverages(daemon, stats)
    case .statsTotals: statsTotals(daemon)
    case .totals: totals(daemon, stats)
    case .users: users(daemon)
    case .version: version(daemon)
    }
  }

  /// What Lifeguard has none of, with PgBouncer's columns.
  private static func nothing(_ columns: [ColumnSource<Void>]) -> AdminTable { AdminTable([], columns) }

  /// SHOW POOLS. An idle connection that is due for a ping stays in `sv_idle`, so `sv_used` is always 0.
  private static func pools(_ daemon: DaemonSnapshot) -> AdminTable {
    let columns: [ColumnSource<PoolSnapshot>] =
      [
        .text("database") { $0.database },
        .text("user") { $0.user },
        .int4("cl_active") { $0.gauges.clientsActive },
        .int4("cl_waiting") { $0.gauges.clientsWaiting },
        .int4("cl_active_cancel_req") { _ in 0 },
        .int4("cl_waiting_cancel_req") { _ in 0 },
        .int4("sv_active") { $0.gauges.serversActive },
        .int4("sv_active_cancel") { _ in 0 },
        .int4("sv_being_canceled") { _ in 0 },
        .int4("sv_idle") { $0.gauges.serversIdle },
        .int4("sv_used") { _ in 0 },
        .int4("sv_tested") { $0.gauges.serversTesting + $0.gauges.serversResetting },
        .int4("sv_login") { $0.gauges.serversDialing },
      ]
      + ColumnSource.duration("maxwait", "maxwait_us") { Int64($0.gauges.maxWaitMicroseconds) }
      + [
        .text("pool_mode") { $0.mode },
        .text("load_balance_hosts") { $0.loadBalanceHosts },
        .text("pool") { $0.label },
        .int4("pool_size") { $0.poolSize },
        .int4("max_overflow") { $0.maxOverflow },
        .int4("overflow") { $0.overflow },
        .int4("sv_total") { $0.gauges.serversTotal },
        .int4("sv_resetting") { $0.gauges.serversResetting },
        .int4("sv_closing") { $0.gauges.serversClosing },
        .int4("sv_pinned") { $0.gauges.serversPinned },
        .bool("paused") { $0.isPaused || daemon.isPaused },
        .int8("read_fallbacks") { Int64(clamping: $0.counters.readFallbacks.reduce(0, &+)) },
      ]
    return AdminTable(daemon.sortedPools, columns)
  }

  private static func databases(_ daemon: DaemonSnapshot) -> AdminTable {
    let connections = Dictionary(grouping: daemon.pools, by: \.database)
    let servers = connections.mapValues { $0.reduce(0) { $0 + $1.gauges.serversTotal } }
    let clients = connections.mapValues {
      $0.reduce(0) { $0 + $1.gauges.clientsActive + $1.gauges.clientsWaiting }
    }
    return AdminTable(
      daemon.databases.sorted { $0.name < $1.name },
      [
        .text("name") { $0.name },
        .text("host") { $0.host },
        .text("port") { $0.port },
        .text("database") { $0.serverDatabase },
        .text("force_user") { $0.forcedUser },
        .int4("pool_size") { $0.poolSize },
        .int4("min_pool_size") { $0.minSize },
        .int4("reserve_pool_size") { _ in 0 },
        .int4("server_lifetime") { $0.recycleSeconds },
        .text("pool_mode") { $0.mode },
        .text("load_balance_hosts") { $0.loadBalanceHosts },
        .int4("max_connections") { $0.maxConnections },
        .int4("current_connections") { servers[$0.name, default: 0] },
        .int4("max_client_connections") { _ in 0 },
        .int4("current_client_connections") { clients[$0.name, default: 0] },
        .int4("paused") { $0.isPaused || daemon.isPaused ? 1 : 0 },
        .int4("disabled") { $0.isDisabled ? 1 : 0 },
        .int4("max_overflow") { $0.maxOverflow },
      ])
  }

  private static func users(_ daemon: DaemonSnapshot) -> AdminTable {
    let pools = Dictionary(grouping: daemon.pools, by: \.user)
    let servers = pools.mapValues { $0.reduce(0) { $0 + $1.gauges.serversTotal } }
    let clients = pools.mapValues { $0.reduce(0) { $0 + $1.gauges.clientsActive + $1.gauges.clientsWaiting } }
    return AdminTable(
      daemon.users.sorted { $0.name < $1.name },
      [
        .text("name") { $0.name },
        .text("pool_size") { $0.poolSize.map { String($0) } },
        .text("reserve_pool_size") { _ in nil },
        .text("pool_mode") { $0.mode },
        .int4("max_user_connections") { $0.maxConnections },
        .int4("current_connections") { servers[$0.name, default: 0] },
        .int4("max_user_client_connections") { _ in 0 },
        .int4("current_client_connections") { clients[$0.name, default: 0] },
      ])
  }

  private static func events(_ daemon: DaemonSnapshot) -> AdminTable {
    AdminTable(
      daemon.events,
      [
        .int8("id") { $0.id },
        .text("time") { $0.time.description },
        .text("event") { $0.kind },
        .text("pool") { $0.pool },
        .text("detail") { $0.detail },
        .int4("count") { $0.count },
      ])
  }

  /// SHOW HEALTH. `history` is a character for each of the last probes, oldest first: `+` answered, `!` the login was
  /// refused, `-` failed.
  private static func health(_ daemon: DaemonSnapshot) -> AdminTable {
    AdminTable(
      daemon.hosts,
      [
        .text("host") { $0.host },
        .text("state") { $0.state },
        .text("breaker") { $0.breaker },
        .text("role") { $0.role },
        .bool("read_only") { $0.isReadOnly },
        .text("latency_ms") { $0.latencyMicroseconds.map { decimal(Int64($0), 1000) } },
        .text("lag_bytes") { $0.lagBytes.map { String($0) } },
        .text("lag_seconds") { $0.lagMicroseconds.map { decimal($0, 1_000_000) } },
        .text("since") { $0.since?.description },
        .text("last_check") { $0.history.last?.time.description },
        .text("history") { String($0.history.map(\.outcome)) },
        .text("last_error") { $0.lastError },
        .bool("probed") { $0.isProbed },
      ])
  }

  private static func decimal(_ value: Int64, _ divisor: Int64) -> String { String(Double(value) / Double(divisor)) }

  private static func lists(_ daemon: DaemonSnapshot) -> AdminTable {
    let servers = daemon.pools.reduce(into: PoolGauges()) { $0 += $1.gauges }
    let items = [
      ("databases", daemon.databases.count),
      ("users", daemon.users.count),
      ("peers", 0),
      ("pools", daemon.pools.count),
      ("peer_pools", 0),
      ("free_clients", max(0, daemon.maxClients - daemon.clientCount)),
      ("used_clients", daemon.clientCount),
      ("login_clients", daemon.loginClientCount),
      ("free_servers", servers.serversIdle),
      ("used_servers", servers.serversTotal - servers.serversIdle),
      ("dns_names", 0),
      ("dns_zones", 0),
      ("dns_queries", 0),
      ("dns_pending", 0),
    ]
    return AdminTable(items, [.text("list") { $0.0 }, .int4("items") { $0.1 }])
  }

  private static func state(_ daemon: DaemonSnapshot) -> AdminTable {
    let yesOrNo = { (value: Bool) in value ? "yes" : "no" }
    let rows = [
      ("active", yesOrNo(!daemon.isPaused && !daemon.isDraining)),
      ("paused", yesOrNo(daemon.isPaused)),
      ("suspended", "no"),
      ("draining", yesOrNo(daemon.isDraining)),
      ("version", daemon.version),
      ("started", daemon.startTime.description),
      ("event_loop", daemon.eventLoop),
      ("workers", String(daemon.workers)),
      ("clients", String(daemon.clientCount)),
      ("max_clients", String(daemon.maxClients)),
    ]
    return AdminTable(rows, [.text("key") { $0.0 }, .text("value") { $0.1 }])
  }

  private static func version(_ daemon: DaemonSnapshot) -> AdminTable {
    AdminTable([daemon.version], [.text("version") { "Lifeguard \($0)" }])
  }

  private static func config(_ settings: [SettingRow]) -> AdminTable {
    AdminTable(
      settings,
      [
        .text("key") { $0.key },
        .text("value") { $0.value },
        .text("default") { $0.defaultValue },
        .text("changeable") { $0.isChangeable ? "yes" : "no" },
      ])
  }

  private static func help() -> AdminTable {
    let shows = ShowSubject.allCases.map { ("SHOW \($0.rawValue.uppercased())", $0.purpose) }
    return AdminTable(shows + AdminCommand.purposes, [.text("command") { $0.0 }, .text("does") { $0.1 }])
  }
}

extension AdminTable {
  /// The answer to RELOAD DRY RUN.
  public static func changes(_ changes: [SettingChangeRow]) -> AdminTable {
    AdminTable(
      changes,
      [
        .text("key") { $0.key },
        .text("old") { $0.old },
        .text("new") { $0.new },
        .text("takes_effect") { $0.needsRestart ? "at the next start" : "at once" },
      ])
  }
}

/// One setting that a reload would change, without secrets.
public struct SettingChangeRow: Sendable, Equatable {
  /// Section and key, such as `pool.pool_size`.
  public var key: String
  /// The value in force; nil where there is none.
  public var old: String?
  /// The value that it would get; nil where there would be none.
  public var new: String?
  /// Whether it would wait for a restart.
  public var needsRestart: Bool

  /// One row of RELOAD DRY RUN.
  public init(key: String, old: String?, new: String?, needsRestart: Bool) {
    self.key = key
    self.old = old
    self.new = new
    self.needsRestart = needsRestart
  }
}

/// One setting in force.
public struct SettingRow: Sendable, Equatable {
  /// Section and key, such as `pool.pool_size`.
  public var key: String
  /// The value in force, without secrets; nil where there is none.
  public var value: String?
  /// The value without any settings file; nil where there is none.
  public var defaultValue: String?
  /// Whether RELOAD changes it without a restart.
  public var isChangeable: Bool

  /// One row of SHOW CONFIG.
  public init(key: String, value: String?, defaultValue: String?, isChangeable: Bool) {
    self.key = key
    self.value = value
    self.defaultValue = defaultValue
    self.isChangeable = isChangeable
  }
}
