import CLinux
import Glibc
import Locking

import struct Synchronization.Atomic

/// Threads on which libpq opens connections. A dial belongs to the lane of its upstream, which has few threads, so that
/// dials to a dead upstream do not keep those to others waiting.
public final class Dialers: Sendable {
  private let threads: BlockingThreads
  private let nextIdentifier = Atomic<UInt64>(0)
  private let descriptorLimit: Int32
  /// The dials that have not been completed.
  private let open = Mutex<[UInt64: DialTicket]>([:])

  /// - Parameters:
  ///   - threadsPerUpstream: dials under way at once to one upstream (at least 1); more wait in order.
  ///   - maximumThreads: for all upstreams together (at least 1).
  ///   - lingerNanoseconds: how long a thread is kept without work.
  ///   - descriptorLimit: the lowest number of a descriptor that no connection may have.
  public init(
    threadsPerUpstream: Int = 4, maximumThreads: Int = 32, lingerNanoseconds: Int64 = 10_000_000_000,
    descriptorLimit: Int32 = .max
  ) {
    self.descriptorLimit = descriptorLimit
    threads = BlockingThreads(
      laneLimit: threadsPerUpstream, maximumThreads: maximumThreads, lingerNanoseconds: lingerNanoseconds)
  }

  /// Opens a connection.
  ///
  /// - Parameters:
  ///   - deadline: nanoseconds of CLOCK_MONOTONIC, over all hosts. Only name resolution may take longer, and a dial
  ///     that waits behind others notices its deadline when its turn comes.
  ///   - completion: called exactly once, on a dialing thread; or, for a dial that has not begun, on the thread that
  ///     calls `DialTicket.cancel()` or `stop()` (or this, after `stop()`). It must not call `stop()`.
  @discardableResult
  public func dial(
    _ target: ConnectionTarget, deadline: Int64,
    completion: @escaping @Sendable (Result<ServerLink, DialFailure>) -> Void
  ) -> DialTicket {
    let identifier = nextIdentifier.wrappingAdd(1, ordering: .relaxed).newValue
    let ticket = DialTicket(identifier: identifier, threads: threads) { [self] result in
      open.withLock { _ = $0.removeValue(forKey: identifier) }
      completion(result)
    }
    open.withLock { $0[identifier] = ticket }
    threads.submit(
      BlockingThreads.Job(
        identifier: identifier, lane: target.upstream,
        run: { [descriptorLimit] in ticket.run(target, deadline: deadline, descriptorLimit: descriptorLimit) },
        abandon: { reason in
          switch reason {
          case .stopped: ticket.complete(.failure(.notBegun))
          case .noThread(let error):
            ticket.complete(.failure(DialFailure(.other, "no thread could be started (errno \(error))")))
          }
        }))
    return ticket
  }

  /// Cancels all dials, refuses new ones, and waits until all threads have ended: at once, unless one of them waits for
  /// the resolver.
  public func stop() {
    threads.close()
    for ticket in open.withLock({ Array($0.values) }) { ticket.cancel() }
    threads.join(includingRunning: true)
  }

  /// Threads alive, dials under way and dials waiting.
  public var load: (threads: Int, dialing: Int, waiting: Int) {
    let load = threads.load
    return (load.threads, load.running, load.queued)
  }
}

/// A dial under way, for cancelling it.
public final class DialTicket: Sendable {
  private struct State {
    var isCancelled = false
    /// An eventfd, open while the dial runs.
    var wakeDescriptor: Int32?
  }

  private let state = Mutex(State())
  private let identifier: UInt64
  private let threads: BlockingThreads
  /// Called once.
  let complete: @Sendable (Result<ServerLink, DialFailure>) -> Void

  init(
    identifier: UInt64, threads: BlockingThreads,
    completion: @escaping @Sendable (Result<ServerLink, DialFailure>) -> Void
  ) {
    self.identifier = identifier
    self.threads = threads
    complete = completion
  }

  /// Ends the dial as soon as possible. Its completion is still called, once: with a failure of kind `cancelled`, or with
  /// the connection (or the failure) where the dial was already done. Any thread, any number of times.
  public func cancel() {
    state.withLock { state in
      state.isCancelled = true
      if let descriptor = state.wakeDescriptor { _ = eventfd_write(descriptor, 1) }
    }
    if threads.withdraw(identifier) { complete(.failure(.notBegun)) }
  }

  /// Carries the dial out, on a dialing thread.
  func run(_ target: ConnectionTarget, deadline: Int64, descriptorLimit: Int32) {
    // The descriptor lives and dies under the lock: `cancel` never writes to one that has been closed.
    let descriptor: Result<Int32, DialFailure> = state.withLock { state in
      if state.isCancelled { return .failure(.notBegun) }
      let descriptor = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
      guard descriptor >= 0 else {
        return .failure(DialFailure(.other, "no descriptor left (eventfd: errno \(errno))"))
      }
      guard descriptor < descriptorLimit else {
        _ = close(descriptor)
        return .failure(.noDescriptor)
      }
      state.wakeDescriptor = descriptor
      return .success(descriptor)
    }
    var result: Result<ServerLink, DialFailure>
    switch descriptor {
    case .failure(let failure): result = .failure(failure)
    case .success(let descriptor):
      var dial = Dial(target: target, deadline: deadline, wakeDescriptor: descriptor)
      result = dial.run()
      state.withLock { state in
        state.wakeDescriptor = nil
        _ = close(descriptor)
      }
    }
    if case .success(let link) = result, link.descriptor >= descriptorLimit {
      link.finish()
      result = .failure(.noDescriptor)
    }
    complete(result)
  }
}

extension DialFailure {
  /// What is left is not for connections.
  fileprivate static let noDescriptor = DialFailure(.other, "no descriptor left")
  /// Cancelled while it waited for a thread.
  fileprivate static let notBegun = DialFailure(.cancelled, "the connection attempt was cancelled")
}
