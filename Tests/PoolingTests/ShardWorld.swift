import Pooling

/// Several `PoolSet`s with one shard each of the same pool, and the messages between them, which take their time.
///
/// The world knows by itself which connections there are, so that it can hold the shards to their common bound.
struct ShardWorld: ~Copyable {
  enum ConnectionState { case none, dialing, open, testing, active, settling, closing, travelling }

  struct Connection {
    var state = ConnectionState.none
    var shard = 0
    var provenAt = MonotonicTime.distantPast
    /// It has died on its way.
    var isDead = false
  }

  enum ClientState { case away, waiting, served }

  struct Client {
    var state = ClientState.away
    var generation: UInt32 = 0
    var connection = 0
  }

  /// What travels: from a shard to another one, or from the administrator.
  enum Mail {
    case message(ShardMessage, connection: Int?)
    case settings(PoolConfiguration, dealt: ShardPermits)
    case pause
    case resume
    case reconnect
  }

  struct Key: Hashable {
    var shard: Int
    var token: ServerToken
  }

  final class Member {
    var machine = PoolSet()
    var id = PoolID(index: 0, generation: 0)
    var clients = Array(repeating: Client(), count: 12)
    var queue: [Int] = []
    var isPaused = false
    var suspectAt = MonotonicTime.distantPast
    /// What it has been told.
    var configuration: PoolConfiguration

    init(_ configuration: PoolConfiguration) { self.configuration = configuration }
  }

  var random: SimulationRandom
  var now = MonotonicTime(nanoseconds: 1_000_000_000)
  var members: [Member] = []
  var connections: [Connection] = []
  var places: [Key: Int] = [:]
  /// Mail by sender and recipient, in order; the administrator is the sender after the last shard.
  var mail: [[Mail]]
  var configuration: PoolConfiguration
  /// The greatest bound that any shard may still know of.
  var allowed: Int
  var assignCount = 0
  var moveCount = 0
  var isHealing = false

  init(seed: UInt64) {
    random = SimulationRandom(seed: seed)
    let count = 2 + random.below(4)
    mail = Array(repeating: [], count: (count + 1) * count)
    configuration = PoolConfiguration(poolSize: 1, maxOverflow: 1)
    allowed = 0
    configuration = someConfiguration()
    allowed = configuration.bound
    for number in 0..<count {
      let member = Member(configuration)
      // The first has all permits, as the worker that makes the pool.
      let permits =
        number == 0 ? ShardPermits(count: configuration.bound, kept: configuration.poolSize) : ShardPermits.none
      member.id = member.machine.addShard(number, of: count, configuration, permits: permits, now: now)
      members.append(member)
    }
    for shard in members.indices { drain(shard) }
  }

  func require(_ condition: Bool, _ promise: StaticString) {
    if !condition { fatalError("broken promise: \(promise)") }
  }

  mutating func someConfiguration() -> PoolConfiguration {
    var configuration = PoolConfiguration(poolSize: 1 + random.below(8), maxOverflow: random.below(6))
    configuration.minSize = random.permille(300) ? random.below(configuration.poolSize + 1) : 0
    configuration.poolTimeoutNanoseconds = random.permille(150) ? 0 : random.permille(300) ? 2_000_000_000 : nil
    configuration.poolRecycleNanoseconds = random.permille(500) ? nil : 1 + Int64(random.below(60_000_000_000))
    configuration.prePing = random.permille(800)
    configuration.prePingIdleNanoseconds = random.permille(200) ? 0 : Int64(random.below(1_000_000_000))
    configuration.useLIFO = random.permille(600)
    configuration.overflowLingerNanoseconds = random.permille(300) ? 0 : Int64(random.below(1_000_000_000))
    configuration.onOutage = random.permille(700) ? .hold : .fail
    return configuration
  }

  // MARK: One event

  mutating func step() {
    switch random.below(1000) {
    case 0..<350:
      // One shard has more to do than the others.
      let shard = random.permille(500) ? 0 : random.below(members.count)
      clientEvent(shard, random.below(members[shard].clients.count))
    case 350..<650: if !connections.isEmpty { connectionEvent(random.below(connections.count)) }
    case 650..<940: deliverSomething()
    case 940..<990: passTime(random.permille(900) ? random.below(2_000_000) : random.below(2_000_000_000))
    case 990..<997: administratorEvent()
    default: settle()
    }
    checkBound()
    if random.permille(20) { for member in members { member.machine.checkInvariants() } }
  }

  private mutating func clientEvent(_ shard: Int, _ index: Int) {
    let member = members[shard]
    let client = member.clients[index]
    let token = ClientToken(index: UInt32(index), generation: client.generation)
    switch client.state {
    case .away:
      member.clients[index].state = .waiting
      member.queue.append(index)
      member.machine.checkout(token, from: member.id, settings: UInt32(random.below(2)), now: now)
    case .waiting:
      guard random.permille(60) else { return }
      require(member.machine.abandon(token, now: now), "who waits can give up")
      member.queue.removeAll { $0 == index }
      leave(shard, index)
    case .served:
      let connection = client.connection
      let place = place(of: connection)
      leave(shard, index)
      switch random.below(100) {
      case 0..<85: checkin(connection)
      case 85..<92:
        connections[connection].state = .settling
        member.machine.settle(place.token)
      case 92..<96:
        connections[connection].state = .closing
        member.machine.discard(place.token, .unfit, now: now)
      default: lose(connection)
      }
    }
    drain(shard)
  }

  private func leave(_ shard: Int, _ index: Int) {
    members[shard].clients[index].state = .away
    members[shard].clients[index].generation &+= 1
  }

  private func place(of connection: Int) -> Key { places.first { $0.value == connection }!.key }

  private mutating func checkin(_ connection: Int) {
    let place = place(of: connection)
    connections[connection].state = .open
    connections[connection].provenAt = now
    members[place.shard].machine.checkin(place.token, settings: UInt32(random.below(2)), now: now)
  }

  private mutating func lose(_ connection: Int) {
    let place = place(of: connection)
    forget(connection)
    members[place.shard].suspectAt = now
    members[place.shard].machine.lost(place.token, random.permille(800) ? .eof : .crashed, now: now)
  }

  private mutating func forget(_ connection: Int) {
    connections[connection].state = .none
    places = places.filter { $0.value != connection }
  }

  private mutating func connectionEvent(_ index: Int) {
    let state = connections[index].state
    switch state {
    case .none, .active: return
    case .travelling:
      if random.permille(20) { connections[index].isDead = true }
      return
    case .open: if random.permille(20), !isHealing { lose(index) } else { return }
    case .dialing, .testing, .settling, .closing: answer(index, isGood: isHealing || random.permille(900))
    }
    for shard in members.indices { drain(shard) }
  }

  /// What was begun on the connection ends.
  private mutating func answer(_ index: Int, isGood: Bool) {
    let place = place(of: index)
    let member = members[place.shard]
    switch connections[index].state {
    case .none, .open, .active, .travelling: return
    case .dialing:
      if isGood {
        connections[index].state = .open
        connections[index].provenAt = now
        member.machine.dialed(
          place.token, settings: 0, recycleJitterPermille: UInt32(random.below(1001)), now: now)
      } else {
        forget(index)
        let verdict = [DialVerdict.unreachable, .exhausted, .rejected].randomElement(using: &random)!
        member.machine.dialFailed(place.token, verdict, retryJitterPermille: UInt32(random.below(1001)), now: now)
      }
    case .testing:
      connections[index].state = isGood ? .open : .closing
      if isGood { connections[index].provenAt = now }
      member.machine.pinged(place.token, ok: isGood, now: now)
    case .settling:
      guard isGood else { return lose(index) }
      connections[index].state = .open
      connections[index].provenAt = now
      member.machine.settled(place.token, settings: 0, now: now)
    case .closing:
      forget(index)
      member.machine.closed(place.token, now: now)
    }
  }

  mutating func passTime(_ nanoseconds: Int) {
    now = now + Int64(nanoseconds)
    for (shard, member) in members.enumerated() {
      member.machine.advance(to: now)
      drain(shard)
    }
  }

  private mutating func administratorEvent() {
    let order: Mail
    switch random.below(100) {
    case 0..<50: return reload(someConfiguration())
    case 50..<65: order = .pause
    case 65..<90: order = .resume
    default: order = .reconnect
    }
    for shard in members.indices { post(order, from: members.count, to: shard) }
  }

  /// The first shard gets what is new of the bound, or loses what it has less.
  private mutating func reload(_ new: PoolConfiguration) {
    let change = ShardPermits(
      count: new.bound - configuration.bound, kept: new.poolSize - configuration.poolSize)
    allowed += max(0, change.count)
    configuration = new
    for shard in members.indices {
      post(.settings(new, dealt: shard == 0 ? change : .none), from: members.count, to: shard)
    }
  }

  // MARK: Mail

  private mutating func post(_ letter: Mail, from sender: Int, to recipient: Int) {
    mail[sender * members.count + recipient].append(letter)
  }

  private mutating func deliverSomething() {
    let start = random.below(mail.count)
    for offset in mail.indices {
      let box = (start + offset) % mail.count
      if !mail[box].isEmpty { return deliver(mail[box].removeFirst(), to: box % members.count) }
    }
  }

  private mutating func deliver(_ letter: Mail, to shard: Int) {
    let member = members[shard]
    switch letter {
    case .message(.hunger(let hunger), _): member.machine.hungered(member.id, hunger, now: now)
    case .message(.claim(let claim), _): member.machine.claimed(member.id, claim, now: now)
    case .message(.gift(var gift), let connection):
      require(gift.recipient == shard, "a gift goes to whom it is for")
      if let connection, connections[connection].isDead {
        connections[connection] = Connection()
        gift.server = nil
      }
      if let connection, gift.server != nil {
        adopt(connection, gift, shard)
      } else {
        member.machine.granted(member.id, gift, now: now)
      }
    case .settings(let configuration, let dealt):
      member.configuration = configuration
      member.machine.configureShard(member.id, configuration, dealt: dealt, now: now)
    case .pause:
      member.isPaused = true
      member.machine.pause(member.id, now: now)
    case .resume:
      member.isPaused = false
      member.machine.resume(member.id, now: now)
    case .reconnect: member.machine.reconnect(member.id, now: now)
    }
    drain(shard)
  }

  private mutating func adopt(_ connection: Int, _ gift: ShardGift, _ shard: Int) {
    moveCount += 1
    let token = members[shard].machine.adopt(
      members[shard].id, gift, host: 0, settings: UInt32(random.below(2)))
    connections[connection].shard = shard
    connections[connection].state = .testing
    places[Key(shard: shard, token: token)] = connection
    // Some have statements to forget first.
    guard random.permille(700) else { return }
    connections[connection].state = .open
    members[shard].machine.adopted(token, isQuiet: random.permille(900), now: now)
  }

  // MARK: Effects

  /// The end of a shard's turn.
  mutating func drain(_ shard: Int) {
    let member = members[shard]
    carryOutEffects(shard)
    // Some turns see more than one event.
    if isHealing || random.permille(700) { member.machine.review(member.id, now: now) }
    carryOutEffects(shard)
    while let (pool, message) = member.machine.nextShardMessage() {
      require(pool == member.id, "messages are about the pool")
      switch message {
      case .hunger, .claim: post(.message(message, connection: nil), from: shard, to: (shard + 1) % members.count)
      case .gift(let gift):
        var connection: Int?
        if let server = gift.server {
          connection = places.removeValue(forKey: Key(shard: shard, token: server.token))
          if connection == nil { connection = departed.removeValue(forKey: Key(shard: shard, token: server.token)) }
          require(connection != nil, "a connection that is given exists")
        }
        post(.message(message, connection: connection), from: shard, to: gift.recipient)
      }
    }
  }

  private var departed: [Key: Int] = [:]

  private mutating func carryOutEffects(_ shard: Int) {
    let member = members[shard]
    while let effect = member.machine.nextEffect() {
      switch effect {
      case .dial(let token, _):
        let index = connections.firstIndex { $0.state == .none } ?? connections.count
        if index == connections.count { connections.append(Connection()) }
        connections[index] = Connection(state: .dialing, shard: shard)
        places[Key(shard: shard, token: token)] = index
      case .assign(let client, let token):
        let index = Int(client.index)
        let connection = places[Key(shard: shard, token: token)]!
        require(member.queue.first == index, "first come, first served within a shard")
        require(connections[connection].state == .open, "a connection that is lent is free")
        member.queue.removeFirst()
        member.clients[index].state = .served
        member.clients[index].connection = connection
        connections[connection].state = .active
        assignCount += 1
      case .ping(let token): connections[places[Key(shard: shard, token: token)]!].state = .testing
      case .close(let token, _): connections[places[Key(shard: shard, token: token)]!].state = .closing
      case .depart(let token):
        let key = Key(shard: shard, token: token)
        let connection = places.removeValue(forKey: key)!
        require(connections[connection].state == .open, "only an idle connection moves")
        connections[connection].state = .travelling
        departed[key] = connection
      case .fail(let client, _):
        member.queue.removeAll { $0 == Int(client.index) }
        leave(shard, Int(client.index))
      }
    }
  }

  // MARK: Promises

  private func checkBound() {
    let open = connections.count { $0.state != .none }
    require(open <= allowed, "all shards together keep the bound")
    var permits = 0
    var kept = 0
    for member in members {
      permits += member.machine.permits(member.id)!.count
      kept += member.machine.permits(member.id)!.kept
    }
    for letter in mail.joined() {
      switch letter {
      case .message(.gift(let gift), _):
        permits += gift.permits.count
        kept += gift.permits.kept
      case .settings(_, let dealt):
        permits += dealt.count
        kept += dealt.kept
      case .message, .pause, .resume, .reconnect: break
      }
    }
    require(permits == configuration.bound && kept == configuration.poolSize, "permits are conserved")
  }

  /// All messages arrive: then nobody waits for what is to be had elsewhere.
  mutating func settle() {
    let wasHealing = isHealing
    isHealing = true
    defer { isHealing = wasHealing }
    for shard in members.indices { drain(shard) }
    var letters = 0
    while mail.contains(where: { !$0.isEmpty }) {
      deliverSomething()
      letters += 1
      require(letters < 100_000, "shards come to an end of what they have to say")
    }
    checkRest()
    // More than the bound is left only where a reload has made it smaller, and connections are in use.
    allowed = members.reduce(0) { sum, member in
      sum + max(member.machine.counts(member.id).open, member.machine.permits(member.id)!.count)
    }
  }

  private func checkRest() {
    let hungry = members.filter { !$0.isPaused && $0.queue.count > $0.machine.counts($0.id).testing }
    guard let one = hungry.first else { return }
    let oneCounts = one.machine.counts(one.id)
    let isAtBound = oneCounts.open >= one.machine.permits(one.id)!.count
    let lacksSupply = oneCounts.waiting > oneCounts.dialing + oneCounts.testing
    for (shard, member) in members.enumerated() {
      let counts = member.machine.counts(member.id)
      let idle = member.configuration.prePing ? now - member.configuration.prePingIdleNanoseconds : .distantPast
      for (key, index) in places where key.shard == shard && member.machine.state(of: key.token) == .idle {
        let isProven = connections[index].provenAt > max(idle, member.suspectAt)
        require(!isProven, "nobody waits while a proven connection is idle elsewhere")
        require(
          counts.testing > 0 || !lacksSupply || counts.waiting > 0,
          "nobody waits while a connection elsewhere could be pinged")
      }
      let permits = member.machine.permits(member.id)!.count
      let needed = member.isPaused ? 0 : max(0, counts.waiting - counts.dialing - counts.testing)
      require(
        !isAtBound || !lacksSupply || permits - counts.open - needed <= 0,
        "nobody waits while a permit is unused elsewhere")
    }
  }

  // MARK: The end

  /// All is well from now on: everybody who comes is served.
  mutating func finish() {
    isHealing = true
    configuration.poolTimeoutNanoseconds = nil
    configuration.onOutage = .hold
    reload(configuration)
    for shard in members.indices { post(.resume, from: members.count, to: shard) }
    calm()
    let before = assignCount
    var expected = 0
    for (shard, member) in members.enumerated() {
      for index in member.clients.indices {
        require(member.clients[index].state == .away, "everybody has left")
        clientEvent(shard, index)
        expected += 1
      }
    }
    calm()
    require(assignCount - before == expected, "each client was served once")
    for member in members {
      let counts = member.machine.counts(member.id)
      require(counts.open == counts.idle && counts.waiting == 0, "what is left is idle")
      let permits = member.machine.permits(member.id)!
      require(permits.count >= 0 && permits.kept >= 0, "no shard has debts")
      member.machine.checkInvariants()
    }
    require(connections.count { $0.state != .none } <= configuration.bound, "the bound is kept in the end")
  }

  private mutating func calm() {
    for second in 0..<300 {
      if second > 0 { passTime(1_000_000_000) }
      var isMoving = true
      while isMoving {
        isMoving = false
        settle()
        for index in connections.indices {
          switch connections[index].state {
          case .none, .open, .travelling: continue
          case .active:
            let shard = connections[index].shard
            let client = members[shard].clients.firstIndex { $0.state == .served && $0.connection == index }!
            leave(shard, client)
            checkin(index)
          case .dialing, .testing, .settling, .closing: answer(index, isGood: true)
          }
          isMoving = true
          for shard in members.indices { drain(shard) }
        }
      }
    }
  }
}
