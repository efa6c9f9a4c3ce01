import Admin
import Glibc
import Logging
import Proxy
import Settings
import StatusServer
import Telemetry

/// Who gives a command, and what it may do.
struct AdminRequester: Sendable {
  /// For the log.
  let name: String
  let privilege: AdminPrivilege
}

/// Carries out admin commands, wherever they come from.
extension Daemon {
  /// Answers a command of psql's console; for the data plane, which must not wait.
  func console(_ command: ConsoleCommand, reply: @escaping @Sendable (ConsoleReply) -> Void) {
    let admin = settings.admin
    let requester = AdminRequester(
      name: command.user,
      privilege: .onConsole(
        user: command.user, isProven: command.isProven, users: admin.users, statsUsers: admin.statsUsers))
    Task { reply(ConsoleReply(await answer(command.text, for: requester))) }
  }

  /// Opens the admin socket: where the settings say, or where one can be opened; nil where none can.
  func openAdminSocket() async throws(AdminSocketError) -> AdminSocket? {
    if let path = settings.admin.socket { return try await adminSocket(path) }
    for path in AdminSocketPaths.all {
      do throws(AdminSocketError) {
        return try await adminSocket(path)
      } catch {
        logger.info("\(error)")
      }
    }
    logger.warning("there is no admin socket: no directory for it can be written (setting: [admin] socket)")
    return nil
  }

  private func adminSocket(_ path: String) async throws(AdminSocketError) -> AdminSocket {
    try await AdminSocket.start(path: path) { [self] request, userID in
      let requester = AdminRequester(
        name: "user id \(userID) on the admin socket",
        privilege: .onSocket(peerUserID: userID, daemonUserID: getuid()))
      return await answer(request.command, for: requester)
    }
  }

  /// Answers a command.
  func answer(_ text: String, for requester: AdminRequester) async -> AdminAnswer {
    do throws(AdminError) {
      let command = try AdminCommand.parse(text)
      try requester.privilege.check(command)
      if command.changes {
        logger.notice("\(command.tag) by \(requester.name)", metadata: ["command": "\(command.logText(of: text))"])
      }
      return try await carryOut(command)
    } catch {
      return .failed(error)
    }
  }

  private func carryOut(_ command: AdminCommand) async throws(AdminError) -> AdminAnswer {
    switch command {
    case .show(let subject): return .table(await table(subject), tag: command.tag)
    case .reloadDryRun: return .table(AdminTable.changes(try changesOfReload()), tag: command.tag)
    case .reload:
      let problems = reload()
      if !problems.isEmpty { throw .settingsNot("reloaded", problems) }
    case .set(let key, let value):
      let problems = set(key, to: value)
      if !problems.isEmpty { throw .settingsNot("changed", problems) }
    case .pause(let database):
      let scope = try scope(database)
      dataPlane?.order { $0.pause(scope) }
      if await dataPlane?.wait(for: .closed, in: scope) == .revoked { throw .pauseRevoked }
    case .resume(let database):
      let scope = try scope(database)
      dataPlane?.order { $0.resume(scope) }
    case .disable(let database):
      let name = try known(database)
      dataPlane?.order { $0.disabled.insert(name) }
    case .enable(let database):
      let name = try known(database)
      dataPlane?.order { $0.disabled.remove(name) }
    case .reconnect(let database): dataPlane?.reconnect(try scope(database))
    case .waitClose(let database): _ = await dataPlane?.wait(for: .current, in: try scope(database))
    case .kill(let database):
      let scope = try scope(database)
      dataPlane?.order { $0.pause(scope) }
      dataPlane?.kill(scope)
    case .killClient(let id):
      guard await dataPlane?.killClient(id) == true else { throw .unknownClient(id) }
    case .shutdown(.immediate):
      beginDraining()
      dataPlane?.stop()
    case .shutdown(.waitForServers): Signals.sendTerminate()
    case .shutdown(.waitForClients):
      beginDraining()
      dataPlane?.drain(waitsForClients: true)
    case .noEffect: break
    case .empty: return .empty
    }
    return .done(tag: command.tag)
  }

  private func table(_ subject: ShowSubject) async -> AdminTable {
    let daemon = await snapshot(subject.needsConnections ? .connections : .pools)
    return AdminTable.show(subject, of: daemon, settings: settingRows, stats: stats)
  }

  private var settingRows: [SettingRow] {
    let settings = settings
    let own = settings.effective().map {
      SettingRow(
        key: "\($0.section).\($0.key)", value: $0.value, defaultValue: $0.defaultValue, isChangeable: !$0.needsRestart)
    }
    return own + Daemon.pgBouncerRows(settings)
  }

  /// What PgBouncer's exporters and dashboards look for in SHOW CONFIG. The rows cannot be SET: ours can.
  private static func pgBouncerRows(_ settings: Settings) -> [SettingRow] {
    let pool = settings.pool
    let seconds = { (duration: Duration?) in String(duration?.components.seconds ?? 0) }
    let rows = [
      ("admin_users", settings.admin.users.joined(separator: ",")),
      ("default_pool_size", String(pool.poolSize)),
      ("max_client_conn", String(settings.server.maxClients)),
      ("max_db_connections", "0"),
      ("max_user_connections", "0"),
      ("min_pool_size", String(pool.minSize)),
      ("pool_mode", pool.mode.rawValue),
      ("query_wait_timeout", seconds(pool.poolTimeout)),
      ("reserve_pool_size", "0"),
      ("server_lifetime", seconds(pool.poolRecycle)),
      ("stats_period", seconds(StatsPeriods.length)),
      ("stats_users", settings.admin.statsUsers.joined(separator: ",")),
    ]
    return rows.map { SettingRow(key: $0.0, value: $0.1, defaultValue: nil, isChangeable: false) }
  }

  // MARK: Databases

  private func scope(_ database: String?) throws(AdminError) -> OrderScope {
    guard let database else { return .all }
    return .database(try known(database))
  }

  /// A name that clients can connect to.
  private func known(_ database: String) throws(AdminError) -> String {
    guard settings.database(named: database) != nil else { throw .unknownDatabase(database) }
    return database
  }
}

extension Orders {
  fileprivate mutating func pause(_ scope: OrderScope) {
    switch scope {
    case .all: pausesAll = true
    case .database(let name): paused.insert(name)
    }
  }

  /// RESUME without a name ends every pause.
  fileprivate mutating func resume(_ scope: OrderScope) {
    switch scope {
    case .all:
      pausesAll = false
      paused = []
    case .database(let name): paused.remove(name)
    }
  }
}

extension ConsoleReply {
  /// The answer as messages of the protocol.
  fileprivate init(_ answer: AdminAnswer) {
    switch answer {
    case .table(let table, let tag):
      self = .rows(
        columns: table.columns.map { Column(name: $0.name, typeID: $0.type.rawValue, typeSize: $0.type.size) },
        rows: table.rows, tag: tag)
    case .done(let tag): self = .done(tag: tag)
    case .empty: self = .empty
    case .failed(let error): self = .failed(code: error.sqlState, message: error.message, hint: error.hint)
    }
  }
}

extension AdminCommand {
  /// A command's text as it may be logged: what is set may be a password.
  fileprivate func logText(of text: String) -> String {
    if case .set(let key, _) = self { "SET \(key) = …" } else { text }
  }
}
