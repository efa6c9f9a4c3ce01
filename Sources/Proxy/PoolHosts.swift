import Pooling
import Telemetry
import Upstream

/// The hosts of one pool's upstream: which of them a dial goes to, and what became of it. On the pool's worker.
struct PoolHosts {
  private struct Host {
    let record: HostRecord
    /// At the pool's last dial it was not what `target_session_attrs` asks for.
    var wasWrong = false
  }

  /// The hosts that a dial goes to, and the trials that it is for some of them.
  struct Admission {
    var hosts: [UpstreamHost]
    var trials: [(record: HostRecord, number: UInt32)] = []
    /// Those that it passes over because another one serves.
    var overlooked: [HostRecord] = []
  }

  enum Answer {
    case go(Admission)
    /// No host may be dialed before this moment.
    case refused(until: MonotonicTime)
    /// There are hosts that must be left out, and no other serves.
    case noOther
  }

  private var hosts: [Host]
  private let wish: HostWish
  /// All hosts that the pool has ever had. The place of one is its number.
  private var numbers: [UpstreamHost]

  /// - Parameter former: the pool's hosts until now, whose numbers stay theirs.
  init(_ records: [HostRecord], _ wish: HostWish, after former: PoolHosts? = nil) {
    hosts = records.map { Host(record: $0) }
    self.wish = wish
    numbers = former?.numbers ?? []
    for record in records where !numbers.contains(record.host) { numbers.append(record.host) }
  }

  /// Chooses the hosts of a dial: those that fit and are let through by their breakers. Where there are none, all others
  /// that are let through, and then trials of those that are not: what is known may be out of date.
  ///
  /// - Parameters:
  ///   - isWanted: a client waits for the connection.
  ///   - avoided: hosts that must be left out. Then only others that fit are dialed.
  ///   - silent: hosts that do not answer at the moment: they come last.
  func admit(
    isWanted: Bool, avoiding avoided: HostSet = HostSet(), silent: HostSet = HostSet(), _ now: MonotonicTime
  ) -> Answer {
    var passing = hosts.filter { $0.record.passes && !avoided.contains(number(of: $0.record.host)) }
    if !silent.isEmpty {
      let isSilent = passing.map { silent.contains(number(of: $0.record.host)) }
      passing = zip(passing, isSilent).filter { !$0.1 }.map(\.0) + zip(passing, isSilent).filter { $0.1 }.map(\.0)
    }
    let fit = passing.filter { isFit($0) && !$0.record.isDown }
    if !fit.isEmpty {
      var admission = Admission(hosts: fit.map(\.record.host))
      admission.overlooked = hosts.map(\.record).filter { !admission.hosts.contains($0.host) }
      return .go(admission)
    }
    if !avoided.isEmpty { return .noOther }
    var admission = Admission(hosts: passing.map(\.record.host))
    var earliest = MonotonicTime.distantFuture
    for host in hosts where !admission.hosts.contains(host.record.host) {
      switch host.record.admit(isWanted: isWanted, now) {
      case .pass: admission.hosts.append(host.record.host)
      case .trial(let number):
        admission.hosts.append(host.record.host)
        admission.trials.append((host.record, number))
      case .refused(let until): earliest = min(earliest, until)
      }
    }
    return admission.hosts.isEmpty ? .refused(until: earliest) : .go(admission)
  }

  /// A dial is over. Each trial among its hosts gets its answer.
  ///
  /// - Parameters:
  ///   - reached: the host that the dial ended at with a usable connection.
  ///   - attempts: how the others fared.
  /// - Returns: whether a host that could not be reached can be reached again.
  mutating func dialed(
    _ admission: Admission, reached: UpstreamHost?, attempts: [DialAttempt], jitterPermille: UInt32,
    _ now: MonotonicTime
  ) -> Bool {
    var hasRecovered = false
    for index in hosts.indices {
      let record = hosts[index].record
      let trial = admission.trials.first { $0.record === record }?.number
      let own = attempts.filter { $0.host == record.host }
      if record.host == reached {
        hosts[index].wasWrong = false
        if record.reached() { hasRecovered = true }
      } else if let answer = own.first(where: { $0.kind.isAnswer }) {
        hosts[index].wasWrong = answer.kind == .wrongRole
        if record.reached() { hasRecovered = true }
      } else if let last = own.last, let failure = last.kind.breakerFailure {
        record.failed(failure, last.text, trial: trial, jitterPermille: jitterPermille, now)
      } else if let trial {
        record.trialDropped(trial)
      }
    }
    // A reload has taken the host away meanwhile; other pools may still have it.
    for trial in admission.trials where !hosts.contains(where: { $0.record === trial.record }) {
      trial.record.trialDropped(trial.number)
    }
    return hasRecovered
  }

  /// What was seen of hosts at the last dials may be out of date.
  mutating func changed() {
    for index in hosts.indices { hosts[index].wasWrong = false }
  }

  /// Why the hosts cannot be reached, as far as anybody knows.
  var lastFailure: String? {
    let texts = hosts.compactMap(\.record.lastFailure)
    return texts.isEmpty ? nil : texts.joined(separator: "; ")
  }

  /// Whether dials to any host are let through.
  var canBeReached: Bool { hosts.contains { $0.record.passes } }

  /// The record of one of the hosts; nil where the upstream has changed since the dial began.
  func record(of host: UpstreamHost) -> HostRecord? { hosts.first { $0.record.host == host }?.record }

  /// Those that cannot be reached while another one can.
  var missed: [HostRecord] { canBeReached ? hosts.map(\.record).filter { !$0.passes } : [] }

  /// Tells apart the hosts of the pool, those included that its upstream had before a reload.
  func number(of host: UpstreamHost) -> UInt32 { UInt32(numbers.firstIndex(of: host) ?? numbers.count) }

  /// Whether the pool should let go of its connections to a host: it is in the wrong role, or it lags and another host
  /// would serve.
  func isMisfit(_ record: HostRecord) -> Bool {
    switch wish.fitness(of: record.facts) {
    case .fit: false
    case .wrongRole: true
    case .lagging: hosts.contains { $0.record.passes && !$0.record.isDown && isFit($0) }
    }
  }

  /// Why no read may go to one of the hosts now; nil where one may: nothing speaks against it, and where `max_lag` is set it
  /// is known to be within that. A host that nobody probes is found out about by dialing it.
  var readFallback: ReadFallback? {
    var reason = ReadFallback.unreachable
    for host in hosts {
      let known = host.record.snapshot
      guard known.breaker.isClosed || !known.isProbed, known.health.state != .down else { continue }
      switch host.wasWrong ? .wrongRole : wish.fitness(of: known.health.facts) {
      case .wrongRole: if reason == .unreachable { reason = .role }
      case .lagging: reason = .lag
      case .fit:
        let facts = known.health.facts
        if wish.maxLagNanoseconds == nil || facts.role == .primary || facts.lag != nil { return nil }
        reason = .lag
      }
    }
    return reason
  }

  /// Whether a session on a host of this role may serve.
  func accepts(_ role: HostHealth.Role) -> Bool {
    wish.fitness(of: HostHealth.Facts(role: role, isReadOnly: role == .standby)) == .fit
  }

  /// Whether the pool's sessions have to be on a host of a certain role.
  var dependsOnRole: Bool { wish.session != .any && wish.session != .preferStandby }

  private func isFit(_ host: Host) -> Bool {
    !host.wasWrong && wish.fitness(of: host.record.facts) == .fit
  }
}

extension HostWish {
  init(_ target: ConnectionTarget, maxLag: Duration?) {
    let session: Session =
      switch target.sessionAttributes {
      case .any: .any
      case .readWrite: .readWrite
      case .readOnly: .readOnly
      case .primary: .primary
      case .standby: .standby
      case .preferStandby: .preferStandby
      }
    self.init(session, maxLagNanoseconds: maxLag?.nanoseconds)
  }
}

extension DialFailureKind {
  /// What it means to the host's breaker; nil where the host has answered, or nothing is known of it.
  fileprivate var breakerFailure: HostBreaker.Failure? {
    switch self {
    case .unreachable, .startingUp: .refused
    case .timeout: .timeout
    case .authentication, .unknownDatabase, .tooManyConnections, .insufficientPrivilege, .wrongRole, .tls, .cancelled,
      .other:
      nil
    }
  }

  /// The host has answered as PostgreSQL does.
  fileprivate var isAnswer: Bool {
    switch self {
    case .authentication, .unknownDatabase, .tooManyConnections, .insufficientPrivilege, .wrongRole, .tls: true
    case .unreachable, .timeout, .startingUp, .cancelled, .other: false
    }
  }
}
