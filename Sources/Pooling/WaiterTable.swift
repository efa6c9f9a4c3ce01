/// The clients that wait, each in the queue of one pool.
///
/// A waiter lives in the slot of its client's index, so that it is found without a search when the client goes away;
/// queues are linked through the slots. Nothing is allocated once the table has its size.
struct WaiterTable {
  struct Waiter {
    var generation: UInt32 = 0
    /// `none` while the client does not wait.
    var pool = WaiterTable.none
    var previous = WaiterTable.none
    var next = WaiterTable.none
    var settings: UInt32 = 0
    var since = MonotonicTime.distantPast
  }

  static let none = UInt32.max

  private var slots: ContiguousArray<Waiter> = []

  subscript(client: UInt32) -> Waiter { slots[Int(client)] }

  func token(_ client: UInt32) -> ClientToken {
    ClientToken(index: client, generation: slots[Int(client)].generation)
  }

  /// The pool that the client waits for; nil when it does not wait.
  func pool(of client: ClientToken) -> Int? {
    guard client.index < UInt32(slots.count) else { return nil }
    let waiter = slots[Int(client.index)]
    guard waiter.generation == client.generation, waiter.pool != Self.none else { return nil }
    return Int(waiter.pool)
  }

  func isWaiting(_ index: UInt32) -> Bool { index < UInt32(slots.count) && slots[Int(index)].pool != Self.none }

  /// Puts the client at the end of the queue.
  mutating func append(
    _ client: ClientToken, settings: UInt32, since: MonotonicTime, pool: Int, to queue: inout WaiterQueue
  ) {
    while slots.count <= Int(client.index) { slots.append(Waiter()) }
    slots[Int(client.index)] = Waiter(
      generation: client.generation, pool: UInt32(pool), previous: queue.last, settings: settings, since: since)
    if queue.last == Self.none { queue.first = client.index } else { slots[Int(queue.last)].next = client.index }
    queue.last = client.index
    queue.count += 1
  }

  /// Takes the client out of its queue, wherever it stands.
  mutating func remove(_ client: UInt32, from queue: inout WaiterQueue) {
    let waiter = slots[Int(client)]
    if waiter.previous == Self.none {
      queue.first = waiter.next
    } else {
      slots[Int(waiter.previous)].next = waiter.next
    }
    if waiter.next == Self.none {
      queue.last = waiter.previous
    } else {
      slots[Int(waiter.next)].previous = waiter.previous
    }
    queue.count -= 1
    slots[Int(client)].pool = Self.none
  }
}

/// Clients in the order in which they came.
struct WaiterQueue {
  /// Who waits longest; `WaiterTable.none` when nobody waits.
  var first = WaiterTable.none
  var last = WaiterTable.none
  var count = 0

  var isEmpty: Bool { count == 0 }
}
