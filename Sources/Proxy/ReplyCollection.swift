import Locking

/// Gathers the replies of all workers for one that waits for them.
final class ReplyCollection<Reply: Sendable>: Sendable {
  private struct State {
    var replies: [Reply] = []
    var missing: Int
    var waiting: CheckedContinuation<Void, Never>?
  }

  private let state: Mutex<State>

  init(of workers: Int) {
    state = Mutex(State(missing: workers))
  }

  /// A worker's reply; any thread, once for each worker.
  func add(_ reply: Reply) {
    let waiting = state.withLock { state -> CheckedContinuation<Void, Never>? in
      state.replies.append(reply)
      state.missing -= 1
      return state.missing == 0 ? state.waiting : nil
    }
    waiting?.resume()
  }

  /// All of them, once they are there.
  func wait() async -> [Reply] {
    await withCheckedContinuation { continuation in
      let isComplete = state.withLock { state in
        if state.missing > 0 { state.waiting = continuation }
        return state.missing == 0
      }
      if isComplete { continuation.resume() }
    }
    return state.withLock { $0.replies }
  }
}
