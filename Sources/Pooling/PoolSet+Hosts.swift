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

  // MARK: Hosts that do not answer

  /// The hosts that the dial must leave out: of each the pool has as many connections as its bound allows, those included
  /// that are being closed and do not answer. `noOtherHost` follows where none is left that would serve.
  public func avoidedHosts(_ token: ServerToken) -> HostSet {
    servers.find(token).map { servers[$0].avoided } ?? HostSet()
  }

  /// The hosts whose connections are being closed and do not answer.
  public func silentHosts(_ id: PoolID) -> HostSet {
    let pool = slot(id)
    var hosts = HostSet()
    guard pools[pool].silentClosing > 0 else { return hosts }
    for server in servers.indices where isClosingInSilence(server, of: pool) { hosts.insert(servers[server].host) }
    return hosts
  }

  /// The dial was not made: none of the hosts that it may go to would serve. The ends of the connections that do not answer
  /// are waited for, until there is other news of hosts.
  public mutating func noOtherHost(_ token: ServerToken, now: MonotonicTime) {
    let server = slot(token, in: .dialing)
    precondition(!servers[server].avoided.isEmpty, "the dial may go to any host")
    let pool = Int(servers[server].pool)
    if pools[pool].silentClosing > 0 { pools[pool].isWithoutAlternative = true }
    dialEnded(server, now)
  }

  /// More is known of the pool's hosts: another one may serve in the place of one that does not answer.
  public mutating func hostsChanged(_ id: PoolID, now: MonotonicTime) {
    let pool = slot(id)
    guard pools[pool].isWithoutAlternative, !pools[pool].isRetired else { return }
    pools[pool].isWithoutAlternative = false
    pump(pool, now)
    refill(pool, now)
  }

  private func isClosingInSilence(_ server: Int, of pool: Int) -> Bool {
    Int(servers[server].pool) == pool && servers[server].state == .closing && servers[server].isSilent
  }

  /// The hosts of which the pool has as many connections as its bound allows. Only where permits are lent can a host be
  /// full while the pool is not.
  func fullHosts(of pool: Int) -> HostSet {
    var full = HostSet()
    var counted = HostSet()
    guard pools[pool].silentClosing > 0 else { return full }
    for server in servers.indices where isClosingInSilence(server, of: pool) {
      let host = servers[server].host
      guard !counted.contains(host) else { continue }
      counted.insert(host)
      if connections(of: pool, to: host) >= pools[pool].configuration.bound { full.insert(host) }
    }
    return full
  }

  /// The pool's connections to a host, closing ones and dials that may reach it included.
  private func connections(of pool: Int, to host: UInt32) -> Int {
    servers.indices.count { server in
      guard Int(servers[server].pool) == pool else { return false }
      switch servers[server].state {
      case .free: return false
      case .dialing: return !servers[server].avoided.contains(host)
      case .idle, .stale, .testing, .active, .settling, .parked, .closing: return servers[server].host == host
      }
    }
  }

  // MARK: Generations

  /// All connections that the pool has to a host are old from now on: one of them has shown that the server went down.
  /// Those to other hosts, and those that are being dialed, are not.
  ///
  /// - Parameter isSilent: the server does not answer, rather than having ended the connection.
  mutating func startGeneration(_ pool: Int, ofHost host: UInt32, isSilent: Bool, _ now: MonotonicTime) {
    let old = pools[pool].generation &- 1
    for server in servers.indices where Int(servers[server].pool) == pool && servers[server].host == host {
      switch servers[server].state {
      case .idle, .testing, .active, .settling, .parked:
        servers[server].poolGeneration = old
        if isSilent { servers[server].isSilent = true }
      case .stale: if isSilent { servers[server].isSilent = true }
      case .free, .dialing, .closing: break
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
