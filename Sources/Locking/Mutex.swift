#if !THREAD_SANITIZER
  public import Synchronization

  /// The standard library's lock. All targets take it from here, so that it can be exchanged for one that ThreadSanitizer
  /// understands.
  public typealias Mutex<Value: ~Copyable> = Synchronization.Mutex<Value>
#else
  internal import Glibc

  /// In builds for ThreadSanitizer: the same by `pthread_mutex_t`, whose calls it sees. The standard library's lock waits in
  /// the kernel (FUTEX_LOCK_PI) from code that is not instrumented, so whatever it orders would be reported as a race.
  ///
  /// Unchecked: the value is touched under the lock only, and leaves it only as `sending` lets it.
  @safe public struct Mutex<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private let value: UnsafeMutablePointer<Value>

    public init(_ initial: consuming sending Value) {
      unsafe lock = .allocate(capacity: 1)
      unsafe value = .allocate(capacity: 1)
      unsafe pthread_mutex_init(lock, nil)
      unsafe value.initialize(to: initial)
    }

    deinit {
      unsafe pthread_mutex_destroy(lock)
      unsafe lock.deallocate()
      unsafe value.deinitialize(count: 1)
      unsafe value.deallocate()
    }

    public borrowing func withLock<Result: ~Copyable, Failure: Error>(
      _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
      unsafe pthread_mutex_lock(lock)
      defer { unsafe pthread_mutex_unlock(lock) }
      return try unsafe body(&value.pointee)
    }
  }
#endif
