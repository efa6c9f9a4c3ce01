import Pooling
import PostgresWire
import Reactor
import Upstream

/// A server connection on its way from one shard of its pool to another: everything that it is. It is idle, and owes
/// nothing.
///
/// Unchecked: the old worker keeps nothing of it, and only the new one takes it out of the mailbox.
final class ServerMove: @unchecked Sendable {
  let id: Int64
  let link: ServerLink
  let socket: ReleasedSocket
  /// What has come from the server and has not been looked at.
  let unread: [UInt8]
  /// Nothing has come from it that has not been looked at.
  let isQuiet: Bool
  /// Its end has come in the meantime.
  let hasEnded: Bool
  let replies: ReplyScanner
  /// The settings of its session, and those of a new one. They are looked up in the new worker's table by their values.
  let settings: SessionSettings
  let base: SessionSettings?
  /// It has prepared statements. Each worker has its own names for those, so they are deallocated where it arrives, which
  /// takes one round trip; moving is rare, and a statement that is wanted there is parsed when it is.
  let hasStatements: Bool
  let proof: ConnectionProof
  let dialedAt: Int64
  let connectedAt: Int64
  let requestSince: Int64
  let lastClient: Int64
  let isTainted: Bool
  let hasForeignSequences: Bool
  /// The worker that it has left, and waits for news of it (`Worker.moveEnded`).
  let origin: Int

  /// Takes the connection from its worker's loop, at the end of a turn.
  init(_ server: Server) {
    id = server.id
    link = server.link
    socket = server.worker.loop.release(server)
    unread = server.takeUnread()
    let state = socket.state
    isQuiet = unread.isEmpty && state == .quiet
    hasEnded = state == .ended
    replies = server.replies
    settings = server.settings
    base = server.pool.base
    hasStatements = server.statements.count > 0
    proof = server.proof
    dialedAt = server.dialedAt
    connectedAt = server.connectedAt
    requestSince = server.requestSince
    lastClient = server.lastClient
    isTainted = server.isTainted
    hasForeignSequences = server.hasForeignSequences
    origin = server.worker.index
  }

  /// Closes a connection that will not arrive.
  func close() {
    socket.close()
    link.finish()
  }
}

/// One shard's message to another worker.
enum ShardMail: Sendable {
  case message(ShardMessage)
  /// A gift with its connection.
  case connection(ShardGift, ServerMove)
  /// A connection has arrived, or has ended there where it was not wanted any more.
  case moveEnded
}

/// What a worker does for the shards of pools that it has, and they for it.
///
/// ```
///   PoolSet: .depart ─▶ Server.work = .departing     the end of the turn: off the loop, into a mailbox
///   PoolSet: gift ──────────────────────────────────▶      │
///                                                          ▼ the other worker
///                              adopt ─▶ statements? ─ yes ─▶ DEALLOCATE ALL ─▶ pinged ─▶ lent
///                                            └─ no ─────────────────────────▶ adopted ─▶ lent, or pinged first
/// ```
extension Worker {
  // MARK: Sending

  /// A connection goes to another shard at the end of the turn. Until then nothing that comes from it is looked at, but its
  /// end may be seen.
  func depart(_ token: ServerToken) {
    guard let server = servers[token] else { return }
    servers[token] = nil
    server.work = .departing
    loop.setReceiving(false, on: server.socket)
    departing[token] = server
  }

  /// The end of a connection has been seen, or is certain, before it left: its permit goes alone.
  func departureFailed(_ server: Server, _ reason: String) {
    noteLoss(of: server.id, server.link, server.pool, reason)
    departing[server.token] = nil
    loop.close(server)
    server.link.finish()
  }

  /// Sends what shards have to say to others; at the end of a turn.
  func sendShardMessages() {
    while let (id, message) = pools.nextShardMessage() {
      guard let pool = pool(id), let (group, number) = pool.shard else { continue }
      switch message {
      case .hunger, .claim: sendOn(message, from: number, group)
      case .gift(let gift): send(gift, of: pool, group)
      }
    }
  }

  /// Sends a message to the next shard whose worker has not ended.
  private func sendOn(_ message: ShardMessage, from number: Int, _ group: ShardGroup) {
    for offset in 1..<group.workers.count {
      let next = group.workers[(number + offset) % group.workers.count]
      if environment.mailboxes[next].post(.shard(group, .message(message))) { return }
    }
  }

  private func send(_ gift: ShardGift, of pool: Pool, _ group: ShardGroup) {
    var gift = gift
    var move: ServerMove?
    if let token = gift.server?.token {
      if let server = departing[token], let fatal = server.fatal { departureFailed(server, fatal.message.text) }
      if let server = departing.removeValue(forKey: token) { move = ServerMove(server) }
      if let ended = move, ended.hasEnded {
        noteLoss(of: ended.id, ended.link, pool, StreamEnd.endOfStream.text)
        ended.close()
        move = nil
      }
      if move == nil { gift.server = nil }
    }
    if environment.send(gift, move, group) {
      if move != nil { pool.travelling += 1 }
    } else {
      // Everybody else has ended: what nobody takes stays here, as far as it does not need its loop.
      move?.close()
      gift.server = nil
      pools.granted(pool.id, gift, now: time)
      carryOutEffects()
    }
  }

  private func noteLoss(of server: Int64, _ link: ServerLink, _ pool: Pool, _ reason: String) {
    pool.telemetry.invalidations.add()
    pool.telemetry.idleLosses.add()
    environment.log(.serverLost(pool: pool.label, server: server, processID: link.processID, reason: reason))
  }

  /// A shard is about to be no more: what it does not use others may have.
  func surrenderPermits(of pool: Pool) {
    guard let (group, number) = pool.shard else { return }
    let permits = pools.surrender(pool.id)
    guard permits != .none else { return }
    let next = (number + 1) % group.workers.count
    _ = environment.send(ShardGift(surrendering: permits, to: next, now: time), nil, group, isEnding: index)
  }

  // MARK: Receiving

  func received(_ mail: ShardMail, _ group: ShardGroup) {
    guard let pool = shard(of: group) else { return unclaimed(mail, group) }
    switch mail {
    case .message(.hunger(let hunger)): pools.hungered(pool.id, hunger, now: time)
    case .message(.claim(let claim)): pools.claimed(pool.id, claim, now: time)
    case .message(.gift(let gift)):
      pool.telemetry.shardPermits.add(UInt64(max(0, gift.permits.count)))
      noteTransfer(gift, pool)
      pools.granted(pool.id, gift, now: time)
    case .connection(let gift, let move): adopt(move, gift, pool, group)
    case .moveEnded: pool.travelling -= 1
    }
    carryOutEffects()
  }

  private func noteTransfer(_ gift: ShardGift, _ pool: Pool) {
    guard gift.answersHunger else { return }
    let delay = max(0, loop.now - gift.availableSince.nanoseconds)
    pool.telemetry.shardTransfer.record(microseconds: UInt64(delay / 1000))
  }

  /// The shard of a pool that is here; it is made where it is not there yet and the settings have the pool.
  private func shard(of group: ShardGroup) -> Pool? {
    if let pool = shards[ObjectIdentifier(group)] { return pool }
    guard environment.homes.hasShards(group) else { return nil }
    _ = pool(database: group.pool.database, user: group.pool.user)
    return shards[ObjectIdentifier(group)]
  }

  /// A message for a shard that is gone, or cannot be made: questions go on, what is given is closed.
  private func unclaimed(_ mail: ShardMail, _ group: ShardGroup) {
    guard let number = group.number(on: index) else { return }
    switch mail {
    case .message(.hunger(let hunger)) where hunger.shard != number: sendOn(.hunger(hunger), from: number, group)
    case .message(.claim(let claim)) where claim.shard != number: sendOn(.claim(claim), from: number, group)
    case .connection(_, let move):
      move.close()
      tellOrigin(of: move.origin, group)
    case .message, .moveEnded: break
    }
  }

  private func adopt(_ move: ServerMove, _ gift: ShardGift, _ pool: Pool, _ group: ShardGroup) {
    pool.telemetry.shardConnections.add()
    noteTransfer(gift, pool)
    if pool.base == nil, let base = move.base {
      pool.opened(with: settingsTable.settings(reported: base.reported, unreported: base.unreported))
    }
    let settings = settingsTable.settings(reported: move.settings.reported, unreported: move.settings.unreported)
    let token = pools.adopt(
      pool.id, gift, host: pool.hosts.number(of: move.link.host), settings: settings.identity)
    let server = Server(worker: self, token: token, pool: pool, move: move, settings: settings)
    servers[token] = server
    loop.adopt(move.socket, for: server)
    let wasKilled = move.dialedAt <= pool.killedAt
    if !wasKilled, let host = server.host, pool.hosts.isMisfit(host) { pools.outdate(token, now: time) }
    if wasKilled {
      abandonServer(server, reason: .killed)
    } else if move.hasStatements {
      server.sendQuery("DEALLOCATE ALL", for: .deallocation, within: nil)
      setDeadline(server, pool.settings.cancelTimeout)
    } else {
      pools.adopted(token, isQuiet: move.isQuiet, now: time)
    }
    // What was ordered meanwhile holds for it too: whoever waits for that waits for its end.
    if pools.state(of: token) == .closing || pools.isOutdated(token) || pools.counts(pool.id).isPaused {
      server.origin = move.origin
    } else {
      tellOrigin(of: move.origin, group)
    }
  }

  /// The connection is not what the worker waits for that it came from, or is gone.
  func tellOrigin(of origin: Int, _ group: ShardGroup) {
    environment.mailboxes[origin].post(.shard(group, .moveEnded))
  }
}

extension DataPlaneEnvironment {
  /// Sends a gift to its recipient or, where that worker has ended, to any other shard.
  ///
  /// - Parameter isEnding: a worker that is not asked any more.
  /// - Returns: false where all have ended.
  func send(_ gift: ShardGift, _ move: ServerMove?, _ group: ShardGroup, isEnding: Int? = nil) -> Bool {
    let mail = move.map { ShardMail.connection(gift, $0) } ?? .message(.gift(gift))
    for offset in group.workers.indices {
      let worker = group.workers[(gift.recipient + offset) % group.workers.count]
      if worker != isEnding, worker != move?.origin, mailboxes[worker].post(.shard(group, mail)) { return true }
    }
    return false
  }

  /// A worker has ended before it read this.
  func returnToSender(_ mail: ShardMail, _ group: ShardGroup, from worker: Int) {
    switch mail {
    case .message(.gift(let gift)): _ = send(gift, nil, group, isEnding: worker)
    case .connection(let gift, let move):
      move.close()
      var gift = gift
      gift.server = nil
      _ = send(gift, nil, group, isEnding: worker)
      mailboxes[move.origin].post(.shard(group, .moveEnded))
    case .message, .moveEnded: break
    }
  }
}
