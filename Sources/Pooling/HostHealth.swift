/// What probes have found out about a host.
///
/// Pure: `HostHealth` gets outcomes with their time, counts them by `rise` and `fall`, and keeps the last ones.
public struct HostHealth: Sendable {
  public enum State: String, Sendable, CaseIterable {
    /// Not enough is known. Exits: `up` with the first answer, `down` after `fall` failures.
    case unknown
    /// It answers. Exit: `down` after `fall` failures in a row.
    case up
    /// It does not. Exit: `up` after `rise` answers in a row.
    case down
  }

  public enum Role: String, Sendable, CaseIterable {
    case primary, standby
  }

  /// When a host changes between `up` and `down`.
  public struct Rules: Equatable, Sendable {
    /// Answers in a row that bring a host back; 1 or more.
    public var rise: Int
    /// Failures in a row that take it out; 1 or more.
    public var fall: Int

    public init(rise: Int, fall: Int) {
      precondition(rise >= 1 && fall >= 1, "a host changes its state for a reason")
      self.rise = rise
      self.fall = fall
    }
  }

  /// What one probe found.
  public enum Probe: Equatable, Sendable {
    /// The server has answered a query.
    case answered(latencyNanoseconds: Int64, Facts)
    /// It is there, but refuses the prober's login, or has no connection left. In its own words.
    case refused(String)
    /// It cannot be reached, or does not answer in time.
    case failed(String)
  }

  /// What a server says of itself.
  public struct Facts: Equatable, Sendable {
    /// nil where it does not say.
    public var role: Role?
    /// Transactions are read-only there: a standby, or `default_transaction_read_only`.
    public var isReadOnly = false
    /// How far a standby is behind; nil for a primary, and where it is not known.
    public var lag: ReplicationLag?

    public init(role: Role? = nil, isReadOnly: Bool = false, lag: ReplicationLag? = nil) {
      self.role = role
      self.isReadOnly = isReadOnly
      self.lag = lag
    }
  }

  /// One of the last probes.
  public struct Check: Equatable, Sendable {
    public enum Outcome: Character, Sendable {
      case answered = "+"
      case refused = "!"
      case failed = "-"
    }

    public var outcome: Outcome
    public var at: MonotonicTime
    /// nil where nothing was answered.
    public var latencyNanoseconds: Int64?
  }

  public private(set) var state = State.unknown
  /// When the state changed last.
  public private(set) var since = MonotonicTime.distantPast
  public private(set) var facts = Facts()
  /// The last probes, oldest first.
  public private(set) var history: [Check] = []
  /// What the last probe complained of; nil where it got its answer.
  public private(set) var lastError: String?
  /// Of the last answer.
  public private(set) var latencyNanoseconds: Int64?
  public private(set) var answeredCount: UInt64 = 0
  public private(set) var refusedCount: UInt64 = 0
  public private(set) var failedCount: UInt64 = 0
  private var answersInARow = 0
  private var failuresInARow = 0

  /// How many probes `history` holds.
  public static let historyLimit = 20
  /// A reply to anybody outvotes a probe that fails within this time after it.
  public static let replyOutvotesNanoseconds: Int64 = 1_000_000_000

  public init() {}

  /// Takes in what a probe has found.
  ///
  /// - Parameter lastReply: when the host last answered any connection of any pool.
  /// - Returns: whether dials should be chosen anew: state, role, or lag have changed.
  public mutating func record(_ probe: Probe, _ rules: Rules, lastReply: MonotonicTime, _ now: MonotonicTime) -> Bool {
    let before = (state, facts)
    switch probe {
    case .answered(let latency, let facts):
      note(.answered, latency, nil, now)
      answeredCount += 1
      latencyNanoseconds = latency
      self.facts = facts
      answered(rules)
    case .refused(let text):
      note(.refused, nil, text, now)
      refusedCount += 1
      answered(rules)
    case .failed(let text):
      note(.failed, nil, text, now)
      failedCount += 1
      answersInARow = 0
      if lastReply <= now - Self.replyOutvotesNanoseconds { failed(rules) }
    }
    if state != before.0 { since = now }
    return before != (state, facts)
  }

  /// A session has found out which role the host has.
  public mutating func saw(_ role: Role) {
    guard facts.role != role else { return }
    facts = Facts(role: role, isReadOnly: role == .standby)
  }

  /// Nobody probes the host any more: what probes said of it is forgotten, but for its role.
  public mutating func forget() {
    self = HostHealth(role: facts.role)
  }

  private init(role: Role?) {
    facts = Facts(role: role, isReadOnly: role == .standby)
  }

  private mutating func answered(_ rules: Rules) {
    failuresInARow = 0
    answersInARow += 1
    if state == .unknown || answersInARow >= rules.rise { state = .up }
  }

  private mutating func failed(_ rules: Rules) {
    failuresInARow += 1
    if failuresInARow >= rules.fall { state = .down }
  }

  private mutating func note(_ outcome: Check.Outcome, _ latency: Int64?, _ error: String?, _ now: MonotonicTime) {
    if history.count == Self.historyLimit { history.removeFirst() }
    history.append(Check(outcome: outcome, at: now, latencyNanoseconds: latency))
    lastError = error
  }
}
