import Admin
import Locking
import Logging
import Logs
import Proxy
import Settings
import Telemetry

/// The control plane: what the console, HTTP and signals reach. It collects snapshots from the data plane and hands
/// settings down to it.
final class Daemon: Sendable {
  let startTime = UnixTime.now
  private let state: Mutex<State>
  private let source: SettingsSource
  let logger: Logger
  /// What of the log may be changed at run time.
  let log: LogControl
  /// What SHOW EVENTS shows.
  let events: EventLog
  private let serviceManager: ServiceManager
  /// One change of the settings at a time.
  private let changing = Mutex(())

  private struct State {
    var configuration: ServingConfiguration
    var settings: Settings { configuration.settings }
    var stats = StatsPeriods()
    var isDraining = false
    var dataPlane: DataPlane?
  }

  init(
    configuration: ServingConfiguration, source: SettingsSource, logger: Logger, log: LogControl, events: EventLog,
    serviceManager: ServiceManager
  ) {
    self.log = log
    self.events = events
    self.serviceManager = serviceManager
    self.source = source
    state = Mutex(State(configuration: configuration))
    self.logger = logger
  }

  /// The data plane is running.
  func started(_ dataPlane: DataPlane) { state.withLock { $0.dataPlane = dataPlane } }

  var settings: Settings { state.withLock { $0.settings } }

  /// The daemon is stopping.
  var isDraining: Bool { state.withLock { $0.isDraining } }

  var stats: StatsPeriods { state.withLock { $0.stats } }

  /// The settings, and what they refer to.
  var configuration: ServingConfiguration { state.withLock { $0.configuration } }

  /// nil before it runs.
  var dataPlane: DataPlane? { state.withLock { $0.dataPlane } }

  // MARK: Settings

  /// Reads the settings again, and hands them down if they are valid as a whole; on any problem nothing changes.
  ///
  /// - Returns: the problems, one line each.
  @discardableResult
  func reload() -> [String] {
    serviceManager.reloading()
    defer { serviceManager.reloaded() }
    return change("reloaded") { () throws(SettingsError) in try source.load() }
  }

  /// Changes one setting until the next reload; on any problem nothing changes.
  ///
  /// - Returns: the problems, one line each.
  func set(_ key: String, to value: String) -> [String] {
    change("changed") { () throws(SettingsError) in try settings.setting(key, to: value) }
  }

  /// What a reload would change.
  func changesOfReload() throws(AdminError) -> [SettingChangeRow] {
    do {
      let new = try source.load()
      _ = try ServingConfiguration(new, replacing: state.withLock { $0.configuration })
      return new.differences(from: settings).map {
        SettingChangeRow(
          key: "\($0.section).\($0.key)", old: $0.old, new: $0.isHidden ? "(a hidden part changed)" : $0.new,
          needsRestart: $0.needsRestart)
      }
    } catch {
      throw .settingsNot("reloaded", Daemon.problems(error))
    }
  }

  private func change(_ done: String, _ make: () throws(SettingsError) -> Settings) -> [String] {
    changing.withLock { _ in
      let configuration: ServingConfiguration
      do {
        let new = try make()
        configuration = try ServingConfiguration(new, replacing: state.withLock { $0.configuration })
        if let objections = dataPlane?.objections(to: new), !objections.isEmpty {
          return notChanged(done, objections)
        }
      } catch {
        return notChanged(done, Daemon.problems(error))
      }
      let changes = apply(configuration)
      logger.notice("settings \(done)", metadata: ["changes": "\(changes)"])
      note("settings", "settings \(done): \(changes) \(changes == 1 ? "key" : "keys")")
      return []
    }
  }

  /// Hands valid settings down.
  ///
  /// - Returns: how many keys change.
  private func apply(_ configuration: ServingConfiguration) -> Int {
    let new = configuration.settings
    log.apply(new.log)
    for warning in new.warnings.map({ "\($0)" }) + configuration.warnings { logger.warning("\(warning)") }
    let changes = new.differences(from: settings)
    for change in changes where change.needsRestart { logger.warning("takes effect at the next start: \(change)") }
    for change in changes where !change.needsRestart { logger.notice("setting changed: \(change)") }
    let dataPlane = state.withLock { state in
      state.configuration = configuration
      return state.dataPlane
    }
    for limit in dataPlane?.apply(configuration) ?? [] {
      logger.warning("takes effect at the next start: \(limit), as pools under a new limit may be on several workers")
    }
    return changes.count
  }

  private func notChanged(_ done: String, _ problems: [String]) -> [String] {
    for problem in problems { logger.error("settings not \(done): \(problem)") }
    note("settings_refused", "settings not \(done): \(problems.joined(separator: "; "))")
    return problems
  }

  /// Adds what the control plane does to SHOW EVENTS.
  func note(_ kind: String, pool: String? = nil, _ detail: String) {
    events.note(kind: kind, pool: pool, detail: detail, at: .now)
  }

  private static func problems(_ error: any Error) -> [String] {
    switch error {
    case let error as SettingsError: error.problems.map(\.description)
    case let error as ConfigurationError: error.problems
    default: ["\(error)"]
    }
  }

  /// The daemon is on its way out.
  func beginDraining() {
    let isFirst = state.withLock { state in
      defer { state.isDraining = true }
      return !state.isDraining
    }
    guard isFirst else { return }
    serviceManager.stopping()
    note("stopping", "nobody is let in any more")
  }

  // MARK: Snapshots

  /// How much a snapshot is to hold.
  enum SnapshotDetail {
    /// What workers have published: they are not asked.
    case pools
    /// All clients and server connections too, which costs the workers time for each.
    case connections
  }

  func snapshot(_ detail: SnapshotDetail) async -> DaemonSnapshot {
    let (configuration, dataPlane, isDraining) = state.withLock { ($0.configuration, $0.dataPlane, $0.isDraining) }
    let settings = configuration.settings
    var daemon = DaemonSnapshot(
      version: Lifeguard.version, startTime: startTime, time: .now, workers: dataPlane?.workerCount ?? 0,
      eventLoop: dataPlane?.driver.rawValue ?? "", maxClients: settings.server.maxClients)
    let orders = dataPlane?.orders ?? Orders()
    daemon.isDraining = isDraining
    daemon.isPaused = orders.pausesAll
    (daemon.clientCount, daemon.loginClientCount) = dataPlane?.clientCounts() ?? (0, 0)
    daemon.pools = dataPlane?.pools() ?? []
    daemon.hosts = dataPlane?.hosts() ?? []
    daemon.events = events.events
    daemon.databases = Daemon.databases(settings, orders, daemon.pools)
    daemon.users = Daemon.users(configuration, daemon.pools)
    if case .connections = detail {
      let connections = await dataPlane?.connections()
      daemon.clients = connections?.clients ?? []
      daemon.servers = connections?.servers ?? []
      daemon.memory = connections?.memory ?? []
    }
    return daemon
  }

  /// Called at the end of each period of SHOW STATS' averages.
  func recordStats() async {
    let daemon = await snapshot(.pools)
    state.withLock { $0.stats.record(daemon) }
  }

  /// The databases of the settings, and those that clients have made of `"*"`.
  private static func databases(
    _ settings: Settings, _ orders: Orders, _ pools: [PoolSnapshot]
  ) -> [DatabaseSnapshot] {
    let names = Set(settings.databases.keys).union(pools.map(\.database))
    return names.compactMap { name in
      (settings.databases[name] ?? settings.database(named: name)).map { snapshot(name, $0, settings, orders) }
    }
  }

  private static func snapshot(
    _ name: String, _ database: DatabaseSettings, _ settings: Settings, _ orders: Orders
  ) -> DatabaseSnapshot {
    let pool = settings.pool(database: name, user: database.upstream["user"] ?? "")
    var snapshot = DatabaseSnapshot(
      name: name, host: database.upstream["host"], port: database.upstream["port"] ?? "5432",
      serverDatabase: database.upstream["dbname"], forcedUser: database.upstream["user"], poolSize: pool.poolSize,
      minSize: pool.minSize, maxOverflow: pool.maxOverflow,
      recycleSeconds: Int(pool.poolRecycle?.components.seconds ?? 0), mode: pool.mode.rawValue,
      maxConnections: database.maxConnections ?? 0)
    snapshot.isPaused = orders.paused.contains(name)
    snapshot.isDisabled = orders.disabled.contains(name)
    return snapshot
  }

  private static func users(_ configuration: ServingConfiguration, _ pools: [PoolSnapshot]) -> [UserSnapshot] {
    let users = configuration.settings.users
    let names = Set(users.keys).union(configuration.users).union(pools.map(\.user))
    return names.map { name in
      UserSnapshot(
        name: name, poolSize: users[name]?.poolSize, mode: users[name]?.mode?.rawValue,
        maxConnections: users[name]?.maxConnections ?? 0)
    }
  }
}
