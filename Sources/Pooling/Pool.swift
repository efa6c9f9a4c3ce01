/// One pool's record in a `PoolSet`. The `PoolSet` has all the rules; here is what it remembers.
struct Pool {
  /// No limit blocks the pool.
  static let notBlocked = -1

  var configuration: PoolConfiguration
  /// The generation of the slot.
  var slotGeneration: UInt32
  /// The limits that it is under.
  var limits: [Int]
  var isUsed = true
  var isPaused = false
  var isRetired = false
  /// Among those that `nextChanged` names.
  var isChanged = false

  /// Connections by state (`free` is not counted).
  var counts = InlineArray<9, Int>(repeating: 0)
  /// Connections in all states: the permits in use.
  var open = 0
  var idle = ServerList()
  var stale = ServerList()
  var queue = WaiterQueue()

  /// Connections that are being closed and that do not answer.
  var silentClosing = 0
  /// No other host serves, so that the ends of those have to be waited for.
  var isWithoutAlternative = false

  /// Connections of other pools that are being closed for this one.
  var reclaiming = 0
  /// The limit whose permit is all that the waiters lack; `notBlocked` when there is none.
  var blockedBy = Pool.notBlocked

  var gate = PoolDialGate()
  /// Connections of an older generation are replaced.
  var generation: UInt32 = 0
  /// Dials begun before this generation keep the generation they began in: a reconnect was ordered meanwhile.
  var reconnectGeneration: UInt32 = 0
  /// A connection that has not answered since then is pinged before it is lent.
  var suspectAt = MonotonicTime.distantPast
  /// The next stale connection is closed no sooner.
  var nextReplacementAt = MonotonicTime.distantPast
  /// `minSize` is refilled no sooner.
  var refillAt = MonotonicTime.distantPast
  /// When all connections that there were became old last.
  var generationAt = MonotonicTime.distantPast

  /// What there is to know where the pool is one of several shards; nil for a pool that has one worker.
  var shard: Shard?
  /// Other shards could use idle connections of this one.
  var isBesieged = false

  init(_ configuration: PoolConfiguration, limits: [Int], slotGeneration: UInt32) {
    self.configuration = configuration
    self.limits = limits
    self.slotGeneration = slotGeneration
  }

  /// Changes the state of a connection, and with it the pool's lists and counters.
  mutating func move(_ server: Int, from previous: ServerState, to next: ServerState, in servers: inout ServerTable) {
    switch previous {
    case .idle: servers.unlink(server, from: &idle)
    case .stale: servers.unlink(server, from: &stale)
    case .free, .dialing, .testing, .active, .settling, .parked, .closing: break
    }
    if previous != .free { counts[Int(previous.rawValue)] -= 1 }
    servers[server].state = next
    if next != .free { counts[Int(next.rawValue)] += 1 }
    switch next {
    case .idle: servers.link(server, into: &idle)
    case .stale: servers.link(server, into: &stale)
    case .free, .dialing, .testing, .active, .settling, .parked, .closing: break
    }
  }

  func count(_ state: ServerState) -> Int { counts[Int(state.rawValue)] }

  /// Connections that will be available without a further decision.
  var supplies: Int { count(.dialing) + count(.testing) }

  /// Permits of connections whose server does not answer. They still count there, but not on another server: a dial to
  /// another host may be made with them. Not so those of a shard, which does not know what others have on that host.
  var lent: Int { isWithoutAlternative || shard != nil ? 0 : silentClosing }

  /// No permit is left for a further dial.
  var isAtBound: Bool { open - lent >= configuration.bound }

  /// Supplies, and permits that are on their way to this pool.
  var promises: Int { supplies + count(.closing) - lent + reclaiming }

  /// Somebody waits for whom no connection is on its way.
  var lacksSupply: Bool { queue.count > supplies }

  /// Somebody waits for whom neither a connection nor a permit is on its way.
  var lacksPromise: Bool { queue.count > promises }

  /// Open connections that a waiter may hope for.
  var live: Int { open - count(.dialing) - count(.stale) - count(.closing) }

  /// More stays open than a reload left room for.
  var isOverdrawn: Bool { open - count(.closing) > configuration.bound }

  /// The longest that a client waits; nil for ever.
  var waitNanoseconds: Int64? {
    configuration.poolTimeoutNanoseconds == 0
      ? configuration.connectTimeoutNanoseconds : configuration.poolTimeoutNanoseconds
  }

  /// Who has waited so long gives up.
  func deadline(ofWaiterSince since: MonotonicTime) -> MonotonicTime {
    guard let wait = waitNanoseconds else { return .distantFuture }
    return since + wait
  }

  /// Who answered later than this is lent without a ping.
  func proofNeeded(_ now: MonotonicTime) -> MonotonicTime {
    configuration.prePing ? max(suspectAt, now - configuration.prePingIdleNanoseconds) : suspectAt
  }

  /// When a connection is too old (`pool_recycle`, less up to a tenth, so that what was opened together is not
  /// replaced together).
  func recycleAt(openedAt: MonotonicTime, jitterPermille: UInt16) -> MonotonicTime {
    guard let recycle = configuration.poolRecycleNanoseconds else { return .distantFuture }
    return openedAt + (recycle - recycle / 10_000 * Int64(jitterPermille))
  }
}
