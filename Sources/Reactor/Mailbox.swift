import CLinux
import Glibc
import Locking

/// What other threads leave for a worker. A sender appends under a lock and wakes the worker once; the worker swaps the
/// whole queue out. The lock is never held for longer than an append or a swap.
public final class Mailbox<Message: Sendable>: Sendable {
  private struct Queue {
    var messages: [Message] = []
    var isClosed = false
  }

  private let queue = Mutex(Queue())
  /// An eventfd, which is written to each time the first message comes, and never read: to be watched for edges.
  public let descriptor: Int32

  public init() {
    descriptor = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
    precondition(descriptor >= 0, "eventfd: errno \(errno)")
  }

  deinit { _ = Glibc.close(descriptor) }

  /// Leaves a message. Any thread.
  ///
  /// - Returns: whether it will be read: false once the mailbox is closed.
  @discardableResult
  public func post(_ message: Message) -> Bool {
    let (wasEmpty, isClosed) = queue.withLock { queue in
      if queue.isClosed { return (false, true) }
      queue.messages.append(message)
      return (queue.messages.count == 1, false)
    }
    if wasEmpty { _ = eventfd_write(descriptor, 1) }
    return !isClosed
  }

  /// Takes no more messages; returns those that nobody has read.
  public func close() -> [Message] {
    queue.withLock { queue in
      queue.isClosed = true
      defer { queue.messages = [] }
      return queue.messages
    }
  }

  /// Takes all messages, oldest first. The owning worker only.
  public func drain() -> [Message] {
    queue.withLock { queue in
      var taken: [Message] = []
      swap(&taken, &queue.messages)
      return taken
    }
  }
}
