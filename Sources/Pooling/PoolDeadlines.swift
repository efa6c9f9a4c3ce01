/// The next moment at which each pool needs attention: a binary heap of pools, with each pool's place in it.
///
/// A pool has one deadline, which may be earlier than necessary (it is then computed anew) but never later. So the hot
/// path only ever compares: it does not take back the deadline of a client that has been served.
struct PoolDeadlines {
  private static let absent = -1

  private var times: ContiguousArray<MonotonicTime> = []
  private var places: ContiguousArray<Int> = []
  private var heap: ContiguousArray<Int> = []

  /// The pool with the earliest deadline.
  var first: (pool: Int, deadline: MonotonicTime)? {
    heap.isEmpty ? nil : (heap[0], times[heap[0]])
  }

  /// The pool's deadline; `distantFuture` when it has none.
  subscript(pool: Int) -> MonotonicTime { times[pool] }

  /// Makes room for one more pool, which has no deadline.
  mutating func append() {
    times.append(.distantFuture)
    places.append(Self.absent)
  }

  /// Sets the pool's deadline, unless it has an earlier one.
  mutating func lower(_ pool: Int, to deadline: MonotonicTime) {
    guard deadline < times[pool] else { return }
    times[pool] = deadline
    if places[pool] == Self.absent {
      places[pool] = heap.count
      heap.append(pool)
    }
    moveUp(places[pool])
  }

  /// The pool has no deadline any more.
  mutating func clear(_ pool: Int) {
    let place = places[pool]
    guard place != Self.absent else { return }
    times[pool] = .distantFuture
    places[pool] = Self.absent
    let last = heap.removeLast()
    guard place < heap.count else { return }
    heap[place] = last
    places[last] = place
    moveUp(place)
    moveDown(places[last])
  }

  private mutating func moveUp(_ start: Int) {
    var place = start
    while place > 0 {
      let parent = (place - 1) / 2
      guard times[heap[place]] < times[heap[parent]] else { return }
      exchange(place, parent)
      place = parent
    }
  }

  private mutating func moveDown(_ start: Int) {
    var place = start
    while true {
      var earliest = place
      for child in 2 * place + 1..<2 * place + 3 where child < heap.count {
        if times[heap[child]] < times[heap[earliest]] { earliest = child }
      }
      guard earliest != place else { return }
      exchange(place, earliest)
      place = earliest
    }
  }

  private mutating func exchange(_ one: Int, _ other: Int) {
    heap.swapAt(one, other)
    places[heap[one]] = one
    places[heap[other]] = other
  }
}
