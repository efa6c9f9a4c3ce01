import Pooling
import Testing

@Suite("What probes find out about a host")
struct HostHealthTests {
  private var health = HostHealth()
  private var now = MonotonicTime(nanoseconds: 100_000_000_000)
  private let rules = HostHealth.Rules(rise: 2, fall: 3)

  /// Two seconds after the last: `+` answered, `!` refused, `-` failed.
  @discardableResult
  private mutating func probe(_ outcome: Character, lastReply: MonotonicTime = .distantPast) -> Bool {
    now = now + 2_000_000_000
    let probe: HostHealth.Probe =
      switch outcome {
      case "+": .answered(latencyNanoseconds: 5, HostHealth.Facts(role: .primary))
      case "!": .refused("no such role")
      default: .failed("nobody there")
      }
    return health.record(probe, rules, lastReply: lastReply, now)
  }

  @Test(
    "rise and fall are counted in a row",
    arguments: [
      ("+", .up), ("!", .up), ("-", .unknown), ("--", .unknown), ("---", .down), ("--+", .up), ("+--", .up),
      ("+---", .down), ("+--+--", .up), ("+--!--", .up), ("---+", .down), ("---++", .up), ("---+-+", .down),
      ("---+-++", .up), ("---!!", .up), ("---++--", .up), ("---++---", .down),
    ] as [(String, HostHealth.State)])
  mutating func riseAndFall(outcomes: String, state: HostHealth.State) {
    for outcome in outcomes { probe(outcome) }
    #expect(health.state == state)
    #expect(String(health.history.map(\.outcome.rawValue)) == outcomes)
  }

  @Test("a reply within the last second outvotes a failed probe")
  mutating func outvoted() {
    probe("+")
    for _ in 0..<10 { probe("-", lastReply: now + 1_500_000_000) }
    #expect(health.state == .up)
    for _ in 0..<3 { probe("-", lastReply: now + 1_000_000_000) }
    #expect(health.state == .down)
  }

  @Test("says when something has changed that dials depend on")
  mutating func news() {
    let first = probe("+")
    #expect(first)
    let again = probe("+")
    #expect(!again)
    let firstFailure = probe("-")
    #expect(!firstFailure)
    probe("-")
    let isDown = probe("-")
    #expect(isDown)
    health.saw(.standby)
    #expect(health.facts == HostHealth.Facts(role: .standby, isReadOnly: true))
  }

  @Test("keeps the last 20 probes, and what the last one complained of")
  mutating func history() {
    for _ in 0..<30 { probe("-") }
    probe("+")
    #expect(health.history.count == HostHealth.historyLimit)
    #expect(health.history.last?.outcome == .answered)
    #expect(health.lastError == nil)
    probe("!")
    #expect(health.lastError == "no such role")
    #expect((health.answeredCount, health.refusedCount, health.failedCount) == (1, 1, 30))
  }

  @Test("a host that is not probed any more is unknown, but for its role")
  mutating func forgotten() {
    probe("+")
    health.forget()
    #expect(health.state == .unknown && health.history.isEmpty)
    #expect(health.facts.role == .primary)
  }
}

@Suite("How far a standby is behind")
struct ReplicationLagTests {
  private var track = WALTrack()

  private func at(_ seconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: seconds * 1_000_000_000) }

  private func lag(_ bytes: Int64, seconds: Int64) -> ReplicationLag {
    ReplicationLag(bytes: bytes, nanoseconds: seconds * 1_000_000_000)
  }

  @Test("is not known before the primary has been seen")
  func unknown() {
    #expect(track.lag(replayed: 5, at(1)) == nil)
  }

  @Test("is none where the standby has all that the primary had at its last probe, however long ago that was")
  mutating func none() {
    track.primary("a", at: 100, at(1))
    #expect(track.lag(replayed: 100, at(3600)) == lag(0, seconds: 0))
    #expect(track.lag(replayed: 150, at(3600)) == lag(0, seconds: 0))
  }

  @Test("counts from the first probe that saw the primary further on")
  mutating func behind() {
    for second in 1...10 { track.primary("a", at: 100 * Int64(second), at(Int64(second))) }
    #expect(track.lag(replayed: 450, at(11)) == lag(550, seconds: 6))
    #expect(track.lag(replayed: 999, at(11)) == lag(1, seconds: 1))
  }

  @Test("an idle primary does not make its standby older")
  mutating func idle() {
    track.primary("a", at: 100, at(1))
    for second in 2...100 { track.primary("a", at: 100, at(Int64(second))) }
    track.primary("a", at: 101, at(101))
    #expect(track.lag(replayed: 100, at(102)) == lag(1, seconds: 1))
  }

  @Test("after a failover only the new primary's positions count")
  mutating func failover() {
    track.primary("a", at: 1000, at(1))
    track.primary("b", at: 900, at(2))
    #expect(track.lag(replayed: 900, at(3)) == lag(0, seconds: 0))
    track.primary("b", at: 500, at(4))
    #expect(track.lag(replayed: 500, at(5)) == lag(0, seconds: 0))
  }

  @Test("of a standby that stands still grows as far as the track reaches back, which is bounded")
  mutating func long() {
    track.primary("a", at: 0, at(0))
    for second in 1...100_000 { track.primary("a", at: Int64(second), at(Int64(second))) }
    let shown = track.lag(replayed: 0, at(100_000))
    #expect(shown?.bytes == 100_000)
    let reach = (shown?.nanoseconds ?? 0) / 1_000_000_000
    #expect((WALTrack.sampleLimit / 2...WALTrack.sampleLimit).contains(Int(reach)))
  }
}

@Suite("Which hosts a pool wants")
struct HostWishTests {
  private func facts(_ role: HostHealth.Role?, readOnly: Bool = false, lagSeconds: Int64? = nil) -> HostHealth.Facts {
    HostHealth.Facts(
      role: role, isReadOnly: readOnly || role == .standby,
      lag: lagSeconds.map { ReplicationLag(bytes: 1, nanoseconds: $0 * 1_000_000_000) })
  }

  @Test(
    "follow target_session_attrs",
    arguments: [
      (.any, true, true, true), (.preferStandby, true, true, true), (.readWrite, true, false, false),
      (.readOnly, false, true, true), (.primary, true, true, false), (.standby, false, false, true),
    ] as [(HostWish.Session, Bool, Bool, Bool)])
  func roles(session: HostWish.Session, primary: Bool, readOnlyPrimary: Bool, standby: Bool) {
    let wish = HostWish(session)
    #expect((wish.fitness(of: facts(.primary)) == .fit) == primary)
    #expect((wish.fitness(of: facts(.primary, readOnly: true)) == .fit) == readOnlyPrimary)
    #expect((wish.fitness(of: facts(.standby)) == .fit) == standby)
    #expect(wish.fitness(of: facts(nil)) == .fit)
  }

  @Test("and max_lag, which a standby may reach but not exceed")
  func lag() {
    let wish = HostWish(.any, maxLagNanoseconds: 10_000_000_000)
    #expect(wish.fitness(of: facts(.standby, lagSeconds: 10)) == .fit)
    #expect(wish.fitness(of: facts(.standby, lagSeconds: 11)) == .lagging)
    #expect(wish.fitness(of: facts(.standby)) == .fit)
    #expect(HostWish(.any).fitness(of: facts(.standby, lagSeconds: 9999)) == .fit)
  }
}
