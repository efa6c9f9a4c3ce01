/// What time and the administrator do: pools and limits come, change and go; deadlines pass.
extension PoolSet {
  /// After a failed dial, or where a limit is full, `minSize` is not refilled sooner than after this.
  static let refillRetryNanoseconds: Int64 = 1_000_000_000
  /// Idle connections of an older generation are closed one at a time, so far apart.
  static let replacementPaceNanoseconds: Int64 = 10_000_000

  // MARK: Limits

  /// A limit above pools; `Int.max` where there is none yet but may be after a reload.
  public mutating func addLimit(maximum: Int) -> LimitID {
    precondition(maximum >= 1, "a limit lets something through")
    return LimitID(index: UInt32(limits.add(maximum: maximum)))
  }

  /// Changes the limit. What is idle beyond a smaller one is closed now, what is in use when it comes back.
  public mutating func setLimit(_ id: LimitID, maximum: Int, now: MonotonicTime) {
    precondition(maximum >= 1, "a limit lets something through")
    let limit = slot(id)
    limits[limit].maximum = maximum
    while limits.isOverdrawn(limit), let server = longestIdle(under: limit, otherThan: nil) { close(server, .shrunk) }
    claimants.removeAll(keepingCapacity: true)
    claimStarved(of: limit)
    pumpClaimants(now)
  }

  /// Removes a limit that no pool is under any more.
  public mutating func removeLimit(_ id: LimitID) {
    let limit = slot(id)
    precondition(limits[limit].pools.isEmpty, "the limit has pools")
    limits[limit].isUsed = false
  }

  private func slot(_ id: LimitID) -> Int {
    let index = Int(id.index)
    precondition(limits.indices.contains(index) && limits[index].isUsed, "no such limit")
    return index
  }

  // MARK: Pools

  /// A pool, empty unless its `minSize` asks for more. The limits that it is under stay the same for its life.
  public mutating func addPool(
    _ configuration: PoolConfiguration, limits ids: [LimitID] = [], now: MonotonicTime
  ) -> PoolID {
    addPool(configuration, limits: ids, isShard: false, now: now)
  }

  mutating func addPool(
    _ configuration: PoolConfiguration, limits ids: [LimitID], isShard: Bool, now: MonotonicTime
  ) -> PoolID {
    configuration.validate()
    let above = ids.map { slot($0) }
    precondition(Set(above).count == above.count, "a limit counts once")
    let pool: Int
    if let reused = pools.firstIndex(where: { !$0.isUsed }) {
      pool = reused
      pools[pool] = Pool(configuration, limits: above, slotGeneration: pools[pool].slotGeneration &+ 1)
    } else {
      pool = pools.count
      pools.append(Pool(configuration, limits: above, slotGeneration: 0))
      deadlines.append()
    }
    for limit in above { limits[limit].pools.append(pool) }
    if !isShard { refill(pool, now) }
    return PoolID(index: UInt32(pool), generation: pools[pool].slotGeneration)
  }

  /// Changes the pool's settings. They hold for all of its clients and connections at once; what is idle beyond a
  /// smaller bound is closed now, what is in use when it comes back.
  public mutating func configure(_ id: PoolID, _ configuration: PoolConfiguration, now: MonotonicTime) {
    configuration.validate()
    let pool = slot(id)
    precondition(pools[pool].shard == nil, "a shard has a part of the settings only")
    pools[pool].configuration = configuration
    reconfigured(pool, now)
  }

  /// The pool's settings, or a shard's part of them, have changed.
  mutating func reconfigured(_ pool: Int, _ now: MonotonicTime) {
    noteChange(pool)
    guard !pools[pool].isRetired else { return }
    while pools[pool].isOverdrawn, pools[pool].stale.oldest != ServerTable.none {
      close(Int(pools[pool].stale.oldest), .shrunk)
    }
    while pools[pool].isOverdrawn, pools[pool].idle.oldest != ServerTable.none {
      close(Int(pools[pool].idle.oldest), .shrunk)
    }
    var place = pools[pool].idle.oldest
    for _ in 0..<max(0, pools[pool].count(.idle) - pools[pool].configuration.poolSize) {
      let lingerUntil = now + pools[pool].configuration.overflowLingerNanoseconds
      servers[Int(place)].lingerUntil = min(servers[Int(place)].lingerUntil, lingerUntil)
      place = servers[Int(place)].newer
    }
    tend(pool, now)
  }

  /// The pool takes no client any more: those who wait fail, what is lent to nobody is closed now, the rest when it
  /// comes back. Remove it when it is empty.
  public mutating func retire(_ id: PoolID, now: MonotonicTime) {
    let pool = slot(id)
    pools[pool].isRetired = true
    failAll(pool, .retired)
    for server in servers.indices where Int(servers[server].pool) == pool {
      switch servers[server].state {
      case .idle, .stale, .testing, .parked: close(server, .retired)
      case .free, .dialing, .active, .settling, .closing: break
      }
    }
    deadlines.clear(pool)
  }

  /// Whether the pool has neither connections nor permits under way.
  public func isEmpty(_ id: PoolID) -> Bool {
    let pool = slot(id)
    return pools[pool].open == 0 && pools[pool].reclaiming == 0 && pools[pool].queue.isEmpty
  }

  /// Removes a pool that is retired and empty; its identifier must not be used any more.
  public mutating func remove(_ id: PoolID) {
    let pool = slot(id)
    precondition(pools[pool].isRetired && isEmpty(id), "the pool is in use")
    for limit in pools[pool].limits { limits[limit].pools.removeAll { $0 == pool } }
    setBesieged(pool, false)
    pools[pool].shard = nil
    pools[pool].isUsed = false
    pools[pool].limits = []
  }

  /// Lends and opens nothing until `resume`: clients wait, up to their deadline. Connections are closed, the idle ones
  /// now and the others when they come back, so that the server may be restarted when none is left.
  public mutating func pause(_ id: PoolID, now: MonotonicTime) {
    let pool = slot(id)
    pools[pool].isPaused = true
    noteChange(pool)
    while pools[pool].stale.oldest != ServerTable.none { close(Int(pools[pool].stale.oldest), .paused) }
    while pools[pool].idle.oldest != ServerTable.none { close(Int(pools[pool].idle.oldest), .paused) }
    pump(pool, now)
  }

  /// Ends `pause`.
  public mutating func resume(_ id: PoolID, now: MonotonicTime) {
    let pool = slot(id)
    pools[pool].isPaused = false
    noteChange(pool)
    pump(pool, now)
    refill(pool, now)
  }

  /// Has every connection replaced: the idle ones in the background, the others when they come back. Those that are
  /// being dialed count as old too.
  public mutating func reconnect(_ id: PoolID, now: MonotonicTime) {
    let pool = slot(id)
    startGeneration(pool, now)
    pools[pool].reconnectGeneration = pools[pool].generation
    pump(pool, now)
    refill(pool, now)
  }

  /// All connections that the pool has are old from now on.
  mutating func startGeneration(_ pool: Int, _ now: MonotonicTime) {
    pools[pool].generation &+= 1
    pools[pool].generationAt = now
    while pools[pool].idle.oldest != ServerTable.none { move(Int(pools[pool].idle.oldest), to: .stale) }
    replaceStale(pool, now)
  }

  // MARK: Time

  /// When `advance` is to be called next; nil when there is nothing to wait for. It may be early, never late.
  public var nextDeadline: MonotonicTime? { deadlines.first?.deadline }

  /// Does what is due: waits that run out, connections that are too old or linger too long, the next trial of an
  /// outage, `minSize`.
  public mutating func advance(to now: MonotonicTime) {
    while let (pool, deadline) = deadlines.first, deadline <= now { tend(pool, now) }
  }

  /// Does what is due in one pool, and finds its next deadline.
  private mutating func tend(_ pool: Int, _ now: MonotonicTime) {
    deadlines.clear(pool)
    expireWaiters(pool, now)
    replaceStale(pool, now)
    tidyIdle(pool, now)
    pump(pool, now)
    refill(pool, now)
    if let shard = pools[pool].shard {
      noteChange(pool)
      if shard.claimAt > now { deadlines.lower(pool, to: shard.claimAt) }
    }
  }

  private mutating func expireWaiters(_ pool: Int, _ now: MonotonicTime) {
    let failure: WaitFailure = pools[pool].gate.standing == .outage ? .outage : .timeout
    while !pools[pool].queue.isEmpty {
      let client = pools[pool].queue.first
      let deadline = pools[pool].deadline(ofWaiterSince: waiters[client].since)
      guard deadline <= now else {
        deadlines.lower(pool, to: deadline)
        return
      }
      fail(client, of: pool, failure)
    }
  }

  /// Closes one connection of an older generation, if it is time.
  mutating func replaceStale(_ pool: Int, _ now: MonotonicTime) {
    if pools[pool].stale.oldest != ServerTable.none, now >= pools[pool].nextReplacementAt {
      close(Int(pools[pool].stale.oldest), .generation)
      pools[pool].nextReplacementAt = now + Self.replacementPaceNanoseconds
    }
    if pools[pool].stale.oldest != ServerTable.none { deadlines.lower(pool, to: pools[pool].nextReplacementAt) }
  }

  /// Closes the idle connections that are too old or have lingered, and finds when the next one will.
  private mutating func tidyIdle(_ pool: Int, _ now: MonotonicTime) {
    var place = pools[pool].idle.oldest
    while place != ServerTable.none {
      let server = Int(place)
      place = servers[server].newer
      if isTooOld(server, now) {
        close(server, .recycled)
        continue
      }
      if servers[server].lingerUntil <= now {
        if pools[pool].count(.idle) > pools[pool].configuration.poolSize {
          close(server, .overflow)
          continue
        }
        servers[server].lingerUntil = .distantFuture
      }
      deadlines.lower(pool, to: min(servers[server].lingerUntil, recycleAt(server)))
    }
  }

  /// Dials for `minSize`, one at a time and never ahead of a client.
  mutating func refill(_ pool: Int, _ now: MonotonicTime) {
    guard pools[pool].live + pools[pool].count(.dialing) < pools[pool].configuration.minSize,
      pools[pool].count(.dialing) == 0, !pools[pool].isPaused, !pools[pool].isRetired
    else { return }
    let notBefore = max(pools[pool].refillAt, pools[pool].gate.notBefore)
    guard now >= notBefore else {
      deadlines.lower(pool, to: notBefore)
      return
    }
    guard !pools[pool].isAtBound, fullLimit(above: pool) == nil else {
      pools[pool].refillAt = now + Self.refillRetryNanoseconds
      deadlines.lower(pool, to: pools[pool].refillAt)
      return
    }
    dial(pool, now)
  }
}
