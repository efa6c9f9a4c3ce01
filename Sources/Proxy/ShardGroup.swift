import Locking
import Pooling
import Settings

import struct Synchronization.Atomic

/// What the shards of one pool have in common: where they are, and what nobody may do twice. Any thread.
///
/// The bound is not here: shards own permits, and ask each other for them (`PoolSet+Shards`).
final class ShardGroup: Sendable {
  private struct Dealt {
    var permits = ShardPermits.none
    /// The settings that say so (`ServingConfiguration.number`).
    var number = 0
    /// The shard that gets what is new and loses what is less.
    var shard: Int?
  }

  /// The pool; for one that serves reads, the pool that it is beside.
  let pool: PoolName
  /// The workers that have the shards, by the shards' numbers.
  let workers: [Int]
  private let currentReads: Mutex<ShardGroup?>
  private let dealt = Mutex(Dealt())
  private let clientCounts: Mutex<[Int]>
  private let pinnedCount = Atomic(0)

  init(_ pool: PoolName, workers: [Int], isForReads: Bool = false) {
    self.pool = pool
    self.workers = workers
    clientCounts = Mutex([Int](repeating: 0, count: workers.count))
    currentReads = Mutex(isForReads ? nil : ShardGroup(pool, workers: workers, isForReads: true))
  }

  /// The shards of the pool that serves reads for these ones; nil where this is that.
  var reads: ShardGroup? { currentReads.withLock { $0 } }

  /// The pool for reads is taken out of service; one that comes later has shards of its own.
  func ended(reads: ShardGroup) {
    currentReads.withLock { if $0 === reads { $0 = ShardGroup(pool, workers: workers, isForReads: true) } }
  }

  /// The shard on a worker; nil where there is none.
  func number(on worker: Int) -> Int? { workers.firstIndex(of: worker) }

  /// What these settings add to the permits of all shards, or take from them. It is all for the shard that has asked first
  /// of all: what it has lost it also gets back, so that no permits are in use twice.
  ///
  /// - Parameter number: of the settings; rises from reload to reload.
  func deal(_ settings: PoolSettings, number: Int, to shard: Int) -> ShardPermits {
    dealt.withLock { dealt in
      guard number >= dealt.number, dealt.shard ?? shard == shard else { return .none }
      let new = ShardPermits(count: settings.poolSize + settings.maxOverflow, kept: settings.poolSize)
      let change = ShardPermits(
        count: new.count - dealt.permits.count, kept: new.kept - dealt.permits.kept)
      dealt = Dealt(permits: new, number: number, shard: shard)
      return change
    }
  }

  /// The shard with the fewest clients, which gets one more.
  func shardForClient() -> Int {
    clientCounts.withLock { counts in
      let fewest = counts.indices.min { counts[$0] < counts[$1] }!
      counts[fewest] += 1
      return fewest
    }
  }

  /// Tells how many clients a shard has, those on their way to it aside.
  func setClients(_ count: Int, of shard: Int) { clientCounts.withLock { $0[shard] = count } }

  /// Clients of all shards that keep their connection: `max_pinned` is about the pool as a whole. Written only where that
  /// changes.
  var pinned: Int { pinnedCount.load(ordering: .relaxed) }

  func addPinned(_ change: Int) { pinnedCount.add(change, ordering: .relaxed) }
}
