import Locking
import Pooling
import Upstream

import struct Synchronization.Atomic

/// What is known of one host, from everybody's dials, replies and probes. Any thread; the lock is taken for dials and
/// probes, never on the way of a query.
final class HostRecord: Sendable {
  struct State: Sendable {
    var breaker = HostBreaker()
    var health = HostHealth()
    var isProbed = false
    /// Why the last dial failed; nil where the host has answered since.
    var lastFailure: String?
    /// When it was last looked at for a pool that passes it over.
    var soughtAt: MonotonicTime?
  }

  let host: UpstreamHost
  private let state = Mutex(State())
  /// Nanoseconds of CLOCK_MONOTONIC; before the first reply a moment long past, to which differences can be made.
  private let lastReplyAt = Atomic<Int64>(.min / 2)
  /// Replies within so long after another are not noted: writing costs other workers a cache line.
  private static let replyResolutionNanoseconds: Int64 = 100_000_000

  init(_ host: UpstreamHost) { self.host = host }

  var snapshot: State { state.withLock { $0 } }

  /// Why the last dial of anybody failed; nil where the host has answered since.
  var lastFailure: String? { state.withLock { $0.lastFailure } }

  var facts: HostHealth.Facts { state.withLock { $0.health.facts } }

  /// The host has answered a connection.
  @inline(__always) func replied(at now: Int64) {
    guard now &- lastReplyAt.load(ordering: .relaxed) > HostRecord.replyResolutionNanoseconds else { return }
    lastReplyAt.store(now, ordering: .relaxed)
  }

  // MARK: Dials

  /// Whether an ordinary dial would be let through.
  var passes: Bool { state.withLock { $0.breaker.isClosed } }

  /// The probes have found it down.
  var isDown: Bool { state.withLock { $0.health.state == .down } }

  func admit(isWanted: Bool, _ now: MonotonicTime) -> HostBreaker.Admission {
    state.withLock { $0.breaker.admit(isWanted: isWanted, now) }
  }

  /// The host has answered a dial or a probe.
  ///
  /// - Returns: whether dials were refused until now.
  func reached() -> Bool {
    state.withLock { state in
      state.lastFailure = nil
      return state.breaker.reached()
    }
  }

  func failed(
    _ failure: HostBreaker.Failure, _ text: String, trial: UInt32?, jitterPermille: UInt32, _ now: MonotonicTime
  ) {
    state.withLock { state in
      state.lastFailure = text
      state.breaker.failed(failure, trial: trial, jitterPermille: jitterPermille, now)
    }
  }

  /// A connection has been without any sign of the server for so long. A reply to anybody else says otherwise, and so does
  /// the last probe.
  ///
  /// - Returns: whether dials are refused from now on, which they were not.
  func keptSilent(for nanoseconds: Int64, _ text: String, at now: Int64, jitterPermille: UInt32) -> Bool {
    guard lastReplyAt.load(ordering: .relaxed) < now - nanoseconds else { return false }
    return state.withLock { state in
      guard state.breaker.isClosed, state.health.history.last?.outcome != .answered else { return false }
      state.lastFailure = text
      state.breaker.failed(.timeout, trial: nil, jitterPermille: jitterPermille, MonotonicTime(nanoseconds: now))
      return true
    }
  }

  func trialDropped(_ trial: UInt32) { state.withLock { $0.breaker.trialDropped(trial) } }

  // MARK: Health

  /// Returns the health before and after, and whether dials should be chosen anew.
  func record(
    _ probe: HostHealth.Probe, _ rules: HostHealth.Rules, _ now: MonotonicTime
  ) -> (before: HostHealth, after: HostHealth, isNews: Bool) {
    let lastReply = MonotonicTime(nanoseconds: lastReplyAt.load(ordering: .relaxed))
    return state.withLock { state in
      let before = state.health
      let isNews = state.health.record(probe, rules, lastReply: lastReply, now)
      return (before, state.health, isNews)
    }
  }

  /// What a session's word on the role of its host is worth.
  enum Sighting: Equatable {
    case known
    /// Nobody probes the host, so that it is taken for true. The role that was known before.
    case news(before: HostHealth.Role?)
    /// The probes say otherwise. They may be late; or behind the name are several servers, and each session is right.
    case doubtful
  }

  /// A session on the host has said which role it has.
  func saw(_ role: HostHealth.Role) -> Sighting {
    state.withLock { state in
      let before = state.health.facts.role
      if before == role { return .known }
      if state.isProbed, state.health.history.last?.outcome == .answered { return .doubtful }
      state.health.saw(role)
      return .news(before: before)
    }
  }

  /// A pool passes the host over.
  ///
  /// - Returns: whether somebody should look at it: nobody probes it, and it cannot be reached, or has not been looked at
  ///   for `lookPauseNanoseconds`.
  func isToBeSought(_ now: MonotonicTime) -> Bool {
    state.withLock { state in
      guard !state.isProbed else { return false }
      if state.breaker.isClosed, let last = state.soughtAt, now < last + HostRecord.lookPauseNanoseconds {
        return false
      }
      state.soughtAt = now
      return true
    }
  }

  private static let lookPauseNanoseconds: Int64 = 30_000_000_000

  func setProbed(_ isProbed: Bool) {
    state.withLock { state in
      if state.isProbed && !isProbed { state.health.forget() }
      state.isProbed = isProbed
    }
  }
}
