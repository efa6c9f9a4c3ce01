import Logging
import Reactor
import Settings

extension EventLoopDriver {
  /// What `[server] event_loop` gets on this machine. Falling back is said once.
  init(_ kind: EventLoopKind, logger: Logger) throws(EventLoopRefused) {
    switch kind {
    case .epoll: self = .epoll
    case .ioUring:
      if let reason = EventLoopDriver.ioUring.obstacle { throw EventLoopRefused(reason: reason) }
      self = .ioUring
    case .auto:
      let reason = EventLoopDriver.ioUring.obstacle
      self = reason == nil ? .ioUring : .epoll
      if let reason { logger.notice("io_uring cannot be had, so epoll it is", metadata: ["reason": "\(reason)"]) }
    }
  }
}

/// io_uring was asked for, and cannot be had.
struct EventLoopRefused: Error, CustomStringConvertible {
  var reason: String

  var description: String { "io_uring cannot be had: \(reason) ([server] event_loop = \"io_uring\")" }
}
