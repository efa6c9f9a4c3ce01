import CLinux

/// What an event loop keeps of one registered descriptor. Slots are reused; the generation tells old from new.
final class Slot {
  enum Role {
    case free
    case connection(Connection)
    /// Output is still leaving; then the descriptor is closed.
    case closing
    case listener(Listener)
    case mail
  }

  private(set) var id: SocketID
  var role = Role.free
  var descriptor: Int32 = -1
  var isOwned = false
  /// The epoll events asked for.
  var interest: UInt32 = 0
  /// What the owner has queued: for the kernel, or with TLS plaintext that is not encrypted yet.
  var output = ByteQueue()
  /// nil for a connection in clear.
  var tls: TLSStream?
  /// In the list of sockets to send on at the end of the turn.
  var isDirty = false
  var isBacklogged = false
  /// Sending failed or the peer is gone: output is dropped.
  var isBroken = false
  /// No longer in the epoll set.
  var isUnwatched = false

  init(index: UInt32) { id = SocketID(index: index, generation: 0) }

  var waitsForOutput: Bool { interest & EPOLLOUT.rawValue != 0 }

  var isReceiving: Bool { interest & EPOLLIN.rawValue != 0 }

  /// Bytes that have not left: plaintext and records alike.
  var pendingOutput: Int {
    guard let tls else { return output.count }
    return output.count + tls.ciphertext.count
  }

  func discardOutput(_ blocks: BlockPool) {
    output.release(to: blocks)
    tls?.discardOutput()
  }

  /// Frees the slot for another socket. What it had of its former one must have been closed or taken away.
  func reset(_ blocks: BlockPool) {
    id = SocketID(index: id.index, generation: id.generation &+ 1)
    role = .free
    descriptor = -1
    interest = 0
    output.release(to: blocks)
    tls = nil
    isBacklogged = false
    isBroken = false
    isUnwatched = false
  }
}
