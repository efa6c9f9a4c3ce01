import Admin
import Telemetry
import Testing

@Suite struct MetricsTests {
  @Test func everySampleBelongsToAFamilyWithHelpAndType() throws {
    let families = try Exposition(parsing: Metrics.render(exampleDaemon())).families
    #expect(families.count > 30)
    for family in families {
      #expect(family.name.hasPrefix("lifeguard_") || family.name.hasPrefix("process_"))
      #expect(!family.help.isEmpty && family.help.hasSuffix("."))
      #expect(!family.samples.isEmpty)
      #expect((family.type == "counter") == family.name.hasSuffix("_total"), "\(family.name)")
      let keys = family.samples.map { $0.name + $0.labels.description }
      #expect(Set(keys).count == keys.count, "\(family.name) has a sample twice")
    }
    #expect(Set(families.map(\.name)).count == families.count)
  }

  @Test func histogramsAreCumulativeAndCoverEverything() throws {
    let families = try Exposition(parsing: Metrics.render(exampleDaemon())).families
    let histograms = families.filter { $0.type == "histogram" }
    #expect(histograms.count == 7)
    for family in histograms {
      #expect(family.name.hasSuffix("_seconds"))
      for user in ["alice", "zoe"] {
        let samples = family.samples.filter { $0.labels["user"] == user }
        let buckets = samples.filter { $0.name == family.name + "_bucket" }
        let bounds = buckets.map { Double($0.labels["le"] ?? "") ?? .nan }
        #expect(bounds == bounds.sorted() && bounds.last == .infinity)
        #expect(buckets.map(\.value) == buckets.map(\.value).sorted())
        #expect(samples.first { $0.name == family.name + "_count" }?.value == buckets.last?.value)
        #expect(samples.contains { $0.name == family.name + "_sum" })
      }
    }
    let query = histograms.first { $0.name == "lifeguard_pool_query_seconds" }
    let alice = query?.samples.filter { $0.labels["user"] == "alice" } ?? []
    #expect(alice.first { $0.labels["le"] == "0.00005" }?.value == 0)
    #expect(alice.first { $0.labels["le"] == "0.0001" }?.value == 1)
    #expect(alice.first { $0.labels["le"] == "2.5" }?.value == 2)
    #expect(alice.first { $0.name.hasSuffix("_sum") }?.value == 1.5001)
  }

  @Test func valuesAreInBaseUnits() throws {
    let text = Metrics.render(exampleDaemon())
    for line in [
      "lifeguard_pool_server_connections{database=\"app\",user=\"alice\",state=\"dialing\"} 1",
      "lifeguard_pool_max_wait_seconds{database=\"app\",user=\"alice\"} 3.25",
      "lifeguard_pool_transactions_total{database=\"app\",user=\"alice\"} 10",
      "lifeguard_build_info{version=\"0.1.0\",event_loop=\"epoll\"} 1",
      "process_start_time_seconds 1795630327.25",
      "lifeguard_draining 0",
    ] {
      #expect(text.contains("\n\(line)\n"), "\(line) is missing")
    }
  }

  @Test func labelValuesAreEscaped() throws {
    var daemon = exampleDaemon()
    daemon.pools[0].database = "a\"b\\c\nd"
    let families = try Exposition(parsing: Metrics.render(daemon)).families
    let size = families.first { $0.name == "lifeguard_pool_size" }
    #expect(size?.samples.contains { $0.labels["database"] == "a\"b\\c\nd" } == true)
  }

  @Test func poolsBeyondTheLimitAreOneTogetherAndThoseThatConnectedComeFirst() throws {
    var daemon = exampleDaemon()
    daemon.pools = (0..<1_000).map { number in
      var pool = PoolSnapshot(database: "app", user: "user\(number)", mode: "session", poolSize: 2, maxOverflow: 0)
      pool.counters.timeouts = 1
      if number >= 700 { pool.counters.connects = 1 }
      return pool
    }
    let families = try Exposition(parsing: Metrics.render(daemon)).families
    let timeouts = families.first { $0.name == "lifeguard_pool_timeouts_total" }?.samples ?? []
    #expect(timeouts.count == Metrics.poolLimit + 1)
    let users = Set(timeouts.map { $0.labels["user"] })
    for number in 700..<1_000 { #expect(users.contains("user\(number)")) }
    let other = timeouts.filter { $0.labels["user"] == "_other" }
    #expect(other.map(\.value) == [500])
    #expect(other.first?.labels["database"] == "_other")
  }

  @Test(arguments: [("_other", "_other"), ("app", String(repeating: "x", count: 129))])
  func aNameThatWouldMakeASampleTwiceOrTooLongGetsNoLabelsOfItsOwn(database: String, user: String) throws {
    var daemon = exampleDaemon()
    daemon.pools.append(
      PoolSnapshot(database: database, user: user, mode: "session", poolSize: 3, maxOverflow: 0))
    let families = try Exposition(parsing: Metrics.render(daemon)).families
    let sizes = families.first { $0.name == "lifeguard_pool_size" }?.samples ?? []
    #expect(sizes.map { $0.labels["user"] } == ["alice", "zoe", "_other"])
    #expect(sizes.last?.value == 3)
  }

  @Test func theStandingOfAPoolIsOneAmongItsStates() throws {
    var daemon = exampleDaemon()
    daemon.pools[0].standing = .outage
    daemon.pools[0].latencyMicroseconds = 1_500
    let families = try Exposition(parsing: Metrics.render(daemon)).families
    let standing = families.first { $0.name == "lifeguard_pool_standing" }?.samples ?? []
    let zoe = standing.filter { $0.labels["user"] == "zoe" }
    #expect(zoe.filter { $0.value == 1 }.map { $0.labels["standing"] } == ["outage"])
    #expect(zoe.count == 4)
    // alice's has never answered: no sample is better than a zero.
    let latency = families.first { $0.name == "lifeguard_pool_round_trip_seconds" }?.samples ?? []
    #expect(latency.map(\.value) == [0.0015])
  }

  @Test func aHostIsOneAmongItsStatesAndHasNoRoleThatIsNotKnown() throws {
    let text = Metrics.render(exampleDaemon())
    for line in [
      "lifeguard_host_state{host=\"db1:5432\",state=\"down\"} 1",
      "lifeguard_host_state{host=\"db1:5432\",state=\"up\"} 0",
      "lifeguard_host_breaker{host=\"db1:5432\",breaker=\"half_open\"} 1",
      "lifeguard_host_role{host=\"db1:5432\",role=\"primary\"} 0",
      "lifeguard_host_role{host=\"db1:5432\",role=\"standby\"} 0",
      "lifeguard_host_role{host=\"db2:5432\",role=\"standby\"} 1",
      "lifeguard_host_round_trip_seconds{host=\"db2:5432\"} 0.00125",
      "lifeguard_host_lag_seconds{host=\"db2:5432\"} 2.5",
      "lifeguard_host_probes_total{host=\"db2:5432\",outcome=\"answered\"} 9",
    ] { #expect(text.contains(line + "\n"), "\(line)") }
    #expect(!text.contains("lifeguard_host_lag_bytes{host=\"db1:5432\"}"))
  }

  @Test func checkoutsAreCountedByWhatTheyCost() throws {
    var daemon = exampleDaemon()
    daemon.pools[0].counters.checkouts = 10
    daemon.pools[0].counters.checkoutsPinged = 3
    daemon.pools[0].counters.checkoutsDialed = 2
    let text = Metrics.render(daemon)
    for (proof, count) in [("recent", 5), ("ping", 3), ("dial", 2)] {
      let labels = "database=\"app\",user=\"zoe\",proof=\"\(proof)\""
      #expect(text.contains("lifeguard_pool_checkout_proofs_total{\(labels)} \(count)\n"))
    }
  }

  @Test func aDaemonWithoutPoolsHasNoEmptyFamilies() throws {
    var daemon = exampleDaemon()
    daemon.pools = []
    let families = try Exposition(parsing: Metrics.render(daemon)).families
    #expect(families.allSatisfy { !$0.samples.isEmpty && !$0.name.hasPrefix("lifeguard_pool_") })
  }

  @Test func theProcessIsMeasured() {
    let process = ProcessStatistics.read()
    #expect(process.cpuMicroseconds > 0)
    #expect(process.residentBytes ?? 0 > 1_000_000)
    #expect(process.openDescriptors ?? 0 >= 3)
    #expect(process.maxDescriptors.map { $0 >= process.openDescriptors ?? 0 } ?? true)
  }
}
