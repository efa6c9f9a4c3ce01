import CLinux
import Glibc
import Locking

import struct Synchronization.Atomic

/// How and how often one host is probed.
public struct ProbePlan: Sendable, Hashable {
  /// Whose login is used; hosts and session attributes do not matter.
  public var target: ConnectionTarget
  /// From the start of a probe to the start of the next, in nanoseconds; above 0.
  public var intervalNanoseconds: Int64
  /// The longest time for one probe, a dial included, in nanoseconds; above 0.
  public var timeoutNanoseconds: Int64

  public init(target: ConnectionTarget, intervalNanoseconds: Int64, timeoutNanoseconds: Int64) {
    precondition(intervalNanoseconds > 0 && timeoutNanoseconds > 0, "a probe takes time")
    self.target = target
    self.intervalNanoseconds = intervalNanoseconds
    self.timeoutNanoseconds = timeoutNanoseconds
  }
}

/// Asks hosts how they are, each on a thread and a libpq connection of its own, so that one that hangs delays no other.
///
/// The connection stays open from probe to probe. When the server ends it, that is noticed at once and the host is
/// probed out of turn, though not more often than `shortestPauseNanoseconds` allows.
public final class Prober: Sendable {
  /// The `application_name` of its sessions.
  public static let applicationName = "lifeguard prober"
  /// Between the starts of two probes of a host, whoever asks for them.
  static let shortestPauseNanoseconds: Int64 = 100_000_000

  private let threads = BlockingThreads(laneLimit: 1, maximumThreads: 1000, lingerNanoseconds: 1_000_000_000)
  private let watches = Mutex<[UpstreamHost: HostWatch]>([:])
  private let nextIdentifier = Atomic<UInt64>(0)
  private let report: @Sendable (UpstreamHost, ProbeOutcome) -> Void

  /// - Parameter report: what each probe has found; called on the host's thread.
  public init(report: @escaping @Sendable (UpstreamHost, ProbeOutcome) -> Void) {
    self.report = report
  }

  /// From now on these hosts are probed, and no others. Those that are new are probed at once, with changed plans too.
  public func watch(_ plans: [UpstreamHost: ProbePlan]) {
    watches.withLock { watches in
      for (host, watch) in watches where plans[host] == nil {
        watch.end()
        watches[host] = nil
      }
      for (host, plan) in plans {
        if let watch = watches[host] {
          watch.follow(plan)
        } else {
          watches[host] = start(host, plan)
        }
      }
    }
  }

  /// Probes the host out of turn: somebody has seen a sign that it has changed.
  public func probeNow(_ host: UpstreamHost) {
    watches.withLock { $0[host] }?.hurry()
  }

  /// Ends all probes, and waits until their threads have ended: at once, unless one of them waits for the resolver.
  public func stop() {
    watch([:])
    threads.close()
    threads.join(includingRunning: true)
  }

  /// nil without descriptors.
  private func start(_ host: UpstreamHost, _ plan: ProbePlan) -> HostWatch? {
    guard let watch = HostWatch(host, plan, report) else {
      report(host, .failed("no descriptor left for probes"))
      return nil
    }
    let identifier = nextIdentifier.wrappingAdd(1, ordering: .relaxed).newValue
    threads.submit(
      BlockingThreads.Job(
        identifier: identifier, lane: "\(identifier)", run: { watch.run() },
        abandon: { [report] reason in
          watch.end()
          if case .noThread(let error) = reason { report(host, .failed("no thread for probes (errno \(error))")) }
        }))
    return watch
  }
}

/// The probes of one host, on a thread of their own.
private final class HostWatch: Sendable {
  private struct State {
    /// nil: the end is wanted.
    var plan: ProbePlan?
    var isHurried = false
    /// Nothing is under way that a hurry would interrupt.
    var isWaiting = false
  }

  private let host: UpstreamHost
  private let state: Mutex<State>
  private let report: @Sendable (UpstreamHost, ProbeOutcome) -> Void
  /// An eventfd: readable when a wait or a probe is to end early.
  private let wakeDescriptor: Int32

  init?(_ host: UpstreamHost, _ plan: ProbePlan, _ report: @escaping @Sendable (UpstreamHost, ProbeOutcome) -> Void) {
    wakeDescriptor = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
    self.host = host
    self.report = report
    state = Mutex(State(plan: plan))
    if wakeDescriptor < 0 { return nil }
  }

  deinit {
    if wakeDescriptor >= 0 { _ = close(wakeDescriptor) }
  }

  // MARK: Any thread

  func follow(_ plan: ProbePlan) {
    state.withLock { state in
      guard state.plan != plan else { return }
      state.plan = plan
      state.isHurried = true
      wake()
    }
  }

  func hurry() {
    state.withLock { state in
      state.isHurried = true
      if state.isWaiting { wake() }
    }
  }

  func end() {
    state.withLock { state in
      state.plan = nil
      wake()
    }
  }

  private func wake() { _ = eventfd_write(wakeDescriptor, 1) }

  // MARK: Its own thread

  func run() {
    var link: ServerLink?
    var loginOfLink: ConnectionTarget?
    var next = Clock.now()
    var earliest = next
    while let plan = wait(until: next, butNotBefore: earliest, watching: link) {
      let login = plan.target.probing(host)
      if loginOfLink != login { link = nil }
      loginOfLink = login
      let start = Clock.now()
      let outcome = Probe(
        login: login, deadline: start + plan.timeoutNanoseconds, wakeDescriptor: wakeDescriptor
      ).run(&link)
      // nil: interrupted, as the plan has changed.
      if let outcome { report(host, outcome) }
      next = start + plan.intervalNanoseconds
      earliest = start + Prober.shortestPauseNanoseconds
    }
  }

  /// Waits for the next probe: until its time, or a reason to be early. nil: the end.
  private func wait(until time: Int64, butNotBefore earliest: Int64, watching link: ServerLink?) -> ProbePlan? {
    var isDue = false
    while true {
      // Before the state is looked at: whoever changes it wakes afterwards.
      var count: eventfd_t = 0
      unsafe _ = eventfd_read(wakeDescriptor, &count)
      let now = Clock.now()
      var isReady = false
      let plan = state.withLock { state -> ProbePlan? in
        isDue = isDue || state.isHurried || now >= time
        isReady = isDue && now >= earliest
        if isReady { state.isHurried = false }
        state.isWaiting = !isReady
        return state.plan
      }
      guard let plan else { return nil }
      if isReady { return plan }
      let left = (isDue ? earliest : time) - now
      // A server speaks unasked when it ends the session.
      let outcome = Waiting.wait(wakeDescriptor, isDue ? nil : link?.descriptor, Int16(POLLIN), nanoseconds: left)
      if case .ready = outcome { isDue = true }
    }
  }
}
