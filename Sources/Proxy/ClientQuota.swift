import Synchronization

/// Clients of all workers together that have logged in, for `max_clients`. Those that are still logging in do not count,
/// or whoever only connects could keep everybody out (`Worker.halfOpenLimit` bounds them).
final class ClientQuota: Sendable {
  private let count = Atomic(0)

  /// Whether nobody more would be let in.
  func isUsedUp(_ most: Int) -> Bool { count.load(ordering: .relaxed) >= most }

  /// Lets a client in, if there is room.
  func enter(_ most: Int) -> Bool {
    if count.wrappingAdd(1, ordering: .relaxed).newValue <= most { return true }
    leave()
    return false
  }

  /// A client that was let in is gone.
  func leave() { count.wrappingSubtract(1, ordering: .relaxed) }
}
