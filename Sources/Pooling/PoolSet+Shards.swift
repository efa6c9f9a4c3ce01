/// One pool on several workers: each has a `PoolSet` of its own with one shard of it, and they send each other messages.
///
/// ```
///   waiters, no permit:  hunger ──▶ next shard ──▶ next … ──▶ home: nobody had anything
///                                       │ at once, or when something becomes free without a waiter of its own
///                                       ▼
///                                     gift ──▶ the hungry shard: permits, or an idle connection with its permit
/// ```
///
/// What always holds, once all messages have arrived: the permits of all shards are the bound, and nobody waits in one
/// shard while a permit is unused, or a connection idle, in another. A shard that has what its clients need sends nothing.
/// Nobody starves either: a shard with waiters of its own gives the next connection to one whose waiters have waited
/// markedly longer.
///
/// The caller calls `review` for each shard that has changed, at the end of a turn, and carries out what
/// `nextShardMessage` names.
extension PoolSet {
  /// Permits that a claim did not find are looked for again after this.
  private static let claimRetryNanoseconds: Int64 = 50_000_000

  // MARK: Shards

  /// One shard of a pool whose other ones are in other sets; it is reviewed like any pool that has changed. Otherwise as
  /// `addPool`.
  ///
  /// - Parameters:
  ///   - configuration: of the pool as a whole.
  ///   - permits: what this shard owns at first. The shards' permits in all are the pool's bound, and as many of them are
  ///     kept ones as its `poolSize` says.
  public mutating func addShard(
    _ number: Int, of count: Int, _ configuration: PoolConfiguration, permits: ShardPermits, limits: [LimitID] = [],
    now: MonotonicTime
  ) -> PoolID {
    let id = addPool(configuration, limits: limits, isShard: true, now: now)
    let pool = slot(id)
    pools[pool].shard = Shard(number: number, of: count, configuration, permits)
    pools[pool].configuration = pools[pool].shard!.configuration
    noteChange(pool)
    refill(pool, now)
    return id
  }

  /// As `configure`, for a shard.
  ///
  /// - Parameter dealt: what a changed bound gives this shard, or takes from it. Over all shards that is the change of the
  ///   bound.
  public mutating func configureShard(
    _ id: PoolID, _ configuration: PoolConfiguration, dealt: ShardPermits, now: MonotonicTime
  ) {
    configuration.validate()
    let pool = slot(id)
    precondition(pools[pool].shard != nil, "no shard")
    pools[pool].shard!.whole = configuration
    changePermits(pool) { $0 += dealt }
    reconfigured(pool, now)
  }

  /// What the shard owns; nil for a pool that is not sharded.
  public func permits(_ id: PoolID) -> ShardPermits? { pools[slot(id)].shard?.permits }

  /// Takes the permits that the shard does not use, so that another one may have them: it is about to be removed.
  public mutating func surrender(_ id: PoolID) -> ShardPermits {
    let pool = slot(id)
    guard let owned = pools[pool].shard?.permits else { return .none }
    let count = owned.count - pools[pool].open
    let surrendered = ShardPermits(count: count, kept: min(count, owned.kept))
    changePermits(pool) { $0 -= surrendered }
    return surrendered
  }

  /// Looks after a shard that has changed: gives what others lack, and says what it lacks. Nothing for a pool that is not
  /// sharded.
  public mutating func review(_ id: PoolID, now: MonotonicTime) {
    let pool = slot(id)
    guard pools[pool].shard != nil else { return }
    feed(pool, now)
    claim(pool, now)
    announce(pool, now)
  }

  /// Takes the oldest message that has not been taken; nil when there is none.
  public mutating func nextShardMessage() -> (pool: PoolID, message: ShardMessage)? {
    guard shardMessagesTaken < shardMessages.count else {
      if shardMessagesTaken > 0 {
        shardMessages.removeAll(keepingCapacity: true)
        shardMessagesTaken = 0
      }
      return nil
    }
    shardMessagesTaken += 1
    return shardMessages[shardMessagesTaken - 1]
  }

  // MARK: Messages that arrive

  /// A shard lacks something, or no longer does.
  public mutating func hungered(_ id: PoolID, _ hunger: Hunger, now: MonotonicTime) {
    let pool = slot(id)
    guard let shard = pools[pool].shard else { preconditionFailure("no shard") }
    guard hunger.shard != shard.number else {
      guard hunger.number == shard.lastNumber, shard.announced != nil, !hunger.isOver else { return }
      pools[pool].shard!.isRefused = !hunger.isPromised
      failHopeless(pool, now)
      return
    }
    let isNews = Int32(bitPattern: hunger.number &- shard.latest[hunger.shard]) > 0 || hunger.isFirst
    guard isNews else { return }
    pools[pool].shard!.latest[hunger.shard] = hunger.number
    if hunger.isFirst, shard.announced != nil { pools[pool].shard!.mustAskAgain = true }
    remember(hunger.isOver ? nil : hunger, of: hunger.shard, pool)
    feed(pool, at: hunger.askedAt, now)
    noteChange(pool)
    var rest = hunger
    let left = pools[pool].shard!.hungers[hunger.shard]
    rest.connections = left?.connections ?? 0
    rest.permits = left?.permits ?? 0
    if pools[pool].promises > pools[pool].queue.count { rest.isPromised = true }
    // Those behind this shard forget what they knew where it is over, and have to meet a new one.
    if hunger.isOver || hunger.isFirst || !rest.isOver { shardMessages.append((id, .hunger(rest))) }
  }

  /// A shard has fewer permits than none.
  public mutating func claimed(_ id: PoolID, _ claim: ShardClaim, now: MonotonicTime) {
    let pool = slot(id)
    guard let shard = pools[pool].shard else { preconditionFailure("no shard") }
    guard claim.shard != shard.number else {
      pools[pool].shard!.claimed = nil
      pools[pool].shard!.claimAt = now + Self.claimRetryNanoseconds
      deadlines.lower(pool, to: now + Self.claimRetryNanoseconds)
      return
    }
    let spare = max(0, sparePermits(pool))
    let given = ShardPermits(
      count: min(claim.permits.count, max(spare, min(claim.forced, shard.permits.count))),
      kept: min(claim.permits.kept, max(0, shard.permits.kept)))
    var rest = claim
    rest.permits -= given
    rest.forced = max(0, rest.forced - given.count)
    if given != .none {
      changePermits(pool) { $0 -= given }
      shardMessages.append(
        (
          id,
          .gift(
            ShardGift(
              recipient: claim.shard, permits: given, availableSince: now, connections: 0, isForClaim: true))
        ))
      reconfigured(pool, now)
    }
    if rest.permits != .none { shardMessages.append((id, .claim(rest))) }
  }

  /// Permits have come from another shard.
  public mutating func granted(_ id: PoolID, _ gift: ShardGift, now: MonotonicTime) {
    let pool = slot(id)
    took(gift, pool)
    pump(pool, now)
    refill(pool, now)
  }

  /// A connection has come from another shard with its permit. `adopted`, `pinged`, `discard` or `lost` follows.
  ///
  /// - Parameters:
  ///   - host: as for `dialed`.
  ///   - settings: identifies the session settings that are in force on it.
  public mutating func adopt(_ id: PoolID, _ gift: ShardGift, host: UInt32, settings: UInt32) -> ServerToken {
    guard let moved = gift.server else { preconditionFailure("a gift without a connection") }
    let pool = slot(id)
    took(gift, pool)
    let server = servers.takeFree()
    servers[server].pool = UInt32(pool)
    servers[server].host = host
    servers[server].recycleJitterPermille = moved.recycleJitterPermille
    servers[server].openedAt = moved.openedAt
    servers[server].provenAt = moved.provenAt
    servers[server].settings = settings
    // One that was opened before this shard was told to replace all of its own is as old as those.
    let isOld = moved.openedAt <= pools[pool].generationAt
    servers[server].poolGeneration = isOld ? pools[pool].generation &- 1 : pools[pool].generation
    move(server, to: .testing)
    return servers.token(server)
  }

  /// The adopted connection can be lent.
  ///
  /// - Parameter isQuiet: nothing has come from the server meanwhile; it is pinged otherwise.
  public mutating func adopted(_ token: ServerToken, isQuiet: Bool, now: MonotonicTime) {
    let server = slot(token, in: .testing)
    let pool = Int(servers[server].pool)
    // What nobody waits for is to be as good as others when it is lent later.
    let isProven = servers[server].provenAt > pools[pool].proofNeeded(now)
    if !isQuiet || !isProven || pools[pool].queue.isEmpty { servers[server].needsPing = true }
    servers[server].provenAt = now
    makeAvailable(server, now)
  }

  private mutating func took(_ gift: ShardGift, _ pool: Int) {
    precondition(pools[pool].shard != nil, "no shard")
    changePermits(pool) { $0 += gift.permits }
    noteChange(pool)
    if gift.isForClaim {
      guard var claimed = pools[pool].shard!.claimed else { return }
      claimed -= gift.permits
      pools[pool].shard!.claimed = claimed.count <= 0 && claimed.kept <= 0 ? nil : claimed
    } else if var announced = pools[pool].shard!.announced {
      announced.connections = max(0, announced.connections - gift.connections)
      announced.permits = max(0, announced.permits - gift.permits.count)
      pools[pool].shard!.announced = announced
    }
  }

  // MARK: What others lack

  private mutating func changePermits(_ pool: Int, _ change: (inout ShardPermits) -> Void) {
    change(&pools[pool].shard!.permits)
    pools[pool].configuration = pools[pool].shard!.configuration
  }

  private mutating func remember(_ hunger: Hunger?, of shard: Int, _ pool: Int) {
    pools[pool].shard!.hungers[shard] = hunger
    setBesieged(pool, pools[pool].shard!.isBesieged)
  }

  mutating func setBesieged(_ pool: Int, _ isBesieged: Bool) {
    guard pools[pool].isBesieged != isBesieged else { return }
    pools[pool].isBesieged = isBesieged
    starvedCount += isBesieged ? 1 : -1
  }

  /// Gives others what they lack and this shard can spare.
  ///
  /// - Parameter since: since when they have been waiting for what there is; nil where it has become free just now.
  private mutating func feed(_ pool: Int, at since: MonotonicTime? = nil, _ now: MonotonicTime) {
    while pools[pool].isBesieged, pools[pool].queue.isEmpty,
      let recipient = pools[pool].shard!.neediest(\.connections),
      let server = provenIdle(pool, settings: .max, now)
    {
      give(server, to: recipient, availableSince: max(since ?? now, servers[server].provenAt))
    }
    while let recipient = pools[pool].shard!.neediest(\.permits), case let spare = sparePermits(pool), spare > 0 {
      var hunger = pools[pool].shard!.hungers[recipient]!
      let count = min(hunger.permits, spare)
      hunger.permits -= count
      let kept = min(count, max(0, pools[pool].shard!.permits.kept - pools[pool].open))
      remember(hunger.isOver ? nil : hunger, of: recipient, pool)
      grant(
        ShardGift(
          recipient: recipient, permits: ShardPermits(count: count, kept: kept), availableSince: since ?? now,
          connections: 0, isForClaim: false), from: pool)
    }
    while pools[pool].isBesieged, pools[pool].queue.isEmpty,
      pools[pool].count(.testing) < pools[pool].shard!.total(\.connections), let server = firstIdle(pool, now)
    {
      ping(server)
    }
    while pools[pool].count(.closing) < pools[pool].shard!.total(\.permits),
      pools[pool].stale.oldest != ServerTable.none
    {
      close(Int(pools[pool].stale.oldest), .generation)
    }
  }

  private mutating func grant(_ gift: ShardGift, from pool: Int) {
    changePermits(pool) { $0 -= gift.permits }
    noteChange(pool)
    shardMessages.append((PoolID(index: UInt32(pool), generation: pools[pool].slotGeneration), .gift(gift)))
  }

  /// Permits that nothing of this shard will need.
  private func sparePermits(_ pool: Int) -> Int {
    let needed = pools[pool].isPaused ? 0 : max(0, pools[pool].queue.count - pools[pool].supplies)
    return pools[pool].configuration.bound - pools[pool].open - needed
  }

  /// The connection goes to another shard, where it is wanted more than here.
  ///
  /// - Returns: whether it does.
  mutating func giveIfWanted(_ server: Int, _ now: MonotonicTime) -> Bool {
    let pool = Int(servers[server].pool)
    guard pools[pool].isBesieged, let recipient = pools[pool].shard!.neediest(\.connections) else { return false }
    if !pools[pool].queue.isEmpty {
      let hunger = pools[pool].shard!.hungers[recipient]!
      guard hunger.mayOvertake, servers[server].state != .dialing,
        hunger.waitingSince < longestWait(pool) - Self.starvationNanoseconds
      else { return false }
      pools[pool].shard!.hungers[recipient]!.mayOvertake = false
    }
    give(server, to: recipient, availableSince: now)
    return true
  }

  private mutating func give(_ server: Int, to recipient: Int, availableSince: MonotonicTime) {
    let pool = Int(servers[server].pool)
    var hunger = pools[pool].shard!.hungers[recipient]!
    hunger.connections -= 1
    hunger.permits = max(0, hunger.permits - 1)
    remember(hunger.isOver ? nil : hunger, of: recipient, pool)
    let token = servers.token(server)
    let moved = MovedServer(
      token: token, recycleJitterPermille: servers[server].recycleJitterPermille, openedAt: servers[server].openedAt,
      provenAt: servers[server].provenAt)
    effects.append(.depart(token))
    // A kept permit stays where there are connections for it.
    let kept = pools[pool].shard!.permits.kept >= pools[pool].open ? 1 : 0
    _ = release(server)
    grant(
      ShardGift(
        recipient: recipient, permits: ShardPermits(count: 1, kept: kept), server: moved,
        availableSince: availableSince, connections: 1, isForClaim: false), from: pool)
  }

  // MARK: What this one lacks

  private mutating func announce(_ pool: Int, _ now: MonotonicTime) {
    guard var shard = pools[pool].shard else { return }
    let isServing = !pools[pool].isPaused && !pools[pool].isRetired
    // A ping of its own will serve somebody sooner than another shard could.
    let connections = isServing ? max(0, pools[pool].queue.count - pools[pool].count(.testing)) : 0
    let isAtBound = pools[pool].open >= pools[pool].configuration.bound
    let permits = isServing && isAtBound ? max(0, pools[pool].queue.count - pools[pool].supplies) : 0
    let isFirst = shard.lastNumber == 0
    if connections == 0, permits == 0 {
      guard shard.announced != nil || isFirst else { return }
    } else if let announced = shard.announced, !shard.mustAskAgain {
      guard connections > announced.connections || permits > announced.permits else { return }
    }
    shard.lastNumber &+= 1
    let hunger = Hunger(
      shard: shard.number, number: shard.lastNumber, isFirst: isFirst, connections: connections, permits: permits,
      waitingSince: min(longestWait(pool), now), askedAt: now)
    shard.announced = hunger.isOver ? nil : hunger
    shard.isRefused = false
    shard.mustAskAgain = false
    pools[pool].shard = shard
    shardMessages.append(
      (PoolID(index: UInt32(pool), generation: pools[pool].slotGeneration), .hunger(hunger)))
  }

  private mutating func claim(_ pool: Int, _ now: MonotonicTime) {
    guard let shard = pools[pool].shard, shard.claimed == nil, now >= shard.claimAt else { return }
    let forced = max(0, -shard.permits.count)
    // What is in use beyond the permits is covered by what others do not use.
    let excess = pools[pool].open - pools[pool].count(.closing) - shard.permits.count
    let missing = ShardPermits(count: max(forced, excess, 0), kept: max(0, -shard.permits.kept))
    guard missing != .none else { return }
    pools[pool].shard!.claimed = missing
    shardMessages.append(
      (
        PoolID(index: UInt32(pool), generation: pools[pool].slotGeneration),
        .claim(ShardClaim(shard: shard.number, permits: missing, forced: forced))
      ))
  }
}
