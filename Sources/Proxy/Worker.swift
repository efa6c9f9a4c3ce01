import Authentication
import CLinux
import DequeModule
import Glibc
import Pooling
import PostgresWire
import Reactor
import Settings
import Telemetry
import Upstream

/// A thread with its own event loop, its own clients, pools and server connections. It asks the pool machine what to do
/// and carries out its effects; nothing here is shared with other threads but the mailbox and the telemetry.
///
/// A turn: the loop hands bytes to clients and server connections; what that sets free or demands goes to the pool
/// machine; its effects are carried out at once, but they only set fields of other clients and put them into `runnable`.
/// At the end of the turn those clients go on. So no handler runs inside another.
final class Worker: EventLoopDelegate {
  /// Requests that one client may send on a connection before others get their turn, while others wait.
  static let requestsPerTurn = 64
  /// Pools beyond which one that has never had a connection is dropped with its last client.
  static let poolsKept = 1000
  private static let acceptFailureQuietNanoseconds: Int64 = 10_000_000_000

  let index: Int
  let loop: EventLoop
  let mailbox: Mailbox<WorkerMessage>
  let environment: DataPlaneEnvironment

  private(set) var configuration: ServingConfiguration
  var pools = PoolSet()
  var settingsTable = SessionSettingsTable()
  let statementTable = StatementTable()
  /// Of a client that has none.
  let noStatements = ClientStatements()
  private var poolTable = PoolTable()
  private var poolByName: [PoolName: Pool] = [:]
  /// Those of `poolByName` by what clients say: the database's name, and their own user instead of the server's.
  private var poolByLogin: [ClientName: Pool] = [:]
  private var limitByName: [LimitName: LimitID] = [:]
  /// No longer in the settings; removed when the last connection and the last client are gone.
  private var retiredPools: [Pool] = []
  private var clients = ClientSlots()
  /// Clients that have not proven who they are, oldest first, and some that have meanwhile.
  var halfOpen: Deque<ClientToken> = []
  var halfOpenCount = 0
  var startups = ClientStartups()
  /// Clients that leave for another worker at the end of the turn.
  var moving: [Departure] = []
  var servers = ServerSlots()
  /// Shards of pools that other workers have a part of, too.
  var shards: [ObjectIdentifier: Pool] = [:]
  /// Connections that go to other shards at the end of the turn, by the tokens that they had.
  var departing: [ServerToken: Server] = [:]
  var dials: [ServerToken: Dial] = [:]
  let telemetry: WorkerTelemetry
  /// Clients that wait for a server connection to log in with.
  var loggingInCount = 0
  var orders = Orders()
  private var spareWriter = MessageWriter()
  /// The most memory that it keeps (bytes).
  private static let writerKept = 4096
  var waits: [PoolWait] = []
  private var runnable: [Client] = []
  /// The clients that go on now; kept so that nothing is allocated.
  private var running: [Client] = []
  private var poolTimerAt = Int64.max
  private(set) var isDraining = false
  private var isStopping = false
  /// What clients have not read yet is lost.
  private var stopsAtOnce = false
  /// Idle clients stay while the worker drains.
  private var waitsForClients = false
  private var random = RandomBytes()
  private var acceptOrder: AcceptOrder
  /// Until then no further failure to accept is logged.
  private var acceptFailureQuietUntil = Int64.min

  /// When clients are looked at next for time limits that they have reached.
  var sweepAt = Int64.max

  /// 0 to 1,000, for jitter.
  func randomPermille() -> UInt32 { random.next() % 1001 }

  /// Clients can still get at this pool.
  func isServed(_ pool: Pool) -> Bool { !pool.isRetired }

  private enum LimitName: Hashable {
    case database(String)
    case user(String)
  }

  /// A server connection that is being opened.
  struct Dial {
    /// Its number in SHOW SERVERS, and that of the connection.
    var id: Int64
    var pool: Pool
    /// Where it goes.
    var admission: PoolHosts.Admission
    var ticket: DialTicket
    var since: Int64
  }

  init(
    index: Int, mailbox: Mailbox<WorkerMessage>, configuration: ServingConfiguration, environment: DataPlaneEnvironment
  ) {
    self.index = index
    self.mailbox = mailbox
    self.configuration = configuration
    self.environment = environment
    telemetry = environment.workerTelemetry[index]
    acceptOrder = AcceptOrder(environment.acceptingWorkers)
    loop = EventLoop(environment.driver, descriptorLimit: environment.descriptorLimit)
    loop.watchMail(mailbox.descriptor)
    for name in settings.databases.keys where name != "*" { openPoolsAhead(database: name) }
  }

  var settings: Settings { configuration.settings }

  var clientCount: Int { clients.count }

  var time: MonotonicTime { MonotonicTime(nanoseconds: loop.now) }

  func run(listeners: [Listener]) {
    for listener in listeners { loop.listen(on: listener) }
    loop.run(self)
    for pool in shards.values { surrenderPermits(of: pool) }
    endWaits()
  }

  // MARK: Pools

  /// The pool for a client's database and user, whose home is here.
  ///
  /// - Parameter known: the password that the client has proven, for a pool that has no other.
  func pool(database: String, user: String, known: Password? = nil) -> Result<Pool, PoolFailure> {
    guard let section = settings.database(named: database) else { return .failure(.unknownDatabase) }
    let serverUser = section.upstream["user"] ?? user
    let name = PoolName(database: database, user: serverUser)
    if let pool = poolByName[name] {
      if let known { learn(known, pool, section) }
      return .success(pool)
    }
    let target: ConnectionTarget
    do {
      target = try configuration.target(section, database: database, user: serverUser, known: known)
    } catch {
      return .failure(.target(error.text))
    }
    let pool = addPool(
      database: database, user: serverUser, target: target,
      settings: settings.pool(database: database, user: serverUser), shards: environment.homes.opened(name, by: index))
    pool.knownPassword = known
    poolByName[name] = pool
    configureReads(of: pool, section)
    scheduleSweep()
    carryOutEffects()
    return .success(pool)
  }

  /// - Parameter group: the shards of which it is one; nil for a pool that is here as a whole.
  private func addPool(
    database: String, user: String, isForReads: Bool = false, target: ConnectionTarget, settings: PoolSettings,
    shards group: ShardGroup?
  ) -> Pool {
    let above = limits(database: database, user: user)
    let id: PoolID
    let shard = group.flatMap { group in group.number(on: index).map { (group: group, number: $0) } }
    if let (group, number) = shard {
      id = pools.addShard(
        number, of: group.workers.count, PoolConfiguration(settings),
        permits: group.deal(settings, number: configuration.number, to: number), limits: above, now: time)
    } else {
      id = pools.addPool(PoolConfiguration(settings), limits: above, now: time)
    }
    let pool = Pool(
      id: id, database: database, user: user, isForReads: isForReads, target: target, settings: settings,
      shard: shard, board: environment.hosts)
    poolTable.add(pool)
    if let shard { shards[ObjectIdentifier(shard.group)] = pool }
    environment.directory.add(pool.published)
    if orders.pauses(database) {
      pools.pause(id, now: time)
      pool.published.update { $0.isPaused = true }
    }
    return pool
  }

  /// Gives a pool the one for reads that its settings ask for: another one, one with other settings, or none.
  private func configureReads(of pool: Pool, _ section: DatabaseSettings) {
    guard pool.settings.mode == .transaction, let target = readTarget(of: pool, section) else {
      if let reads = pool.reads { retire(reads) }
      pool.reads = nil
      return
    }
    var settings = pool.settings
    // Whom it cannot serve the primary does.
    settings.onOutage = .fail
    if let reads = pool.reads {
      configure(reads, settings, target)
    } else {
      pool.reads = addPool(
        database: pool.database, user: pool.user, isForReads: true, target: target, settings: settings,
        shards: pool.shard?.group.reads)
    }
  }

  /// Where a pool's reads go; nil where the settings name no place, or one that libpq refuses.
  private func readTarget(of pool: Pool, _ section: DatabaseSettings) -> ConnectionTarget? {
    guard let upstream = section.readUpstream else { return nil }
    return try? configuration.readTarget(
      upstream, section, database: pool.database, user: pool.user, known: pool.knownPassword)
  }

  private func configure(_ pool: Pool, _ settings: PoolSettings, _ target: ConnectionTarget) {
    pool.settings = settings
    pool.published.update { $0.settings = settings }
    if let (group, number) = pool.shard {
      let dealt = group.deal(settings, number: configuration.number, to: number)
      pools.configureShard(pool.id, PoolConfiguration(settings), dealt: dealt, now: time)
    } else {
      pools.configure(pool.id, PoolConfiguration(settings), now: time)
    }
    let isElsewhere = pool.target != target
    pool.connect(to: target, environment.hosts)
    if isElsewhere { pools.reconnect(pool.id, now: time) }
  }

  /// A client has proven a password that may be newer than the one that the pool dials with. Connections that are open
  /// stay as they are.
  private func learn(_ known: Password, _ pool: Pool, _ section: DatabaseSettings) {
    if let old = pool.knownPassword, old.isSame(as: known) { return }
    pool.knownPassword = known
    if let target = try? configuration.target(section, database: pool.database, user: pool.user, known: known) {
      pool.connect(to: target, environment.hosts)
    }
    if let reads = pool.reads, let target = readTarget(of: pool, section) {
      reads.connect(to: target, environment.hosts)
    }
  }

  /// The pool that a client has which says so, if it lives here and has been asked for before. Then there is no need to
  /// look at the settings, nor for its home.
  func poolHere(_ name: ClientName) -> Pool? { poolByLogin[name] }

  /// A client that calls itself so has come to this pool.
  func remember(_ pool: Pool, of name: ClientName) {
    if poolByLogin.count < Worker.poolsKept { poolByLogin[name] = pool }
  }

  enum PoolFailure: Error {
    case unknownDatabase
    /// libpq refuses the connection string, in its words.
    case target(String)
  }

  /// The limits above a pool. Those that are not set are there too, without a maximum, for a reload that sets them.
  private func limits(database: String, user: String) -> [LimitID] {
    [limit(.database(database)), limit(.user(user))]
  }

  private func maximum(_ name: LimitName, in settings: Settings) -> Int {
    let homes = environment.homes
    let maximum =
      switch name {
      case .database(let database):
        homes.keepsLimit(ofDatabase: database) ? settings.database(named: database)?.maxConnections : nil
      case .user(let user): homes.keepsLimit(ofUser: user) ? settings.users[user]?.maxConnections : nil
      }
    return maximum ?? .max
  }

  private func limit(_ name: LimitName) -> LimitID {
    if let known = limitByName[name] { return known }
    let limit = pools.addLimit(maximum: maximum(name, in: settings))
    limitByName[name] = limit
    return limit
  }

  /// A database that keeps connections open ahead of demand, and whose upstream names its user, has its pool from the
  /// start.
  private func openPoolsAhead(database: String) {
    guard let section = settings.database(named: database), let user = section.upstream["user"],
      settings.pool(database: database, user: user).minSize > 0,
      environment.homes.opensAhead(PoolName(database: database, user: user), on: index)
    else { return }
    _ = pool(database: database, user: user)
  }

  func pool(_ id: PoolID) -> Pool? { poolTable[id] }

  var allPools: [Pool] { poolTable.all }

  /// Takes new settings. Pools that are still served get theirs; the others are retired.
  private func apply(_ configuration: ServingConfiguration) {
    self.configuration = configuration
    poolByLogin.removeAll()
    let new = configuration.settings
    environment.provenPasswords.removeAll()
    for (name, limit) in limitByName { pools.setLimit(limit, maximum: maximum(name, in: new), now: time) }
    for pool in allPools where isServed(pool) && !pool.isForReads {
      guard let section = new.database(named: pool.database),
        (section.upstream["user"] ?? pool.user) == pool.user,
        let target = try? configuration.target(
          section, database: pool.database, user: pool.user, known: pool.knownPassword)
      else {
        retire(pool)
        continue
      }
      configure(pool, new.pool(database: pool.database, user: pool.user), target)
      configureReads(of: pool, section)
    }
    for name in new.databases.keys where name != "*" { openPoolsAhead(database: name) }
    scheduleSweep()
    carryOutEffects()
  }

  // MARK: Effects

  /// Carries out what the pool machine has decided. Other clients are only told; they go on at the end of the turn.
  func carryOutEffects() {
    while let effect = pools.nextEffect() {
      switch effect {
      case .dial(let server, let pool): dial(server, poolTable[pool]!)
      case .assign(let client, let server): assign(client, server)
      case .ping(let server): ping(server)
      case .close(let server, let reason): close(server, reason)
      case .fail(let client, let failure): fail(client, failure)
      case .depart(let server): depart(server)
      }
    }
  }

  /// Has a client go on at the end of the turn.
  func resume(_ client: Client) {
    guard !client.isRunnable else { return }
    client.isRunnable = true
    runnable.append(client)
  }

  func turnEnding() {
    carryOutEffects()
    while !runnable.isEmpty {
      swap(&running, &runnable)
      for client in running {
        client.isRunnable = false
        client.run()
      }
      running.removeAll(keepingCapacity: true)
      carryOutEffects()
    }
    sendMovingClients()
    if let deadline = pools.nextDeadline, deadline.nanoseconds < poolTimerAt {
      poolTimerAt = deadline.nanoseconds
      loop.schedule(at: poolTimerAt, token: Timer.pools.token)
    }
    if !retiredPools.isEmpty { removeRetiredPools() }
    if !waits.isEmpty { answerWaits() }
    if isStopping { stopWhenEmpty() }
    publish()
    if !shards.isEmpty {
      carryOutEffects()
      sendShardMessages()
    }
  }

  /// Shows other threads what has changed in this turn.
  private func publish() {
    while let id = pools.nextChanged() {
      guard let pool = poolTable[id] else { continue }
      if pool.shard != nil { pools.review(id, now: time) }
      let counts = pools.counts(id)
      pool.telemetry.publish(counts)
      if counts.standing != pool.publishedStanding {
        pool.publishedStanding = counts.standing
        pool.published.update { $0.standing = counts.standing }
      }
    }
    telemetry.clients.set(clients.count)
    telemetry.loginClients.set(halfOpenCount + loggingInCount)
  }

  // MARK: Checkout

  /// A client's request needs a server connection. It goes on by itself if it has one when this returns.
  ///
  /// - Parameter reads: it may run on a standby, if there is one that can be read from now.
  func checkout(_ client: Client, reads: Bool = false) {
    guard let pool = servedPool(of: client) else { preconditionFailure("a checkout without a pool") }
    var server = pool
    if reads, let standby = pool.reads {
      if let reason = standby.hosts.readFallback { standby.telemetry.count(reason) } else { server = standby }
    }
    enqueue(client, server)
    let wasRunnable = client.isRunnable
    client.isRunnable = true
    carryOutEffects()
    client.isRunnable = wasRunnable
  }

  private func enqueue(_ client: Client, _ pool: Pool) {
    client.awaitedPool = pool
    client.waitingSince = loop.now
    let identity = client.wanted?.identity ?? pool.base?.identity ?? 0
    pools.checkout(client.token, from: pool.id, settings: identity, now: time)
  }

  /// The client's pool; where that was retired and the settings have the database again, the new one.
  private func servedPool(of client: Client) -> Pool? {
    guard let pool = client.pool, !isServed(pool) else { return client.pool }
    let serverUser = settings.database(named: client.database)?.upstream["user"] ?? client.user
    let name = PoolName(database: client.database, user: serverUser)
    guard environment.homes.home(of: name, acceptedBy: index) == index else { return pool }
    if case .success(let successor) = self.pool(database: client.database, user: client.user) {
      pool.clients -= 1
      successor.clients += 1
      client.pool = successor
    }
    return client.pool
  }

  /// Takes a pool out of service: it is no longer in the settings, or there are many and it has never had a connection
  /// (whoever connects may name any user, and must not fill the memory with that).
  private func retire(_ pool: Pool) {
    if let reads = pool.reads { retire(reads) }
    pool.reads = nil
    if !pool.isForReads { poolByName[pool.name] = nil }
    poolByLogin.removeAll()
    pool.isRetired = true
    // Pools of that name that come later have shards of their own.
    if let group = pool.shard?.group { environment.homes.ended(group) }
    retiredPools.append(pool)
    pool.published.update { $0.isServed = false }
    pools.retire(pool.id, now: time)
  }

  private func removeRetiredPools() {
    retiredPools.removeAll { pool in
      guard pool.clients == 0, pools.isEmpty(pool.id) else { return false }
      if let group = pool.shard?.group {
        surrenderPermits(of: pool)
        if shards[ObjectIdentifier(group)] === pool { shards[ObjectIdentifier(group)] = nil }
      }
      pools.remove(pool.id)
      poolTable.remove(pool)
      environment.directory.remove(pool.published)
      if !pool.isForReads { forgetHome(of: pool) }
      if !allPools.contains(where: { $0.user == pool.user }) { removeLimit(.user(pool.user)) }
      if !allPools.contains(where: { $0.database == pool.database }) { removeLimit(.database(pool.database)) }
      return true
    }
  }

  /// Where no pool of that name is left here, the next one may live elsewhere.
  private func forgetHome(of pool: Pool) {
    let isLeft = allPools.contains { $0.name == pool.name }
    if !isLeft { environment.homes.removed(pool.name, by: index) }
  }

  private func removeLimit(_ name: LimitName) {
    if let limit = limitByName.removeValue(forKey: name) { pools.removeLimit(limit) }
  }

  private func assign(_ token: ClientToken, _ serverToken: ServerToken) {
    guard let server = servers[serverToken] else { return }
    guard let client = client(token) else {
      pools.checkin(serverToken, settings: server.settings.identity, now: time)
      return
    }
    waitEnded(client, server.pool)
    client.server = server
    server.client = client
    client.requests.attached()
    server.replies.attached()
    let telemetry = server.pool.telemetry
    telemetry.checkouts.add()
    countProof(of: server)
    if client.phase != .login { telemetry.serverAssignmentCount.add() }
    client.requestSince = loop.now
    // A block that is held has begun; the wait is no part of it.
    let heldFor = client.requests.heldModes == nil ? 0 : client.waitingSince - client.transactionSince
    client.transactionSince = loop.now - heldFor
    server.requestSince = loop.now
    if client.phase == .login { client.applyStartup() } else { handOver(server, to: client) }
    resume(client)
  }

  /// A client waits no longer, however its wait ended.
  private func waitEnded(_ client: Client, _ pool: Pool) {
    client.awaitedPool = nil
    pool.telemetry.wait.record(microseconds: UInt64(max(0, loop.now - client.waitingSince) / 1000))
  }

  private func fail(_ token: ClientToken, _ failure: WaitFailure) {
    guard let client = client(token), let pool = client.awaitedPool else { return }
    waitEnded(client, pool)
    if pool.isForReads, let primary = servedPool(of: client) {
      if let reason = failure.readFallback { pool.telemetry.count(reason) }
      return enqueue(client, primary)
    }
    let detail = pool.lastFailure?.text ?? "no connection could be opened"
    switch failure {
    case .timeout:
      pool.telemetry.timeouts.add()
      client.refusal = .timeout(pool)
    case .outage:
      let timeout = pool.settings.poolTimeout?.nanoseconds ?? .max
      if loop.now - client.waitingSince >= timeout { pool.telemetry.timeouts.add() }
      client.refusal = .timeout(pool, detail: detail)
    case .rejected:
      client.refusal = .unavailable(
        pool, code: pool.lastFailure?.code ?? .tooManyConnections, detail: detail)
    case .retired: client.refusal = .retired(pool)
    }
    if failure == .timeout || failure == .outage {
      environment.log(.waitTimedOut(pool: pool.label, client: client.id))
    }
    if client.phase == .login { client.loginRefused() } else { resume(client) }
  }

  // MARK: Requests

  /// A request of a client got its ReadyForQuery.
  func requestEnded(_ server: Server) {
    let pool = server.pool
    guard let client = server.client else { return }
    let now = loop.now
    let telemetry = pool.telemetry
    telemetry.queryCount.add()
    telemetry.query.record(microseconds: UInt64(max(0, now - client.requestSince) / 1000))
    client.requestSince = now
    server.host?.replied(at: now)
    if server.status == .idle {
      telemetry.xactCount.add()
      telemetry.transaction.record(microseconds: UInt64(max(0, now - client.transactionSince) / 1000))
      client.transactionSince = now
    }
    if client.exceeded != nil { limitAnswered(server, client) }
    if server.replies.ledger.isInDoubt { server.fence() }
    answered(server)
  }

  /// If nothing is owed any more, the connection goes back to the pool, where its mode and state allow it.
  func answered(_ server: Server) {
    guard let client = server.client, server.replies.ledger.isEmpty else { return }
    client.requests.answered()
    if server.status == .idle {
      if !server.pool.sharesConnections {
        client.wanted = server.settings
      } else if client.requests.isInsideForwardedMessage {
        server.awaitsMessageEnd = true
      } else {
        transactionEnded(server, client)
      }
    }
    if client.server != nil { client.awaitsRequest = true }
    if !client.inbox.isEmpty { resume(client) }
  }

  /// Bytes of a client have been forwarded or dropped. Where the last ReadyForQuery came in the middle of a message (the
  /// rest of a failed COPY), the connection can go back when that message is over.
  func messageEnded(_ client: Client, _ server: Server) {
    guard server.awaitsMessageEnd, !client.requests.isInsideForwardedMessage else { return }
    server.awaitsMessageEnd = false
    answered(server)
  }

  /// Requests that a client may send before it waits for their answers: in statement mode one, as each may go to another
  /// connection; on a standby one, as the next may be the primary's; while others wait, as many as are fair.
  func requestLimit(_ pool: Pool) -> Int {
    if pool.settings.mode == .statement || pool.isForReads { return 1 }
    return pools.isContended(pool.id) ? Worker.requestsPerTurn : .max
  }

  /// A client gives its server connection back, clean.
  func checkin(_ server: Server, _ client: Client) {
    separate(server, client)
    if !isFitForOthers(server) {
      pools.discard(server.token, .unfit, now: time)
    } else if server.cleaning == .none {
      pools.checkin(server.token, settings: server.settings.identity, now: time)
    } else {
      clean(server)
    }
    carryOutEffects()
  }

  /// Takes a client and its server connection apart.
  func separate(_ server: Server, _ client: Client) {
    precondition(server.client === client && client.server === server, "not together")
    server.pool.telemetry.checkins.add()
    server.client = nil
    client.server = nil
    client.isApplying = false
    client.isInspected = false
    client.isVerifying = false
    client.exceeded = nil
    client.awaitsCancel = false
    client.changedStatement = nil
    client.awaitsRequest = false
    if client.requests.session.mayHide { server.isTainted = true }
    client.requests.detached()
    server.awaitsMessageEnd = false
    server.cycle.end()
    server.isHealing = false
    pin(server, [])
    server.resumeReceiving()
    client.adjustReceiving()
  }

  // MARK: Clients

  func accepted(_ descriptor: Int32, from peer: PeerAddress, on listener: Listener) {
    guard !clients.isFull else {
      _ = Glibc.close(descriptor)
      return
    }
    let deadline = configuration.loginTimeoutNanoseconds.map { loop.now + $0 } ?? .max
    let client = addClient(
      id: environment.clientNumbers.next(), peer: peer, connectedAt: loop.now, entry: ClientEntry(deadline: deadline))
    loop.adopt(descriptor, for: client, owned: true, mayLeave: environment.homes.workers > 1)
    client.isHalfOpen = true
    becameHalfOpen(client)
  }

  /// A client that was accepted here has logged in. A TLS handshake is work that is better spread, so that whoever had one
  /// counts as staying.
  func placed(_ client: Client, stays: Bool) {
    acceptOrder.placed(stays: stays || client.isEncrypted)
    loop.acceptsLast = acceptOrder.comesLast
  }

  /// A client of a pool that lives here was accepted by another worker.
  func receivedFromOther() {
    acceptOrder.arrived()
    loop.acceptsLast = acceptOrder.comesLast
  }

  /// A new client of this worker, without its socket.
  func addClient(id: Int64, peer: PeerAddress, connectedAt: Int64, entry: ClientEntry) -> Client {
    let client = clients.add { token in
      Client(worker: self, id: id, token: token, peer: peer, connectedAt: connectedAt, entry: entry)
    }
    client.cancelSecret = random.next()
    if entry.deadline < .max { loop.schedule(at: entry.deadline, token: Timer.login(client.token).token) }
    return client
  }

  /// The client is gone, or another worker's.
  func removeClient(_ client: Client) {
    noLongerHalfOpen(client)
    clients.remove(client.token)
  }

  /// Random bytes of the kernel.
  func randomBytes(_ count: Int) -> [UInt8] { random.take(count) }

  /// The loop tries again ten times a second for as long as there are no descriptors; the log gets less of it.
  func acceptFailed(_ error: Int32, on listener: Listener) {
    guard loop.now >= acceptFailureQuietUntil else { return }
    acceptFailureQuietUntil = loop.now + Worker.acceptFailureQuietNanoseconds
    environment.log(
      .acceptFailed(listener: listener.endpoint.description, error: unsafe String(cString: strerror(error))))
  }

  /// A writer for a message of the daemon's own, empty: one that has served before, as long as it is given back.
  func takeWriter() -> MessageWriter {
    var writer = MessageWriter()
    swap(&writer, &spareWriter)
    writer.bytes.removeAll(keepingCapacity: true)
    return writer
  }

  func giveBack(_ writer: consuming MessageWriter) {
    if writer.bytes.capacity <= Worker.writerKept { spareWriter = writer }
  }

  func client(_ token: ClientToken) -> Client? { clients[token] }

  var allClients: [Client] { clients.all }

  /// A CancelRequest: what waits is taken out of the queue, what runs is cancelled on the server. Anything else, and a
  /// wrong secret, means nothing.
  private func cancelRequested(_ key: CancelKey) {
    guard let client = clients[slot: CancelKeyLayout.slot(of: key.processID)], client.cancelSecret == key.secret
    else { return }
    if let pool = client.awaitedPool, client.phase == .serving {
      waitEnded(client, pool)
      pools.abandon(client.token, now: time)
      client.refusal = .cancelled(pool)
      resume(client)
    } else if let server = client.server, !server.replies.ledger.isEmpty, !client.isInspected {
      cancel(server)
    } else {
      client.cancelConsoleCommand()
    }
    carryOutEffects()
  }

  /// The client has closed its connection or said goodbye.
  func clientGone(_ client: Client, _ end: StreamEnd) {
    if case .tlsFailed(let reason) = end, client.isHalfOpen {
      environment.log(.handshakeFailed(client: client.id, peer: client.peer, reason: reason))
    }
    closeClient(client, reason: end.text)
  }

  /// Ends a client: its socket is closed once output has left, its place in the queue is given up, its server connection
  /// is cleaned.
  func closeClient(_ client: Client, reason: String) {
    guard client.phase != .closed else { return }
    if client.phase == .login { loggingInCount -= 1 }
    client.phase = .closed
    loop.closeAfterOutput(client)
    if let pool = client.awaitedPool {
      waitEnded(client, pool)
      pools.abandon(client.token, now: time)
    }
    if let server = client.server { takeBack(server, from: client) }
    if let pool = client.pool {
      pool.clients -= 1
      if pool.clients == 0 && pool.base == nil && isServed(pool) && poolTable.count > Worker.poolsKept
        && pool.shard == nil
      {
        retire(pool)
      }
      environment.log(
        .clientClosed(
          client: client.id, pool: pool.label, peer: client.peer, reason: reason,
          seconds: Double(loop.now - client.connectedAt) / 1e9))
    }
    if client.isAdmitted { environment.quota.leave() }
    removeClient(client)
    carryOutEffects()
  }

  /// Takes a connection from its client, in whatever state that leaves it. It is cleaned for the next one, or closed.
  func takeBack(_ server: Server, from client: Client) {
    let wasInside = client.requests.isInsideForwardedMessage
    let cannotBeCleaned = wasInside || client.requests.pins.contains(.library)
    if server.isPinned || client.requests.session.isInDoubt { server.cleaning = .everything }
    separate(server, client)
    if cannotBeCleaned {
      server.isCut = wasInside
      abandonServer(server, reason: .unfit)
    } else {
      clean(server)
    }
  }

  private func closeIfIdle(_ client: Client) {
    guard client.isIdle || client.isHalfOpen else { return }
    client.close(with: .closedByAdministrator)
  }

  // MARK: Mail and timers

  func mailArrived() {
    for message in mailbox.drain() {
      switch message {
      case .dialed(let server, let outcome): dialed(server, outcome)
      case .cancelSent(let server, let outcome): cancelSent(server, outcome)
      case .apply(let configuration): apply(configuration)
      case .clientMoved(let move): arrived(move)
      case .derived(let token, let keys): client(token)?.derived(keys)
      case .verified(let token, let verdict, let password): verified(token, verdict, password)
      case .cancelRequested(let key): cancelRequested(key)
      case .consoleReply(let token, let number, let reply): client(token)?.consoleReplied(reply, to: number)
      case .connections(let reply): reply(connections())
      case .heartbeat(let answer): answer()
      case .hostsChanged: hostsChanged()
      case .orders(let orders): take(orders)
      case .operation(let operation): carryOut(operation)
      case .wait(let wait): waits.append(wait)
      case .shard(let group, let mail): received(mail, group)
      case .drain(let waitsForClients): drain(waitsForClients: waitsForClients)
      case .stop: stop()
      }
    }
  }

  func timerFired(_ token: UInt64) {
    switch Timer(token: token) {
    case .pools:
      poolTimerAt = .max
      pools.advance(to: time)
      carryOutEffects()
    case .login(let token):
      if let client = client(token), client.isHalfOpen || client.phase == .login {
        client.close(with: ErrorFields(.fatal, .adminShutdown, "login timed out (client_login_timeout)"))
      }
    case .server(let token):
      if let server = servers[token] { timerFired(server) }
    case .sweep: sweep()
    }
  }

  // MARK: Stopping

  /// Lets nobody in, and ends when the last client is gone. Idle ones are closed now and the others as they become idle,
  /// unless they are waited for.
  private func drain(waitsForClients: Bool) {
    self.waitsForClients = waitsForClients
    isDraining = true
    loop.stopListening()
    isStopping = true
  }

  /// Closes everything now.
  private func stop() {
    isDraining = true
    isStopping = true
    stopsAtOnce = true
    loop.stopListening()
    for client in allClients { client.close(with: .closedByAdministrator) }
    carryOutEffects()
  }

  /// Closes clients that have become idle. When the last one is gone, server connections are closed, and the loop ends
  /// when their ends have been seen and clients have been sent all that is theirs.
  private func stopWhenEmpty() {
    if !waitsForClients {
      for client in allClients { closeIfIdle(client) }
      carryOutEffects()
    }
    guard clientCount == 0 else { return }
    for dial in dials.values { dial.ticket.cancel() }
    for pool in Array(poolByName.values) { retire(pool) }
    carryOutEffects()
    guard servers.all.isEmpty && dials.isEmpty else { return }
    if stopsAtOnce || !loop.isClosingAfterOutput { loop.stop() }
  }

}

/// What a timer is for, as the loop's 64-bit token: four bits of kind, then generation and index of what it is about.
enum Timer {
  case pools
  case login(ClientToken)
  case server(ServerToken)
  case sweep

  private static let generationMask: UInt32 = 0x07ff_ffff

  var token: UInt64 {
    switch self {
    case .pools: 0
    case .login(let client): Timer.pack(1, client.index, client.generation)
    case .server(let server): Timer.pack(2, server.index, server.generation)
    case .sweep: Timer.pack(3, 0, 0)
    }
  }

  init(token: UInt64) {
    let index = UInt32(truncatingIfNeeded: token)
    let generation = UInt32(truncatingIfNeeded: token >> 32) & Timer.generationMask
    switch token >> 59 {
    case 1: self = .login(ClientToken(index: index, generation: generation))
    case 2: self = .server(ServerToken(index: index, generation: generation))
    case 3: self = .sweep
    default: self = .pools
    }
  }

  private static func pack(_ kind: UInt64, _ index: UInt32, _ generation: UInt32) -> UInt64 {
    kind << 59 | UInt64(generation & generationMask) << 32 | UInt64(index)
  }
}

extension WaitFailure {
  /// Why the client of a pool for reads goes to the primary; nil where there is no such pool any more.
  fileprivate var readFallback: ReadFallback? {
    switch self {
    case .timeout: .timeout
    case .outage: .unreachable
    case .rejected: .rejected
    case .retired: nil
    }
  }
}
