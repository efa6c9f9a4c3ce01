import Pooling

/// The clients of a worker by token: slot and generation, so that what comes late for a former client is recognised.
struct ClientSlots {
  private struct Slot {
    var generation: UInt32 = 0
    var client: Client?
  }

  private var slots: [Slot] = []
  private var free: [UInt32] = []

  /// Clients there are.
  var count: Int { slots.count - free.count }

  /// A cancel key has room for no more.
  var isFull: Bool { free.isEmpty && slots.count == CancelKeyLayout.slotsPerWorker }

  var all: [Client] { slots.compactMap(\.client) }

  /// The client with this token; nil where it is gone.
  subscript(token: ClientToken) -> Client? {
    guard Int(token.index) < slots.count, slots[Int(token.index)].generation == token.generation else { return nil }
    return slots[Int(token.index)].client
  }

  /// The client in a slot, whichever it is.
  subscript(slot index: Int) -> Client? { index < slots.count ? slots[index].client : nil }

  /// Adds the client that `make` makes for its token.
  mutating func add(_ make: (ClientToken) -> Client) -> Client {
    let index: UInt32
    if let reused = free.popLast() {
      index = reused
    } else {
      index = UInt32(slots.count)
      slots.append(Slot())
    }
    let client = make(ClientToken(index: index, generation: slots[Int(index)].generation))
    slots[Int(index)].client = client
    return client
  }

  mutating func remove(_ token: ClientToken) {
    slots[Int(token.index)].client = nil
    slots[Int(token.index)].generation &+= 1
    free.append(token.index)
  }
}
