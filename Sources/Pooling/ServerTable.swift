/// What a server connection is doing. Only `PoolSet.move` changes it; counters, lists and permits follow from there.
///
/// Every state but `free` holds a permit of the pool and of each limit above it.
///
///     free → dialing → (made available) ⇄ active → settling
///                                any of these → closing → free
///
/// "Made available" means: to the longest waiter (`active`), to a ping (`testing`), to rest (`idle`), or closed where
/// it is unfit; `PoolSet.makeAvailable` decides.
public enum ServerState: UInt8, Sendable {
  /// No connection: the slot can be used. Exit: `dialing`.
  case free
  /// Being opened and handed over. Exits: made available by `dialed`, `free` by `dialFailed`.
  case dialing
  /// Open, clean and lent to nobody. Exits: `active` or `testing` at a checkout, `stale` with a new generation,
  /// `closing` when too old, too many or wanted elsewhere, `free` by `lost`.
  case idle
  /// Idle, but of an older generation: never lent. Exits: `closing` at a limited pace, `free` by `lost`.
  case stale
  /// A ping is under way. Exits: made available by a good answer, `closing` by a bad one, `free` by `lost`.
  case testing
  /// Lent to a client. Exits: made available by `checkin`, `settling`, `closing` by `discard`, `free` by `lost`.
  case active
  /// Lent to nobody and not clean yet: a rollback, a cancel or the reset query runs. Exits: made available by
  /// `settled`, `closing` by `discard`, `free` by `lost`.
  case settling
  /// Clean, but a cancel request aimed at it is still under way and could hit the next client. Exits: `testing` when
  /// the last cancel is over, `closing` by `discard`, `free` by `lost`.
  case parked
  /// Told to close; its backend still counts in PostgreSQL. Exit: `free` at EOF. Where it is silent, its permit serves
  /// dials to other hosts meanwhile (`Pool.lent`).
  case closing

  static let count = 9
}

/// All server connections of a `PoolSet`, in slots that are used again.
struct ServerTable {
  struct Server {
    /// The generation of the slot.
    var generation: UInt32 = 0
    var state = ServerState.free
    /// A dial that was made while the pool's gate was shut.
    var isTrial = false
    /// There were more than `poolSize` when it was dialed, itself included.
    var isOverflow = false
    /// A cancel was aimed at it: one Sync round trip comes before it is lent again.
    var needsPing = false
    /// It, or one to the same host, has left a question unanswered, and it has answered nothing since. Fixed once it is
    /// closing.
    var isSilent = false
    /// The hosts that its dial leaves out.
    var avoided = HostSet()
    /// Cancel requests under way that are aimed at it.
    var holds: UInt16 = 0
    var recycleJitterPermille: UInt16 = 0
    var pool: UInt32 = 0
    /// Which of the pool's hosts it is on.
    var host: UInt32 = 0
    /// Neighbours in the list that the state says: of idle or stale connections, or of free slots (`next` only).
    var newer = ServerTable.none
    var older = ServerTable.none
    /// The session settings that are in force on it.
    var settings: UInt32 = 0
    /// The pool generation that it belongs to; the one before that of the pool where only its host has a new one.
    var poolGeneration: UInt32 = 0
    /// The pool for which it is being closed; `none` when its permit is for anybody.
    var beneficiary = ServerTable.none
    /// When its dial began.
    var openedAt = MonotonicTime.distantPast
    /// When the server last answered. An idle connection has been idle since then.
    var provenAt = MonotonicTime.distantPast
    /// When it is closed if still idle beyond `poolSize`; `distantFuture` for one that stays.
    var lingerUntil = MonotonicTime.distantFuture
  }

  static let none = UInt32.max

  private var slots: ContiguousArray<Server> = []
  private var firstFree = ServerTable.none

  subscript(server: Int) -> Server {
    get { slots[server] }
    _modify { yield &slots[server] }
  }

  var indices: Range<Int> { slots.indices }

  func token(_ server: Int) -> ServerToken {
    ServerToken(index: UInt32(server), generation: slots[server].generation)
  }

  /// The slot of a connection that exists; nil once it is gone.
  func find(_ token: ServerToken) -> Int? {
    let index = Int(token.index)
    guard index < slots.count, slots[index].generation == token.generation, slots[index].state != .free else {
      return nil
    }
    return index
  }

  /// A free slot, taken out of the list of free slots.
  mutating func takeFree() -> Int {
    guard firstFree != Self.none else {
      slots.append(Server())
      return slots.count - 1
    }
    let index = Int(firstFree)
    firstFree = slots[index].older
    slots[index].older = Self.none
    return index
  }

  /// Gives the slot back; its old token finds nothing any more.
  mutating func giveBack(_ server: Int) {
    slots[server] = Server(generation: slots[server].generation &+ 1, older: firstFree)
    firstFree = UInt32(server)
  }

  /// Adds the connection as the newest of the list.
  mutating func link(_ server: Int, into list: inout ServerList) {
    slots[server].newer = Self.none
    slots[server].older = list.newest
    if list.newest == Self.none {
      list.oldest = UInt32(server)
    } else {
      slots[Int(list.newest)].newer = UInt32(server)
    }
    list.newest = UInt32(server)
  }

  mutating func unlink(_ server: Int, from list: inout ServerList) {
    let newer = slots[server].newer
    let older = slots[server].older
    if newer == Self.none { list.newest = older } else { slots[Int(newer)].older = older }
    if older == Self.none { list.oldest = newer } else { slots[Int(older)].newer = newer }
    slots[server].newer = Self.none
    slots[server].older = Self.none
  }
}

/// Connections in the order in which they came to rest.
struct ServerList {
  var newest = ServerTable.none
  var oldest = ServerTable.none
}
