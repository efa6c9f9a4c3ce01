import CLinux
import Glibc

/// The kernel calls of the data plane in one place. EINTR is retried here; "would block" is a value; EBADF is our own
/// bug and traps.
enum System {
  /// One client wakes one of the loops that wait on a shared listener, not all (epoll_ctl(2), EPOLLEXCLUSIVE).
  static let exclusiveWakeUp: UInt32 = 1 << 28

  enum Transfer {
    case bytes(Int)
    case wouldBlock
    case failed(Int32)
  }

  static func receive(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
    while true {
      let count = unsafe lifeguard_receive(descriptor, buffer.baseAddress, buffer.count)
      if count >= 0 { return .bytes(count) }
      if let outcome = classify(errno) { return outcome }
    }
  }

  /// Whether there is something to receive, without taking it.
  static func peek(_ descriptor: Int32) -> Transfer {
    var byte: UInt8 = 0
    while true {
      let count = unsafe recv(descriptor, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT))
      if count >= 0 { return .bytes(count) }
      if let outcome = classify(errno) { return outcome }
    }
  }

  static func send(_ descriptor: Int32, _ buffer: UnsafeRawBufferPointer) -> Transfer {
    while true {
      let count = unsafe lifeguard_send(descriptor, buffer.baseAddress, buffer.count)
      if count >= 0 { return .bytes(count) }
      if let outcome = classify(errno) { return outcome }
    }
  }

  /// nil means: interrupted, try again.
  private static func classify(_ error: Int32) -> Transfer? {
    switch error {
    case EINTR: return nil
    case EAGAIN: return .wouldBlock
    case EBADF: preconditionFailure("transfer on a closed descriptor")
    default: return .failed(error)
    }
  }

  /// Half-closes: the peer reads the end of the stream.
  static func shutdownOutput(_ descriptor: Int32) { _ = shutdown(descriptor, Int32(SHUT_WR)) }

  static func closeDescriptor(_ descriptor: Int32) {
    let outcome = close(descriptor)
    precondition(outcome == 0 || errno != EBADF, "closed a descriptor twice")
  }

  /// Another descriptor of the same file, with a number below that limit; nil where none is free.
  static func duplicate(_ descriptor: Int32, below limit: Int32) -> Int32? {
    let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
    if copy < limit { return copy < 0 ? nil : copy }
    closeDescriptor(copy)
    return nil
  }

  /// CLOCK_MONOTONIC in nanoseconds.
  static func monotonicNanoseconds() -> Int64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }

  static func setOption(_ descriptor: Int32, level: Int32, option: Int32, value: Int32 = 1) {
    var value = value
    unsafe _ = setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
  }

  /// What `strerror` says of an errno value.
  static func describe(_ error: Int32) -> String {
    unsafe String(cString: strerror(error))
  }
}
