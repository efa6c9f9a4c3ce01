/// Whether a host may be dialed: its circuit breaker. One for each host, whichever pools and workers dial it.
///
///         failed                    a trial is let through
///     closed ──────────────▶ open ───────────────────────▶ halfOpen
///        ▲                    │ ▲                              │ │
///        └────────reached─────┘ └──────────the trial failed────┘ │
///        └─────────────────────────────────────reached───────────┘
///
/// It stops dials, never the use of connections that answer. It opens when the host cannot be reached, and never for
/// what the host answers: a refused login is the pool's trouble (`PoolDialGate`). While it is open one dial at a time
/// tries, the first at once, since a restarting server may have refused just one. Whoever asks too early is told when to
/// ask again: that is how a failure is remembered, so that many waiting pools are no storm of dials.
///
/// Pure: time and jitter are arguments.
public struct HostBreaker: Sendable {
  /// Where the breaker stands.
  public enum State: String, Sendable, CaseIterable {
    /// Dials go through. Exit: `open` when one fails.
    case closed
    /// Dials are refused. Exits: `halfOpen` with the next trial, `closed` when the host answers somebody.
    case open
    /// A trial is under way, all others are refused. Exits: `closed` when the host answers, `open` when it does not.
    case halfOpen = "half_open"
  }

  /// The answer to who wants to dial.
  public enum Admission: Equatable, Sendable {
    case pass
    /// The dial is the trial with this number: `reached`, `failed` or `trialDropped` must follow.
    case trial(UInt32)
    /// Not before this moment, which is later than now.
    case refused(until: MonotonicTime)
  }

  /// How a host cannot be reached.
  public enum Failure: Sendable {
    /// Refused, no route, no such name, the end of the connection before authentication, or 57P03.
    case refused
    /// No answer in time.
    case timeout
  }

  public private(set) var state = State.closed
  /// While it is open: no trial sooner.
  private var notBefore = MonotonicTime.distantPast
  /// The same for dials that nobody waits for.
  private var idleNotBefore = MonotonicTime.distantPast
  private var idlePauseNanoseconds = HostBreaker.idlePauseNanoseconds.lowerBound
  /// The number of the latest trial.
  private var trial: UInt32 = 0

  /// A host that is waited for is tried again after this to twice this.
  public static let retryNanoseconds: Int64 = 100_000_000
  /// One that keeps silent and that nobody waits for: from the first of these, doubling, to the second.
  static let idlePauseNanoseconds: ClosedRange<Int64> = 200_000_000...5_000_000_000

  public init() {}

  /// Whether a dial would be let through as an ordinary one.
  public var isClosed: Bool { state == .closed }

  /// Somebody wants to dial the host.
  ///
  /// - Parameter isWanted: a client waits for the connection.
  public mutating func admit(isWanted: Bool, _ now: MonotonicTime) -> Admission {
    switch state {
    case .closed: return .pass
    case .halfOpen: return .refused(until: now + Self.retryNanoseconds)
    case .open:
      let earliest = isWanted ? notBefore : max(notBefore, idleNotBefore)
      guard now >= earliest else { return .refused(until: earliest) }
      state = .halfOpen
      trial &+= 1
      return .trial(trial)
    }
  }

  /// The host has answered: a dial or a probe, even with an error that is about the login.
  ///
  /// - Returns: whether dials were refused until now.
  public mutating func reached() -> Bool {
    let wasShut = state != .closed
    state = .closed
    idlePauseNanoseconds = Self.idlePauseNanoseconds.lowerBound
    return wasShut
  }

  /// A dial could not reach the host. Dials that were under way when the breaker opened say nothing new.
  ///
  /// - Parameters:
  ///   - trial: the number of the trial that the dial was; nil for an ordinary dial.
  ///   - jitterPermille: 0 to 1,000, spreads the trials.
  public mutating func failed(_ failure: Failure, trial: UInt32?, jitterPermille: UInt32, _ now: MonotonicTime) {
    switch state {
    case .closed:
      state = .open
      notBefore = now
      idleNotBefore = now
    case .halfOpen where trial == self.trial:
      state = .open
      notBefore = now + Self.retryNanoseconds + Self.retryNanoseconds / 1000 * Int64(jitterPermille)
      switch failure {
      case .refused: idleNotBefore = notBefore
      case .timeout:
        idleNotBefore = now + idlePauseNanoseconds
        idlePauseNanoseconds = min(idlePauseNanoseconds * 2, Self.idlePauseNanoseconds.upperBound)
      }
    case .open, .halfOpen: break
    }
  }

  /// The trial ended without a word about the host: another host took the dial, or it was cancelled. The next may try at
  /// once.
  public mutating func trialDropped(_ trial: UInt32) {
    if state == .halfOpen, trial == self.trial { state = .open }
  }
}
