import CLinux
import Glibc

/// Waits for the kernel, moves bytes, fires timers: one loop a worker thread. The interface is completion-style
/// (received, ended, drained, accepted), so that drivers other than epoll fit behind it.
///
/// A turn: wait for events; hand each to its owner; fire due timers; let the worker finish (`turnEnding`); send all
/// output that piled up, one system call a socket. Descriptors are registered level-triggered once, and touched again
/// only for back-pressure and for output that the kernel would not take.
@safe public final class EventLoop {
  /// Output waiting on one socket (bytes) above which whoever produces it should stop.
  public static let highWater = 256 * 1024
  /// Output waiting (bytes) below which `Connection.drained` says: go on.
  public static let lowWater = 64 * 1024
  /// The most bytes one receive takes.
  public static let receiveSize = 64 * 1024
  /// Output at least this long is offered to the kernel at once, without a copy, when nothing else waits.
  static let directSendSize = 8 * 1024
  private static let eventsPerTurn = 512
  private static let acceptsPerTurn = 64
  /// On a listener that other loops wait on too, so that they get their part.
  private static let acceptsPerTurnShared = 8
  /// One client wakes one of the loops that wait on a shared listener, not all (epoll_ctl(2), EPOLLEXCLUSIVE).
  private static let exclusiveWakeUp: UInt32 = 1 << 28
  /// Pause after the kernel refused to accept for want of descriptors or memory.
  private static let acceptRetryNanoseconds: Int64 = 100_000_000

  /// How long output may take to leave after `closeAfterOutput`; a peer that does not read loses the rest.
  private static let closingNanoseconds: Int64 = 10_000_000_000

  /// Free blocks for queues that belong to this loop's thread.
  public let blocks = BlockPool()
  /// Nanoseconds of CLOCK_MONOTONIC, read once a turn.
  public private(set) var now: Int64
  /// The worker, while `run` runs.
  private var delegate: (any EventLoopDelegate)?

  private let epoll: Int32
  private var slots: [Slot] = []
  private var freeSlots: [UInt32] = []
  private var dirty: [Slot] = []
  /// Sockets whose output failed: their owners hear of it in the next turn.
  private var failed: [(SocketID, StreamEnd)] = []
  /// Sockets that are received from again and whose TLS stream holds bytes, which come at the next chance.
  var resumed: [SocketID] = []
  private var timers = TimerQueue()
  private var stopping = false
  /// An owner was told `drained` after the worker had finished its turn: another turn follows at once.
  private var hasDrained = false
  /// What one receive took.
  let scratch: UnsafeMutableRawBufferPointer
  /// What is decrypted of it.
  let plaintext: UnsafeMutableRawBufferPointer
  private let events: UnsafeMutableBufferPointer<epoll_event>

  /// CLOCK_MONOTONIC in nanoseconds, read now; for other threads.
  public static func monotonicNanoseconds() -> Int64 { System.monotonicNanoseconds() }

  public init() {
    epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
    precondition(epoll >= 0, "epoll_create1: errno \(errno)")
    now = System.monotonicNanoseconds()
    unsafe scratch = .allocate(byteCount: EventLoop.receiveSize, alignment: 64)
    unsafe plaintext = .allocate(byteCount: EventLoop.receiveSize, alignment: 64)
    unsafe events = .allocate(capacity: EventLoop.eventsPerTurn)
  }

  deinit {
    unsafe scratch.deallocate()
    unsafe plaintext.deallocate()
    unsafe events.deallocate()
    System.closeDescriptor(epoll)
  }

  // MARK: Sockets

  /// Watches a non-blocking, connected socket. With `owned`, the loop closes the descriptor in the end; a descriptor
  /// that belongs to somebody else (libpq) is only released. With `tls`, the owner sees plaintext.
  public func adopt(_ descriptor: Int32, for connection: Connection, owned: Bool, tls: TLSStream? = nil) {
    let slot = takeSlot(.connection(connection), descriptor: descriptor, owned: owned)
    slot.interest = EPOLLIN.rawValue
    control(EPOLL_CTL_ADD, slot)
    connection.socket = slot.id
    if let tls { take(tls, for: slot) }
  }

  /// Watches a socket that another loop, on whatever thread, has released.
  public func adopt(_ socket: ReleasedSocket, for connection: Connection) {
    adopt(socket.descriptor, for: connection, owned: socket.isOwned, tls: socket.tls)
    send(socket.unsent.span, to: connection.socket)
  }

  /// Stops watching without closing: for a client that moves to another loop, which adopts all of it. It is received
  /// from there, also where that was stopped here.
  public func release(_ connection: Connection) -> ReleasedSocket {
    guard let slot = slot(connection.socket) else { preconditionFailure("released a connection without a socket") }
    connection.socket = .none
    if !slot.isUnwatched { control(EPOLL_CTL_DEL, slot) }
    let released = ReleasedSocket(
      descriptor: slot.descriptor, isOwned: slot.isOwned, tls: slot.tls, unsent: slot.output.copy)
    slot.tls?.leave()
    slot.reset(blocks)
    freeSlots.append(slot.id.index)
    return released
  }

  /// Queues bytes for a socket; they leave at the end of the turn. Bytes for a socket that has failed are dropped: its
  /// owner hears of the failure.
  public func send(_ bytes: Span<UInt8>, to socket: SocketID) {
    guard let slot = slot(socket), !slot.isBroken, bytes.count > 0 else { return }
    var start = 0
    if slot.output.isEmpty && bytes.count >= EventLoop.directSendSize {
      if let tls = slot.tls {
        if sendDirectly(bytes, on: slot, tls) { return }
      } else {
        start = transfer(bytes, on: slot)
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

  /// True while more than `highWater` bytes wait, until fewer than `lowWater` do (then `drained` is called).
  public func isBacklogged(_ socket: SocketID) -> Bool { slot(socket)?.isBacklogged ?? false }

  /// Stops or resumes receiving. While it is stopped only a broken connection is noticed: what the kernel still has of
  /// it comes in then, and its end.
  public func setReceiving(_ receiving: Bool, on socket: SocketID) {
    guard let slot = slot(socket) else { return }
    setInterest(slot, receiving ? slot.interest | EPOLLIN.rawValue : slot.interest & ~EPOLLIN.rawValue)
    if receiving, let tls = slot.tls, tls.isHolding { resumed.append(slot.id) }
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
      setInterest(slot, slot.interest & ~EPOLLIN.rawValue)
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
      _ = transfer(slot.output.bytes, on: slot)
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
    watch(slot, listener)
  }

  private func watch(_ slot: Slot, _ listener: Listener) {
    slot.interest = listener.isShared ? EPOLLIN.rawValue | EventLoop.exclusiveWakeUp : EPOLLIN.rawValue
    control(EPOLL_CTL_ADD, slot)
    slot.isUnwatched = false
  }

  /// An exclusive wish cannot be changed, so it is taken back as a whole.
  private func unwatch(_ slot: Slot) {
    control(EPOLL_CTL_DEL, slot)
    slot.isUnwatched = true
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

  /// Watches a mailbox's descriptor; `mailArrived` is called when it is readable.
  public func watchMail(_ descriptor: Int32) {
    let slot = takeSlot(.mail, descriptor: descriptor, owned: false)
    slot.interest = EPOLLIN.rawValue
    control(EPOLL_CTL_ADD, slot)
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
      flush()
      wait()
    }
    flush()
    self.delegate = nil
  }

  /// Ends `run` after this turn.
  public func stop() { stopping = true }

  private func wait() {
    let timeout: Int32
    if !failed.isEmpty || !resumed.isEmpty || hasDrained {
      hasDrained = false
      timeout = 0
    } else if let deadline = timers.nextDeadline {
      let left = max(0, deadline - now)
      timeout = Int32(min((left + 999_999) / 1_000_000, 60_000))
    } else {
      timeout = -1
    }
    let count = unsafe epoll_wait(epoll, events.baseAddress, Int32(events.count), timeout)
    precondition(count >= 0 || errno == EINTR, "epoll_wait: errno \(errno)")
    now = System.monotonicNanoseconds()
    for index in 0..<Int(max(count, 0)) {
      let event = unsafe events[index]
      unsafe dispatch(event.events, SocketID(raw: event.data.u64))
    }
    reportFailures()
    deliverHeld()
    while let token = timers.popDue(at: now) {
      if token >= EventLoop.ownTokens { ownTimerFired(token) } else { delegate?.timerFired(token) }
    }
    delegate?.turnEnding()
  }

  private func dispatch(_ ready: UInt32, _ socket: SocketID) {
    guard let slot = slot(socket) else { return }
    switch slot.role {
    case .connection(let connection):
      if ready & EPOLLOUT.rawValue != 0 { writable(slot) }
      // `drained` may have closed it.
      guard connection.socket == socket else { return }
      if ready & (EPOLLIN.rawValue | EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0 { receive(slot, connection, ready) }
    case .closing:
      if ready & (EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0 { drop(slot) } else { writable(slot) }
    case .listener(let listener): accept(slot, listener)
    case .mail: delegate?.mailArrived()
    case .free: break
    }
  }

  private func receive(_ slot: Slot, _ connection: Connection, _ ready: UInt32) {
    let isPaused = slot.interest & EPOLLIN.rawValue == 0
    if isPaused && ready & (EPOLLHUP.rawValue | EPOLLERR.rawValue) == 0 { return }
    if let tls = slot.tls { return receive(slot, connection, tls) }
    switch unsafe System.receive(slot.descriptor, into: scratch) {
    case .bytes(0): end(slot, connection, .endOfStream)
    case .bytes(let count):
      let bytes = unsafe Span<UInt8>(_unsafeBytes: UnsafeRawBufferPointer(rebasing: scratch[..<count]))
      connection.received(bytes)
    case .wouldBlock: break
    case .failed(let error): end(slot, connection, .failed(error))
    }
  }

  /// The owner is told once; the socket is no longer watched for input, or a level-triggered end would come each turn.
  func end(_ slot: Slot, _ connection: Connection, _ end: StreamEnd) {
    slot.isBroken = true
    slot.discardOutput(blocks)
    control(EPOLL_CTL_DEL, slot)
    slot.isUnwatched = true
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

  private func accept(_ slot: Slot, _ listener: Listener) {
    let most = listener.isShared ? EventLoop.acceptsPerTurnShared : EventLoop.acceptsPerTurn
    for _ in 0..<most {
      guard case .listener = slot.role, let outcome = listener.accept() else { return }
      switch outcome {
      case .success((let descriptor, let peer)): delegate?.accepted(descriptor, from: peer, on: listener)
      case .failure(let failure) where failure.isPassing: continue
      case .failure(let failure):
        unwatch(slot)
        scheduleOwn(slot, after: EventLoop.acceptRetryNanoseconds)
        delegate?.acceptFailed(failure.error, on: listener)
        return
      }
    }
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
    case .listener(let listener): watch(slots[index], listener)
    case .closing: drop(slots[index])
    case .connection, .mail, .free: break
    }
  }

  // MARK: Output

  private func flush() {
    var index = 0
    while index < dirty.count {
      let slot = dirty[index]
      index += 1
      slot.isDirty = false
      if slot.pendingOutput > 0 { writable(slot) }
    }
    dirty.removeAll(keepingCapacity: true)
  }

  /// Offers what is queued to the kernel.
  private func writable(_ slot: Slot) {
    let isEmpty: Bool
    if let tls = slot.tls {
      encryptOutput(slot, tls)
      transferRecords(slot, tls)
      isEmpty = tls.ciphertext.isEmpty
    } else {
      slot.output.consume(transfer(slot.output.bytes, on: slot), to: blocks)
      isEmpty = slot.output.isEmpty
    }
    if slot.isBroken { return slot.discardOutput(blocks) }
    if isEmpty {
      if slot.waitsForOutput { setInterest(slot, slot.interest & ~EPOLLOUT.rawValue) }
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
  func transfer(_ bytes: Span<UInt8>, on slot: Slot) -> Int {
    let outcome = unsafe bytes.withUnsafeBytes { buffer in unsafe System.send(slot.descriptor, buffer) }
    switch outcome {
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

  func wantOutput(_ slot: Slot) { setInterest(slot, slot.interest | EPOLLOUT.rawValue) }

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

  private func drop(_ slot: Slot) {
    // Closing a descriptor ends the watch too, as long as nobody has another descriptor for it.
    if !slot.isUnwatched && !slot.isOwned { control(EPOLL_CTL_DEL, slot) }
    slot.tls?.detach(from: slot.descriptor)
    if slot.isOwned { System.closeDescriptor(slot.descriptor) }
    slot.reset(blocks)
    freeSlots.append(slot.id.index)
  }

  private func setInterest(_ slot: Slot, _ interest: UInt32) {
    guard slot.interest != interest, !slot.isUnwatched else { return }
    slot.interest = interest
    control(EPOLL_CTL_MOD, slot)
  }

  private func control(_ operation: Int32, _ slot: Slot) {
    var event = unsafe epoll_event()
    unsafe event.events = slot.interest
    unsafe event.data.u64 = slot.id.raw
    let outcome = unsafe epoll_ctl(epoll, operation, slot.descriptor, &event)
    precondition(outcome == 0, "epoll_ctl: errno \(errno)")
  }
}

extension SocketID {
  fileprivate var raw: UInt64 { UInt64(generation) << 32 | UInt64(index) }

  fileprivate init(raw: UInt64) {
    self.init(index: UInt32(truncatingIfNeeded: raw), generation: UInt32(truncatingIfNeeded: raw >> 32))
  }
}
