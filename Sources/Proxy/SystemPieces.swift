import CLinux
import Glibc
import Reactor
import Settings

/// Random bytes of the kernel, fetched in blocks.
struct RandomBytes {
  private var block: [UInt32] = []

  mutating func next() -> UInt32 {
    if let number = block.popLast() { return number }
    block = [UInt32](repeating: 0, count: 64)
    unsafe block.withUnsafeMutableBytes { bytes in
      let count = unsafe getrandom(bytes.baseAddress, bytes.count, 0)
      precondition(count == bytes.count, "getrandom: errno \(errno)")
    }
    return block.removeLast()
  }
}

/// Options of client sockets.
enum SocketOptions {
  /// Small replies leave at once; a peer that vanished without a word is noticed.
  static func apply(toClient descriptor: Int32, isUnix: Bool) {
    guard !isUnix else { return }
    set(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
    set(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1)
    set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPIDLE, 60)
    set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPINTVL, 10)
    set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPCNT, 6)
  }

  private static func set(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
    var value = value
    unsafe _ = setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
  }
}

/// A plain thread, named for `ps -L` and profilers.
enum WorkerThread {
  private final class Body {
    let name: String
    let run: () -> Void
    init(name: String, run: @escaping () -> Void) {
      self.name = name
      self.run = run
    }
  }

  static func start(name: String, _ run: @escaping @Sendable () -> Void) {
    var thread = pthread_t()
    let body = unsafe Unmanaged.passRetained(Body(name: name, run: run))
    let outcome = unsafe pthread_create(
      &thread, nil,
      { argument in
        let body = unsafe Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue()
        unsafe lifeguard_name_thread(body.name)
        body.run()
        return nil
      }, body.toOpaque())
    precondition(outcome == 0, "pthread_create: error \(outcome)")
    pthread_detach(thread)
  }
}

extension ListenEndpoint {
  init(_ address: ListenAddress) {
    switch address {
    case .tcp(let host, let port): self = .tcp(host: host, port: Int(port))
    case .unix(let path): self = .unix(path: path)
    }
  }
}
