internal import Locking

/// Answers that are being made outside of the event loop. A server that stops waits for them: they come back to the loop,
/// which must still be there, and whoever ordered the stop is to hear of it.
final class PendingAnswers: Sendable {
  private struct State {
    var count = 0
    var waiting: CheckedContinuation<Void, Never>?
    var isClosed = false
  }

  private let state = Mutex(State())

  /// An answer is about to be made; false where none is made any more.
  func begin() -> Bool {
    state.withLock { state in
      if state.isClosed { return false }
      state.count += 1
      return true
    }
  }

  /// The answer has been sent.
  func end() {
    let waiting = state.withLock { state -> CheckedContinuation<Void, Never>? in
      state.count -= 1
      return state.count == 0 ? state.waiting : nil
    }
    waiting?.resume()
  }

  /// Lets no further answer begin, and waits for those that have.
  func finish() async {
    await withCheckedContinuation { continuation in
      let isOver = state.withLock { state in
        state.isClosed = true
        if state.count > 0 { state.waiting = continuation }
        return state.count == 0
      }
      if isOver { continuation.resume() }
    }
  }
}
