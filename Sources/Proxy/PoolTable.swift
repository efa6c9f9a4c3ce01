import Pooling

/// A worker's pools by their numbers. Each turn looks for those that have changed, so there is nothing to be hashed.
struct PoolTable {
  private var pools: [Pool?] = []
  private(set) var count = 0

  /// The pool of this number; nil where there is none, or where it has gone and another one has its place.
  subscript(id: PoolID) -> Pool? {
    let index = Int(id.index)
    guard index < pools.count, let pool = pools[index], pool.id == id else { return nil }
    return pool
  }

  /// All of them, by number.
  var all: [Pool] { pools.compactMap { $0 } }

  mutating func add(_ pool: Pool) {
    let index = Int(pool.id.index)
    while pools.count <= index { pools.append(nil) }
    precondition(pools[index] == nil, "a pool has this place")
    pools[index] = pool
    count += 1
  }

  mutating func remove(_ pool: Pool) {
    precondition(self[pool.id] === pool, "no such pool")
    pools[Int(pool.id.index)] = nil
    count -= 1
  }
}
