import Synchronization

/// Threads that send cancel requests. `PQcancel` of libpq 15 waits without any deadline for a server that does not
/// answer, so requests have threads of their own, few for each upstream; the caller gives up by itself after its
/// `cancel_timeout` (and closes the server connection instead).
public final class Cancellers: Sendable {
  private let threads: BlockingThreads
  private let nextIdentifier = Atomic<UInt64>(0)

  /// - Parameters:
  ///   - threadsPerUpstream: requests under way at once for one upstream (at least 1); more wait in order.
  ///   - maximumThreads: for all upstreams together (at least 1).
  ///   - lingerNanoseconds: how long a thread is kept without work.
  public init(
    threadsPerUpstream: Int = 2, maximumThreads: Int = 16, lingerNanoseconds: Int64 = 10_000_000_000
  ) {
    threads = BlockingThreads(
      laneLimit: threadsPerUpstream, maximumThreads: maximumThreads, lingerNanoseconds: lingerNanoseconds)
  }

  /// Sends a cancel request. `completion` is called once, on one of these threads, when the server has taken the request
  /// or the sending has failed; that may be never while a server does not answer. Where the request is not sent at all
  /// (after `stop()`, or without any thread), it is called at once on the thread that calls this or `stop()`.
  public func cancel(_ handle: CancelHandle, completion: @escaping @Sendable (CancelOutcome) -> Void) {
    threads.submit(
      BlockingThreads.Job(
        identifier: nextIdentifier.wrappingAdd(1, ordering: .relaxed).newValue, lane: handle.upstream,
        run: { completion(handle.cancelBlocking()) },
        abandon: { reason in
          switch reason {
          case .stopped: completion(.stopped)
          case .noThread(let error): completion(.failed("no thread could be started (errno \(error))"))
          }
        }))
  }

  /// Refuses further requests, completes the waiting ones as `stopped`, and waits for the idle threads to end. A request
  /// under way is not waited for: nothing can interrupt it, and it ends with the process at the latest.
  public func stop() {
    threads.close()
    threads.join(includingRunning: false)
  }
}
