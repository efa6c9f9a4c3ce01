import Pooling
import Testing

/// A `PoolSet` with one pool (and others where a test adds them), driven by hand: events in short words, the effects of
/// each kept for the test to look at.
///
/// Servers and clients are named by the order in which they came: server 0 is the first that was dialed.
final class PoolScript {
  var machine = PoolSet()
  var now = MonotonicTime(nanoseconds: 1_000_000_000_000)
  var pool: PoolID
  /// Server tokens in the order of their dials.
  private(set) var servers: [ServerToken] = []
  /// What has been asked for since `effects` was last called.
  private var collected: [PoolEffect] = []

  /// A pool without the rules that a test does not ask for: no ping, no recycling, no lingering, no time-out.
  static var plain: PoolConfiguration {
    var configuration = PoolConfiguration(poolSize: 2, maxOverflow: 1)
    configuration.poolTimeoutNanoseconds = nil
    configuration.poolRecycleNanoseconds = nil
    configuration.prePing = false
    configuration.overflowLingerNanoseconds = 0
    return configuration
  }

  init(limits maximums: [Int] = [], _ change: (inout PoolConfiguration) -> Void = { _ in }) {
    var configuration = Self.plain
    change(&configuration)
    var limits: [LimitID] = []
    for maximum in maximums { limits.append(machine.addLimit(maximum: maximum)) }
    pool = machine.addPool(configuration, limits: limits, now: now)
    collect()
  }

  // MARK: Events

  func checkout(_ client: UInt32, settings: UInt32 = 0) { checkout(client, from: pool, settings: settings) }

  func checkout(_ client: UInt32, from pool: PoolID, settings: UInt32 = 0) {
    machine.checkout(name(client), from: pool, settings: settings, now: now)
    collect()
  }

  func abandon(_ client: UInt32) -> Bool {
    let wasWaiting = machine.abandon(name(client), now: now)
    collect()
    return wasWaiting
  }

  func dialed(_ server: Int, host: UInt32 = 0, settings: UInt32 = 0, jitter: UInt32 = 0) {
    machine.dialed(servers[server], host: host, settings: settings, recycleJitterPermille: jitter, now: now)
    collect()
  }

  func dialFailed(_ server: Int, _ verdict: DialVerdict, jitter: UInt32 = 500) {
    machine.dialFailed(servers[server], verdict, retryJitterPermille: jitter, now: now)
    collect()
  }

  func dialDeferred(_ server: Int, milliseconds: Int64) {
    machine.dialDeferred(servers[server], until: now + milliseconds * 1_000_000, now: now)
    collect()
  }

  func hostReached() {
    machine.hostReached(pool, now: now)
    collect()
  }

  func noOtherHost(_ server: Int) {
    machine.noOtherHost(servers[server], now: now)
    collect()
  }

  func hostsChanged() {
    machine.hostsChanged(pool, now: now)
    collect()
  }

  /// The numbers of the hosts that the dial leaves out, of the first four.
  func avoided(_ server: Int) -> [UInt32] {
    let hosts = machine.avoidedHosts(servers[server])
    return (0..<4).filter { hosts.contains($0) }
  }

  func outdate(_ server: Int) {
    machine.outdate(servers[server], now: now)
    collect()
  }

  func pinged(_ server: Int, ok: Bool) {
    machine.pinged(servers[server], ok: ok, now: now)
    collect()
  }

  func checkin(_ server: Int, settings: UInt32 = 0) {
    machine.checkin(servers[server], settings: settings, now: now)
    collect()
  }

  func settle(_ server: Int) {
    machine.settle(servers[server])
    collect()
  }

  func settled(_ server: Int) {
    machine.settled(servers[server], settings: 0, now: now)
    collect()
  }

  func hold(_ server: Int) {
    machine.hold(servers[server])
    collect()
  }

  func unhold(_ server: Int) {
    machine.unhold(servers[server], now: now)
    collect()
  }

  func discard(_ server: Int, _ reason: CloseReason = .unfit) {
    machine.discard(servers[server], reason, now: now)
    collect()
  }

  func lost(_ server: Int, _ kind: LossKind) {
    machine.lost(servers[server], kind, now: now)
    collect()
  }

  func closed(_ server: Int) {
    machine.closed(servers[server], now: now)
    collect()
  }

  func configure(_ change: (inout PoolConfiguration) -> Void) {
    var configuration = Self.plain
    change(&configuration)
    machine.configure(pool, configuration, now: now)
    collect()
  }

  func pause() {
    machine.pause(pool, now: now)
    collect()
  }

  func resume() {
    machine.resume(pool, now: now)
    collect()
  }

  func reconnect() {
    machine.reconnect(pool, now: now)
    collect()
  }

  var hasOutdated: Bool { machine.hasOutdated(pool) }

  func isOutdated(_ server: Int) -> Bool { machine.isOutdated(servers[server]) }

  /// The next pool that has changed.
  func changed() -> PoolID? { machine.nextChanged() }

  func retire() {
    machine.retire(pool, now: now)
    collect()
  }

  func setLimit(_ limit: UInt32, to maximum: Int) {
    machine.setLimit(LimitID(index: limit), maximum: maximum, now: now)
    collect()
  }

  func addPool(limits: [UInt32], _ change: (inout PoolConfiguration) -> Void = { _ in }) -> PoolID {
    var configuration = Self.plain
    change(&configuration)
    let id = machine.addPool(configuration, limits: limits.map { LimitID(index: $0) }, now: now)
    collect()
    return id
  }

  /// Lets time pass, with a call of `advance` at its end.
  func wait(milliseconds: Int64) {
    now = now + milliseconds * 1_000_000
    machine.advance(to: now)
    collect()
  }

  /// Opens this many connections and leaves them idle, server 0 idle longest, and forgets the effects.
  func fill(_ count: Int) {
    for client in 0..<count {
      checkout(UInt32(1000 + client))
      dialed(client)
    }
    for server in 0..<count { checkin(server) }
    _ = effects()
  }

  // MARK: What came of it

  /// The effects since the last call, in words: "dial 0", "assign 7 to 0", "ping 0", "close 0 unfit", "fail 7 timeout".
  func effects() -> [String] {
    defer { collected.removeAll() }
    return collected.map { effect in
      switch effect {
      case .dial(let server, let id): id == pool ? "dial \(number(server))" : "dial \(number(server)) elsewhere"
      case .assign(let client, let server): "assign \(client.index) to \(number(server))"
      case .ping(let server): "ping \(number(server))"
      case .close(let server, let reason): "close \(number(server)) \(reason)"
      case .fail(let client, let failure): "fail \(client.index) \(failure)"
      case .depart(let server): "depart \(number(server))"
      }
    }
  }

  var counts: PoolCounts { machine.counts(pool) }

  var nextDeadline: MonotonicTime? { machine.nextDeadline }

  var isEmpty: Bool { machine.isEmpty(pool) }

  func state(_ server: Int) -> ServerState? { machine.state(of: servers[server]) }

  private func name(_ client: UInt32) -> ClientToken { ClientToken(index: client, generation: 0) }

  private func number(_ server: ServerToken) -> Int { servers.firstIndex(of: server)! }

  private func collect() {
    while let effect = machine.nextEffect() {
      if case .dial(let server, _) = effect { servers.append(server) }
      collected.append(effect)
    }
    machine.checkInvariants()
  }
}
