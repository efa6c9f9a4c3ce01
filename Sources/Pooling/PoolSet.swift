/// All pools of one worker and the limits above them: decides who gets which server connection.
///
/// A pure state machine. Events come in as method calls, with the time as an argument; what is to be done comes out as
/// effects, in order, through `nextEffect()`. There is no clock, no randomness, no socket and no callback, so a seed
/// replays a run. Lending an idle connection and taking one back are O(1) and allocate nothing.
///
/// What always holds, whatever the order of events:
///
/// - A permit is taken with the `dial` effect and given back by `closed`, `lost` or `dialFailed`. A pool never has more
///   permits than its bound (`poolSize + maxOverflow`), nor do the pools under a limit have more than its maximum. Only
///   a reload may leave more open than it now allows; the excess is closed as it becomes idle.
/// - While connections that do not answer are being closed, a pool may have as many again to other hosts. Of no host does
///   it have more than its bound.
/// - A connection has at most one client, and a client in the queue gets exactly one `assign` or `fail`, unless it
///   abandons its wait.
/// - Waiters of a pool are served strictly in the order in which they came, and no newcomer overtakes.
/// - Nobody waits while a fit and proven connection of the pool is idle, or while the pool could dial.
/// - Nobody waits beyond `poolTimeout` once `advance` has been called with that time.
///
/// What the caller must know:
///
/// - Drain the effects after each event, or after a batch of events. In a batch, an effect may meanwhile concern what
///   is gone. Skip it if it names a server that was reported `lost`; a client whose `assign` is skipped so checks out
///   again. If it assigns a connection to a client whose `abandon` was answered false, check that connection in.
/// - Some reports come late by nature, and are ignored for a connection that is closing or gone: `pinged` and `unhold`.
///   `discard` and `lost` may also come for one that is closing. Everything else that does not fit the state is a
///   mistake of the caller, and traps.
/// - Methods that take `now` want the same clock, never going back.
///
/// The rules are in six files: the events here, lending and dialing in `PoolSet+Supply`, news of hosts in
/// `PoolSet+Hosts`, time and reloads in `PoolSet+Upkeep`, what shards of one pool do for each other in `PoolSet+Shards`,
/// and the funnel of state changes with its invariants in `PoolSet+States`.
public struct PoolSet: ~Copyable {
  var pools: ContiguousArray<Pool> = []
  var servers = ServerTable()
  var waiters = WaiterTable()
  var limits = LimitTable()
  var deadlines = PoolDeadlines()
  /// Pools whose waiters lack nothing but a permit of a limit, and shards whose idle connections others could use: while
  /// there are none, a connection that becomes available is this pool's without further questions.
  var starvedCount = 0
  /// Pools whose counts may have changed since `nextChanged` named them.
  var changed: [Int] = []
  /// The pools to serve after a permit came back; kept so that nothing is allocated.
  var claimants: [Int] = []

  var effects: [PoolEffect] = []
  private var effectsTaken = 0
  /// What shards have to say to others; kept apart, as effects are small and many.
  var shardMessages: [(pool: PoolID, message: ShardMessage)] = []
  var shardMessagesTaken = 0

  public init() {}

  /// Takes the oldest effect that has not been taken; nil when there is none.
  public mutating func nextEffect() -> PoolEffect? {
    guard effectsTaken < effects.count else {
      if effectsTaken > 0 {
        effects.removeAll(keepingCapacity: true)
        effectsTaken = 0
      }
      return nil
    }
    effectsTaken += 1
    return effects[effectsTaken - 1]
  }

  // MARK: Clients

  /// A client wants a connection of the pool. It gets `assign` at once, or waits, or fails.
  ///
  /// - Parameter settings: identifies the session settings that the client wants. An idle connection on which the same
  ///   ones are in force is preferred.
  public mutating func checkout(_ client: ClientToken, from id: PoolID, settings: UInt32, now: MonotonicTime) {
    precondition(!waiters.isWaiting(client.index), "a client waits once")
    let pool = slot(id)
    if pools[pool].queue.isEmpty, !pools[pool].isPaused, let server = provenIdle(pool, settings: settings, now) {
      lend(server, to: client)
      return
    }
    guard !pools[pool].isRetired else {
      effects.append(.fail(client, .retired))
      return
    }
    waiters.append(client, settings: settings, since: now, pool: pool, to: &pools[pool].queue)
    noteChange(pool)
    deadlines.lower(pool, to: pools[pool].deadline(ofWaiterSince: now))
    pump(pool, now)
  }

  /// A client stops waiting: it is gone, or its request was cancelled.
  ///
  /// - Returns: whether it was waiting. False means that it has been given an `assign` or a `fail`, which may still be
  ///   among the effects that have not been taken.
  @discardableResult
  public mutating func abandon(_ client: ClientToken, now: MonotonicTime) -> Bool {
    guard let pool = waiters.pool(of: client) else { return false }
    dequeue(client.index, from: pool)
    return true
  }

  /// The client gives the connection back: ReadyForQuery 'I' has come, and the server owes no reply.
  ///
  /// - Parameter settings: identifies the session settings that are now in force on it.
  public mutating func checkin(_ token: ServerToken, settings: UInt32, now: MonotonicTime) {
    let server = slot(token, in: .active)
    servers[server].settings = settings
    proven(server, now)
    makeAvailable(server, now)
  }

  /// The client has let go of the connection, but it is not clean: a rollback, a cancel or the reset query runs.
  /// `settled`, `discard` or `lost` follows.
  public mutating func settle(_ token: ServerToken) {
    move(slot(token, in: .active), to: .settling)
  }

  /// The connection is clean: as `checkin`.
  public mutating func settled(_ token: ServerToken, settings: UInt32, now: MonotonicTime) {
    let server = slot(token, in: .settling)
    servers[server].settings = settings
    proven(server, now)
    makeAvailable(server, now)
  }

  /// The server has just answered on the connection.
  private mutating func proven(_ server: Int, _ now: MonotonicTime) {
    servers[server].provenAt = now
    servers[server].isSilent = false
  }

  // MARK: Cancel requests

  /// A cancel request aimed at the connection is under way: until `unhold` it goes to no other client, not even after
  /// its checkin. Several may be under way.
  public mutating func hold(_ token: ServerToken) {
    let server = slot(token)
    precondition(
      servers[server].state == .active || servers[server].state == .settling, "only a busy server is cancelled")
    servers[server].holds += 1
    servers[server].needsPing = true
  }

  /// That cancel request is over. Its signal may still be on the way, so that a ping comes before the connection is
  /// lent again. Ignored when the connection is closing or gone.
  public mutating func unhold(_ token: ServerToken, now: MonotonicTime) {
    guard let server = servers.find(token), servers[server].state != .closing else { return }
    precondition(servers[server].holds > 0, "unhold without hold")
    servers[server].holds -= 1
    if servers[server].holds == 0, servers[server].state == .parked { makeAvailable(server, now) }
  }

  // MARK: Server connections

  /// The dial succeeded: the connection is handed over and has answered a Sync.
  ///
  /// - Parameters:
  ///   - host: tells apart the hosts of the pool; connections to one of them die together.
  ///   - settings: identifies the session settings that are in force on it.
  ///   - recycleJitterPermille: 0 to 1,000: how much of a tenth of `pool_recycle` is taken off its age.
  public mutating func dialed(
    _ token: ServerToken, host: UInt32 = 0, settings: UInt32, recycleJitterPermille: UInt32, now: MonotonicTime
  ) {
    precondition(recycleJitterPermille <= 1000)
    let server = slot(token, in: .dialing)
    let pool = Int(servers[server].pool)
    servers[server].host = host
    servers[server].settings = settings
    servers[server].recycleJitterPermille = UInt16(recycleJitterPermille)
    servers[server].provenAt = now
    // It has answered later than whatever was found dead while it was being dialed.
    if servers[server].poolGeneration >= pools[pool].reconnectGeneration {
      servers[server].poolGeneration = pools[pool].generation
    }
    pools[pool].gate.dialSucceeded(bound: pools[pool].configuration.bound)
    makeAvailable(server, now)
    pump(pool, now)
    refill(pool, now)
  }

  /// The dial failed; nothing of it is left on the server. Where it had to leave hosts out, that says nothing about those.
  ///
  /// - Parameter retryJitterPermille: 0 to 1,000, spreads the next trials of an outage.
  public mutating func dialFailed(
    _ token: ServerToken, _ verdict: DialVerdict, retryJitterPermille: UInt32, now: MonotonicTime
  ) {
    precondition(retryJitterPermille <= 1000)
    let server = slot(token, in: .dialing)
    guard servers[server].avoided.isEmpty else { return noOtherHost(token, now: now) }
    let pool = Int(servers[server].pool)
    pools[pool].gate.dialFailed(
      verdict, wasTrial: servers[server].isTrial, jitterPermille: retryJitterPermille, now)
    pools[pool].refillAt = now + Self.refillRetryNanoseconds
    dialEnded(server, now)
  }

  /// Nothing came of a dial.
  mutating func dialEnded(_ server: Int, _ now: MonotonicTime) {
    let pool = Int(servers[server].pool)
    let beneficiary = release(server)
    // Before a further dial is made for those who want the error at once.
    failHopeless(pool, now)
    permitReturned(of: pool, beneficiary: beneficiary, now)
  }

  /// The answer to a ping. Ignored when the connection is closing or gone.
  ///
  /// A failed ping starts a new generation: what was opened before to the same host is replaced.
  public mutating func pinged(_ token: ServerToken, ok: Bool, now: MonotonicTime) {
    guard let server = servers.find(token), servers[server].state == .testing else { return }
    if ok {
      proven(server, now)
      servers[server].needsPing = false
      makeAvailable(server, now)
      return
    }
    let pool = Int(servers[server].pool)
    let isCurrent = servers[server].poolGeneration == pools[pool].generation
    servers[server].isSilent = true
    close(server, .pingFailed)
    if isCurrent { startGeneration(pool, ofHost: servers[server].host, isSilent: true, now) }
    pump(pool, now)
    refill(pool, now)
  }

  /// The connection must be closed: an error, a state that cannot be cleaned, a protocol violation, a cancel that does
  /// not end. Ignored when it is closing already. Where it did not answer (`unanswered`), the pool's others are pinged
  /// before they are lent again.
  public mutating func discard(_ token: ServerToken, _ reason: CloseReason, now: MonotonicTime) {
    let server = slot(token)
    precondition(servers[server].state != .dialing, "a dial ends with its own result")
    guard servers[server].state != .closing else { return }
    let pool = Int(servers[server].pool)
    if reason == .unanswered {
      pools[pool].suspectAt = now
      servers[server].isSilent = true
    }
    close(server, reason)
    pump(pool, now)
  }

  /// The connection died by itself, and its EOF has been seen. It may be closing already.
  ///
  /// Where the kind says that the whole server is affected, a new generation starts of connections to that host; otherwise
  /// the pool's other connections are only pinged before they are lent again.
  public mutating func lost(_ token: ServerToken, _ kind: LossKind, now: MonotonicTime) {
    let server = slot(token)
    precondition(servers[server].state != .dialing, "a dial ends with its own result")
    let pool = Int(servers[server].pool)
    let wasClosing = servers[server].state == .closing
    let isCurrent = servers[server].poolGeneration == pools[pool].generation
    let host = servers[server].host
    let beneficiary = release(server)
    if !wasClosing {
      pools[pool].suspectAt = now
      if kind.isServerWide, isCurrent { startGeneration(pool, ofHost: host, isSilent: false, now) }
    }
    permitReturned(of: pool, beneficiary: beneficiary, now)
  }

  /// The EOF of a connection that was told to close has been seen.
  public mutating func closed(_ token: ServerToken, now: MonotonicTime) {
    let server = slot(token, in: .closing)
    let pool = Int(servers[server].pool)
    permitReturned(of: pool, beneficiary: release(server), now)
  }

  // MARK: Reads

  /// What the connection is doing; nil when it is gone.
  public func state(of server: ServerToken) -> ServerState? { servers.find(server).map { servers[$0].state } }

  /// How many of the connections that are being closed do not answer.
  package func silentClosing(_ id: PoolID) -> Int { pools[slot(id)].silentClosing }

  /// Whether the connection was dialed beyond `poolSize`.
  public func isOverflow(_ token: ServerToken) -> Bool { servers.find(token).map { servers[$0].isOverflow } ?? false }

  /// Whether the client is in a queue.
  public func isWaiting(_ client: ClientToken) -> Bool { waiters.pool(of: client) != nil }

  /// Whether somebody waits for a connection of the pool, here or in another shard that would take it.
  public func isContended(_ id: PoolID) -> Bool {
    let pool = slot(id)
    return !pools[pool].queue.isEmpty || pools[pool].isBesieged
  }

  /// Whether somebody waits for a connection of the pool.
  public func hasWaiters(_ id: PoolID) -> Bool { !pools[slot(id)].queue.isEmpty }

  /// The pool at a glance.
  public func counts(_ id: PoolID) -> PoolCounts {
    let index = slot(id)
    var counts = PoolCounts()
    counts.dialing = pools[index].count(.dialing)
    counts.idle = pools[index].count(.idle) + pools[index].count(.stale)
    counts.testing = pools[index].count(.testing)
    counts.active = pools[index].count(.active)
    counts.settling = pools[index].count(.settling) + pools[index].count(.parked)
    counts.closing = pools[index].count(.closing)
    counts.waiting = pools[index].queue.count
    counts.overflow = max(0, pools[index].open - pools[index].configuration.poolSize)
    counts.oldestWaitSince = pools[index].queue.isEmpty ? nil : waiters[pools[index].queue.first].since
    counts.standing = pools[index].gate.standing
    counts.isPaused = pools[index].isPaused
    return counts
  }

  /// Whether the connection is of an older generation: it is closed as soon as nobody has it.
  public func isOutdated(_ token: ServerToken) -> Bool { servers.find(token).map { isOutdated($0) } ?? false }

  /// Whether any connection of the pool is of an older generation, until its end has been seen.
  public func hasOutdated(_ id: PoolID) -> Bool {
    let pool = slot(id)
    return servers.indices.contains { Int(servers[$0].pool) == pool && servers[$0].state != .free && isOutdated($0) }
  }

  private func isOutdated(_ server: Int) -> Bool {
    let pool = Int(servers[server].pool)
    // A dial gets the pool's generation when it succeeds, unless a reconnect was ordered meanwhile.
    return servers[server].state == .dialing
      ? servers[server].poolGeneration < pools[pool].reconnectGeneration
      : servers[server].poolGeneration != pools[pool].generation
  }

  /// A pool whose `counts` may have changed since it was named last; nil when there is none left.
  public mutating func nextChanged() -> PoolID? {
    while let pool = changed.popLast() {
      pools[pool].isChanged = false
      if pools[pool].isUsed { return PoolID(index: UInt32(pool), generation: pools[pool].slotGeneration) }
    }
    return nil
  }

  mutating func noteChange(_ pool: Int) {
    guard !pools[pool].isChanged else { return }
    pools[pool].isChanged = true
    changed.append(pool)
  }

  // MARK: Tokens

  func slot(_ id: PoolID) -> Int {
    let index = Int(id.index)
    precondition(
      index < pools.count && pools[index].isUsed && pools[index].slotGeneration == id.generation, "no such pool")
    return index
  }

  func slot(_ token: ServerToken) -> Int {
    guard let server = servers.find(token) else { preconditionFailure("no such server connection") }
    return server
  }

  func slot(_ token: ServerToken, in state: ServerState) -> Int {
    let server = slot(token)
    precondition(servers[server].state == state, "the server connection is in another state")
    return server
  }
}
