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

  private func host(_ name: String, _ state: String, role: String? = nil) -> HostSnapshot {
    var host = HostSnapshot(host: name)
    host.state = state
    host.role = role
    host.lastError = state == "down" ? "no answer" : nil
    return host
  }

  @Test func aProbeThatWasAnsweredMakesItHealthyBeforeAnyClientComes() {
    var primary = host("a:1", "up", role: "primary")
    primary.latencyMicroseconds = 500
    let health = HealthSnapshot(database: "app", hosts: [primary], pools: [], poolSize: 5)
    #expect(health.status == .healthy && health.latencyMilliseconds == 0.5 && health.role == "primary")
  }

  @Test func aHostThatIsDownMattersOnlyWhereNoOtherServes() {
    let hosts = [host("a:1", "down"), host("b:1", "up", role: "standby")]
    #expect(HealthSnapshot(database: "app", hosts: hosts, pools: [], poolSize: 5).status == .healthy)
    let down = HealthSnapshot(database: "app", hosts: [hosts[0]], pools: [], poolSize: 5)
    #expect(down.status == .unhealthy && down.reason == "host a:1 is down: no answer")
    let pools = [pool("app", "alice", connects: 1)]
    let writes = HealthSnapshot(database: "app", hosts: hosts, wantsPrimary: true, pools: pools, poolSize: 5)
    #expect(writes.status == .unhealthy)
    #expect(writes.reason == "host a:1 is down: no answer; host b:1 is a standby")
  }

  @Test func roleAndLagAreOfTheHostThatServes() {
    var standby = host("b:1", "up", role: "standby")
    standby.lagBytes = 4096
    standby.lagMicroseconds = 1_500_000
    let hosts = [host("a:1", "up", role: "primary"), standby]
    let reads = HealthSnapshot(database: "app", hosts: hosts, wantsPrimary: false, pools: [], poolSize: 5)
    #expect(reads.role == "standby" && reads.lagBytes == 4096 && reads.lagSeconds == 1.5)
    let writes = HealthSnapshot(database: "app", hosts: hosts, wantsPrimary: true, pools: [], poolSize: 5)
    #expect(writes.role == "primary" && writes.lagBytes == nil)
  }

  @Test func hostsOfWhichNothingIsKnownSpeakAgainstNothing() {
    let hosts = [host("a:1", "unknown")]
    #expect(HealthSnapshot(database: "app", hosts: hosts, pools: [], poolSize: 5).status == .unknown)
    let pools = [pool("app", "alice", connects: 1)]
    #expect(HealthSnapshot(database: "app", hosts: hosts, pools: pools, poolSize: 5).status == .healthy)
  }

  @Test func theJSONHasNullForWhatIsUnknownAndEscapesTheRest() {
    var health = HealthSnapshot(database: "app", status: .unknown, reason: "a \"b\"\n\u{1}")
    health.latencyMilliseconds = 0.25
    health.waiting = 2
    #expect(
      health.json == """
        {"status": "unknown", "latency_ms": 0.25, "role": null, "lag_bytes": null, "lag_seconds": null, \
        "pool_size": 0, \
        "pool_checked_out": 0, "overflow": 0, "waiting": 2, "reason": "a \\"b\\"\\n\\u0001", "last_error": null}

        """)
  }

  private func pool(_ database: String, _ user: String, connects: UInt64) -> PoolSnapshot {
    var pool = PoolSnapshot(database: database, user: user, mode: "transaction", poolSize: 5, maxOverflow: 10)
    pool.counters.connects = connects
    return pool
  }
}
