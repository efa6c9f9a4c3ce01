/// What is known of hosts beyond a pool's own dials. Which hosts there are, and which one a dial goes to, is the caller's to
/// know.
extension PoolSet {
  /// The dial was not made: no host of the pool may be dialed before `until`, which is later than now.
  public mutating func dialDeferred(_ token: ServerToken, until: MonotonicTime, now: MonotonicTime) {
    precondition(until > now, "a dial that could be made is not put off")
    let server = slot(token, in: .dialing)
    let pool = Int(servers[server].pool)
    pools[pool].gate.dialDeferred(until: until, wasTrial: servers[server].isTrial, now)
    pools[pool].refillAt = max(pools[pool].refillAt, until)
    dialEnded(server, now)
  }

  /// A host of the pool can be reached again: an outage is not waited out.
  public mutating func hostReached(_ id: PoolID, now: MonotonicTime) {
    let pool = slot(id)
    guard pools[pool].gate.standing == .outage, !pools[pool].isRetired else { return }
    pools[pool].gate.hostReached()
    pools[pool].refillAt = now
    pump(pool, now)
    refill(pool, now)
  }

  /// All connections that the pool has to a host are old from now on: one of them has shown that the server went down.
  /// Those to other hosts, and those that are being dialed, are not.
  mutating func startGeneration(_ pool: Int, ofHost host: UInt32, _ now: MonotonicTime) {
    let old = pools[pool].generation &- 1
    for server in servers.indices where Int(servers[server].pool) == pool && servers[server].host == host {
      switch servers[server].state {
      case .idle, .testing, .active, .settling, .parked: servers[server].poolGeneration = old
      case .free, .dialing, .stale, .closing: break
      }
    }
    var place = pools[pool].idle.oldest
    while place != ServerTable.none {
      let server = Int(place)
      place = servers[server].newer
      if servers[server].poolGeneration == old { move(server, to: .stale) }
    }
    replaceStale(pool, now)
  }

  /// The connection's host is not what its pool wants any more: it counts as of an older generation from now on, and is
  /// replaced as soon as nobody has it. Ignored when it is closing.
  public mutating func outdate(_ token: ServerToken, now: MonotonicTime) {
    let server = slot(token)
    precondition(servers[server].state != .dialing, "the caller looks at a host when the dial is over")
    let pool = Int(servers[server].pool)
    servers[server].poolGeneration = pools[pool].generation &- 1
    guard servers[server].state == .idle else { return }
    move(server, to: .stale)
    replaceStale(pool, now)
    pump(pool, now)
    refill(pool, now)
  }
}
