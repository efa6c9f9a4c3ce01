import CLinux
import CUring
import Glibc

extension EventLoopDriver {
  /// Why this driver cannot be had here; nil where it can. io_uring is tried out: kernels lack it, lack what was added
  /// later, or are told (by seccomp, by sysctl) not to let us have it.
  public var obstacle: String? {
    switch self {
    case .epoll: nil
    case .ioUring: UringTrial.obstacle
    }
  }
}

/// Has a ring do once what the driver relies on.
private enum UringTrial {
  static var obstacle: String? {
    do throws(Errno) {
      let ring = try Ring()
      let buffers = try ProvidedBuffers(for: ring)
      var ends: [Int32] = [-1, -1]
      let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
      guard unsafe socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw Errno(errno) }
      defer { for end in ends { System.closeDescriptor(end) } }
      buffers.publish()
      if let obstacle = try repeatedReceive(ring, from: ends[0], peer: ends[1]) { return obstacle }
      return try partialSend(ring, to: ends[1])
    } catch {
      return error.code == EINVAL ? "the kernel is older than Linux 6.1" : System.describe(error.code)
    }
  }

  /// One request has to bring both messages.
  private static func repeatedReceive(_ ring: Ring, from descriptor: Int32, peer: Int32) throws(Errno) -> String? {
    ring.write(.receive(from: descriptor, repeatedly: true, name: 1))
    let byte: [UInt8] = [0]
    for _ in 1...2 {
      _ = unsafe byte.withUnsafeBytes { unsafe System.send(peer, $0) }
      try ring.wait(for: 1, timeout: 1_000_000_000)
      guard let completion = ring.next(), completion.result == 1, completion.buffer != nil, !completion.isLast else {
        return "the kernel does not receive repeatedly"
      }
    }
    return nil
  }

  /// What has no room must be reported by the system call that sends, and what has must not.
  private static func partialSend(_ ring: Ring, to descriptor: Int32) throws(Errno) -> String? {
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 4 << 20, alignment: 1)
    defer { unsafe bytes.deallocate() }
    _ = unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0)
    unsafe ring.write(.send(UnsafeRawBufferPointer(rebasing: bytes[..<1]), to: descriptor, name: 2))
    unsafe ring.write(.send(UnsafeRawBufferPointer(bytes), to: descriptor, name: 3))
    try ring.submit()
    guard let completion = ring.next(), completion.name == 3, 1..<bytes.count ~= Int(completion.result) else {
      return "the kernel does not report partial sends"
    }
    return nil
  }
}
