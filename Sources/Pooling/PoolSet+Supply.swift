/// Who gets which connection, and what is done so that waiters get one.
extension PoolSet {
  /// How many idle connections are looked at for one with the wanted settings.
  private static let settingsCandidates = 8
  /// How long a pool without any connection waits before it takes one that a busy pool has a client for; and how much
  /// longer the waiters of another shard have to have waited.
  static let starvationNanoseconds: Int64 = 100_000_000

  // MARK: A connection becomes available

  /// The connection is clean and has just answered: to whom it goes.
  mutating func makeAvailable(_ server: Int, _ now: MonotonicTime) {
    let pool = Int(servers[server].pool)
    if let reason = unfitness(server, now) {
      close(server, reason)
      pump(pool, now)
    } else if servers[server].holds > 0 {
      move(server, to: .parked)
    } else if servers[server].needsPing {
      ping(server)
    } else if starvedCount > 0, handOn(server, now) {
      return
    } else if !pools[pool].queue.isEmpty, !pools[pool].isPaused {
      let client = pools[pool].queue.first
      dequeue(client, from: pool)
      lend(server, to: waiters.token(client))
    } else {
      rest(server, now)
    }
  }

  /// Gives the connection, or its permit, to those who need it more than this pool's waiters.
  ///
  /// - Returns: whether there are any.
  private mutating func handOn(_ server: Int, _ now: MonotonicTime) -> Bool {
    guard let claimant = claimant(to: server, now) else { return giveIfWanted(server, now) }
    let pool = Int(servers[server].pool)
    close(server, .limit, for: claimant)
    pump(pool, now)
    return true
  }

  /// Why the connection must not be lent again; nil when it may.
  private func unfitness(_ server: Int, _ now: MonotonicTime) -> CloseReason? {
    let pool = Int(servers[server].pool)
    if pools[pool].isRetired { return .retired }
    if pools[pool].isPaused { return .paused }
    if servers[server].poolGeneration != pools[pool].generation { return .generation }
    if isTooOld(server, now) { return .recycled }
    if pools[pool].isOverdrawn { return .shrunk }
    if limits.overdrawnCount > 0, pools[pool].limits.contains(where: { limits.isOverdrawn($0) }) { return .shrunk }
    return nil
  }

  func isTooOld(_ server: Int, _ now: MonotonicTime) -> Bool { now >= recycleAt(server) }

  func recycleAt(_ server: Int) -> MonotonicTime {
    pools[Int(servers[server].pool)].recycleAt(
      openedAt: servers[server].openedAt, jitterPermille: servers[server].recycleJitterPermille)
  }

  /// The connection becomes idle, or is closed where enough are idle.
  private mutating func rest(_ server: Int, _ now: MonotonicTime) {
    let pool = Int(servers[server].pool)
    let isOverflow = pools[pool].count(.idle) >= pools[pool].configuration.poolSize
    let linger = pools[pool].configuration.overflowLingerNanoseconds
    if isOverflow, linger == 0 {
      close(server, .overflow)
      return
    }
    move(server, to: .idle)
    servers[server].lingerUntil = isOverflow ? now + linger : .distantFuture
    deadlines.lower(pool, to: min(servers[server].lingerUntil, recycleAt(server)))
  }

  /// A pool under the same limit that needs the permit more than this pool needs the connection.
  ///
  /// Where nobody of this pool waits, that is any pool that lacks only this permit. Where somebody does, it is a pool
  /// that has no connection at all and has waited longer, for a while: beside a pool that is always busy it could
  /// otherwise wait for ever. Not at once, so that more busy pools than permits do not spend their time with dialing.
  private func claimant(to server: Int, _ now: MonotonicTime) -> Int? {
    let pool = Int(servers[server].pool)
    let isWanted = !pools[pool].queue.isEmpty && !pools[pool].isPaused
    if isWanted, servers[server].state == .dialing { return nil }
    let waitingSince = isWanted ? min(longestWait(pool), now - Self.starvationNanoseconds) : now
    for limit in pools[pool].limits {
      for other in limits[limit].starved where other != pool && pools[other].lacksPromise {
        let hasNone = pools[other].open == 0 && pools[other].reclaiming == 0
        if !isWanted || hasNone && longestWait(other) < waitingSince { return other }
      }
    }
    return nil
  }

  // MARK: Somebody waits

  /// Serves the pool's waiters with what there is, then gets what they still lack.
  mutating func pump(_ pool: Int, _ now: MonotonicTime) {
    unblock(pool)
    while !pools[pool].queue.isEmpty, !pools[pool].isPaused {
      let client = pools[pool].queue.first
      if let server = provenIdle(pool, settings: waiters[client].settings, now) {
        dequeue(client, from: pool)
        lend(server, to: waiters.token(client))
        continue
      }
      guard pools[pool].lacksSupply else { break }
      if let server = firstIdle(pool, now) {
        ping(server)
        continue
      }
      guard tryDial(pool, now) else { break }
    }
    failHopeless(pool, now)
  }

  /// The connection belongs to the client from now on.
  mutating func lend(_ server: Int, to client: ClientToken) {
    move(server, to: .active)
    effects.append(.assign(client, servers.token(server)))
  }

  /// Asks for a ping. It is a supply of the pool and not tied to a client: whatever becomes available first goes to who
  /// waits longest.
  mutating func ping(_ server: Int) {
    move(server, to: .testing)
    effects.append(.ping(servers.token(server)))
  }

  /// The client leaves the queue.
  mutating func dequeue(_ client: UInt32, from pool: Int) {
    waiters.remove(client, from: &pools[pool].queue)
    noteChange(pool)
    if pools[pool].queue.isEmpty { unblock(pool) }
  }

  /// An idle connection that can be lent at once, best one with the wanted settings; nil when there is none.
  ///
  /// Looks at a few, in the order of lending. Newest first, the first unproven one ends the search, since those behind
  /// it have been idle longer. Oldest first, it ends the search too, so that it gets its ping and its turn; while
  /// something is on its way already, a proven one behind it may serve the client sooner.
  mutating func provenIdle(_ pool: Int, settings: UInt32, _ now: MonotonicTime) -> Int? {
    let isLIFO = pools[pool].configuration.useLIFO
    let skipsUnproven = !isLIFO && pools[pool].supplies > 0
    let proofNeeded = pools[pool].proofNeeded(now)
    var place = isLIFO ? pools[pool].idle.newest : pools[pool].idle.oldest
    var best: Int?
    var looked = 0
    while place != ServerTable.none, looked < Self.settingsCandidates {
      let server = Int(place)
      place = isLIFO ? servers[server].older : servers[server].newer
      guard !isTooOld(server, now) else {
        close(server, .recycled)
        continue
      }
      looked += 1
      if servers[server].provenAt <= proofNeeded {
        guard skipsUnproven else { break }
      } else if servers[server].settings == settings {
        return server
      } else if best == nil {
        best = server
      }
    }
    if best == nil, skipsUnproven, let newest = newestIdle(pool), servers[newest].provenAt > proofNeeded,
      !isTooOld(newest, now)
    {
      return newest
    }
    return best
  }

  private func newestIdle(_ pool: Int) -> Int? {
    pools[pool].idle.newest == ServerTable.none ? nil : Int(pools[pool].idle.newest)
  }

  /// The idle connection that is next to be lent, proven or not. Those that are too old are closed on the way.
  mutating func firstIdle(_ pool: Int, _ now: MonotonicTime) -> Int? {
    while true {
      let place = pools[pool].configuration.useLIFO ? pools[pool].idle.newest : pools[pool].idle.oldest
      guard place != ServerTable.none else { return nil }
      guard isTooOld(Int(place), now) else { return Int(place) }
      close(Int(place), .recycled)
    }
  }

  // MARK: Dials

  /// Dials for the pool's waiters.
  ///
  /// - Returns: whether a dial was made. If not, the permits that can be had were asked for, and whatever the pool then
  ///   waits for (a permit, a time) serves it when it comes.
  private mutating func tryDial(_ pool: Int, _ now: MonotonicTime) -> Bool {
    guard pools[pool].gate.mayDial(inFlight: pools[pool].count(.dialing), now) else {
      if now < pools[pool].gate.notBefore { deadlines.lower(pool, to: pools[pool].gate.notBefore) }
      return false
    }
    var blocking: Int?
    while true {
      blocking = pools[pool].isAtBound ? nil : fullLimit(above: pool)
      if !pools[pool].isAtBound, blocking == nil {
        dial(pool, now)
        return true
      }
      guard pools[pool].lacksPromise, pools[pool].stale.oldest != ServerTable.none else { break }
      close(Int(pools[pool].stale.oldest), .generation)
    }
    guard let blocking else { return false }
    while pools[pool].lacksPromise, let victim = longestIdle(under: blocking, otherThan: pool) {
      close(victim, .limit, for: pool)
    }
    pools[pool].blockedBy = blocking
    limits[blocking].starved.append(pool)
    starvedCount += 1
    return false
  }

  mutating func dial(_ pool: Int, _ now: MonotonicTime) {
    let avoided = fullHosts(of: pool)
    let server = servers.takeFree()
    servers[server].pool = UInt32(pool)
    servers[server].poolGeneration = pools[pool].generation
    servers[server].isTrial = pools[pool].gate.isTrying
    servers[server].openedAt = now
    servers[server].avoided = avoided
    move(server, to: .dialing)
    servers[server].isOverflow = pools[pool].open - pools[pool].lent > pools[pool].configuration.poolSize
    effects.append(.dial(servers.token(server), PoolID(index: UInt32(pool), generation: pools[pool].slotGeneration)))
  }

  func fullLimit(above pool: Int) -> Int? { pools[pool].limits.first { limits.isFull($0) } }

  /// The connection that has been idle longest of all pools under the limit, but one.
  func longestIdle(under limit: Int, otherThan excluded: Int?) -> Int? {
    var longest: Int?
    for pool in limits[limit].pools where pool != excluded {
      let place = pools[pool].stale.oldest != ServerTable.none ? pools[pool].stale.oldest : pools[pool].idle.oldest
      guard place != ServerTable.none else { continue }
      let server = Int(place)
      if let known = longest, servers[known].provenAt <= servers[server].provenAt { continue }
      longest = server
    }
    return longest
  }

  /// The pool's waiters lack something else than a permit of a limit, or nothing.
  mutating func unblock(_ pool: Int) {
    let limit = pools[pool].blockedBy
    guard limit != Pool.notBlocked else { return }
    pools[pool].blockedBy = Pool.notBlocked
    limits[limit].starved.removeAll { $0 == pool }
    starvedCount -= 1
  }

  // MARK: A permit comes back

  /// A permit of the pool is free: whoever can use it, the longest waiting first.
  mutating func permitReturned(of pool: Int, beneficiary: Int?, _ now: MonotonicTime) {
    if starvedCount > 0 || beneficiary != nil {
      claimants.removeAll(keepingCapacity: true)
      claimants.append(pool)
      if let beneficiary, beneficiary != pool { claimants.append(beneficiary) }
      for place in pools[pool].limits.indices { claimStarved(of: pools[pool].limits[place]) }
      pumpClaimants(now)
    } else {
      pump(pool, now)
    }
    refill(pool, now)
  }

  /// Adds the pools that lack a permit of the limit.
  mutating func claimStarved(of limit: Int) {
    for other in limits[limit].starved where !claimants.contains(other) { claimants.append(other) }
  }

  /// Serves the claimants, the pool with the longest wait first.
  mutating func pumpClaimants(_ now: MonotonicTime) {
    while let next = claimants.indices.min(by: { longestWait(claimants[$0]) < longestWait(claimants[$1]) }) {
      pump(claimants.remove(at: next), now)
    }
  }

  func longestWait(_ pool: Int) -> MonotonicTime {
    pools[pool].queue.isEmpty ? .distantFuture : waiters[pools[pool].queue.first].since
  }

  // MARK: Nobody can help

  /// Fails the waiters for whom waiting makes no sense.
  mutating func failHopeless(_ pool: Int, _ now: MonotonicTime) {
    guard !pools[pool].queue.isEmpty else { return }
    // Other shards are asked first.
    if let shard = pools[pool].shard, !shard.isRefused, !pools[pool].isPaused { return }
    let standing = pools[pool].gate.standing
    if standing == .rejected, now < pools[pool].gate.notBefore, pools[pool].live == 0 {
      failAll(pool, .rejected)
      return
    }
    let isOutage = standing == .outage
    guard
      pools[pool].configuration.poolTimeoutNanoseconds == 0
        || isOutage && pools[pool].configuration.onOutage == .fail
    else { return }
    // Those who came last have the least hope. In an outage a permit helps nobody.
    while isOutage ? pools[pool].lacksSupply : pools[pool].lacksPromise {
      fail(pools[pool].queue.last, of: pool, isOutage ? .outage : .timeout)
    }
  }

  mutating func failAll(_ pool: Int, _ failure: WaitFailure) {
    while !pools[pool].queue.isEmpty { fail(pools[pool].queue.first, of: pool, failure) }
  }

  mutating func fail(_ client: UInt32, of pool: Int, _ failure: WaitFailure) {
    dequeue(client, from: pool)
    effects.append(.fail(waiters.token(client), failure))
  }
}
