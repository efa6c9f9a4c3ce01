import Pooling
import Testing

@Suite("The circuit breaker of a host")
struct HostBreakerTests {
  private var breaker = HostBreaker()
  private var now = MonotonicTime(nanoseconds: 1_000_000_000)

  private mutating func wait(milliseconds: Int64) { now = now + milliseconds * 1_000_000 }

  private mutating func trial(isWanted: Bool = true) throws -> UInt32 {
    guard case .trial(let number) = breaker.admit(isWanted: isWanted, now) else { throw NoTrial() }
    return number
  }

  private mutating func expect(
    isWanted: Bool, _ admission: HostBreaker.Admission, location: SourceLocation = #_sourceLocation
  ) {
    let given = breaker.admit(isWanted: isWanted, now)
    #expect(given == admission, sourceLocation: location)
  }

  private struct NoTrial: Error {}

  private mutating func open(jitter: UInt32 = 500) throws {
    breaker.failed(.refused, trial: nil, jitterPermille: jitter, now)
    breaker.failed(.refused, trial: try trial(), jitterPermille: jitter, now)
  }

  @Test("lets dials through until one fails")
  mutating func closed() {
    expect(isWanted: true, .pass)
    expect(isWanted: true, .pass)
    breaker.failed(.refused, trial: nil, jitterPermille: 0, now)
    #expect(breaker.state == .open)
  }

  @Test("tries once at once, and one dial at a time")
  mutating func firstTrial() throws {
    breaker.failed(.timeout, trial: nil, jitterPermille: 1000, now)
    _ = try trial()
    #expect(breaker.state == .halfOpen)
    expect(isWanted: true, .refused(until: now + 100_000_000))
    wait(milliseconds: 5000)
    expect(isWanted: true, .refused(until: now + 100_000_000))
  }

  @Test("waits 100 to 200 ms between trials", arguments: [0, 500, 1000] as [UInt32])
  mutating func pause(jitter: UInt32) throws {
    try open(jitter: jitter)
    let pause = 100_000_000 + Int64(jitter) * 100_000
    expect(isWanted: true, .refused(until: now + pause))
    now = now + pause - 1
    expect(isWanted: true, .refused(until: now + 1))
    now = now + 1
    _ = try trial()
  }

  @Test("closes with the first answer, whoever got it")
  mutating func reached() throws {
    try open()
    let wasShut = breaker.reached()
    #expect(wasShut)
    expect(isWanted: true, .pass)
    let isShutAgain = breaker.reached()
    #expect(!isShutAgain)
  }

  @Test("a host that keeps silent and that nobody waits for is tried at longer and longer intervals, up to 5 s")
  mutating func silent() throws {
    breaker.failed(.timeout, trial: nil, jitterPermille: 0, now)
    var pauses: [Int64] = []
    for _ in 0..<7 {
      let number = try trial(isWanted: false)
      breaker.failed(.timeout, trial: number, jitterPermille: 0, now)
      guard case .refused(let until) = breaker.admit(isWanted: false, now) else { throw NoTrial() }
      pauses.append(until.nanoseconds(since: now) / 1_000_000)
      now = until
    }
    #expect(pauses == [200, 400, 800, 1600, 3200, 5000, 5000])
    // An answer ends that.
    _ = breaker.reached()
    breaker.failed(.timeout, trial: nil, jitterPermille: 0, now)
    breaker.failed(.timeout, trial: try trial(), jitterPermille: 0, now)
    expect(isWanted: false, .refused(until: now + 200_000_000))
    wait(milliseconds: 200)
    // A client does not wait for it.
    breaker.failed(.timeout, trial: try trial(), jitterPermille: 0, now)
    wait(milliseconds: 100)
    _ = try trial()
  }

  @Test("dials that were under way when it opened say nothing new")
  mutating func late() throws {
    try open(jitter: 0)
    wait(milliseconds: 99)
    breaker.failed(.refused, trial: nil, jitterPermille: 0, now)
    wait(milliseconds: 1)
    let number = try trial()
    breaker.failed(.refused, trial: nil, jitterPermille: 0, now)
    #expect(breaker.state == .halfOpen)
    breaker.failed(.refused, trial: number, jitterPermille: 0, now)
    #expect(breaker.state == .open)
  }

  @Test("a trial that an answer elsewhere has overtaken does not end the next one")
  mutating func overtaken() throws {
    breaker.failed(.refused, trial: nil, jitterPermille: 0, now)
    let old = try trial()
    _ = breaker.reached()
    breaker.failed(.refused, trial: nil, jitterPermille: 0, now)
    _ = try trial()
    breaker.failed(.refused, trial: old, jitterPermille: 0, now)
    breaker.trialDropped(old)
    #expect(breaker.state == .halfOpen)
  }

  @Test("a trial that says nothing lets the next one try at once")
  mutating func dropped() throws {
    breaker.failed(.refused, trial: nil, jitterPermille: 0, now)
    breaker.trialDropped(try trial())
    #expect(breaker.state == .open)
    _ = try trial()
  }
}
