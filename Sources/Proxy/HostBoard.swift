import Locking
import Pooling
import Reactor
import Settings
import Telemetry
import Upstream

/// What the settings want of a host.
private struct HostUse: Sendable {
  /// For probes; nil where no upstream of the host names its user.
  var login: ConnectionTarget?
  /// The names of the databases on it, `*` among them.
  var databases: [String] = []

  func isPaused(by orders: Orders) -> Bool { databases.allSatisfy { orders.pauses($0) } }
}

/// All hosts of the upstreams: what is known of each, and who probes them. Any thread.
///
/// A host is probed with a login that is known to be meant for it: of an upstream that names its user, or else of the
/// first pool that has connected to it or to another host of its upstream, whose password may be a client's own.
///
/// While probing is off, a host that pools pass over is looked for all the same, or it would never be used again: one that
/// cannot be reached until it answers, one in the wrong role once in a while.
final class HostBoard: Sendable {
  private struct State {
    var records: [UpstreamHost: HostRecord] = [:]
    /// The hosts that the settings name.
    var configured: [UpstreamHost: HostUse] = [:]
    /// The logins of pools that have connected to hosts whose settings give none.
    var learned: [UpstreamHost: ConnectionTarget] = [:]
    /// While probing is off: the hosts that are looked for, with the login for that.
    var sought: [UpstreamHost: ConnectionTarget] = [:]
    /// Where the WAL of each cluster's primary was, by system identifier.
    var tracks: [String: WALTrack] = [:]
    var health = HealthSettings()
    var orders = Orders()
    var isStopped = false
  }

  /// From the start of a look at a host that cannot be reached to the start of the next.
  private static let seekIntervalNanoseconds: Int64 = 5_000_000_000

  private let state = Mutex(State())
  private let prober: Mutex<Prober?> = Mutex(nil)
  /// Tells all workers that hosts are to be chosen anew.
  private let changed: @Sendable () -> Void
  private let log: @Sendable (PoolEvent) -> Void

  init(changed: @escaping @Sendable () -> Void, log: @escaping @Sendable (PoolEvent) -> Void) {
    self.changed = changed
    self.log = log
  }

  /// Begins to probe.
  func start(_ configuration: ServingConfiguration) {
    let prober = Prober { [weak self] host, outcome in self?.probed(host, outcome) }
    self.prober.withLock { $0 = prober }
    apply(configuration)
  }

  /// Ends all probes.
  func stop() {
    state.withLock { $0.isStopped = true }
    prober.withLock { $0 }?.stop()
  }

  // MARK: Settings

  /// The hosts of these settings are probed from now on, by these rules.
  func apply(_ configuration: ServingConfiguration) {
    let configured = configuration.hostUses()
    state.withLock { state in
      state.configured = configured
      state.health = configuration.settings.health
      state.learned = state.learned.filter { configured[$0.key]?.login == nil && configured[$0.key] != nil }
      state.sought = state.sought.filter { state.health.interval == nil && configured[$0.key] != nil }
      state.records = state.records.filter { configured[$0.key] != nil }
    }
    plan()
  }

  /// PAUSE is there so that a server may be restarted when no connection is left: a host of which all databases are paused
  /// is not probed either.
  func follow(_ orders: Orders) {
    state.withLock { $0.orders = orders }
    plan()
  }

  /// The records of a pool's hosts, in their order.
  func records(of target: ConnectionTarget) -> [HostRecord] {
    state.withLock { state in
      target.hosts.map { host in
        if let record = state.records[host] { return record }
        let record = HostRecord(host)
        state.records[host] = record
        return record
      }
    }
  }

  /// A pool has connected with this login, which is meant for all hosts of its upstream.
  func connected(_ target: ConnectionTarget) {
    let isNew = state.withLock { state in
      var isNew = false
      for host in target.hosts {
        guard let use = state.configured[host], use.login == nil, state.learned[host] == nil else { continue }
        state.learned[host] = target
        isNew = true
      }
      return isNew
    }
    if isNew { plan() }
  }

  /// A pool passes the host over because it could not be reached, or was in the wrong role, and another one serves. Where
  /// nobody probes it, somebody has to find out that this is no longer so. No client waits for that.
  ///
  /// - Parameter login: how the pool logs in.
  func seek(_ record: HostRecord, login: ConnectionTarget, _ now: MonotonicTime) {
    guard record.isToBeSought(now) else { return }
    let isWanted = state.withLock { state in
      guard state.health.interval == nil, let use = state.configured[record.host] else { return false }
      state.sought[record.host] = use.login ?? login
      return true
    }
    if isWanted { plan() }
  }

  /// Tells the prober whom to probe.
  private func plan() {
    // Plans are made and handed over under one lock, so that the newest is the last.
    prober.withLock { prober in
      let (plans, records) = state.withLock { state in
        var plans: [UpstreamHost: ProbePlan] = [:]
        let interval = state.health.interval?.nanoseconds ?? HostBoard.seekIntervalNanoseconds
        for (host, use) in state.configured where !state.isStopped && !use.isPaused(by: state.orders) {
          let isProbed = state.health.interval != nil
          guard let login = isProbed ? use.login ?? state.learned[host] : state.sought[host] else { continue }
          plans[host] = ProbePlan(
            target: login, intervalNanoseconds: interval, timeoutNanoseconds: state.health.timeout.nanoseconds)
        }
        for host in plans.keys where state.records[host] == nil { state.records[host] = HostRecord(host) }
        return (plans, state.records)
      }
      for (host, record) in records { record.setProbed(plans[host] != nil) }
      prober?.watch(plans)
    }
  }

  // MARK: News

  /// A dial has got through to a host that could not be reached: waiting pools try at once.
  func recovered() { changed() }

  /// A session on the host has said which role it has.
  func saw(_ role: HostHealth.Role, on record: HostRecord) {
    switch record.saw(role) {
    case .known: return
    case .news(let before):
      tell(record.host, before, role)
      changed()
    case .doubtful: probeNow(record)
    }
  }

  /// Somebody has seen a sign that the host has changed.
  func probeNow(_ record: HostRecord) { prober.withLock { $0 }?.probeNow(record.host) }

  private func probed(_ host: UpstreamHost, _ outcome: ProbeOutcome) {
    let now = MonotonicTime(nanoseconds: EventLoop.monotonicNanoseconds())
    let (record, rules, probe, isSought) = state.withLock { state in
      let record = state.records[host]
      let probe = HostBoard.probe(outcome, host, known: record?.facts, &state.tracks, now)
      return (record, HostHealth.Rules(state.health), probe, state.sought[host] != nil)
    }
    guard let record else { return }
    let (before, after, isNews) = record.record(probe, rules, now)
    var isRecovery = false
    if case .failed = probe {} else { isRecovery = record.reached() }
    if isSought {
      if isRecovery { log(.hostUp(host: host.label)) }
      if record.passes { found(host) }
    } else {
      tellState(host, before, after)
    }
    tell(host, before.facts.role, after.facts.role)
    if isNews || isRecovery { changed() }
  }

  /// A host that was looked for can be reached.
  private func found(_ host: UpstreamHost) {
    state.withLock { $0.sought[host] = nil }
    plan()
  }

  /// Measures standbys by the primary of their cluster.
  private static func probe(
    _ outcome: ProbeOutcome, _ host: UpstreamHost, known: HostHealth.Facts?, _ tracks: inout [String: WALTrack],
    _ now: MonotonicTime
  ) -> HostHealth.Probe {
    switch outcome {
    case .failed(let text): return .failed(text)
    case .refused(let text): return .refused(text)
    case .answered(let latency, nil):
      // The query was refused or cancelled: the host is what it was, but how far behind is not known.
      let facts = HostHealth.Facts(role: known?.role, isReadOnly: known?.isReadOnly ?? false)
      return .answered(latencyNanoseconds: latency, facts)
    case .answered(let latency, let server?):
      var facts = HostHealth.Facts(role: server.isInRecovery ? .standby : .primary, isReadOnly: server.isReadOnly)
      if server.isInRecovery {
        facts.lag = tracks[server.systemIdentifier]?.lag(replayed: server.walPosition, now)
      } else {
        tracks[server.systemIdentifier, default: WALTrack()].primary(host.label, at: server.walPosition, now)
      }
      return .answered(latencyNanoseconds: latency, facts)
    }
  }

  private func tellState(_ host: UpstreamHost, _ before: HostHealth, _ after: HostHealth) {
    guard before.state != after.state else { return }
    switch after.state {
    case .up: log(.hostUp(host: host.label))
    case .down: log(.hostDown(host: host.label, reason: after.lastError ?? ""))
    case .unknown: break
    }
  }

  private func tell(_ host: UpstreamHost, _ before: HostHealth.Role?, _ after: HostHealth.Role?) {
    guard let before, let after, before != after else { return }
    log(.hostRole(host: host.label, role: after.rawValue))
  }

  // MARK: What the control plane sees

  /// All hosts, by name.
  func snapshots(_ clock: SnapshotClock) -> [HostSnapshot] {
    let known = state.withLock { state in
      state.records.values.map { (record: $0, databases: state.configured[$0.host]?.databases ?? []) }
    }
    return known.map { known in
      var snapshot = HostSnapshot(known.record, clock)
      snapshot.databases = Set(known.databases).sorted()
      return snapshot
    }.sorted { $0.host < $1.host }
  }
}

extension HostHealth.Rules {
  fileprivate init(_ settings: HealthSettings) { self.init(rise: settings.rise, fall: settings.fall) }
}

extension HostSnapshot {
  fileprivate init(_ record: HostRecord, _ clock: SnapshotClock) {
    self.init(host: record.host.label)
    let known = record.snapshot
    let health = known.health
    state = health.state.rawValue
    breaker = known.breaker.state.rawValue
    isProbed = known.isProbed
    role = health.facts.role?.rawValue
    isReadOnly = health.facts.isReadOnly
    latencyMicroseconds = health.latencyNanoseconds.map { Int($0 / 1000) }
    lagBytes = health.facts.lag?.bytes
    lagMicroseconds = health.facts.lag.map { $0.nanoseconds / 1000 }
    lastError = health.lastError ?? known.lastFailure
    since = health.state == .unknown ? nil : clock.wall(health.since.nanoseconds)
    (answeredCount, refusedCount, failedCount) = (health.answeredCount, health.refusedCount, health.failedCount)
    history = health.history.map {
      Check(
        outcome: $0.outcome.rawValue, time: clock.wall($0.at.nanoseconds),
        latencyMicroseconds: $0.latencyNanoseconds.map { Int($0 / 1000) })
    }
  }
}

extension ServingConfiguration {
  /// The hosts that the settings name.
  fileprivate func hostUses() -> [UpstreamHost: HostUse] {
    var uses: [UpstreamHost: HostUse] = [:]
    for section in settings.databases.values.sorted(by: { $0.name < $1.name }) {
      let user = section.upstream["user"]
      // Which database clients will name is not known.
      let isComplete = user != nil && (section.name != "*" || section.upstream["dbname"] != nil)
      let upstream = try? target(section, database: section.name, user: user ?? "any")
      let reads = section.readUpstream.flatMap {
        try? readTarget($0, section, database: section.name, user: user ?? "any")
      }
      for target in [upstream, reads].compactMap({ $0 }) {
        for host in target.hosts {
          uses[host, default: HostUse()].databases.append(section.name)
          if isComplete, uses[host]?.login == nil { uses[host]?.login = target }
        }
      }
    }
    return uses
  }
}
