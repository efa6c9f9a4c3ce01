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

  mutating func take(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 3)
    while bytes.count < count { unsafe withUnsafeBytes(of: next()) { unsafe bytes.append(contentsOf: $0) } }
    return Array(bytes.prefix(count))
  }

  static func make(count: Int) -> [UInt8] {
    var source = RandomBytes()
    return source.take(count)
  }
}

/// The processors that this process may run on.
enum Processors {
  static var count: Int { Int(lifeguard_processor_count()) }
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
