import CLinux
import Glibc

/// Waits for the kernel, moves bytes, fires timers: one loop a worker thread. The interface is completion-style
/// (received, ended, drained, accepted); a driver, epoll or io_uring, is behind it.
///
/// A turn: wait for events; hand each to its owner; fire due timers; let the worker finish (`turnEnding`); send all
/// output that piled up.
///
/// Everything is used on the thread that made the loop.
@safe public final class EventLoop {
  /// Output waiting on one socket (bytes) above which whoever produces it should stop.
  public static let highWater = 256 * 1024
  /// Output waiting (bytes) below which `Connection.drained` says: go on.
  public static let lowWater = 64 * 1024
  /// The most bytes one receive takes.
  public static let receiveSize = 64 * 1024
  /// Output at least this long is offered to the kernel at once, without a copy, when nothing else waits.
  static let directSendSize = 8 * 1024
  /// Who brings so much at once, or without a pause (bytes), is bulk: a COPY, a large result.
  static let bulkSize = 32 * 1024
  /// What bulk may bring in a turn, all of it together (bytes), so that a turn takes 2 or 3 ms however many streams there
  /// are; what is left has its turn before what comes later.
  static let bulkPerTurn = 512 * 1024
  private static let acceptsPerTurn = 64
  /// On a listener that other loops wait on too, so that they get their part.
  private static let acceptsPerTurnShared = 8
  /// Pause after the kernel refused to accept for want of descriptors or memory.
  private static let acceptRetryNanoseconds: Int64 = 100_000_000
  /// How long a loop that `acceptsLast` leaves a listener to the others.
  static let acceptPauseNanoseconds: Int64 = 1_000_000_000

  /// How long output may take to leave after `closeAfterOutput`; a peer that does not read loses the rest.
  private static let closingNanoseconds: Int64 = 10_000_000_000

  /// Free blocks for queues that belong to this loop's thread.
  public let blocks = BlockPool()
  /// Nanoseconds of CLOCK_MONOTONIC, read once a turn.
  public private(set) var now: Int64
  /// On listeners that other loops wait on too, they come first: this loop waits there now and then, takes whoever is there
  /// when it is woken, and goes on only where so many come that the others cannot keep up.
  public var acceptsLast = false
  /// The worker, while `run` runs.
  private var delegate: (any EventLoopDelegate)?

  private let driver: Driver
  private(set) var slots: [Slot] = []
  private var freeSlots: [UInt32] = []
  private var dirty: [Slot] = []
  /// Sockets whose output failed: their owners hear of it in the next turn.
  private var failed: [(SocketID, StreamEnd)] = []
  /// Sockets that are received from again and hold bytes, which come at the next chance.
  var resumed: [SocketID] = []
  /// The socket that was adopted last.
  private var adopted = SocketID.none
  private var timers = TimerQueue()
  private var stopping = false
  /// Rises from turn to turn.
  private var turn: UInt64 = 1
  /// An owner was told `drained` after the worker had finished its turn: another turn follows at once.
  private var hasDrained = false
  /// What is decrypted of what was received.
  let plaintext: UnsafeMutableRawBufferPointer

  /// Descriptors of clients are below this number; those from here on are left to others of the process.
  private let descriptorLimit: Int32

  /// CLOCK_MONOTONIC in nanoseconds, read now; for other threads.
  public static func monotonicNanoseconds() -> Int64 { System.monotonicNanoseconds() }

  /// - Parameters:
  ///   - driver: one that `EventLoopDriver.obstacle` has nothing against.
  ///   - descriptorLimit: the lowest number that no client may have.
  public init(_ driver: EventLoopDriver, descriptorLimit: Int32 = .max) {
    self.driver = Driver(driver)
    self.descriptorLimit = descriptorLimit
    now = System.monotonicNanoseconds()
    unsafe plaintext = .allocate(byteCount: EventLoop.receiveSize, alignment: 64)
  }

  deinit { unsafe plaintext.deallocate() }

  // MARK: Sockets

  /// Watches a non-blocking, connected socket. With `owned`, the loop closes the descriptor in the end; a descriptor
  /// that belongs to somebody else (libpq) is only released. With `tls`, the owner sees plaintext. One that `mayLeave` is
  /// released at little cost, until it is said to stay.
  public func adopt(
    _ descriptor: Int32, for connection: Connection, owned: Bool, tls: TLSStream? = nil, mayLeave: Bool = false
  ) {
    let slot = takeSlot(.connection(connection), descriptor: descriptor, owned: owned)
    slot.isReceiving = true
    slot.mayLeave = mayLeave
    driver.watch(slot)
    connection.socket = slot.id
    adopted = slot.id
    if let tls { take(tls, for: slot) }
  }

  /// Watches a socket that another loop, on whatever thread, has released. The owner is given what the other loop has
  /// received and kept, in its place in the turn.
  public func adopt(_ socket: ReleasedSocket, for connection: Connection) {
    adopt(socket.descriptor, for: connection, owned: socket.isOwned, tls: socket.tls)
    send(socket.unsent.span, to: connection.socket)
    if let slot = slot(connection.socket), !socket.unread.isEmpty {
      slot.hold(socket.unread.span, blocks)
      resumed.append(slot.id)
    }
  }

  /// Stops watching without closing: for a client that moves to another loop, which adopts all of it. It is received
  /// from there, also where that was stopped here. Only at the end of a turn: what has come in by then goes along.
  public func release(_ connection: Connection) -> ReleasedSocket {
    guard let slot = slot(connection.socket) else { preconditionFailure("released a connection without a socket") }
    connection.socket = .none
    if !slot.isUnwatched { driver.detach(slot, self) }
    let released = ReleasedSocket(
      descriptor: slot.descriptor, isOwned: slot.isOwned, tls: slot.tls, unsent: slot.output.copy,
      unread: slot.held.copy)
    slot.tls?.leave()
    retire(slot)
    return released
  }

  /// The connection is not going to be released.
  public func stays(_ connection: Connection) { slot(connection.socket)?.mayLeave = false }

  /// Queues bytes for a socket; they leave at the end of the turn. Bytes for a socket that has failed are dropped: its
  /// owner hears of the failure.
  public func send(_ bytes: Span<UInt8>, to socket: SocketID) {
    guard let slot = slot(socket), !slot.isBroken, bytes.count > 0 else { return }
    var start = 0
    if slot.output.isEmpty && bytes.count >= EventLoop.directSendSize {
      if let tls = slot.tls {
        if sendDirectly(bytes, on: slot, tls) { return }
      } else {
        start = unsafe bytes.withUnsafeBytes { unsafe transfer($0, on: slot) }
        if start == bytes.count || slot.isBroken { return }
      }
    }
    slot.output.append(bytes.extracting(start...), from: blocks)
    if slot.pendingOutput > EventLoop.highWater { slot.isBacklogged = true }
    if start > 0 { wantOutput(slot) } else { markDirty(slot) }
  }

  /// Output is sent at the end of the turn, or once the kernel takes more.
  func markDirty(_ slot: Slot) {
    guard !slot.isDirty, !slot.waitsForOutput else { return }
    slot.isDirty = true
    dirty.append(slot)
  }

  /// Bytes queued for a socket; with TLS, plaintext and records together.
  public func pendingOutput(_ socket: SocketID) -> Int { slot(socket)?.pendingOutput ?? 0 }

  /// Our end of a connection; nil once it is gone. Asks the kernel.
  public func localAddress(of connection: Connection) -> PeerAddress? {
    slot(connection.socket).flatMap { PeerAddress.local(of: $0.descriptor) }
  }

  /// Stops or resumes receiving. While it is stopped only a broken connection is noticed: what the kernel still has of
  /// it comes in then, and its end.
  public func setReceiving(_ receiving: Bool, on socket: SocketID) {
    guard let slot = slot(socket), slot.isReceiving != receiving else { return }
    slot.isReceiving = receiving
    guard !slot.isUnwatched else { return }
    driver.update(slot)
    if receiving && slot.isHolding { resumed.append(slot.id) }
  }

  /// Sends what is queued, then closes. The owner hears nothing more of the socket.
  public func closeAfterOutput(_ connection: Connection) {
    guard let slot = slot(connection.socket) else { return }
    connection.socket = .none
    slot.role = .closing
    if let tls = slot.tls { endOutput(slot, tls) }
    if slot.pendingOutput == 0 || slot.isBroken {
      drop(slot)
    } else {
      slot.isReceiving = false
      slot.held.release(to: blocks)
      if !slot.isUnwatched { driver.update(slot) }
      scheduleOwn(slot, after: EventLoop.closingNanoseconds)
    }
  }

  /// Whether output of `closeAfterOutput` is still on its way. A turn follows when it has left.
  public var isClosingAfterOutput: Bool {
    slots.contains { if case .closing = $0.role { true } else { false } }
  }

  /// Says to the peer that nothing more will come, after what is queued as far as the kernel takes it now. The owner goes
  /// on receiving, and hears of the peer's end.
  public func endOutput(_ connection: Connection) {
    guard let slot = slot(connection.socket), !slot.isUnwatched else { return }
    if let tls = slot.tls {
      endOutput(slot, tls)
      transferRecords(slot, tls)
    } else if !slot.output.isEmpty {
      transferOutput(slot)
    }
    slot.discardOutput(blocks)
    slot.isBroken = true
    System.shutdownOutput(slot.descriptor)
  }

  /// Stops watching and closes (or releases) at once, dropping output that waits.
  public func close(_ connection: Connection) {
    guard let slot = slot(connection.socket) else { return }
    connection.socket = .none
    drop(slot)
  }

  // MARK: Listeners, mail, timers

  /// Accepts clients on a listener until `stopListening`.
  public func listen(on listener: Listener) {
    let slot = takeSlot(.listener(listener), descriptor: listener.descriptor, owned: false)
    noteNearness(listener.descriptor, slot)
    driver.watch(slot)
  }

  /// Stops accepting on all listeners.
  public func stopListening() {
    for slot in slots {
      if case .listener(let listener) = slot.role {
        drop(slot)
        listener.release()
      }
    }
  }

  /// Watches a mailbox's descriptor; `mailArrived` is called each time it is written to.
  public func watchMail(_ descriptor: Int32) {
    driver.watch(takeSlot(.mail, descriptor: descriptor, owned: false))
  }

  /// Has `timerFired(token)` called once the clock has reached `deadline` (nanoseconds, as `now`).
  public func schedule(at deadline: Int64, token: UInt64) {
    timers.insert(deadline: deadline, token: token)
  }

  // MARK: The loop

  /// Turns until `stop` is called from a handler.
  public func run(_ delegate: any EventLoopDelegate) {
    self.delegate = delegate
    while !stopping {
      driver.flush(self)
      driver.wait(timeout: timeout())
      handleEvents()
    }
    // What is still to be said leaves without a wait.
    driver.flush(self)
    driver.wait(timeout: 0)
    driver.finishOutput(self)
    self.delegate = nil
  }

  /// Ends `run` after this turn.
  public func stop() { stopping = true }

  /// Nanoseconds until the next timer; nil for ever.
  private func timeout() -> Int64? {
    if !failed.isEmpty || !resumed.isEmpty || hasDrained {
      hasDrained = false
      return 0
    }
    return timers.nextDeadline.map { max(0, $0 - now) }
  }

  private func handleEvents() {
    now = System.monotonicNanoseconds()
    turn &+= 1
    driver.dispatch(self)
    reportFailures()
    deliverHeld()
    while let token = timers.popDue(at: now) {
      if token >= EventLoop.ownTokens { ownTimerFired(token) } else { delegate?.timerFired(token) }
    }
    delegate?.turnEnding()
  }

  func mailArrived() { delegate?.mailArrived() }

  // MARK: Input

  /// Bytes came in. They are valid during the call only.
  func arrived(_ bytes: UnsafeRawBufferPointer, _ slot: Slot, _ connection: Connection) {
    if !slot.takesInput || !slot.held.isEmpty {
      slot.hold(unsafe Span(_unsafeBytes: bytes), blocks)
    } else if let tls = slot.tls {
      unsafe arrived(bytes, slot, connection, tls)
    } else {
      connection.received(unsafe Span(_unsafeBytes: bytes))
    }
  }

  /// The connection broke while the owner wanted no input.
  func hungUp(_ slot: Slot, _ connection: Connection) {
    slot.isHungUp = true
    driver.update(slot)
    deliverHeld(slot, connection)
  }

  /// The peer sends no more. Its owner hears of it after what is held; until it wants that, the end waits, and is found
  /// again.
  func foundEnd(_ slot: Slot, _ connection: Connection) {
    guard slot.takesInput else { return }
    deliverHeld(slot, connection)
    if connection.socket == slot.id, slot.takesInput, !slot.isHolding, !slot.isUnwatched {
      end(slot, connection, .endOfStream)
    }
  }

  /// Receiving failed: after what came before, there is nothing more.
  func broke(_ slot: Slot, _ connection: Connection, _ reason: StreamEnd) {
    slot.isHungUp = true
    deliverHeld(slot, connection)
    if connection.socket == slot.id && !slot.isUnwatched { end(slot, connection, reason) }
  }

  /// Hands over what sockets hold that are received from again. No handler runs inside another, so this waits for its
  /// place in the turn.
  private func deliverHeld() {
    guard !resumed.isEmpty else { return }
    let sockets = resumed
    resumed.removeAll(keepingCapacity: true)
    for socket in sockets {
      if let slot = slot(socket), slot.takesInput, case .connection(let connection) = slot.role {
        deliverHeld(slot, connection)
      }
    }
  }

  func deliverHeld(_ slot: Slot, _ connection: Connection) {
    guard slot.isHolding, !slot.isUnwatched else { return }
    if let tls = slot.tls { return deliver(slot, connection, tls) }
    // The owner may stop receiving, and close or release the connection.
    var bytes = ByteQueue()
    swap(&bytes, &slot.held)
    connection.received(bytes.bytes)
    bytes.release(to: blocks)
  }

  /// The owner is told once; the socket is no longer watched for input, or a level-triggered end would come each turn.
  func end(_ slot: Slot, _ connection: Connection, _ end: StreamEnd) {
    slot.isBroken = true
    slot.discardOutput(blocks)
    driver.unwatch(slot)
    connection.ended(end)
  }

  private func reportFailures() {
    guard !failed.isEmpty else { return }
    let reports = failed
    failed.removeAll(keepingCapacity: true)
    for (socket, reason) in reports {
      guard let slot = slot(socket), !slot.isUnwatched else { continue }
      switch slot.role {
      case .connection(let connection): end(slot, connection, reason)
      case .closing: drop(slot)
      case .listener, .mail, .free: break
      }
    }
  }

  // MARK: Clients

  /// Accepts those who wait on a listener.
  func accept(_ slot: Slot, _ listener: Listener) {
    // Most come alone. To find nobody behind would be a system call for each of them; whoever is there keeps the listener
    // readable, and then more are taken in the next turn.
    let comesLast = acceptsLast && listener.isShared
    let isCrowd = slot.acceptedInTurn == turn &- 1
    slot.acceptedInTurn = turn
    let most = listener.isShared ? EventLoop.acceptsPerTurnShared : EventLoop.acceptsPerTurn
    for _ in 0..<(isCrowd || comesLast ? most : 1) {
      guard case .listener = slot.role else { return }
      if slot.isNearLimit && !hasDescriptorLeft(listener) { return acceptFailed(slot, listener, EMFILE) }
      guard let outcome = listener.accept() else {
        if comesLast { pauseAccepting(slot, for: EventLoop.acceptPauseNanoseconds) }
        return
      }
      switch outcome {
      case .success((let descriptor, let peer)):
        guard let kept = keep(descriptor, slot) else { return acceptFailed(slot, listener, EMFILE) }
        accepted(kept, from: peer, on: listener)
      case .failure(let failure) where failure.isPassing: continue
      case .failure(let failure): return acceptFailed(slot, listener, failure.error)
      }
    }
  }

  /// The kernel has accepted a client.
  func accepted(_ descriptor: Int32, _ slot: Slot, _ listener: Listener) {
    guard let kept = keep(descriptor, slot) else { return acceptFailed(slot, listener, EMFILE) }
    if let peer = PeerAddress.remote(of: kept) {
      accepted(kept, from: peer, on: listener)
    } else {
      System.closeDescriptor(kept)
    }
  }

  /// Whoever has sent something before it was accepted is received from at once: the kernel need not be asked for that.
  private func accepted(_ descriptor: Int32, from peer: PeerAddress, on listener: Listener) {
    adopted = .none
    delegate?.accepted(descriptor, from: peer, on: listener)
    guard listener.clientsSpeakFirst, let slot = slot(adopted), case .connection(let connection) = slot.role,
      slot.takesInput
    else { return }
    driver.receiveFirst(slot, connection, self)
  }

  /// Gives back a number that no client may have. Another may be free by now; else the client is let go, which happens only
  /// where somebody else took the last number in the same moment.
  private func keep(_ descriptor: Int32, _ slot: Slot) -> Int32? {
    noteNearness(descriptor, slot)
    guard descriptor >= descriptorLimit else { return descriptor }
    defer { System.closeDescriptor(descriptor) }
    return System.duplicate(descriptor, below: descriptorLimit)
  }

  /// Where all clients that the kernel holds might use up the numbers, each is accepted by a call of its own, and only if
  /// there is a number for it: accept(2) would take one that is not a client's as well.
  private func noteNearness(_ descriptor: Int32, _ slot: Slot) {
    let isNear = descriptor >= descriptorLimit - Listener.backlog
    guard slot.isNearLimit != isNear else { return }
    slot.isNearLimit = isNear
    if !slot.isUnwatched { driver.acceptingChanged(slot) }
  }

  private func hasDescriptorLeft(_ listener: Listener) -> Bool {
    guard let free = System.duplicate(listener.descriptor, below: descriptorLimit) else { return false }
    System.closeDescriptor(free)
    return true
  }

  /// Accepting pauses: at once it would only fail again.
  func acceptFailed(_ slot: Slot, _ listener: Listener, _ error: Int32) {
    // More clients may have come before the pause could begin.
    guard !slot.isUnwatched else { return }
    pauseAccepting(slot, for: EventLoop.acceptRetryNanoseconds)
    delegate?.acceptFailed(error, on: listener)
  }

  private func pauseAccepting(_ slot: Slot, for nanoseconds: Int64) {
    driver.unwatch(slot)
    scheduleOwn(slot, after: nanoseconds)
  }

  /// The pause is over.
  private func resumeAccepting(_ slot: Slot, _ listener: Listener) {
    guard hasDescriptorLeft(listener) else {
      scheduleOwn(slot, after: EventLoop.acceptRetryNanoseconds)
      delegate?.acceptFailed(EMFILE, on: listener)
      return
    }
    slot.isUnwatched = false
    driver.watch(slot)
  }

  /// Timer tokens from here on are the loop's own.
  private static let ownTokens: UInt64 = 1 << 63

  private func scheduleOwn(_ slot: Slot, after nanoseconds: Int64) {
    timers.insert(deadline: now + nanoseconds, token: EventLoop.ownTokens | slot.id.raw)
  }

  private func ownTimerFired(_ token: UInt64) {
    let index = Int(token & 0xffff_ffff)
    guard EventLoop.ownTokens | slots[index].id.raw == token else { return }
    switch slots[index].role {
    case .listener(let listener): resumeAccepting(slots[index], listener)
    case .closing: drop(slots[index])
    case .connection, .mail, .free: break
    }
  }

  // MARK: Output

  /// Empties the list of sockets to send on, also of those that are added meanwhile.
  func takeDirty(_ body: (Slot) -> Void) {
    while let slot = dirty.popLast() {
      slot.isDirty = false
      body(slot)
    }
  }

  /// Makes what is queued ready for the kernel.
  func prepareOutput(_ slot: Slot) {
    if let tls = slot.tls { encryptOutput(slot, tls) }
  }

  /// Offers what is ready to the kernel.
  func transferOutput(_ slot: Slot) {
    guard slot.hasOutgoing, !slot.isBroken else { return }
    slot.consumeOutgoing(unsafe transfer(slot.outgoing, on: slot), blocks)
  }

  /// The kernel has taken what it would.
  func outputSettled(_ slot: Slot) {
    if slot.isBroken { return slot.discardOutput(blocks) }
    if !slot.hasOutgoing {
      if slot.waitsForOutput {
        slot.waitsForOutput = false
        driver.update(slot)
      }
      if case .closing = slot.role {
        // Somebody may wait for it.
        hasDrained = true
        return drop(slot)
      }
    } else {
      wantOutput(slot)
    }
    if slot.isBacklogged && slot.pendingOutput < EventLoop.lowWater {
      slot.isBacklogged = false
      if case .connection(let connection) = slot.role {
        hasDrained = true
        connection.drained()
      }
    }
  }

  /// One send. Returns the bytes taken; a failure marks the slot broken and is reported next turn.
  func transfer(_ bytes: UnsafeRawBufferPointer, on slot: Slot) -> Int {
    switch unsafe System.send(slot.descriptor, bytes) {
    case .bytes(let count): return count
    case .wouldBlock: return 0
    case .failed(let error):
      failOutput(slot, .failed(error))
      return 0
    }
  }

  /// Nothing more can be sent; the owner hears of it in the next turn.
  func failOutput(_ slot: Slot, _ end: StreamEnd) {
    slot.isBroken = true
    failed.append((slot.id, end))
  }

  func wantOutput(_ slot: Slot) {
    guard !slot.waitsForOutput, !slot.isUnwatched else { return }
    slot.waitsForOutput = true
    driver.update(slot)
  }

  // MARK: Slots

  func slot(_ socket: SocketID) -> Slot? {
    guard socket.index < UInt32(slots.count) else { return nil }
    let slot = slots[Int(socket.index)]
    return slot.id == socket ? slot : nil
  }

  private func takeSlot(_ role: Slot.Role, descriptor: Int32, owned: Bool) -> Slot {
    let slot: Slot
    if let index = freeSlots.popLast() {
      slot = slots[Int(index)]
    } else {
      slot = Slot(index: UInt32(slots.count))
      slots.append(slot)
    }
    slot.role = role
    slot.descriptor = descriptor
    slot.isOwned = owned
    return slot
  }

  /// The end of a socket.
  func drop(_ slot: Slot) {
    if !slot.isUnwatched { driver.unwatchClosing(slot) }
    slot.tls?.detach(from: slot.descriptor)
    if slot.isOwned { System.closeDescriptor(slot.descriptor) }
    retire(slot)
  }

  private func retire(_ slot: Slot) {
    slot.reset(blocks)
    if slot.operations.isIdle { free(slot) } else { slot.isLeaving = true }
  }

  /// The slot may have another socket.
  func free(_ slot: Slot) {
    slot.isLeaving = false
    freeSlots.append(slot.id.index)
  }
}

extension SocketID {
  var raw: UInt64 { UInt64(generation) << 32 | UInt64(index) }

  init(raw: UInt64) {
    self.init(index: UInt32(truncatingIfNeeded: raw), generation: UInt32(truncatingIfNeeded: raw >> 32))
  }
}
