/// The funnel of state changes, and what always holds of it.
extension PoolSet {
  /// Changes the state of a connection. Nothing else does: lists, counters and permits follow from here.
  mutating func move(_ server: Int, to next: ServerState) {
    let previous = servers[server].state
    let pool = Int(servers[server].pool)
    noteChange(pool)
    switch previous {
    case .free: takePermit(pool)
    case .closing:
      countClosing(pool, -1)
      if servers[server].isSilent { countSilent(pool, -1) }
    case .dialing, .idle, .stale, .testing, .active, .settling, .parked: break
    }
    pools[pool].move(server, from: previous, to: next, in: &servers)
    switch next {
    case .free: returnPermit(pool)
    case .closing:
      countClosing(pool, 1)
      if servers[server].isSilent { countSilent(pool, 1) }
    case .dialing, .idle, .stale, .testing, .active, .settling, .parked: break
    }
  }

  /// Asks for the connection to be closed. Its permit comes back with its EOF.
  ///
  /// - Parameter beneficiary: the pool that is to have the permit.
  mutating func close(_ server: Int, _ reason: CloseReason, for beneficiary: Int? = nil) {
    move(server, to: .closing)
    if let beneficiary {
      servers[server].beneficiary = UInt32(beneficiary)
      pools[beneficiary].reclaiming += 1
    }
    effects.append(.close(servers.token(server), reason))
  }

  /// The connection is gone, and its slot is free.
  ///
  /// - Returns: the pool that it was closed for.
  mutating func release(_ server: Int) -> Int? {
    let beneficiary = servers[server].beneficiary
    move(server, to: .free)
    servers.giveBack(server)
    guard beneficiary != ServerTable.none else { return nil }
    pools[Int(beneficiary)].reclaiming -= 1
    return Int(beneficiary)
  }

  private mutating func takePermit(_ pool: Int) {
    pools[pool].open += 1
    for place in pools[pool].limits.indices { limits[pools[pool].limits[place]].open += 1 }
  }

  private mutating func returnPermit(_ pool: Int) {
    pools[pool].open -= 1
    for place in pools[pool].limits.indices { limits[pools[pool].limits[place]].open -= 1 }
  }

  private mutating func countClosing(_ pool: Int, _ change: Int) {
    for place in pools[pool].limits.indices { limits[pools[pool].limits[place]].closing += change }
  }

  private mutating func countSilent(_ pool: Int, _ change: Int) {
    pools[pool].silentClosing += change
    if pools[pool].silentClosing == 0 { pools[pool].isWithoutAlternative = false }
  }

  /// Traps if the machine's records contradict each other. Looks at everything: for tests.
  package func checkInvariants() {
    var open = Array(repeating: 0, count: pools.count)
    var counts = Array(repeating: Array(repeating: 0, count: ServerState.count), count: pools.count)
    var reclaiming = Array(repeating: 0, count: pools.count)
    var silentClosing = Array(repeating: 0, count: pools.count)
    for server in servers.indices where servers[server].state != .free {
      let pool = Int(servers[server].pool)
      open[pool] += 1
      counts[pool][Int(servers[server].state.rawValue)] += 1
      precondition(servers[server].beneficiary == ServerTable.none || servers[server].state == .closing)
      if servers[server].state == .closing, servers[server].isSilent { silentClosing[pool] += 1 }
      if servers[server].beneficiary != ServerTable.none { reclaiming[Int(servers[server].beneficiary)] += 1 }
    }
    var starved = 0
    for pool in pools.indices where pools[pool].isUsed {
      precondition(pools[pool].open == open[pool])
      precondition(pools[pool].reclaiming == reclaiming[pool])
      precondition(pools[pool].silentClosing == silentClosing[pool])
      for state in 1..<ServerState.count { precondition(pools[pool].counts[state] == counts[pool][state]) }
      precondition(length(of: pools[pool].idle, state: .idle, pool) == pools[pool].count(.idle))
      precondition(length(of: pools[pool].stale, state: .stale, pool) == pools[pool].count(.stale))
      checkQueue(pool)
      checkShard(pool)
      if pools[pool].isBesieged { starved += 1 }
      guard pools[pool].blockedBy != Pool.notBlocked else { continue }
      starved += 1
      precondition(limits[pools[pool].blockedBy].starved.contains(pool) && !pools[pool].queue.isEmpty)
    }
    precondition(starved == starvedCount)
    for limit in limits.indices where limits[limit].isUsed {
      precondition(limits[limit].open == limits[limit].pools.reduce(0) { $0 + pools[$1].open })
      precondition(limits[limit].closing == limits[limit].pools.reduce(0) { $0 + pools[$1].count(.closing) })
    }
  }

  private func checkShard(_ pool: Int) {
    guard let shard = pools[pool].shard else {
      precondition(!pools[pool].isBesieged)
      return
    }
    precondition(pools[pool].configuration == shard.configuration)
    precondition(pools[pool].isBesieged == shard.isBesieged)
    precondition(shard.hungers[shard.number] == nil)
    precondition(shard.hungers.allSatisfy { $0.map { !$0.isOver && $0.connections >= 0 && $0.permits >= 0 } ?? true })
  }

  /// Walks the list from its newest to its oldest; also checks the order, state and pool of each.
  private func length(of list: ServerList, state: ServerState, _ pool: Int) -> Int {
    var length = 0
    var place = list.newest
    var newer = ServerTable.none
    while place != ServerTable.none {
      let server = Int(place)
      precondition(servers[server].state == state && Int(servers[server].pool) == pool)
      precondition(servers[server].newer == newer)
      if state == .idle {
        precondition(newer == ServerTable.none || servers[server].provenAt <= servers[Int(newer)].provenAt)
        precondition(servers[server].poolGeneration == pools[pool].generation)
      }
      newer = place
      place = servers[server].older
      length += 1
    }
    precondition(list.oldest == newer)
    return length
  }

  private func checkQueue(_ pool: Int) {
    var length = 0
    var place = pools[pool].queue.first
    var previous = WaiterTable.none
    while place != WaiterTable.none {
      precondition(waiters[place].pool == UInt32(pool) && waiters[place].previous == previous)
      precondition(previous == WaiterTable.none || waiters[previous].since <= waiters[place].since)
      previous = place
      place = waiters[place].next
      length += 1
    }
    precondition(length == pools[pool].queue.count && pools[pool].queue.last == previous)
    guard length > 0 else { return }
    let deadline = pools[pool].deadline(ofWaiterSince: waiters[pools[pool].queue.first].since)
    precondition(deadlines[pool] <= deadline, "the pool is looked at before its longest waiter gives up")
  }
}
