/// What an event loop keeps of one watched descriptor. Slots are reused; the generation tells old from new.
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

  // MARK: What the loop wants

  /// The owner wants input.
  var isReceiving = false
  /// Another loop may take it over soon.
  var mayLeave = false
  /// The kernel would not take all output; the rest waits until it does.
  var waitsForOutput = false
  /// No longer watched, because its end is known, or because accepting pauses.
  var isUnwatched = false

  // MARK: What there is

  /// What the owner has queued: for the kernel, or with TLS plaintext that is not encrypted yet.
  var output = ByteQueue()
  /// What was received while the owner wanted no input. With TLS the stream has it.
  var held = ByteQueue()
  /// nil for a connection in clear.
  var tls: TLSStream?
  /// In the list of sockets to send on at the end of the turn.
  var isDirty = false
  /// As the connection's, which reads its own more often than it changes.
  var isBacklogged = false {
    didSet { if case .connection(let connection) = role { connection.isBacklogged = isBacklogged } }
  }
  /// Sending failed or the peer is gone: output is dropped.
  var isBroken = false
  /// The connection broke while the owner wanted no input: what is left of it comes all the same, and its end.
  var isHungUp = false

  // MARK: What the drivers know

  /// It brings much: it is received from after all others, in its turn.
  var isBulk = false
  /// It has bulk to bring, and waits for its turn.
  var awaitsTurn = false
  /// Receive buffers that the kernel has filled since the last one that it did not.
  var fullBuffers = 0

  /// The epoll events asked for.
  var epollInterest: UInt32 = 0
  var operations = SocketOperations()
  /// In the list of sockets whose operations may have to change.
  var isChanged = false
  /// Input came while the owner wanted none, so the kernel must be told.
  var hasOverrun = false
  /// The kernel goes on receiving by itself.
  var receivesRepeatedly = false
  /// Bytes that the kernel has taken of what was submitted last.
  var sent = 0
  /// Of a listener: the turn in which clients were accepted last.
  var acceptedInTurn: UInt64 = 0
  /// Of a listener: descriptors may run out.
  var isNearLimit = false
  /// Free, but for operations that are not over.
  var isLeaving = false

  init(index: UInt32) { id = SocketID(index: index, generation: 0) }

  /// Input goes to the owner.
  var takesInput: Bool { isReceiving || isHungUp }

  /// Something that was received waits for the owner.
  var isHolding: Bool { tls?.isHolding ?? !held.isEmpty }

  /// Bytes that have not left: plaintext and records alike.
  var pendingOutput: Int {
    guard let tls else { return output.count }
    return output.count + tls.ciphertext.count
  }

  /// What is ready for the kernel: with TLS, records. It stays where it is until it is consumed, or more is queued.
  var outgoing: UnsafeRawBufferPointer { unsafe tls?.ciphertext.memory ?? output.memory }

  var hasOutgoing: Bool { !(tls?.ciphertext.isEmpty ?? output.isEmpty) }

  /// Takes away what the kernel has.
  func consumeOutgoing(_ count: Int, _ blocks: BlockPool) {
    if let tls { tls.consume(count) } else { output.consume(count, to: blocks) }
  }

  func discardOutput(_ blocks: BlockPool) {
    output.release(to: blocks)
    tls?.discardOutput()
  }

  /// Keeps what was received for when the owner wants it.
  func hold(_ bytes: Span<UInt8>, _ blocks: BlockPool) {
    if let tls { tls.keep(bytes) } else { held.append(bytes, from: blocks) }
  }

  /// Frees the slot for another socket. What it had of its former one must have been closed or taken away.
  func reset(_ blocks: BlockPool) {
    id = SocketID(index: id.index, generation: id.generation &+ 1)
    role = .free
    descriptor = -1
    isReceiving = false
    mayLeave = false
    waitsForOutput = false
    isUnwatched = false
    output.release(to: blocks)
    held.release(to: blocks)
    tls = nil
    isBacklogged = false
    isBroken = false
    isHungUp = false
    isBulk = false
    awaitsTurn = false
    fullBuffers = 0
    epollInterest = 0
    hasOverrun = false
    receivesRepeatedly = false
    isNearLimit = false
  }
}
