import Admin
import Locking
import Logging
import Proxy
import Settings
import StatusServer
import Telemetry

/// The control plane: what the console, HTTP and signals reach. It collects snapshots from the data plane and hands
/// settings down to it.
final class Daemon: Sendable {
  let startTime = UnixTime.now
  private let state: Mutex<State>
  private let source: SettingsSource
  private let logger: Logger

  private struct State {
    var configuration: ServingConfiguration
    var settings: Settings { configuration.settings }
    var stats = StatsPeriods()
    var isDraining = false
    var dataPlane: DataPlane?
  }

  init(configuration: ServingConfiguration, source: SettingsSource, logger: Logger) {
    self.source = source
    state = Mutex(State(configuration: configuration))
    self.logger = logger
  }

  /// The data plane is running.
  func started(_ dataPlane: DataPlane) { state.withLock { $0.dataPlane = dataPlane } }

  var settings: Settings { state.withLock { $0.settings } }

  // MARK: Reload

  /// Validates new settings as a whole and hands them down; on any problem nothing changes.
  ///
  /// - Returns: the problems, one line each.
  @discardableResult
  func reload() -> [String] {
    let new: Settings
    let configuration: ServingConfiguration
    do {
      new = try source.load()
      configuration = try ServingConfiguration(new, replacing: state.withLock { $0.configuration })
    } catch {
      let problems = Daemon.problems(error)
      for problem in problems { logger.error("settings not reloaded: \(problem)") }
      return problems
    }
    for warning in new.warnings.map({ "\($0)" }) + configuration.warnings { logger.warning("\(warning)") }
    let changes = new.differences(from: settings)
    for change in changes where change.needsRestart { logger.warning("takes effect at the next start: \(change)") }
    for change in changes where !change.needsRestart { logger.notice("settings changed: \(change)") }
    let dataPlane = state.withLock { state in
      state.configuration = configuration
      return state.dataPlane
    }
    for limit in dataPlane?.apply(configuration) ?? [] {
      logger.warning("takes effect at the next start: \(limit), as pools under a new limit may be on several workers")
    }
    logger.notice("settings reloaded", metadata: ["changes": "\(changes.count)"])
    return []
  }

  private static func problems(_ error: any Error) -> [String] {
    switch error {
    case let error as SettingsError: error.problems.map(\.description)
    case let error as ConfigurationError: error.problems
    default: ["\(error)"]
    }
  }

  /// The daemon is on its way out.
  func beginDraining() { state.withLock { $0.isDraining = true } }

  // MARK: Console

  /// Answers a console command; for the data plane, which must not wait.
  func console(_ command: ConsoleCommand, reply: @escaping @Sendable (ConsoleReply) -> Void) {
    Task { reply(await answer(command)) }
  }

  private func answer(_ request: ConsoleCommand) async -> ConsoleReply {
    do throws(AdminError) {
      let command = try AdminCommand.parse(request.text)
      // Under trust nobody has proven who they are: the console shows, and changes nothing.
      let (settings, stats) = state.withLock { state in (state.settings, state.stats) }
      let privilege = AdminPrivilege.onConsole(
        user: request.user, isProven: request.isProven, users: settings.admin.users,
        statsUsers: settings.admin.statsUsers)
      try privilege.check(command)
      let subject: ShowSubject
      switch command {
      case .show(let shown): subject = shown
      case .reload:
        let problems = reload()
        guard problems.isEmpty else {
          return .failed(
            code: "F0000", message: "settings not reloaded: \(problems.joined(separator: "; "))", hint: nil)
        }
        return .done(tag: command.tag)
      case .shutdown(.immediate):
        logger.notice("stopping at once: SHUTDOWN by \(request.user)")
        beginDraining()
        state.withLock(\.dataPlane)?.stop()
        return .done(tag: command.tag)
      case .shutdown(.waitForServers):
        Signals.sendTerminate()
        return .done(tag: command.tag)
      case .shutdown(.waitForClients):
        return .failed(
          code: "0A000", message: "SHUTDOWN WAIT_FOR_CLIENTS is not there yet", hint: "SHOW HELP lists the commands.")
      case .noEffect: return .done(tag: command.tag)
      case .empty: return .empty
      }
      let needsConnections = subject == .clients || subject == .servers
      let daemon = await snapshot(needsConnections ? .connections : .pools)
      let table = AdminTable.show(subject, of: daemon, settings: Daemon.rows(settings), stats: stats)
      return .rows(
        columns: table.columns.map {
          ConsoleReply.Column(name: $0.name, typeID: $0.type.rawValue, typeSize: $0.type.size)
        }, rows: table.rows, tag: command.tag)
    } catch {
      return .failed(code: error.sqlState, message: error.message, hint: error.hint)
    }
  }

  private static func rows(_ settings: Settings) -> [SettingRow] {
    settings.effective().map {
      SettingRow(
        key: "\($0.section).\($0.key)", value: $0.value, defaultValue: $0.defaultValue, isChangeable: !$0.needsRestart)
    }
  }

  // MARK: Snapshots

  func snapshot(_ detail: SnapshotDetail) async -> DaemonSnapshot {
    let (settings, dataPlane, isDraining) = state.withLock { ($0.settings, $0.dataPlane, $0.isDraining) }
    let workers = await dataPlane?.snapshot(detail) ?? []
    var daemon = DaemonSnapshot(
      version: Lifeguard.version, startTime: startTime, time: .now, workers: workers.count, eventLoop: "epoll",
      maxClients: settings.server.maxClients)
    daemon.isDraining = isDraining
    for worker in workers {
      daemon.clientCount += worker.clientCount
      daemon.loginClientCount += worker.loginClientCount
      daemon.pools += worker.pools
    }
    daemon.databases = settings.databases.values.map { Daemon.snapshot($0, settings) }
    if case .connections = detail {
      daemon.clients = workers.flatMap(\.clients)
      daemon.servers = workers.flatMap(\.servers)
    }
    return daemon
  }

  /// Called at the end of each period of SHOW STATS' averages.
  func recordStats() async {
    let daemon = await snapshot(.pools)
    state.withLock { $0.stats.record(daemon) }
  }

  private static func snapshot(_ database: DatabaseSettings, _ settings: Settings) -> DatabaseSnapshot {
    let pool = settings.pool(database: database.name, user: database.upstream["user"] ?? "")
    return DatabaseSnapshot(
      name: database.name, host: database.upstream["host"], port: database.upstream["port"] ?? "5432",
      serverDatabase: database.upstream["dbname"], forcedUser: database.upstream["user"], poolSize: pool.poolSize,
      minSize: pool.minSize, maxOverflow: pool.maxOverflow,
      recycleSeconds: Int(pool.poolRecycle?.components.seconds ?? 0), mode: pool.mode.rawValue,
      maxConnections: database.maxConnections ?? 0)
  }
}

extension Daemon: StatusSource {
  func snapshot() async -> DaemonSnapshot { await snapshot(.pools) }
  var isDraining: Bool { state.withLock { $0.isDraining } }
}
