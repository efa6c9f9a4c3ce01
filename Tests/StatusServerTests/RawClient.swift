import Glibc
import NIOPosix

/// A TCP or Unix connection that shows exactly which bytes come back, and when they end.
///
/// Calls block, so they run on threads of their own: the server needs those of the tests.
struct RawClient: Sendable {
  struct Failed: Error {
    let step: String
    let errorNumber: Int32
  }

  private let descriptor: Int32

  static func connect(port: Int) async throws -> RawClient {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
    return try await connect(AF_INET, address)
  }

  static func connect(path: String) async throws -> RawClient {
    try await connect(AF_UNIX, socketAddress(path))
  }

  /// Leaves the file of a Unix socket on which nobody listens, as a process does that is killed.
  static func leaveSocketFile(at path: String) {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = socketAddress(path)
    let status = unsafe withUnsafeBytes(of: &address) { bytes in
      unsafe bind(descriptor, bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
    }
    precondition(status == 0, "cannot bind \(path)")
    Glibc.close(descriptor)
  }

  private static func socketAddress(_ path: String) -> sockaddr_un {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
    return address
  }

  private static func connect<Address: Sendable>(_ family: Int32, _ address: Address) async throws -> RawClient {
    try await blocking {
      let client = RawClient(descriptor: socket(family, Int32(SOCK_STREAM.rawValue), 0))
      // Far more than any answer takes: only a test that fails waits for so long.
      var patience = timeval(tv_sec: 90, tv_usec: 0)
      unsafe setsockopt(
        client.descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
      var address = address
      let status = unsafe withUnsafeBytes(of: &address) { bytes in
        unsafe Glibc.connect(
          client.descriptor, bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
      }
      guard status == 0 else {
        let error = errno
        client.close()
        throw Failed(step: "connect", errorNumber: error)
      }
      return client
    }
  }

  func send(_ text: String) async throws {
    try await Self.blocking {
      let bytes = Array(text.utf8)
      guard unsafe Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
        throw Failed(step: "send", errorNumber: errno)
      }
    }
  }

  func endInput() {
    shutdown(descriptor, Int32(SHUT_WR))
  }

  /// What comes until the peer ends.
  func receiveAll() async throws -> String {
    try await receive { _ in false }
  }

  /// What comes until it ends with `ending`.
  func receive(until ending: String) async throws -> String {
    try await receive { $0.hasSuffix(ending) }
  }

  func close() {
    Glibc.close(descriptor)
  }

  private func receive(_ isComplete: @escaping @Sendable (String) -> Bool) async throws -> String {
    try await Self.blocking {
      var received: [UInt8] = []
      var chunk = [UInt8](repeating: 0, count: 65_536)
      while !isComplete(String(decoding: received, as: UTF8.self)) {
        let count = unsafe recv(descriptor, &chunk, chunk.count, 0)
        guard count >= 0 else { throw Failed(step: "receive", errorNumber: errno) }
        if count == 0 { break }
        received += chunk[..<count]
      }
      return String(decoding: received, as: UTF8.self)
    }
  }

  private static func blocking<Result: Sendable>(
    _ body: @escaping @Sendable () throws -> Result
  ) async throws -> Result {
    try await NIOThreadPool.singleton.runIfActive(body)
  }
}
