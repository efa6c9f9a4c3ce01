import Pooling

/// What lies around a `PoolSet`, as a model: clients, server connections and upstreams that behave at random.
///
/// The world does what the effects say, answers late, badly or not at all, and knows by itself, without asking the
/// machine, what is allowed. `SimulationWorld+Checks` holds the machine to it.
struct SimulationWorld: ~Copyable {
  enum ClientState { case away, waiting, abandoned, served }

  struct Client {
    var state = ClientState.away
    var generation: UInt32 = 0
    var pool = 0
    var since = MonotonicTime(nanoseconds: 0)
    var server = 0
  }

  enum ServerState { case none, dialing, open, testing, active, settling, closing }

  struct Server {
    var state = ServerState.none
    var token = ServerToken(index: 0, generation: 0)
    var pool = 0
    var client = 0
    var holds = 0
    var openedAt = MonotonicTime(nanoseconds: 0)
    var provenAt = MonotonicTime.distantPast
    var recycleJitterPermille: UInt32 = 0
    var dialNumber = 0
    /// Its number, where the dial is a trial of its host.
    var trial: UInt32?
    /// Which of the pool's servers it is on.
    var replica: UInt32 = 0
    /// Its host went down, or is not the right one any more.
    var isOutdated = false
    /// Those of the pool's servers that its dial leaves out.
    var avoided = HostSet()
    /// It, or one to the same server, has left a question unanswered, and it has answered nothing since.
    var isSilent = false
  }

  /// What the server says to a pool's logins.
  enum Welcome: CaseIterable { case accepts, hesitates, rejects, exhausted }

  /// What becomes of dials to a host.
  enum Reachability: CaseIterable { case up, flaky, down, silent }

  /// Several pools dial each host, and share its breaker.
  struct ModelHost {
    var reachability = Reachability.up
    var breaker = HostBreaker()
    /// The number of the latest trial.
    var latestTrial: UInt32?
  }

  struct ModelPool {
    var id: PoolID
    var configuration: PoolConfiguration
    var limits: [Int]
    var host: Int
    /// How many servers there are behind the host; 1 or 2.
    var replicaCount: UInt32
    /// Since connections were silent last, it was said that no other server would do.
    var isWithoutAlternative = false
    var welcome = Welcome.accepts
    var isPaused = false
    var isRetired = false
    /// The clients in the order in which they came.
    var queue: [Int] = []
    var open = 0
    var suspectAt = MonotonicTime.distantPast
    var lastDialFailureAt = MonotonicTime.distantPast
    var dialSuccessesSinceFailure = 1000
    /// How many dials had been made when the outage began.
    var outageDialNumber: Int?
  }

  struct ModelLimit {
    var id: LimitID
    var maximum: Int
    var open = 0
  }

  var random: SimulationRandom
  var machine = PoolSet()
  var now = MonotonicTime(nanoseconds: 1_000_000_000)
  var pools: [ModelPool] = []
  var limits: [ModelLimit] = []
  var hosts: [ModelHost]
  var clients: [Client]
  var servers: [Server] = []
  var dialCount = 0
  var assignCount = 0
  /// Effects were left lying for a while, as in an event loop that carries them out once a turn.
  var isBatching = false

  init(seed: UInt64) {
    random = SimulationRandom(seed: seed)
    clients = Array(repeating: Client(), count: 10 + random.below(60))
    hosts = Array(repeating: ModelHost(), count: 1 + random.below(3))
    for _ in 0..<3 {
      let maximum = random.permille(300) ? Int.max : 1 + random.below(25)
      limits.append(ModelLimit(id: machine.addLimit(maximum: maximum), maximum: maximum))
    }
    for _ in 0..<1 + random.below(6) { addPool() }
    drain()
  }

  // MARK: One event

  mutating func step() {
    let kind = random.below(1000)
    switch kind {
    case 0..<430: clientEvent(someClient())
    case 430..<940: if let server = someServer() { serverEvent(server) }
    case 940..<990: passTime()
    default: if random.permille(700) { administratorEvent(random.below(pools.count)) }
    }
    if random.permille(100) {
      isBatching = true
    } else {
      drain()
    }
    check()
  }

  /// A client, more often than not one that has a connection.
  private mutating func someClient() -> Int {
    for _ in 0..<2 {
      let index = random.below(clients.count)
      if clients[index].state == .served { return index }
    }
    return random.below(clients.count)
  }

  /// A slot, more often than not one where something is under way.
  private mutating func someServer() -> Int? {
    guard !servers.isEmpty else { return nil }
    for _ in 0..<3 {
      let index = random.below(servers.count)
      switch servers[index].state {
      case .dialing, .testing, .settling, .closing: return index
      case .none, .open, .active: continue
      }
    }
    return random.below(servers.count)
  }

  private mutating func clientEvent(_ index: Int) {
    let token = ClientToken(index: UInt32(index), generation: clients[index].generation)
    switch clients[index].state {
    case .away:
      let pool = random.below(pools.count)
      checkout(index, from: random.permille(500) ? 0 : pool)
    case .waiting:
      guard random.permille(60) else { return }
      if machine.abandon(token, now: now) {
        leaveQueue(index)
        clients[index].state = .away
        clients[index].generation &+= 1
      } else {
        clients[index].state = .abandoned
      }
    case .abandoned: return
    case .served:
      let server = clients[index].server
      switch random.below(100) {
      case 0..<80:
        leave(server, for: .open)
        checkin(server)
      case 80..<88:
        leave(server, for: .settling)
        machine.settle(servers[server].token)
      case 88..<91: discard(server)
      case 91..<94: hold(server)
      case 94..<95: lose(server)
      default: return
      }
    }
  }

  private mutating func serverEvent(_ index: Int) {
    let server = servers[index]
    switch server.state {
    case .none:
      // Reports that come late.
      machine.pinged(server.token, ok: random.permille(500), now: now)
      machine.unhold(server.token, now: now)
    case .dialing: dialEvent(index)
    case .open, .active:
      if server.holds > 0 {
        servers[index].holds -= 1
        machine.unhold(server.token, now: now)
      } else if random.permille(5) {
        lose(index)
      } else if random.permille(5) {
        machine.outdate(server.token, now: now)
        servers[index].isOutdated = true
      } else if random.permille(2) {
        pools[server.pool].isWithoutAlternative = false
        machine.hostsChanged(pools[server.pool].id, now: now)
      }
    case .testing:
      switch random.below(100) {
      case 0..<92: pinged(index, ok: true)
      case 92..<95: pinged(index, ok: false)
      case 95..<97: lose(index)
      case 97: discard(index)
      default: return
      }
    case .settling:
      switch random.below(100) {
      case 0..<60: endWork(index)
      case 60..<65: discard(index)
      case 65..<70: lose(index)
      case 70..<80: hold(index)
      default: return
      }
    case .closing:
      if random.permille(100) { return }
      if random.permille(900) { return endWork(index) }
      forget(index)
      machine.lost(server.token, .eof, now: now)
    }
  }

  private mutating func dialEvent(_ index: Int) {
    let pool = pools[servers[index].pool]
    switch hosts[pool.host].reachability {
    case .up: loginEvent(index, pool.welcome)
    case .flaky: if random.permille(700) { loginEvent(index, pool.welcome) } else { dialFailed(index, .unreachable) }
    case .down: dialFailed(index, .unreachable)
    case .silent: if random.permille(30) { dialFailed(index, .unreachable) }
    }
  }

  private mutating func loginEvent(_ index: Int, _ welcome: Welcome) {
    switch welcome {
    case .accepts: dialed(index)
    case .hesitates: if random.permille(700) { dialed(index) } else { dialFailed(index, .exhausted) }
    case .rejects: dialFailed(index, .rejected)
    case .exhausted: dialFailed(index, .exhausted)
    }
  }

  private mutating func administratorEvent(_ pool: Int) {
    switch random.below(100) {
    case 0..<30:
      pools[pool].welcome = random.permille(700) ? .accepts : Welcome.allCases.randomElement(using: &random)!
    case 30..<57:
      hosts[pools[pool].host].reachability =
        random.permille(700) ? .up : Reachability.allCases.randomElement(using: &random)!
    case 57..<60: if hosts[pools[pool].host].reachability == .up { hostAnswered(pools[pool].host) }
    case 60..<70:
      pools[pool].configuration = someConfiguration()
      machine.configure(pools[pool].id, pools[pool].configuration, now: now)
    case 70..<75:
      pools[pool].isPaused = true
      machine.pause(pools[pool].id, now: now)
    case 75..<85:
      pools[pool].isPaused = false
      machine.resume(pools[pool].id, now: now)
    case 85..<88: machine.reconnect(pools[pool].id, now: now)
    case 88..<97:
      let limit = random.below(limits.count)
      limits[limit].maximum = random.permille(300) ? Int.max : 1 + random.below(25)
      machine.setLimit(limits[limit].id, maximum: limits[limit].maximum, now: now)
    default:
      pools[pool].isRetired = true
      machine.retire(pools[pool].id, now: now)
    }
    replaceRetiredPools()
  }

  // MARK: Events in detail

  mutating func checkout(_ index: Int, from pool: Int) {
    clients[index].state = .waiting
    clients[index].pool = pool
    clients[index].since = now
    pools[pool].queue.append(index)
    machine.checkout(
      ClientToken(index: UInt32(index), generation: clients[index].generation), from: pools[pool].id,
      settings: UInt32(random.below(3)), now: now)
  }

  mutating func checkin(_ server: Int) {
    servers[server].provenAt = now
    servers[server].isSilent = false
    machine.checkin(servers[server].token, settings: UInt32(random.below(3)), now: now)
  }

  /// The client of the connection lets go of it.
  mutating func leave(_ server: Int, for state: ServerState) {
    if servers[server].state == .active {
      let client = servers[server].client
      clients[client].state = .away
      clients[client].generation &+= 1
    }
    servers[server].state = state
  }

  mutating func discard(_ server: Int) {
    let reason = [CloseReason.unfit, .protocolViolation, .unanswered].randomElement(using: &random)!
    let isClosing = machine.state(of: servers[server].token) == .closing
    if reason == .unanswered, !isClosing {
      pools[servers[server].pool].suspectAt = now
      servers[server].isSilent = true
    }
    leave(server, for: .closing)
    machine.discard(servers[server].token, reason, now: now)
  }

  private mutating func hold(_ server: Int) {
    servers[server].holds += 1
    machine.hold(servers[server].token)
  }

  mutating func lose(_ server: Int) {
    let kind = [LossKind.eof, .terminated, .crashed, .cannotConnectNow].randomElement(using: &random)!
    leave(server, for: .closing)
    pools[servers[server].pool].suspectAt = now
    if kind == .crashed || kind == .cannotConnectNow { hostWentDown(server, isSilent: false) }
    forget(server)
    machine.lost(servers[server].token, kind, now: now)
  }

  /// What was begun comes to its regular end: cleaning, or closing.
  mutating func endWork(_ server: Int) {
    if servers[server].state == .settling {
      servers[server].state = .open
      servers[server].provenAt = now
      servers[server].isSilent = false
      machine.settled(servers[server].token, settings: UInt32(random.below(3)), now: now)
    } else {
      forget(server)
      machine.closed(servers[server].token, now: now)
    }
  }

  mutating func pinged(_ server: Int, ok: Bool) {
    servers[server].state = ok ? .open : .closing
    servers[server].isSilent = !ok
    if ok { servers[server].provenAt = now } else { hostWentDown(server, isSilent: true) }
    machine.pinged(servers[server].token, ok: ok, now: now)
  }

  /// A connection that is not old already shows that its server went down: so are the pool's others to that server. One
  /// that is to be closed, whether or not that effect has been carried out, shows nothing.
  private mutating func hostWentDown(_ server: Int, isSilent: Bool) {
    let token = servers[server].token
    guard !machine.isOutdated(token), machine.state(of: token) != .closing else { return }
    for other in servers.indices
    where servers[other].pool == servers[server].pool && servers[other].replica == servers[server].replica {
      switch servers[other].state {
      case .open, .testing, .active, .settling:
        servers[other].isOutdated = true
        if isSilent { servers[other].isSilent = true }
      case .none, .dialing, .closing: break
      }
    }
  }

  mutating func dialed(_ server: Int) {
    let pool = servers[server].pool
    servers[server].state = .open
    servers[server].provenAt = now
    servers[server].recycleJitterPermille = UInt32(random.below(1001))
    pools[pool].dialSuccessesSinceFailure += 1
    pools[pool].outageDialNumber = nil
    servers[server].trial = nil
    servers[server].replica = replicas(for: server).randomElement(using: &random)!
    machine.dialed(
      servers[server].token, host: servers[server].replica, settings: UInt32(random.below(3)),
      recycleJitterPermille: servers[server].recycleJitterPermille, now: now)
    hostAnswered(pools[pool].host)
  }

  /// The servers that the dial may end at.
  func replicas(for server: Int) -> [UInt32] {
    (0..<pools[servers[server].pool].replicaCount).filter { !servers[server].avoided.contains($0) }
  }

  mutating func dialFailed(_ server: Int, _ verdict: DialVerdict) {
    let pool = servers[server].pool
    if !servers[server].avoided.isEmpty { pools[pool].isWithoutAlternative = true }
    pools[pool].lastDialFailureAt = now
    pools[pool].dialSuccessesSinceFailure = 0
    let standing = machine.counts(pools[pool].id).standing
    let trial = servers[server].trial
    forget(server)
    if verdict == .unreachable {
      hosts[pools[pool].host].breaker.failed(
        random.permille(500) ? .refused : .timeout, trial: trial, jitterPermille: UInt32(random.below(1001)), now)
    }
    machine.dialFailed(servers[server].token, verdict, retryJitterPermille: UInt32(random.below(1001)), now: now)
    noteStanding(pool, before: standing)
    if verdict != .unreachable { hostAnswered(pools[pool].host) }
  }

  /// No host lets the dial through.
  mutating func dialDeferred(_ server: Int, until: MonotonicTime) {
    let pool = servers[server].pool
    pools[pool].lastDialFailureAt = now
    pools[pool].dialSuccessesSinceFailure = 0
    let standing = machine.counts(pools[pool].id).standing
    forget(server)
    machine.dialDeferred(servers[server].token, until: until, now: now)
    noteStanding(pool, before: standing)
  }

  private mutating func noteStanding(_ pool: Int, before: PoolStanding) {
    let isOutage = machine.counts(pools[pool].id).standing == .outage
    if before != .outage, isOutage { pools[pool].outageDialNumber = dialCount }
    if !isOutage { pools[pool].outageDialNumber = nil }
  }

  /// Somebody has got through to the host: where it could not be reached, all of its pools hear of it.
  mutating func hostAnswered(_ host: Int) {
    guard hosts[host].breaker.reached() else { return }
    for pool in pools.indices where pools[pool].host == host && !pools[pool].isRetired {
      machine.hostReached(pools[pool].id, now: now)
    }
  }

  /// The connection does not exist any more.
  mutating func forget(_ server: Int) {
    let pool = servers[server].pool
    servers[server].state = .none
    servers[server].holds = 0
    pools[pool].open -= 1
    for limit in pools[pool].limits { limits[limit].open -= 1 }
  }

  private mutating func leaveQueue(_ client: Int) {
    let pool = clients[client].pool
    pools[pool].queue.removeAll { $0 == client }
  }

  // MARK: Time

  mutating func passTime() {
    let kind = random.below(1000)
    let nanoseconds: Int
    switch kind {
    case 0..<800: nanoseconds = random.below(2_000_000)
    case 800..<960: nanoseconds = random.below(100_000_000)
    case 960..<998: nanoseconds = random.below(2_000_000_000)
    default: nanoseconds = random.below(120_000_000_000)
    }
    passTime(nanoseconds: Int64(nanoseconds))
  }

  mutating func passTime(nanoseconds: Int64) {
    now = now + nanoseconds
    machine.advance(to: now)
    if let deadline = machine.nextDeadline { require(deadline > now, "advance leaves nothing undone") }
  }

  // MARK: Pools

  private mutating func addPool() {
    let configuration = someConfiguration()
    // All are under the total, and each is under one of the other two.
    let above = [0, 1 + random.below(limits.count - 1)]
    let id = machine.addPool(configuration, limits: above.map { limits[$0].id }, now: now)
    pools.append(
      ModelPool(
        id: id, configuration: configuration, limits: above, host: random.below(hosts.count),
        replicaCount: random.permille(700) ? 2 : 1))
  }

  /// Removes what is retired and empty, as a reload does, and adds another pool in its place.
  private mutating func replaceRetiredPools() {
    drain()
    for pool in pools.indices where pools[pool].isRetired && machine.isEmpty(pools[pool].id) {
      machine.remove(pools[pool].id)
      addPool()
      pools.swapAt(pool, pools.count - 1)
      pools.removeLast()
    }
  }

  mutating func someConfiguration() -> PoolConfiguration {
    var configuration = PoolConfiguration(poolSize: 1 + random.below(6), maxOverflow: random.below(7))
    configuration.minSize = random.permille(300) ? random.below(configuration.poolSize + 1) : 0
    configuration.poolTimeoutNanoseconds =
      random.permille(100) ? 0 : random.permille(100) ? nil : 1 + Int64(random.below(5_000_000_000))
    configuration.poolRecycleNanoseconds = random.permille(200) ? nil : 1 + Int64(random.below(60_000_000_000))
    configuration.prePing = random.permille(800)
    configuration.prePingIdleNanoseconds = random.permille(200) ? 0 : Int64(random.below(1_000_000_000))
    configuration.useLIFO = random.permille(600)
    configuration.overflowLingerNanoseconds = random.permille(300) ? 0 : Int64(random.below(1_000_000_000))
    configuration.onOutage = random.permille(700) ? .hold : .fail
    return configuration
  }
}
