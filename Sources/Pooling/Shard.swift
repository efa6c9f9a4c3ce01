/// Permits of a sharded pool that belong together.
///
/// Each shard owns permits, so that the bound of the pool is kept without a lock: their sum, with those on their way from
/// one shard to another, is the bound. As many of them as `pool_size` says are kept ones: the shard that has one keeps an
/// idle connection open for it.
public struct ShardPermits: Equatable, Sendable {
  /// All of them.
  public var count: Int
  /// How many of them are kept ones.
  public var kept: Int

  public init(count: Int, kept: Int) {
    self.count = count
    self.kept = kept
  }

  public static let none = ShardPermits(count: 0, kept: 0)

  static func += (left: inout ShardPermits, right: ShardPermits) {
    left.count += right.count
    left.kept += right.kept
  }

  static func -= (left: inout ShardPermits, right: ShardPermits) {
    left.count -= right.count
    left.kept -= right.kept
  }
}

/// What a shard lacks. It goes from shard to shard in the order of their numbers: each gives what it has to spare,
/// remembers the rest, and passes that on. When it comes home nobody had anything.
public struct Hunger: Equatable, Sendable {
  /// Whose it is.
  public var shard: Int
  /// Rises from one of the shard's messages to the next.
  public var number: UInt32
  /// The shard has just come into being, and does not know what others lack.
  var isFirst: Bool
  /// Waiters who would take an idle connection.
  var connections: Int
  /// Waiters for whom the shard could dial, if it had the permits.
  var permits: Int
  /// Since when the first of the waiters has been waiting.
  var waitingSince: MonotonicTime
  var askedAt: MonotonicTime
  /// A waiter there may be preferred to one here who came later, once, before more is heard.
  var mayOvertake = true

  /// Somebody had nothing to give, but something on its way that nobody there waits for.
  var isPromised = false

  /// Nothing is lacking any more.
  var isOver: Bool { connections == 0 && permits == 0 }
}

/// A reload has taken permits from a shard that are in use, or that it never had: the others make up for it. It goes from
/// shard to shard as `Hunger` does.
public struct ShardClaim: Equatable, Sendable {
  /// Whose it is.
  public var shard: Int
  var permits: ShardPermits
  /// How many of them are to be given also where they are in use.
  var forced: Int
}

/// Permits that go to another shard, with an idle connection that takes up one of them or without.
public struct ShardGift: Equatable, Sendable {
  /// The shard that gets it.
  public var recipient: Int
  public var permits: ShardPermits
  /// The connection, as the giver has known it; take it away where it has ended meanwhile, so that its permit goes alone.
  public var server: MovedServer?
  /// Since when somebody has been waiting for it while it was to be had.
  public var availableSince: MonotonicTime
  /// How much of `Hunger.connections` it answers.
  var connections: Int
  /// It answers a `ShardClaim`.
  var isForClaim: Bool
  /// Somebody has waited for it.
  public var answersHunger: Bool { !isForClaim }

  init(
    recipient: Int, permits: ShardPermits, server: MovedServer? = nil, availableSince: MonotonicTime, connections: Int,
    isForClaim: Bool
  ) {
    self.recipient = recipient
    self.permits = permits
    self.server = server
    self.availableSince = availableSince
    self.connections = connections
    self.isForClaim = isForClaim
  }

  /// What `PoolSet.surrender` has taken from a shard that is about to be removed.
  public init(surrendering permits: ShardPermits, to recipient: Int, now: MonotonicTime) {
    self.init(recipient: recipient, permits: permits, availableSince: now, connections: 0, isForClaim: true)
  }
}

/// A server connection between two shards.
public struct MovedServer: Equatable, Sendable {
  /// What it was called where it comes from.
  public var token: ServerToken
  var recycleJitterPermille: UInt16
  var openedAt: MonotonicTime
  var provenAt: MonotonicTime
}

/// What a shard has to say to others.
public enum ShardMessage: Equatable, Sendable {
  /// To the next shard; answer there with `hungered`.
  case hunger(Hunger)
  /// To the next shard; answer there with `claimed`.
  case claim(ShardClaim)
  /// To its recipient; answer there with `granted`, or with `adopt`.
  case gift(ShardGift)
}

/// What one shard of a pool remembers of itself and of the others.
struct Shard {
  /// Its place among the shards: 0 to `count` - 1.
  let number: Int
  let count: Int
  /// The settings of the pool as a whole.
  var whole: PoolConfiguration
  /// What it owns; fewer than none after a reload, until others have made up for that.
  var permits: ShardPermits
  /// What other shards lack, by their numbers.
  var hungers: ContiguousArray<Hunger?>
  /// The number of the latest message of each.
  var latest: ContiguousArray<UInt32>
  /// What the others may know of this one; nil where they know of nothing.
  var announced: Hunger?
  /// The number of its own latest message.
  var lastNumber: UInt32 = 0
  /// Nobody had what it has asked for last.
  var isRefused = false
  /// Somebody has not heard what it lacks.
  var mustAskAgain = false
  /// What the others are to make up for; nil where nothing was claimed.
  var claimed: ShardPermits?
  /// No further claim before that.
  var claimAt = MonotonicTime.distantPast

  init(number: Int, of count: Int, _ whole: PoolConfiguration, _ permits: ShardPermits) {
    precondition((0..<count).contains(number), "a shard is one of them")
    self.number = number
    self.count = count
    self.whole = whole
    self.permits = permits
    hungers = ContiguousArray(repeating: nil, count: count)
    latest = ContiguousArray(repeating: 0, count: count)
  }

  /// The part of the pool's settings that is the shard's.
  var configuration: PoolConfiguration {
    var part = whole
    part.poolSize = max(0, permits.kept)
    part.maxOverflow = permits.count - part.poolSize
    // Rounded up: at least `min_size` in all.
    part.minSize = min(part.poolSize, (whole.minSize * part.poolSize + whole.poolSize - 1) / whole.poolSize)
    return part
  }

  /// Another shard could use idle connections of this one.
  var isBesieged: Bool { hungers.contains { $0.map { $0.connections > 0 } ?? false } }

  /// The shard that has waited longest among those that lack it; nil where none does.
  func neediest(_ lack: (Hunger) -> Int) -> Int? {
    var neediest: Int?
    for (shard, hunger) in hungers.enumerated() {
      guard let hunger, lack(hunger) > 0 else { continue }
      if let known = neediest, hungers[known]!.waitingSince <= hunger.waitingSince { continue }
      neediest = shard
    }
    return neediest
  }

  /// Sums up what all others lack.
  func total(_ lack: (Hunger) -> Int) -> Int { hungers.reduce(0) { $0 + ($1.map(lack) ?? 0) } }
}
