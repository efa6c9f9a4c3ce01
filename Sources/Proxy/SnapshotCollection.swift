import Locking

/// Gathers the snapshots of all workers for one that waits for them.
final class SnapshotCollection: Sendable {
  private struct State {
    var snapshots: [WorkerSnapshot] = []
    var missing: Int
    var waiting: CheckedContinuation<Void, Never>?
  }

  private let state: Mutex<State>

  init(of workers: Int) {
    state = Mutex(State(missing: workers))
  }

  /// A worker's snapshot; any thread, once for each worker.
  func add(_ snapshot: WorkerSnapshot) {
    let waiting = state.withLock { state -> CheckedContinuation<Void, Never>? in
      state.snapshots.append(snapshot)
      state.missing -= 1
      return state.missing == 0 ? state.waiting : nil
    }
    waiting?.resume()
  }

  /// All of them, once they are there.
  func wait() async -> [WorkerSnapshot] {
    await withCheckedContinuation { continuation in
      let isComplete = state.withLock { state in
        if state.missing > 0 { state.waiting = continuation }
        return state.missing == 0
      }
      if isComplete { continuation.resume() }
    }
    return state.withLock { $0.snapshots }
  }
}
