import Glibc

/// State under a lock that threads can wait on: a pthread mutex and a condition on CLOCK_MONOTONIC.
///
/// Unchecked, because the compiler cannot see that `state` is only touched with the mutex held: it is private, and both
/// methods below lock before they hand it out.
@safe final class Monitor<State: Sendable>: @unchecked Sendable {
  private var state: State
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  init(_ state: State) {
    self.state = state
    var attributes = pthread_condattr_t()
    unsafe must(pthread_mutex_init(mutex, nil))
    unsafe must(pthread_condattr_init(&attributes))
    unsafe must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC))
    unsafe must(pthread_cond_init(changed, &attributes))
    unsafe must(pthread_condattr_destroy(&attributes))
  }

  deinit {
    unsafe must(pthread_cond_destroy(changed))
    unsafe must(pthread_mutex_destroy(mutex))
    unsafe changed.deallocate()
    unsafe mutex.deallocate()
  }

  /// Changes the state and lets all waiting threads look at it again.
  func update<Result>(_ body: (inout State) -> Result) -> Result {
    unsafe must(pthread_mutex_lock(mutex))
    defer {
      unsafe must(pthread_cond_broadcast(changed))
      unsafe must(pthread_mutex_unlock(mutex))
    }
    return body(&state)
  }

  /// Calls `body` now, after each `update`, and once more at `deadline` (nanoseconds of CLOCK_MONOTONIC; nil: never)
  /// with `true`, until it returns a value; that may come with a change of the state, so the other waiting threads look
  /// at it again. nil only after the last call.
  func await<Result>(until deadline: Int64?, _ body: (inout State, _ expired: Bool) -> Result?) -> Result? {
    unsafe must(pthread_mutex_lock(mutex))
    defer { unsafe must(pthread_mutex_unlock(mutex)) }
    var expired = false
    while true {
      if let result = body(&state, expired) {
        unsafe must(pthread_cond_broadcast(changed))
        return result
      }
      if expired { return nil }
      if let deadline {
        var time = timespec(tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
        let outcome = unsafe pthread_cond_timedwait(changed, mutex, &time)
        if outcome == ETIMEDOUT { expired = true } else { must(outcome) }
      } else {
        unsafe must(pthread_cond_wait(changed, mutex))
      }
    }
  }

  private func must(_ outcome: Int32) {
    precondition(outcome == 0, "pthread error \(outcome)")
  }
}
