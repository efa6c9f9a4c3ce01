/// The limits above pools. A connection counts against every limit that its pool is under, from its dial until its EOF.
struct LimitTable {
  struct Limit {
    var maximum: Int
    var open = 0
    var closing = 0
    /// The pools under it.
    var pools: [Int] = []
    /// Those of them whose waiters lack nothing but a permit of this limit.
    var starved: [Int] = []
    var isUsed = true

    /// More stays open than is allowed, because `maximum` went down.
    var isOverdrawn: Bool { open - closing > maximum }
  }

  private var slots: ContiguousArray<Limit> = []
  /// How many limits are overdrawn. Almost always zero, so the hot path need not look at each limit.
  private(set) var overdrawnCount = 0

  subscript(limit: Int) -> Limit {
    get { slots[limit] }
    _modify {
      overdrawnCount -= slots[limit].isOverdrawn ? 1 : 0
      yield &slots[limit]
      overdrawnCount += slots[limit].isOverdrawn ? 1 : 0
    }
  }

  func isFull(_ limit: Int) -> Bool { slots[limit].open >= slots[limit].maximum }

  func isOverdrawn(_ limit: Int) -> Bool { slots[limit].isOverdrawn }

  var indices: Range<Int> { slots.indices }

  mutating func add(maximum: Int) -> Int {
    if let reused = slots.firstIndex(where: { !$0.isUsed }) {
      slots[reused] = Limit(maximum: maximum)
      return reused
    }
    slots.append(Limit(maximum: maximum))
    return slots.count - 1
  }
}
