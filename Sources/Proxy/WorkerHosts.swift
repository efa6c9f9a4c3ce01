import Pooling
import PostgresWire
import Upstream

/// How a server connection is known to be alive when a client gets it.
enum ConnectionProof {
  /// It has answered somebody recently: nothing was done.
  case recent
  /// It was pinged.
  case ping
  /// It was opened.
  case dial
}

/// What the worker and the hosts of its pools tell each other.
extension Worker {
  // MARK: Dials

  /// Chooses the hosts of a dial; nil where none may be dialed now, which the pool machine has been told.
  func admit(_ token: ServerToken, _ pool: Pool) -> PoolHosts.Admission? {
    let answer = pool.hosts.admit(
      isWanted: pools.hasWaiters(pool.id), avoiding: pools.avoidedHosts(token), silent: pools.silentHosts(pool.id), time
    )
    switch answer {
    case .go(let admission):
      for record in admission.overlooked { environment.hosts.seek(record, login: pool.target, time) }
      return admission
    case .noOther:
      pools.noOtherHost(token, now: time)
      return nil
    case .refused(let until):
      if let text = pool.hosts.lastFailure { pool.lastFailure = ConnectFailure(verdict: .unreachable, text: text) }
      pools.dialDeferred(token, until: until, now: time)
      return nil
    }
  }

  /// A dial is over: the hosts' breakers hear of it, and so do all pools where a host has come back.
  func hostsDialed(
    _ pool: Pool, _ admission: PoolHosts.Admission, reached: UpstreamHost?, _ attempts: [DialAttempt]
  ) {
    let hasRecovered = pool.hosts.dialed(
      admission, reached: reached, attempts: attempts, jitterPermille: randomPermille(), time)
    if hasRecovered { environment.hosts.recovered() }
    for record in pool.hosts.missed { environment.hosts.seek(record, login: pool.target, time) }
  }

  /// The server has not even closed a connection in time. Where nobody else has heard of its host either, it is out of
  /// reach.
  func hostKeptSilent(_ server: Server) {
    guard let host = server.host,
      host.keptSilent(
        for: server.pool.settings.closeTimeout.nanoseconds, "the server did not answer", at: loop.now,
        jitterPermille: randomPermille())
    else { return }
    if server.pool.hosts.canBeReached { environment.hosts.seek(host, login: server.pool.target, time) }
  }

  /// A connection is ready for use.
  func hostOpened(_ server: Server) {
    let host = server.link.host
    hostsDialed(server.pool, server.admission, reached: host, server.link.failedAttempts)
    environment.hosts.connected(server.pool.target)
    if let role = server.role, let record = server.host { environment.hosts.saw(role, on: record) }
  }

  /// Counts what it took to be sure that the connection which a client gets is alive.
  func countProof(of server: Server) {
    switch server.proof {
    case .recent: return
    case .ping: server.pool.telemetry.checkoutsPinged.add()
    case .dial: server.pool.telemetry.checkoutsDialed.add()
    }
    server.proof = .recent
  }

  // MARK: Signs of a change

  /// The server has reported a parameter. A promotion shows itself so with the next reply of each session; a server that
  /// is read-only from now on too, but that may be one client's setting, so the prober is asked.
  func hostReported(_ server: Server, _ parameter: String) {
    guard let host = server.host, let state = pools.state(of: server.token), state != .dialing else { return }
    switch parameter {
    case "in_hot_standby":
      guard let role = server.role else { return }
      if !server.pool.hosts.accepts(role) { pools.outdate(server.token, now: time) }
      environment.hosts.saw(role, on: host)
    case "default_transaction_read_only":
      if server.pool.isForWrites { environment.hosts.probeNow(host) }
    default: break
    }
  }

  /// A client has got an error. 25006 (read-only transaction) may mean that the host is no primary any more.
  func hostRefused(_ server: Server, _ error: Span<UInt8>) {
    guard let host = server.host, server.pool.isForWrites,
      let range = (try? ErrorFields.range(of: .code, in: error)).flatMap({ $0 }),
      SQLState(WireText(error, range).text) == .readOnlyTransaction
    else { return }
    environment.hosts.probeNow(host)
  }

  /// More is known of hosts: pools in an outage try again where one can be reached, and connections to hosts that are not
  /// what their pool wants any more are replaced, as soon as nobody has them.
  func hostsChanged() {
    for pool in allPools {
      pool.hosts.changed()
      if pool.hosts.canBeReached { pools.hostReached(pool.id, now: time) }
      pools.hostsChanged(pool.id, now: time)
    }
    for server in servers.all {
      guard let host = server.host, server.pool.hosts.isMisfit(host) else { continue }
      switch server.work {
      case .handOver, .closing, .departing: break
      case .none, .ping, .settings, .opening, .inspection, .fence, .blockRollback, .cancelBeforeCleanup, .cleanup,
        .reset, .deallocation:
        pools.outdate(server.token, now: time)
      }
    }
    carryOutEffects()
  }
}

extension Pool {
  /// That a session is read-only may say something about its host.
  fileprivate var isForWrites: Bool { !isForReads && hosts.dependsOnRole }
}

extension Server {
  /// The role of the server, as the session has reported it; nil before PostgreSQL 14.
  fileprivate var role: HostHealth.Role? {
    settings["in_hot_standby"].map { $0.text == "on" ? .standby : .primary }
  }
}
