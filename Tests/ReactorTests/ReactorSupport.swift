import CLinux
import Glibc
import Testing

@testable import Reactor

/// A connected pair of Unix sockets. `near` goes to the loop, which closes it; `far` is the test's.
struct SocketPair {
  let near: Int32
  let far: Int32

  init() {
    var both: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    let outcome = unsafe socketpair(AF_UNIX, kind, 0, &both)
    precondition(outcome == 0, "socketpair: errno \(errno)")
    (near, far) = (both[0], both[1])
  }
}

/// Writes to a non-blocking descriptor until it takes no more. Returns how many bytes it took.
@discardableResult
func write(_ bytes: [UInt8], to descriptor: Int32) -> Int {
  var start = 0
  while start < bytes.count {
    let count = unsafe bytes.withUnsafeBytes { buffer in
      unsafe send(descriptor, buffer.baseAddress! + start, bytes.count - start, Int32(MSG_NOSIGNAL))
    }
    guard count > 0 else { break }
    start += count
  }
  return start
}

/// Reads what a non-blocking descriptor has, at most `limit` bytes. `isAtEnd` tells whether its end was seen.
func read(_ descriptor: Int32, limit: Int = .max) -> (bytes: [UInt8], isAtEnd: Bool) {
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 65_536)
  while bytes.count < limit {
    let room = min(buffer.count, limit - bytes.count)
    let count = unsafe buffer.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, room, 0) }
    if count == 0 { return (bytes, true) }
    guard count > 0 else { break }
    bytes += buffer[..<count]
  }
  return (bytes, false)
}

/// Bytes that do not repeat soon, so that a lost or doubled piece shows.
func pattern(_ count: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: $0 ^ ($0 >> 8) ^ ($0 >> 16)) }
}

extension EventLoopDriver {
  /// Those that this machine has: each test of a loop runs with all of them.
  static let usable = allCases.filter { $0.obstacle == nil }
}

/// Remembers what it was told.
final class Recorder: Connection {
  var bytes: [UInt8] = []
  var ends: [StreamEnd] = []
  var drains = 0
  /// How often bytes came.
  var calls = 0
  /// How many bytes had come when the handshake was complete; nil before.
  var securedAt: Int?
  var onReceived: () -> Void = {}
  var onDrained: () -> Void = {}
  var onSecured: () -> Void = {}

  override func received(_ bytes: Span<UInt8>) {
    calls += 1
    unsafe bytes.withUnsafeBytes { unsafe self.bytes.append(contentsOf: $0) }
    onReceived()
  }

  override func secured() {
    precondition(securedAt == nil, "secured twice")
    securedAt = bytes.count
    onSecured()
  }

  override func ended(_ end: StreamEnd) { ends.append(end) }

  override func drained() {
    drains += 1
    onDrained()
  }
}

/// Runs a loop through a script: each step waits for its condition, then acts. A step whose condition does not come
/// true within ten seconds fails the test and ends the run.
final class Script: EventLoopDelegate {
  let loop: EventLoop
  var fired: [UInt64] = []
  var mails = 0
  var accepted: [(descriptor: Int32, peer: PeerAddress)] = []
  var onAccepted: (Int32) -> Void = { _ in }
  /// The errors with which accepting failed.
  var acceptFailures: [Int32] = []

  private struct Step {
    var name: Comment
    var condition: () -> Bool
    var action: () -> Void
  }

  private var steps: [Step] = []
  private var giveUpAt: Int64 = 0
  private static let tick: UInt64 = 1 << 62

  init(_ driver: EventLoopDriver, descriptorLimit: Int32 = .max) {
    loop = EventLoop(driver, descriptorLimit: descriptorLimit)
  }

  func send(_ bytes: [UInt8], to connection: Connection) { loop.send(bytes.span, to: connection.socket) }

  /// Adds a step.
  func when(_ name: Comment, _ condition: @escaping () -> Bool, then action: @escaping () -> Void = {}) {
    steps.append(Step(name: name, condition: condition, action: action))
  }

  /// Adds a step that acts at once.
  func then(_ action: @escaping () -> Void) { when("at once", { true }, then: action) }

  func run(sourceLocation: SourceLocation = #_sourceLocation) {
    giveUpAt = System.monotonicNanoseconds() + 10_000_000_000
    loop.schedule(at: 0, token: Script.tick)
    loop.run(self)
    for step in steps { Issue.record(step.name, sourceLocation: sourceLocation) }
  }

  func accepted(_ descriptor: Int32, from peer: PeerAddress, on listener: Listener) {
    accepted.append((descriptor, peer))
    onAccepted(descriptor)
  }

  func acceptFailed(_ error: Int32, on listener: Listener) { acceptFailures.append(error) }

  func timerFired(_ token: UInt64) {
    if token == Script.tick {
      loop.schedule(at: loop.now + 2_000_000, token: Script.tick)
    } else {
      fired.append(token)
    }
  }

  func mailArrived() { mails += 1 }

  func turnEnding() {
    if let step = steps.first, step.condition() {
      steps.removeFirst()
      step.action()
    }
    if steps.isEmpty || loop.now > giveUpAt { loop.stop() }
  }
}
