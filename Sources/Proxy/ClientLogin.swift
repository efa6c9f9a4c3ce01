import Authentication
import Pooling
import PostgresWire
import Reactor
import Settings

/// From the StartupMessage to the first ReadyForQuery: who the client is, which worker it belongs to, and what its session
/// begins with.
///
/// ```
///   authentication ─▶ (moving: to the home of its pool, another worker) ─▶ login ─▶ serving
///        └──────────────────────────────────────────────────────────────▶ console
/// ```
extension Client {
  // MARK: Authentication

  /// Asks for a proof of who the client is, as `[auth] method` says.
  func beginAuthentication() -> Bool {
    let auth = worker.settings.auth
    switch auth.method {
    case .trust: return authenticated(isProven: false)
    case .cert:
      let name = worker.loop.tls(of: self)?.peerCommonName
      guard let name, name.utf8.elementsEqual(user.utf8) else {
        return refuse(
          LoginRefusal(
            sqlState: .invalidAuthorizationSpecification,
            message: "certificate authentication failed for user \"\(user)\"",
            logDetail: "the common name of the certificate is another one"))
      }
      return authenticated(isProven: true)
    case .password, .md5, .scramSHA256, .upstream, .hba:
      if auth.loginMethod == .upstream && !name.isForConsole && worker.settings.database(named: database) == nil {
        return failUnknownDatabase()
      }
      let method = name.isForConsole ? auth.consoleMethod : auth.loginMethod ?? auth.consoleMethod
      phase = .authentication
      var exchange = LoginExchange(
        method, user: user, verifiers: worker.configuration.verifiers, channelBinding: channelBinding,
        randomness: worker.randomBytes(LoginExchange.randomnessNeeded))
      let step = exchange.begin()
      entry?.exchange = exchange
      return take(step)
    }
  }

  /// The handshake's own certificate: a reload may have brought another one.
  private var channelBinding: ChannelBinding {
    worker.loop.tls(of: self)?.endPointHash.map { .tls(endPointHash: $0) } ?? .plaintext
  }

  /// One message of a client that proves who it is. Returns whether to go on.
  func authenticationStep(_ bytes: Span<UInt8>, _ cursor: inout Int) -> Bool {
    if entry?.awaitsVerdict == true || cursor == bytes.count { return false }
    guard bytes[cursor] == FrontendType.password.rawValue else {
      return fail(.protocolViolation, "expected a password, got a message of type \(bytes[cursor])")
    }
    guard bytes.count - cursor >= MessageHeader.size else { return false }
    guard let header = MessageHeader(bytes, at: cursor), header.bodyLength <= LengthLimit.authentication else {
      return fail(.protocolViolation, "invalid length of a password message")
    }
    guard bytes.count - cursor >= header.totalLength else { return false }
    var body: [UInt8] = []
    body.reserveCapacity(header.bodyLength)
    for index in cursor + MessageHeader.size..<cursor + header.totalLength { body.append(bytes[index]) }
    cursor += header.totalLength
    guard let step = entry?.exchange?.received(body) else { preconditionFailure("authentication without an exchange") }
    return take(step)
  }

  /// The keys that the exchange asked for have been derived.
  func derived(_ keys: DerivedKeys) {
    guard phase == .authentication, let step = entry?.exchange?.derived(keys) else { return }
    entry?.awaitsVerdict = false
    if take(step) { worker.resume(self) }
  }

  /// The server has been asked whether the password is right.
  func verified(_ verdict: PasswordVerdict, _ password: Password) {
    guard phase == .authentication else { return }
    entry?.awaitsVerdict = false
    switch verdict {
    case .right, .stillRight:
      entry?.provenPassword = password
      if authenticated(isProven: true) { worker.resume(self) }
    case .wrong(let detail):
      _ = refuse(
        LoginRefusal(
          sqlState: .invalidPassword, message: "password authentication failed for user \"\(user)\"",
          logDetail: detail))
    case .unknown(let code, let detail):
      close(
        with: ErrorFields(
          .fatal, code, WireText("database \"\(database)\": the password could not be verified at the server"),
          detail: WireText(detail)))
    }
  }

  private func take(_ step: LoginStep) -> Bool {
    switch step {
    case .ask(let request):
      send(request)
      return true
    case .derive(let derivation):
      entry?.awaitsVerdict = true
      worker.derive(derivation, for: self)
      return false
    case .verifyUpstream(let password):
      entry?.awaitsVerdict = true
      worker.verify(password, of: self)
      return false
    case .accepted(let last):
      if let last { send(last) }
      return authenticated(isProven: true)
    case .refused(let refusal): return refuse(refusal)
    }
  }

  private func send(_ request: LoginRequest) {
    send {
      switch request {
      case .cleartextPassword: $0.authenticationCleartextPassword()
      case .md5Password(let salt): $0.authenticationMD5Password(salt: salt)
      case .sasl(let mechanisms): $0.authenticationSASL(mechanisms: mechanisms.map { WireText($0) })
      case .saslContinue(let data): $0.authenticationSASLContinue(data)
      case .saslFinal(let data): $0.authenticationSASLFinal(data)
      }
    }
  }

  private func refuse(_ refusal: LoginRefusal) -> Bool {
    worker.environment.log(
      .loginRefused(client: id, database: database, user: user, peer: peer, reason: refusal.logDetail))
    close(withExactly: ErrorFields(.fatal, refusal.sqlState, WireText(refusal.message)).naming(client: id))
    return false
  }

  /// The client is who it says it is, or nobody asks. Its pool decides where it goes on.
  private func authenticated(isProven: Bool) -> Bool {
    self.isProven = isProven
    entry?.exchange = nil
    worker.noLongerHalfOpen(self)
    guard worker.environment.quota.enter(worker.settings.server.maxClients) else { return failTooManyClients() }
    isAdmitted = true
    if name.isForConsole {
      entry = nil
      phase = .console
      worker.loop.stays(self)
      welcomeToConsole()
      return true
    }
    if let pool = worker.poolHere(name), entry?.provenPassword == nil,
      !worker.orders.disabled.contains(database)
    {
      worker.placed(self, stays: true)
      enter(pool)
      return true
    }
    guard let section = worker.settings.database(named: database) else { return failUnknownDatabase() }
    if worker.orders.disabled.contains(database) {
      return fail(.cannotConnectNow, "database \"\(database)\" is disabled", hint: "An administrator can ENABLE it.")
    }
    let name = PoolName(database: database, user: section.upstream["user"] ?? user)
    let home = worker.environment.homes.home(of: name, acceptedBy: worker.index, sendingClient: true)
    worker.placed(self, stays: home == worker.index)
    guard home == worker.index else {
      phase = .moving
      worker.move(self, to: home, for: name)
      return false
    }
    return enterPool(name)
  }

  /// The client is at the home of its pool.
  func enterPool(_ poolName: PoolName) -> Bool {
    defer { worker.environment.homes.arrived(for: poolName) }
    switch worker.pool(database: database, user: user, known: entry?.provenPassword) {
    case .failure(.unknownDatabase): return failUnknownDatabase()
    case .failure(.target(let text)): return fail(.configurationLimitExceeded, "database \"\(database)\": \(text)")
    case .success(let pool):
      worker.remember(pool, of: name)
      enter(pool)
    }
    return true
  }

  private func enter(_ pool: Pool) {
    worker.loop.stays(self)
    self.pool = pool
    pool.clients += 1
    name = pool.shared(name)
    if let entry {
      entry.provenPassword = nil
      pool.telemetry.bytesReceived.add(UInt64(entry.received))
      pool.telemetry.bytesSent.add(UInt64(entry.sent))
    }
    phase = .login
    worker.loggingInCount += 1
  }

  private func failUnknownDatabase() -> Bool {
    fail(.invalidCatalogName, "database \"\(database)\" does not exist")
  }

  // MARK: Login

  /// What a client is told at login are the server's own values, and a setting that the server would refuse refuses the
  /// login. Where the same settings have been tried before the answer is known; else it takes a server connection.
  func loginStep() -> Bool {
    if isWaiting || isApplying || server != nil { return false }
    guard let pool, let entry else { preconditionFailure("a login without a pool") }
    if let known = pool.knownLogin(entry.settings) {
      welcome(known)
      return true
    }
    worker.checkout(self)
    return phase == .serving
  }

  /// A server connection is there to try the startup settings on.
  func applyStartup() {
    guard let pool, let server, let base = pool.base, let startup = entry?.settings.all else {
      preconditionFailure("a login without a connection")
    }
    if let fact = startup.first(where: { SessionSettings.isRefusedAtLogin($0.key) }) {
      let error = ErrorFields(.error, .cantChangeRuntimeParameter, "parameter \"\(fact.name)\" cannot be changed")
      return startupApplied(server, error.naming(client: id))
    }
    let wanted = worker.settingsTable.settings(base, startingWith: startup)
    let difference = server.settings.differences(to: wanted)
    if difference.changes.isEmpty {
      startupApplied(server, nil)
    } else {
      isApplying = true
      pool.telemetry.settingsConfirmed.add()
      let encoding = wanted["client_encoding"] ?? "UTF8"
      server.sendQuery(
        difference.query(encoding: encoding), for: .settings(wanted), within: pool.settings.prePingTimeout)
    }
  }

  /// The server has taken or refused the startup settings.
  func startupApplied(_ server: Server, _ error: ErrorFields?) {
    guard let pool, let startup = entry?.settings else { preconditionFailure("a login without a pool") }
    let settings = server.settings
    worker.giveBack(server, self)
    if let error {
      close(withExactly: error.with(severity: .fatal))
    } else {
      welcome(pool.remember(login: startup, settings))
      worker.resume(self)
    }
  }

  /// No server connection could be had for the login.
  func loginRefused() {
    guard let refusal else { return }
    self.refusal = nil
    close(withExactly: refusal.fields(.fatal, to: self))
  }

  private func welcome(_ known: KnownLogin) {
    wanted = known.settings
    login = known.settings
    entry = nil
    phase = .serving
    worker.loggingInCount -= 1
    pool?.telemetry.loginCount.add()
    send(known.greeting.span)
    send {
      $0.backendKeyData(cancelKey)
      $0.readyForQuery(.idle)
    }
    worker.environment.log(.clientOpened(client: id, pool: pool?.label ?? "", peer: peer, tls: tlsSummary))
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
