/// What a pool's last dials said about its upstream.
public enum PoolStanding: Equatable, Sendable {
  /// Nothing speaks against dialing.
  case open
  /// The upstream cannot be reached.
  case outage
  /// The server refuses this pool's login or database.
  case rejected
  /// The server has no connection left for this pool.
  case exhausted
}

/// When a pool may dial, by what its own dials have met. Whether its hosts may be dialed at all is for their circuit
/// breakers to say (`HostBreaker`), which all pools share; here a pool learns that they may not (`dialDeferred`).
///
/// It stops dials, never the use of connections that answer. While the standing is not `open`, one dial at a time may
/// try, and not before a moment that depends on the failure. The first success opens the gate again, at a limited pace:
/// two dials at a time, then four, and so on up to the pool's bound, so that a server that has just come back does not
/// get all logins at once.
struct PoolDialGate {
  private(set) var standing = PoolStanding.open
  /// Dials that may be under way at the same time.
  private(set) var window = Int.max
  /// No dial before this moment.
  private(set) var notBefore = MonotonicTime.distantPast
  private var backoffNanoseconds: Int64 = 0

  /// An outage is tried again after 100 to 200 ms.
  static let outageRetryNanoseconds = HostBreaker.retryNanoseconds
  /// A rejection is believed for so long, so that a storm of clients is no storm of logins.
  static let rejectionNanoseconds: Int64 = 1_000_000_000
  /// 53300 backs off from the first of these to the second, doubling.
  static let exhaustionNanoseconds: ClosedRange<Int64> = 200_000_000...2_000_000_000

  func mayDial(inFlight: Int, _ now: MonotonicTime) -> Bool { inFlight < window && now >= notBefore }

  /// Whether a dial that starts now is a trial of a gate that is shut.
  var isTrying: Bool { standing != .open }

  /// - Parameter jitterPermille: 0 to 1,000, spreads the trials of many pools.
  mutating func dialFailed(_ verdict: DialVerdict, wasTrial: Bool, jitterPermille: UInt32, _ now: MonotonicTime) {
    // Dials that were under way when the gate shut say nothing new.
    guard standing == .open || wasTrial else { return }
    window = 1
    switch verdict {
    case .unreachable:
      // The first trial follows at once: a restarting server may have refused just one.
      let pause = Self.outageRetryNanoseconds + Self.outageRetryNanoseconds / 1000 * Int64(jitterPermille)
      notBefore = standing == .outage ? now + pause : now
      standing = .outage
    case .rejected:
      notBefore = now + Self.rejectionNanoseconds
      standing = .rejected
    case .exhausted:
      let limits = Self.exhaustionNanoseconds
      backoffNanoseconds = standing == .exhausted ? min(backoffNanoseconds * 2, limits.upperBound) : limits.lowerBound
      notBefore = now + backoffNanoseconds
      standing = .exhausted
    }
  }

  /// No host may be dialed before that moment.
  mutating func dialDeferred(until: MonotonicTime, wasTrial: Bool, _ now: MonotonicTime) {
    guard standing == .open || wasTrial else { return }
    window = 1
    // Whom nobody waits for is put off longer than a client that comes meanwhile should be.
    notBefore = min(until, now + 2 * Self.outageRetryNanoseconds)
    standing = .outage
  }

  /// A host can be reached again: the outage may be over.
  mutating func hostReached() { notBefore = .distantPast }

  mutating func dialSucceeded(bound: Int) {
    standing = .open
    notBefore = .distantPast
    guard window != .max else { return }
    window *= 2
    if window >= bound { window = .max }
  }
}
