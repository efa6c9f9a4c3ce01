import CLinux
import Glibc
import Synchronization

/// What other threads leave for a worker. A sender appends under a lock and wakes the worker once; the worker swaps the
/// whole queue out. The lock is never held for longer than an append or a swap.
public final class Mailbox<Message: Sendable>: Sendable {
  private let queue = Mutex<[Message]>([])
  /// An eventfd: readable while mail waits.
  public let descriptor: Int32

  public init() {
    descriptor = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
    precondition(descriptor >= 0, "eventfd: errno \(errno)")
  }

  deinit { _ = close(descriptor) }

  /// Leaves a message. Any thread.
  public func post(_ message: Message) {
    let wasEmpty = queue.withLock { queue in
      queue.append(message)
      return queue.count == 1
    }
    if wasEmpty { _ = eventfd_write(descriptor, 1) }
  }

  /// Takes all messages, oldest first. The owning worker only.
  public func drain() -> [Message] {
    var count: eventfd_t = 0
    _ = unsafe eventfd_read(descriptor, &count)
    return queue.withLock { queue in
      var taken: [Message] = []
      swap(&taken, &queue)
      return taken
    }
  }
}
