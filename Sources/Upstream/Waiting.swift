import Glibc

/// Waiting for a socket of libpq's, for so long at most, unless somebody wakes the thread.
enum Waiting {
  enum Outcome {
    case ready(events: Int16)
    case timeout
    case woken
    /// errno of poll.
    case failed(Int32)
  }

  /// POLLRDHUP, which glibc shows only under _GNU_SOURCE.
  static let peerClosed: Int16 = 0x2000

  /// Waits until the wake descriptor is readable, or the other one, if there is one, is ready for what is wanted or has
  /// been closed by its peer.
  static func wait(_ wakeDescriptor: Int32, _ descriptor: Int32?, _ interest: Int16, nanoseconds: Int64) -> Outcome {
    let deadline = Clock.now() + max(0, min(nanoseconds, .max / 2))
    while true {
      let left = deadline - Clock.now()
      if left <= 0 { return .timeout }
      // Rounded up: a last poll of zero milliseconds would only burn processor time.
      let milliseconds = Int32(min((left + 999_999) / 1_000_000, Int64(Int32.max)))
      var waiting: [2 of pollfd] = [
        pollfd(fd: wakeDescriptor, events: Int16(POLLIN), revents: 0),
        // poll ignores negative descriptors.
        pollfd(fd: descriptor ?? -1, events: interest | peerClosed, revents: 0),
      ]
      var span = waiting.mutableSpan
      let count = unsafe span.withUnsafeMutableBufferPointer { unsafe poll($0.baseAddress, 2, milliseconds) }
      if count < 0 {
        if errno == EINTR { continue }
        return .failed(errno)
      }
      if waiting[0].revents != 0 { return .woken }
      if waiting[1].revents != 0 { return .ready(events: waiting[1].revents) }
    }
  }
}
