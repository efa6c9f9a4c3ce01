import Admin
import Telemetry
import Testing

@Suite struct HealthTests {
  @Test func aDatabaseWithoutConnectionsIsUnknownAndHasItsSettingsSize() {
    let health = HealthSnapshot(database: "app", pools: [pool("other", "bob", connects: 1)], poolSize: 7)
    #expect(health.status == .unknown)
    #expect(health.reason == "no server connection has been opened yet")
    #expect(health.poolSize == 7)
    #expect(health.latencyMilliseconds == nil)
  }

  @Test func itsPoolsAreAddedUp() {
    var first = pool("app", "alice", connects: 1)
    first.gauges.serversActive = 4
    first.gauges.serversTesting = 1
    first.gauges.serversResetting = 1
    first.gauges.serversIdle = 1
    first.gauges.clientsWaiting = 3
    first.latencyMicroseconds = 250
    first.role = "standby"
    var second = pool("app", "bob", connects: 0)
    second.gauges.serversDialing = 1
    let health = HealthSnapshot(database: "app", pools: [second, first], poolSize: 0)
    #expect(health.status == .healthy)
    #expect(health.poolSize == 10)
    #expect(health.poolCheckedOut == 6)
    #expect(health.overflow == 2)
    #expect(health.waiting == 3)
    #expect(health.latencyMilliseconds == 0.25)
    #expect(health.role == "standby")
    #expect(health.reason == nil && health.lagBytes == nil)
  }

  @Test(arguments: [
    (PoolStandingSnapshot.open, HealthSnapshot.Status.healthy), (.exhausted, .healthy), (.outage, .unhealthy),
    (.rejected, .unhealthy),
  ])
  func onePoolInAnOutageOrRejectedMakesItUnhealthy(standing: PoolStandingSnapshot, status: HealthSnapshot.Status) {
    var ill = pool("app", "bob", connects: 1)
    ill.standing = standing
    ill.lastError = "Connection refused"
    let health = HealthSnapshot(database: "app", pools: [pool("app", "alice", connects: 1), ill], poolSize: 5)
    #expect(health.status == status)
    #expect(health.lastError == "Connection refused")
    #expect((health.reason?.contains("\"app/bob\"") == true) == (status == .unhealthy))
    #expect((health.reason?.hasSuffix(": Connection refused") == true) == (status == .unhealthy))
  }

  @Test func theJSONHasNullForWhatIsUnknownAndEscapesTheRest() {
    var health = HealthSnapshot(database: "app", status: .unknown, reason: "a \"b\"\n\u{1}")
    health.latencyMilliseconds = 0.25
    health.waiting = 2
    #expect(
      health.json == """
        {"status": "unknown", "latency_ms": 0.25, "role": null, "lag_bytes": null, "pool_size": 0, \
        "pool_checked_out": 0, "overflow": 0, "waiting": 2, "reason": "a \\"b\\"\\n\\u0001", "last_error": null}

        """)
  }

  private func pool(_ database: String, _ user: String, connects: UInt64) -> PoolSnapshot {
    var pool = PoolSnapshot(database: database, user: user, mode: "transaction", poolSize: 5, maxOverflow: 10)
    pool.counters.connects = connects
    return pool
  }
}
