/// Deadlines in order: a binary heap of (deadline, token). Nothing is ever removed early: whoever set a timer that no
/// longer matters ignores its token when it comes, which is cheaper than finding it.
struct TimerQueue {
  private struct Entry {
    var deadline: Int64
    var token: UInt64
  }

  private var heap: [Entry] = []

  /// The earliest deadline, in nanoseconds of the loop's clock; nil when no timer is set.
  var nextDeadline: Int64? { heap.first?.deadline }

  mutating func insert(deadline: Int64, token: UInt64) {
    heap.append(Entry(deadline: deadline, token: token))
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard heap[child].deadline < heap[parent].deadline else { break }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  /// Takes out the earliest timer that is due at `now`.
  mutating func popDue(at now: Int64) -> UInt64? {
    guard let first = heap.first, first.deadline <= now else { return nil }
    let last = heap.removeLast()
    if !heap.isEmpty {
      heap[0] = last
      var parent = 0
      while true {
        var smallest = parent
        for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count {
          if heap[child].deadline < heap[smallest].deadline { smallest = child }
        }
        if smallest == parent { break }
        heap.swapAt(parent, smallest)
        parent = smallest
      }
    }
    return first.token
  }
}
