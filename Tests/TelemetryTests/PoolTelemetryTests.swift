import Telemetry
import Testing

@Suite struct PoolTelemetryTests {
  @Test func countersAndGaugesReachTheSnapshots() {
    let telemetry = PoolTelemetry()
    telemetry.xactCount.add()
    telemetry.bytesSent.add(1_000)
    telemetry.bytesSent.add(24)
    telemetry.query.record(microseconds: 70)
    telemetry.serversIdle.set(3)
    telemetry.serversIdle.add(-1)

    let counters = telemetry.counters()
    #expect(counters.xactCount == 1)
    #expect(counters.bytesSent == 1_024)
    #expect(counters.queryTime == 70)
    #expect(telemetry.gauges(atNanoseconds: 0).serversIdle == 2)
  }

  @Test func everyCounterIsCopiedAndAddedUp() {
    let telemetry = PoolTelemetry()
    for (index, counter) in Self.counters.enumerated() {
      for _ in 0...index { counter.add(telemetry) }
    }
    var sum = telemetry.counters()
    sum += telemetry.counters()
    for (index, counter) in Self.counters.enumerated() {
      #expect(counter.read(sum) == UInt64(2 * (index + 1)), "counter \(index)")
    }
  }

  @Test func everyHistogramIsCopiedAndAddedUp() {
    let telemetry = PoolTelemetry()
    telemetry.wait.record(microseconds: 1)
    telemetry.connect.record(microseconds: 20)
    telemetry.ping.record(microseconds: 300)
    telemetry.query.record(microseconds: 4_000)
    telemetry.transaction.record(microseconds: 50_000)
    telemetry.idleInTransaction.record(microseconds: 600_000)
    var sum = telemetry.counters()
    sum += telemetry.counters()
    #expect(sum.waitTime == 2)
    #expect(sum.connect.sumMicroseconds == 40)
    #expect(sum.ping.sumMicroseconds == 600)
    #expect(sum.queryTime == 8_000)
    #expect(sum.xactTime == 100_000)
    #expect(sum.idleInTransaction.sumMicroseconds == 1_200_000)
    #expect(sum.query.count == 2)
  }

  @Test func everyServerConnectionCountsTowardsTheTotal() {
    let telemetry = PoolTelemetry()
    telemetry.serversActive.set(1)
    telemetry.serversIdle.set(20)
    telemetry.serversDialing.set(300)
    telemetry.serversTesting.set(4_000)
    telemetry.serversResetting.set(50_000)
    telemetry.serversClosing.set(600_000)
    telemetry.serversPinned.set(1)
    #expect(telemetry.gauges(atNanoseconds: 0).serversTotal == 654_321)
  }

  @Test func gaugesAddUpAndTheLongestWaitWins() {
    var left = PoolGauges()
    left.clientsWaiting = 2
    left.maxWaitMicroseconds = 5
    var right = PoolGauges()
    right.clientsWaiting = 3
    right.maxWaitMicroseconds = 9
    left += right
    #expect(left.clientsWaiting == 5)
    #expect(left.maxWaitMicroseconds == 9)
  }

  @Test func anotherThreadSeesWholeAndGrowingValues() async {
    let telemetry = PoolTelemetry()
    let rounds: UInt64 = 200_000
    async let writer: Void = Self.write(telemetry, rounds: rounds)
    var last: UInt64 = 0
    while last < rounds {
      let now = telemetry.queryCount.count
      #expect(now >= last && now <= rounds)
      last = now
      await Task.yield()
    }
    await writer
    #expect(telemetry.query.snapshot().count == rounds)
  }

  private static func write(_ telemetry: PoolTelemetry, rounds: UInt64) async {
    for _ in 0..<rounds {
      telemetry.query.record(microseconds: 12)
      telemetry.queryCount.add()
    }
  }

  /// Each counter, as the worker adds to it and as it is read.
  private static let counters: [(add: @Sendable (PoolTelemetry) -> Void, read: @Sendable (PoolCounters) -> UInt64)] = [
    ({ $0.xactCount.add() }, { $0.xactCount }),
    ({ $0.queryCount.add() }, { $0.queryCount }),
    ({ $0.serverAssignmentCount.add() }, { $0.serverAssignmentCount }),
    ({ $0.bytesReceived.add() }, { $0.bytesReceived }),
    ({ $0.bytesSent.add() }, { $0.bytesSent }),
    ({ $0.clientParseCount.add() }, { $0.clientParseCount }),
    ({ $0.serverParseCount.add() }, { $0.serverParseCount }),
    ({ $0.bindCount.add() }, { $0.bindCount }),
    ({ $0.loginCount.add() }, { $0.loginCount }),
    ({ $0.connects.add() }, { $0.connects }),
    ({ $0.connectFailures.add() }, { $0.connectFailures }),
    ({ $0.overflowDials.add() }, { $0.overflowDials }),
    ({ $0.checkouts.add() }, { $0.checkouts }),
    ({ $0.checkins.add() }, { $0.checkins }),
    ({ $0.invalidations.add() }, { $0.invalidations }),
    ({ $0.recycles.add() }, { $0.recycles }),
    ({ $0.overflowCloses.add() }, { $0.overflowCloses }),
    ({ $0.timeouts.add() }, { $0.timeouts }),
    ({ $0.pingsOK.add() }, { $0.pingsOK }),
    ({ $0.pingsFailed.add() }, { $0.pingsFailed }),
    ({ $0.pingsTimedOut.add() }, { $0.pingsTimedOut }),
    ({ $0.cancels.add() }, { $0.cancels }),
    ({ $0.settingsApplied.add() }, { $0.settingsApplied }),
    ({ $0.settingsConfirmed.add() }, { $0.settingsConfirmed }),
  ]
}
