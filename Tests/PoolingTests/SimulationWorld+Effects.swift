import Pooling

/// Carrying out effects. What the machine may not ask for traps here.
extension SimulationWorld {
  mutating func drain() {
    while let effect = machine.nextEffect() {
      switch effect {
      case .dial(let token, let id): dial(token, id)
      case .assign(let client, let server): assign(client, server)
      case .ping(let token): ping(token)
      case .close(let token, let reason): close(token, reason)
      case .fail(let client, let failure): fail(client, failure)
      case .depart: require(false, "only a shard gives connections away")
      }
    }
    isBatching = false
  }

  private mutating func dial(_ token: ServerToken, _ id: PoolID) {
    let pool = pools.firstIndex { $0.id == id }!
    dialCount += 1
    let avoided = machine.avoidedHosts(token)
    let silent = servers.count { $0.pool == pool && $0.state == .closing && $0.isSilent }
    require(
      pools[pool].open - silent < pools[pool].configuration.bound || isBatching, "a dial needs a permit of the pool")
    require(silent > 0 || avoided.isEmpty || isBatching, "a dial goes to any host while all answer")
    for replica in 0..<pools[pool].replicaCount where !avoided.contains(replica) {
      let connections = servers.count { server in
        server.pool == pool && server.state != .none
          && (server.state == .dialing ? !server.avoided.contains(replica) : server.replica == replica)
      }
      require(
        connections < pools[pool].configuration.bound || isBatching, "no server has more connections than the bound")
    }
    pools[pool].open += 1
    for limit in pools[pool].limits {
      require(limits[limit].open < limits[limit].maximum || isBatching, "a dial needs a permit of each limit")
      limits[limit].open += 1
    }
    require(!pools[pool].isRetired && !pools[pool].isPaused || isBatching, "no dial for a pool that lends nothing")
    while servers.count <= Int(token.index) { servers.append(Server()) }
    require(servers[Int(token.index)].state == .none, "a slot is used again once it is free")
    servers[Int(token.index)] = Server(
      state: .dialing, token: token, pool: pool, openedAt: now, dialNumber: dialCount, avoided: avoided)
    if !avoided.isEmpty, replicas(for: Int(token.index)).isEmpty || random.permille(200) {
      return noOtherHost(Int(token.index))
    }
    guard admit(Int(token.index)) else { return }
    guard let outageBegan = pools[pool].outageDialNumber else { return }
    let trials = servers.count { $0.state == .dialing && $0.pool == pool && $0.dialNumber > outageBegan }
    require(trials == 1 || isBatching, "one trial at a time in an outage")
  }

  /// None of the servers that the dial may go to would serve.
  private mutating func noOtherHost(_ server: Int) {
    pools[servers[server].pool].isWithoutAlternative = true
    forget(server)
    machine.noOtherHost(servers[server].token, now: now)
  }

  /// Asks the host's breaker.
  private mutating func admit(_ server: Int) -> Bool {
    let pool = servers[server].pool
    let host = pools[pool].host
    switch hosts[host].breaker.admit(isWanted: machine.hasWaiters(pools[pool].id), now) {
    case .pass: return true
    case .trial(let number):
      require(number != hosts[host].latestTrial, "a trial has a number of its own")
      servers[server].trial = number
      hosts[host].latestTrial = number
      return true
    case .refused(let until):
      require(until > now, "who is refused knows when to come again")
      dialDeferred(server, until: until)
      return false
    }
  }

  private mutating func assign(_ client: ClientToken, _ token: ServerToken) {
    let index = Int(client.index)
    let server = Int(token.index)
    let pool = clients[index].pool
    assignCount += 1
    require(clients[index].generation == client.generation, "a connection goes to a client that exists")
    require(clients[index].state == .waiting || clients[index].state == .abandoned, "a connection goes to who waits")
    require(pools[pool].queue.first == index, "first come, first served")
    pools[pool].queue.removeFirst()
    let wasAbandoned = clients[index].state == .abandoned
    clients[index].state = .away
    guard servers[server].token == token, servers[server].state != .none else {
      require(isBatching, "a connection that is lent exists")
      clients[index].generation &+= 1
      return
    }
    require(servers[server].state == .open && servers[server].pool == pool, "a connection that is lent is free")
    require(!servers[server].isOutdated || isBatching, "a connection to the wrong host goes to nobody")
    require(servers[server].holds == 0, "a connection at which a cancel is aimed goes to nobody else")
    servers[server].state = .active
    servers[server].client = index
    if wasAbandoned {
      leave(server, for: .open)
      checkin(server)
    } else {
      clients[index].state = .served
      clients[index].server = server
    }
  }

  private mutating func ping(_ token: ServerToken) {
    let server = Int(token.index)
    guard servers[server].token == token, servers[server].state != .none else {
      require(isBatching, "a connection that is pinged exists")
      return
    }
    require(servers[server].state == .open && servers[server].holds == 0, "only an idle connection is pinged")
    servers[server].state = .testing
  }

  private mutating func close(_ token: ServerToken, _ reason: CloseReason) {
    let server = Int(token.index)
    guard servers[server].token == token, servers[server].state != .none else {
      require(isBatching, "a connection that is closed exists")
      return
    }
    switch reason {
    case .unfit, .unanswered, .protocolViolation, .pingFailed, .killed:
      require(servers[server].state == .closing, "as was ordered")
    case .retired: require(servers[server].state == .open || servers[server].state == .testing, "lent to nobody")
    case .recycled, .generation, .overflow, .shrunk, .limit, .paused:
      require(servers[server].state == .open, "a connection in use is not closed")
    }
    servers[server].state = .closing
  }

  private mutating func fail(_ client: ClientToken, _ failure: WaitFailure) {
    let index = Int(client.index)
    let pool = clients[index].pool
    require(clients[index].generation == client.generation, "a client that fails exists")
    require(clients[index].state == .waiting || clients[index].state == .abandoned, "only who waits fails")
    pools[pool].queue.removeAll { $0 == index }
    let standing = machine.counts(pools[pool].id).standing
    switch failure {
    case .timeout:
      let timeout = pools[pool].configuration.poolTimeoutNanoseconds ?? .max
      require(timeout == 0 || now >= clients[index].since + timeout || isBatching, "nobody fails before the time")
    case .outage: require(standing == .outage || isBatching, "an outage")
    case .rejected: require(standing == .rejected || isBatching, "a rejection")
    case .retired: require(pools[pool].isRetired, "a pool that is gone")
    }
    clients[index].state = .away
    clients[index].generation &+= 1
  }
}
