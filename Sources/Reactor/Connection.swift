/// Names a socket of an event loop: slot plus generation, so that an event for a slot's former socket is recognised and
/// skipped.
public struct SocketID: Hashable, Sendable {
  let index: UInt32
  let generation: UInt32

  /// Names no socket.
  public static let none = SocketID(index: .max, generation: .max)
}

/// Why no more bytes will come.
public enum StreamEnd: Equatable, Sendable {
  /// The peer closed its side.
  case endOfStream
  /// An errno of the socket.
  case failed(Int32)
  /// The handshake failed, or a record was damaged; OpenSSL's reason, on one line. The peer has been sent the alert.
  case tlsFailed(String)

  /// One phrase for logs and errors.
  public var text: String {
    switch self {
    case .endOfStream: "connection closed by the peer"
    case .failed(let error): System.describe(error)
    case .tlsFailed(let reason): "TLS failed: \(reason)"
    }
  }
}

/// What an event loop tells the owner of a socket. Methods run on the loop's thread, one at a time: none runs inside
/// another.
open class Connection {
  /// The socket that the loop watches for this connection, or `.none`.
  public internal(set) final var socket = SocketID.none {
    didSet { isBacklogged = false }
  }
  /// True while more than `EventLoop.highWater` bytes wait to be sent, until fewer than `EventLoop.lowWater` do (then
  /// `drained` is called).
  public internal(set) final var isBacklogged = false

  public init() {}

  /// Bytes came in. They are valid during the call only.
  open func received(_ bytes: Span<UInt8>) {}

  /// The handshake that `EventLoop.startTLS` began is complete: what is received and sent from here on is encrypted.
  open func secured() {}

  /// Nothing more will come. The socket is still open; the owner closes or releases it.
  open func ended(_ end: StreamEnd) {}

  /// Output had piled up above `EventLoop.highWater` and is now below `EventLoop.lowWater`.
  open func drained() {}
}

/// What an event loop tells the worker that owns it.
public protocol EventLoopDelegate: AnyObject {
  /// A client connected. The descriptor is non-blocking and the delegate's to adopt or close.
  func accepted(_ descriptor: Int32, from peer: PeerAddress, on listener: Listener)
  /// Accepting failed, for example because no descriptor is free; the loop tries again a little later.
  func acceptFailed(_ error: Int32, on listener: Listener)
  /// A timer set by `EventLoop.schedule` is due.
  func timerFired(_ token: UInt64)
  /// The mailbox has mail.
  func mailArrived()
  /// All events of this turn have been handled; output is sent after this.
  func turnEnding()
}
