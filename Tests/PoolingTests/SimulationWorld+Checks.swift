import Pooling

/// What must hold after every event.
extension SimulationWorld {
  /// A precondition that says what was promised.
  func require(_ condition: Bool, _ promise: StaticString) {
    if !condition { fatalError("broken promise: \(promise)") }
  }

  mutating func check() {
    if random.permille(50) { machine.checkInvariants() }
    for pool in pools.indices { check(pool) }
    for host in hosts.indices { check(host: host) }
  }

  private func check(host: Int) {
    let trials = servers.count { server in
      server.state == .dialing && pools[server.pool].host == host && server.trial == hosts[host].latestTrial
    }
    switch hosts[host].breaker.state {
    case .closed, .open: break
    case .halfOpen: require(trials == 1, "a breaker is half open while its trial is under way")
    }
  }

  private func check(_ pool: Int) {
    let counts = machine.counts(pools[pool].id)
    if !isBatching {
      require(counts.open == pools[pool].open, "the bound is counted as PostgreSQL counts")
      require(counts.waiting == pools[pool].queue.count, "nobody is forgotten")
    }
    if counts.open - counts.closing > pools[pool].configuration.bound {
      require(counts.idle == 0, "what a reload leaves no room for is not kept idle")
    }
    if pools[pool].isPaused { require(counts.idle == 0, "a paused pool keeps nothing open that nobody has") }
    guard counts.waiting > 0 else { return }
    require(!pools[pool].isRetired, "nobody waits for a pool that is gone")
    checkDeadline(pool, counts)
    guard !pools[pool].isPaused else { return }
    checkIdle(pool, counts)
    checkPermits(pool, counts)
  }

  private func checkDeadline(_ pool: Int, _ counts: PoolCounts) {
    guard var timeout = pools[pool].configuration.poolTimeoutNanoseconds else { return }
    if timeout == 0 { timeout = pools[pool].configuration.connectTimeoutNanoseconds }
    require(counts.oldestWaitSince! + timeout > now, "nobody waits beyond the deadline")
    require(machine.nextDeadline! <= counts.oldestWaitSince! + timeout, "the deadline has a timer")
  }

  /// Nobody waits while a connection is idle that could serve.
  private func checkIdle(_ pool: Int, _ counts: PoolCounts) {
    let configuration = pools[pool].configuration
    let isSupplied = counts.waiting <= counts.dialing + counts.testing
    var proofNeeded = pools[pool].suspectAt
    if configuration.prePing { proofNeeded = max(proofNeeded, now - configuration.prePingIdleNanoseconds) }
    guard counts.idle > 0 else { return }
    for server in servers where server.pool == pool && machine.state(of: server.token) == .idle {
      if let recycle = configuration.poolRecycleNanoseconds {
        let age = recycle - recycle / 10_000 * Int64(server.recycleJitterPermille)
        if now >= server.openedAt + age { continue }
      }
      require(isSupplied, "nobody waits while a connection is idle and nothing is on its way")
      require(server.provenAt <= proofNeeded, "nobody waits while a proven connection is idle")
    }
  }

  /// Nobody waits while the pool could dial, or have another pool's idle connection closed.
  private func checkPermits(_ pool: Int, _ counts: PoolCounts) {
    guard counts.waiting > counts.dialing + counts.testing else { return }
    let longestPause: Int64 = 2_000_000_000
    let isShut = counts.standing != .open && now < pools[pool].lastDialFailureAt + longestPause
    let isWide = counts.standing == .open && pools[pool].dialSuccessesSinceFailure > 5
    guard isWide || (!isShut && counts.dialing == 0) else { return }
    // Permits of connections that do not answer serve dials to the other server.
    let lent = pools[pool].isWithoutAlternative ? 0 : machine.silentClosing(pools[pool].id)
    guard counts.open - lent < pools[pool].configuration.bound else { return }
    // What is being closed will serve it, or show what else it lacks.
    let isClosing = pools.indices.contains { other in
      machine.counts(pools[other].id).closing > (other == pool ? lent : 0)
        && pools[other].limits.contains { pools[pool].limits.contains($0) }
    }
    let isBlocked = pools[pool].limits.contains { limit in
      var open = 0
      var idleElsewhere = 0
      for other in pools.indices where pools[other].limits.contains(limit) {
        let otherCounts = machine.counts(pools[other].id)
        open += otherCounts.open
        if other != pool { idleElsewhere += otherCounts.idle }
      }
      return open >= limits[limit].maximum && idleElsewhere == 0
    }
    require(isClosing || isBlocked, "nobody waits while the pool could dial, or for an idle connection's permit")
  }

  // MARK: The end

  /// Everything heals and every client leaves: then nobody waits, and nothing is left.
  mutating func finish() {
    drain()
    for host in hosts.indices { hosts[host].reachability = .up }
    for pool in pools.indices {
      pools[pool].welcome = .accepts
      if pools[pool].isPaused {
        pools[pool].isPaused = false
        machine.resume(pools[pool].id, now: now)
      }
    }
    calm()
    serveEverybody()
    for pool in pools.indices {
      let counts = machine.counts(pools[pool].id)
      require(counts.waiting == 0 && counts.active == 0 && counts.dialing == 0, "everybody was served")
      require(counts.testing == 0 && counts.settling == 0 && counts.closing == 0, "everything came to rest")
      require(counts.open == counts.idle, "what is left is idle")
      machine.retire(pools[pool].id, now: now)
      pools[pool].isRetired = true
    }
    drain()
    calm()
    machine.checkInvariants()
    for pool in pools.indices {
      require(machine.isEmpty(pools[pool].id), "nothing leaks")
      machine.remove(pools[pool].id)
    }
    for limit in limits {
      require(limit.open == 0, "no permit leaks")
      machine.removeLimit(limit.id)
    }
    require(machine.nextDeadline == nil, "no timer leaks")
  }

  /// Each client once: with a healthy upstream, whoever waits is served.
  private mutating func serveEverybody() {
    for pool in pools.indices where !pools[pool].isRetired {
      pools[pool].configuration.poolTimeoutNanoseconds = nil
      pools[pool].configuration.onOutage = .hold
      machine.configure(pools[pool].id, pools[pool].configuration, now: now)
    }
    drain()
    calm()
    let before = assignCount
    var expected = 0
    for client in clients.indices {
      let pool = random.below(pools.count)
      if !pools[pool].isRetired { expected += 1 }
      checkout(client, from: pool)
      drain()
    }
    calm()
    require(assignCount - before == expected, "each client was served once")
  }

  /// Answers everything and sends every client home until nothing moves. Takes 10 minutes of the world's time, so that
  /// an outage is over.
  private mutating func calm() {
    answerAll()
    for _ in 0..<600 {
      passTime(nanoseconds: 1_000_000_000)
      drain()
      check()
      answerAll()
    }
  }

  private mutating func answerAll() {
    var isMoving = true
    while isMoving {
      isMoving = false
      for server in servers.indices where answer(server) { isMoving = true }
      check()
    }
  }

  private mutating func answer(_ index: Int) -> Bool {
    defer { drain() }
    let server = servers[index]
    if server.holds > 0 {
      servers[index].holds -= 1
      machine.unhold(server.token, now: now)
      return true
    }
    switch server.state {
    case .none, .open: return false
    case .dialing: dialed(index)
    case .testing: pinged(index, ok: true)
    case .active:
      leave(index, for: .open)
      checkin(index)
    case .settling, .closing: endWork(index)
    }
    return true
  }
}
