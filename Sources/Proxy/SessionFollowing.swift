import Pooling
import PostgresWire
import Settings
import Telemetry

/// What clients do to the sessions that they share: it follows them to other connections, or pins them to this one, and
/// never reaches another client.
///
/// ```
///   ReadyForQuery ─▶ may the session have changed? ── no ──────────────────────────────▶ back to the pool
///                      yes │  ask the server (Inspection)                                  ▲
///                          ▼                                                               │
///                    settings ─▶ Client.wanted      anything left that only it has? ── no ─┘
///                                                     yes ─▶ pinned
///
///   next client ─▶ does it have other settings, or may the session hide something? ─▶ scrub, settings ─▶ its requests
/// ```
extension Worker {
  // MARK: The end of a transaction

  /// A client's transaction is over, and nothing of it is owed.
  func transactionEnded(_ server: Server, _ client: Client) {
    if server.settings.mayCreateTemporary { client.requests.session.noteTemporary() }
    if client.requests.session.isInDoubt {
      let wanted = client.wanted ?? server.settings
      if let inspection = client.requests.session.inspection(known: server.settings, wanted: wanted) {
        client.isInspected = true
        server.pool.telemetry.inspections.add()
        server.inspected = nil
        server.sendQuery(
          server.asking(inspection.query), for: .inspection(inspection), within: server.pool.settings.cancelTimeout)
        return
      }
      followSettings([], client, server)
      client.requests.session.conclude(nil, left: [])
    } else if client.wanted !== server.settings {
      client.wanted = server.settings
    }
    giveBackOrPin(server, client)
  }

  /// The server has said what is left of a client's transaction.
  func inspected(_ inspection: Inspection, _ server: Server, _ error: ErrorFields?) {
    server.work = .none
    let answer = server.inspected
    server.inspected = nil
    guard let client = server.client else { return reset(server) }
    client.isInspected = false
    if let answer, error == nil, server.status == .idle {
      followSettings(answer.settings, client, server)
      client.requests.session.conclude(inspection, left: answer.left)
    } else {
      client.requests.session.remainUnknown()
    }
    giveBackOrPin(server, client)
    if !client.inbox.isEmpty { resume(client) }
  }

  /// Settings may have changed: the client takes them with it. What it has reset goes back to the value that it logged in
  /// with, which only the pool's own connections do not have as their default.
  ///
  /// - Parameter asked: what the server has said of those that it does not report.
  private func followSettings(_ asked: [Inspection.Setting], _ client: Client, _ server: Server) {
    let login = client.login?.unreported ?? []
    var there = server.settings.unreported
    var wanted = there
    for setting in asked {
      there.removeAll { $0.key == setting.name }
      wanted.removeAll { $0.key == setting.name }
      if let value = setting.value {
        there.append(SessionSetting(name: setting.name, value: value))
        wanted.append(SessionSetting(name: setting.name, value: value))
      } else if let own = login.first(where: { $0.key == setting.name }) {
        wanted.append(own)
      }
    }
    let resets = client.requests.session.reportedResets
    let reported = server.settings.reported.map { setting in
      guard resets?.contains(setting.key) ?? true, let base = server.pool.base, base[setting.name] == setting.value,
        let own = client.login?[setting.name]
      else { return setting }
      return SessionSetting(name: setting.name, value: own)
    }
    server.settings = settingsTable.settings(reported: server.settings.reported, unreported: there)
    client.wanted = settingsTable.settings(reported: reported, unreported: wanted)
  }

  /// On a standby nothing can be asked, and nothing applied but by SET, while transactions are SERIALIZABLE by default.
  func isFitForOthers(_ server: Server) -> Bool {
    !(server.pool.isForReads && server.settings.transactionDefaults.isSerializable)
  }

  private func giveBackOrPin(_ server: Server, _ client: Client) {
    let pins = client.requests.pins
    guard !pins.isEmpty else { return checkin(server, client) }
    pin(server, pins)
    if let wanted = client.wanted, wanted !== server.settings { apply(wanted, for: client, on: server) }
  }

  /// The client keeps the connection for these reasons, now that its transaction is over. (While it lasts the connection
  /// is its own anyhow, so that clients whose transactions overlap may pin a few more than `max_pinned`.)
  func pin(_ server: Server, _ pins: PinReasons) {
    guard server.pins != pins else { return }
    if server.pins.isEmpty {
      server.pool.pinned += 1
      server.pinnedSince = loop.now
    } else if pins.isEmpty {
      server.pool.pinned -= 1
    }
    for reason in pins.subtracting(server.pins).reasons { server.pool.telemetry.count(reason, 1) }
    for reason in server.pins.subtracting(pins).reasons { server.pool.telemetry.count(reason, -1) }
    server.pins = pins
  }

  // MARK: The next client

  /// Makes the session the client's before its requests come.
  func handOver(_ server: Server, to client: Client) {
    guard let wanted = client.wanted else { preconditionFailure("a client without settings") }
    var scrub = ""
    // Also what the client itself has left here is out of date, where it has had another connection since.
    if server.lastClient != client.id || client.lastServer != server.id, server.lastClient != 0 {
      server.hasForeignSequences = true
      if mustScrub(server) { scrub = Worker.scrubbing(server) }
    }
    server.lastClient = client.id
    client.lastServer = server.id
    if !scrub.isEmpty || wanted !== server.settings { apply(wanted, for: client, on: server, scrubbing: scrub) }
  }

  private func mustScrub(_ server: Server) -> Bool {
    switch server.pool.settings.handOverReset {
    case .off: false
    case .full: true
    case .auto: server.isTainted
    }
  }

  /// What rids a session of all that it may hide. The server cannot refuse it. What it costs is in
  /// docs/session-state.md.
  private static func scrubbing(_ server: Server) -> String {
    server.isTainted = false
    server.hasForeignSequences = false
    server.pool.telemetry.scrubs.add()
    return "RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL;CLOSE ALL;UNLISTEN *;"
      + "SELECT pg_catalog.pg_advisory_unlock_all();DISCARD TEMP;DISCARD SEQUENCES;"
  }

  /// Makes the server session's settings the client's. What the server cannot refuse travels ahead of the client's bytes
  /// in the same write; anything else is confirmed first, so that nothing runs with other settings than it was meant to.
  private func apply(_ wanted: SessionSettings, for client: Client, on server: Server, scrubbing scrub: String = "") {
    let there = scrub.isEmpty ? server.settings : settingsOfNewSession(server)
    let difference = there.differences(to: wanted)
    if !difference.facts.isEmpty {
      client.send { writer in
        for fact in difference.facts { writer.parameterStatus(name: WireText(fact.name), value: fact.value) }
      }
    }
    guard !difference.changes.isEmpty || !scrub.isEmpty else {
      client.wanted = settingsTable.settings(reportedOf: server.settings, unreportedOf: wanted)
      return
    }
    // What a held BEGIN opens must not have the settings inside.
    let isSure = difference.isSure(for: wanted) && client.requests.heldModes == nil
    let telemetry = server.pool.telemetry
    if isSure { telemetry.settingsApplied.add() } else { telemetry.settingsConfirmed.add() }
    client.isApplying = !isSure
    let query = difference.query(encoding: wanted["client_encoding"] ?? "UTF8")
    // Where nothing is lost by giving up, as little as for a ping; a scrub may have something to do.
    let settings = server.pool.settings
    let isCheap = !isSure && scrub.isEmpty && !server.isPinned
    let limit = isCheap ? settings.prePingTimeout : settings.cancelTimeout
    server.sendQuery(WireText(Array(scrub.utf8) + query.bytes), for: .settings(wanted), within: limit)
  }

  /// What a connection's settings are after RESET ALL.
  private func settingsOfNewSession(_ server: Server) -> SessionSettings {
    guard let base = server.pool.base else { return server.settings }
    let reported = server.settings.reported.map { setting in
      SessionSettings.facts.contains(setting.key) && setting.key != "is_superuser"
        ? setting : SessionSetting(name: setting.name, value: base[setting.name] ?? setting.value)
    }
    return settingsTable.settings(reported: reported)
  }
}

extension Server {
  /// A question that can be asked whatever the client has made the default of its transactions: a standby refuses
  /// SERIALIZABLE ones.
  fileprivate func asking(_ query: WireText) -> WireText {
    pool.isForReads ? WireText("BEGIN ISOLATION LEVEL READ COMMITTED;\(query.text);COMMIT") : query
  }
}

extension PinReasons {
  /// As they are called where people see them.
  var reasons: [PinReason] { PinReasons.named.filter { contains($0.pin) }.map(\.reason) }

  private static let named: [(pin: PinReasons, reason: PinReason)] = [
    (.statement, .statement), (.unnamedStatement, .unnamedStatement), (.sqlStatement, .sqlStatement),
    (.temporary, .temporary), (.listening, .listening), (.advisoryLock, .advisoryLock), (.heldCursor, .heldCursor),
    (.library, .library), (.setting, .setting), (.sequences, .sequences), (.unknown, .unknown),
  ]
}
