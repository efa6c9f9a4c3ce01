import Pooling
import PostgresWire
import Reactor
import Settings

/// The first packets of a connection, up to the first ReadyForQuery (PostgreSQL documentation, "Start-up" and
/// "Canceling Requests in Progress").
extension Client {
  /// Reads one packet without a type byte. Returns whether to go on.
  func startupStep(_ bytes: Span<UInt8>, _ cursor: inout Int) -> Bool {
    let packet: InitialPacket
    do {
      let rest = bytes.extracting(cursor...)
      guard let length = try InitialPacket.length(rest), rest.count >= length else { return false }
      packet = try InitialPacket(body: rest.extracting(4..<length))
      cursor += length
    } catch {
      close(with: ErrorFields(.fatal, error.sqlState, WireText("\(error)")))
      return false
    }
    switch packet {
    case .ssl, .gssEncryption:
      // Neither is offered: the client goes on in plain text or hangs up.
      worker.loop.send([UInt8(ascii: "N")].span, to: socket)
      return true
    case .cancel(let key):
      worker.environment.cancel(key)
      worker.closeClient(self, reason: "cancel request")
      return false
    case .startup(let message):
      return start(message)
    }
  }

  private func start(_ message: StartupMessage) -> Bool {
    user = message.user.text
    database = message.database.text
    guard message.replication == .off else {
      return fail(.featureNotSupported, "replication connections cannot be pooled: connect to the server directly")
    }
    guard worker.clientCount <= worker.settings.server.maxClients else {
      return fail(
        .tooManyConnections, "sorry, too many clients already (max_clients \(worker.settings.server.maxClients))")
    }
    if worker.isDraining { return fail(.cannotConnectNow, "the connection pooler is shutting down") }
    if message.version.minor > 0 || !message.protocolOptions.isEmpty {
      send {
        $0.negotiateProtocolVersion(
          newest: .v3_0, unknownOptions: message.protocolOptions.map { WireText($0.name) })
      }
    }
    if Settings.reservedDatabases.contains(database) {
      phase = .console
      welcomeToConsole()
      return true
    }
    do {
      startup = try message.settings().map { SessionSetting(name: $0.name, value: $0.value) }
    } catch {
      return fail(.invalidParameterValue, "\(error)")
    }
    switch worker.pool(database: database, user: user) {
    case .failure(.unknownDatabase): return fail(.invalidCatalogName, "database \"\(database)\" does not exist")
    case .failure(.target(let text)): return fail(.configurationLimitExceeded, "database \"\(database)\": \(text)")
    case .success(let pool): self.pool = pool
    }
    pool!.clients += 1
    phase = .login
    return true
  }

  private func fail(_ code: SQLState, _ message: String) -> Bool {
    close(with: ErrorFields(.fatal, code, WireText(message)))
    return false
  }

  // MARK: Login

  /// What a client is told at login are the server's own values, and a setting that the server would refuse refuses the
  /// login. Where the same settings have been tried before the answer is known; else it takes a server connection.
  func loginStep() -> Bool {
    if isWaiting || isApplying || server != nil { return false }
    guard let pool else { preconditionFailure("a login without a pool") }
    if let known = pool.knownLogin(startup) {
      welcome(known)
      return true
    }
    worker.checkout(self)
    return phase == .serving
  }

  /// A server connection is there to try the startup settings on.
  func applyStartup() {
    guard let pool, let server, let base = pool.base else { preconditionFailure("a login without a connection") }
    if let fact = startup.first(where: { SessionSettings.facts.contains($0.name.lowercased()) }) {
      return startupApplied(
        server, ErrorFields(.error, .cantChangeRuntimeParameter, "parameter \"\(fact.name)\" cannot be changed"))
    }
    let wanted = worker.settingsTable.settings(base, startingWith: startup)
    let difference = server.settings.differences(to: wanted)
    if difference.changes.isEmpty {
      startupApplied(server, nil)
    } else {
      isApplying = true
      let encoding = wanted["client_encoding"] ?? "UTF8"
      server.sendQuery(difference.query(encoding: encoding), for: .settings(wanted))
    }
  }

  /// The server has taken or refused the startup settings.
  func startupApplied(_ server: Server, _ error: ErrorFields?) {
    guard let pool else { preconditionFailure("a login without a pool") }
    let settings = server.settings
    worker.giveBack(server, self)
    if let error {
      close(with: error.with(severity: .fatal))
    } else {
      pool.remember(login: startup, settings)
      welcome(settings)
      worker.resume(self)
    }
  }

  /// No server connection could be had for the login.
  func loginRefused() {
    guard let refusal else { return }
    self.refusal = nil
    close(with: refusal.fields(severity: .fatal))
  }

  private func welcome(_ settings: SessionSettings) {
    wanted = settings
    login = settings
    startup = []
    phase = .serving
    pool?.telemetry.loginCount.add()
    let key = CancelKey(
      processID: CancelKeyLayout.processID(
        slot: Int(token.index), worker: worker.index, node: worker.environment.node),
      secret: cancelSecret)
    send {
      $0.authenticationOk()
      for setting in settings.reported { $0.parameterStatus(name: WireText(setting.name), value: setting.value) }
      $0.backendKeyData(key)
      $0.readyForQuery(.idle)
    }
    worker.environment.log(.clientOpened(pool: pool?.label ?? "", peer: peer))
  }
}

extension SessionSettingsTable {
  /// The settings of a session that started with `startup`, on a server that gives new sessions `base`.
  fileprivate mutating func settings(
    _ base: SessionSettings, startingWith startup: [SessionSetting]
  ) -> SessionSettings {
    var reported = base.reported
    var unreported: [SessionSetting] = []
    for setting in startup {
      if let index = reported.firstIndex(where: { $0.name.lowercased() == setting.name.lowercased() }) {
        reported[index].value = setting.value
      } else {
        unreported.append(setting)
      }
    }
    return settings(reported: reported, unreported: unreported)
  }
}
