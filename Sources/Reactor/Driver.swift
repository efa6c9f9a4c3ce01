/// Which kernel interface an event loop waits on.
public enum EventLoopDriver: String, Sendable, CaseIterable {
  case epoll
  case ioUring = "io_uring"
}

/// The two drivers behind an event loop. A turn of either: `flush` begins with all output that piled up, `wait` waits,
/// `dispatch` hands what has come to the loop. A switch instead of a protocol: its branch is always the same one, and
/// costs less than a call through a table.
enum Driver {
  case epoll(EpollDriver)
  case ioUring(UringDriver)

  init(_ kind: EventLoopDriver) {
    switch kind {
    case .epoll: self = .epoll(EpollDriver())
    case .ioUring:
      do throws(Errno) {
        self = .ioUring(try UringDriver())
      } catch {
        preconditionFailure("io_uring: \(System.describe(error.code))")
      }
    }
  }

  /// Begins to watch a slot's descriptor.
  func watch(_ slot: Slot) {
    switch self {
    case .epoll(let driver): driver.watch(slot)
    case .ioUring(let driver): driver.change(slot)
    }
  }

  /// What is wanted of the slot has changed.
  func update(_ slot: Slot) {
    switch self {
    case .epoll(let driver): driver.update(slot)
    case .ioUring(let driver): driver.change(slot)
    }
  }

  /// A listener's clients are to be accepted in the other way: by the kernel, or one by one.
  func acceptingChanged(_ slot: Slot) {
    if case .ioUring(let driver) = self { driver.change(slot) }
  }

  /// Ends the watch, and with io_uring sooner or later what was begun.
  func unwatch(_ slot: Slot) {
    switch self {
    case .epoll(let driver): driver.unwatch(slot)
    case .ioUring(let driver): driver.change(slot)
    }
    slot.isUnwatched = true
  }

  /// Ends the watch of a descriptor that is closed next.
  func unwatchClosing(_ slot: Slot) {
    switch self {
    case .epoll(let driver):
      // Closing ends the watch too, as long as nobody else has the descriptor.
      if !slot.isOwned { driver.unwatch(slot) }
    case .ioUring(let driver): driver.change(slot)
    }
  }

  /// Ends the watch now: from here on the kernel does nothing on this socket for us. What it has received before is in
  /// the slot.
  func detach(_ slot: Slot, _ loop: EventLoop) {
    unwatch(slot)
    if case .ioUring(let driver) = self { driver.finish(slot, loop) }
  }

  /// Receives from a socket that has just been adopted, and is likely to have brought something.
  func receiveFirst(_ slot: Slot, _ connection: Connection, _ loop: EventLoop) {
    switch self {
    case .epoll(let driver): driver.receiveFirst(slot, connection, loop)
    case .ioUring(let driver): driver.receiveFirst(slot, connection, loop)
    }
  }

  /// Has output that piled up leave, with io_uring inside of the next `wait`.
  func flush(_ loop: EventLoop) {
    switch self {
    case .epoll(let driver): driver.flush(loop)
    case .ioUring(let driver): driver.flush(loop)
    }
  }

  /// Waits until something has come or the time-out (nanoseconds, nil for never) has.
  func wait(timeout: Int64?) {
    switch self {
    case .epoll(let driver): driver.wait(timeout: timeout)
    case .ioUring(let driver): driver.wait(timeout: timeout)
    }
  }

  /// After the last wait: sees to what the kernel has taken, and to nothing else.
  func finishOutput(_ loop: EventLoop) {
    if case .ioUring(let driver) = self { driver.settle(loop) }
  }

  /// Hands what has come to the loop.
  func dispatch(_ loop: EventLoop) {
    switch self {
    case .epoll(let driver): driver.dispatch(loop)
    case .ioUring(let driver): driver.dispatch(loop)
    }
  }
}
