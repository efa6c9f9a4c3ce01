import CLinux
import CUring
import DequeModule
import Glibc

/// Waits with io_uring(7): a turn is one system call, which begins with all output and all changes, and waits for what
/// comes in.
///
/// Input comes by itself: one request for each socket, answered with a buffer each time bytes arrive (multishot receive,
/// provided buffers).
///
/// Who brings bulk would fill all buffers; it is polled instead, and received from directly, in its turn and after all
/// others.
///
/// Output never waits in the kernel. A send takes what has room at once, inside of the system call (MSG_DONTWAIT), and is
/// reported only where that was not all (IOSQE_CQE_SKIP_SUCCESS); the rest waits here until the socket has room. So
/// sends of one socket cannot overtake each other, and no buffer of ours belongs to the kernel between two turns.
///
/// Requests are written at the end of a turn only, right before they are submitted: none can name a descriptor that has
/// been closed meanwhile, and reused.
@safe final class UringDriver {
  private let ring: Ring
  private var buffers: ProvidedBuffers
  /// Slots whose operations may have to change.
  private var changed: [Slot] = []
  /// Sockets whose output has been submitted, and what became of it is not known yet.
  private var sending: [SocketID] = []
  /// Sockets that have bulk to bring, in the order of their turns.
  private var bulk: Deque<SocketID> = []
  /// What one direct receive took.
  private let scratch: UnsafeMutableRawBufferPointer
  /// What became of it must be known at once: somebody waits for the room, or for the end.
  private var settlesAtOnce = false

  init() throws(Errno) {
    ring = try Ring()
    buffers = try ProvidedBuffers(for: ring)
    unsafe scratch = .allocate(byteCount: EventLoop.receiveSize, alignment: 64)
  }

  deinit { unsafe scratch.deallocate() }

  /// Has the slot's operations looked at before the next wait.
  func change(_ slot: Slot) {
    guard !slot.isChanged else { return }
    slot.isChanged = true
    changed.append(slot)
  }

  // MARK: Names of requests

  /// ```
  ///   63 …         34   33 32    31 …              0
  ///   subject           kind     index of the slot
  /// ```
  private struct Name {
    enum Subject: UInt64 {
      case operation
      case cancel
      case send
      /// A completion that has been handled ahead of its turn.
      case handled
    }

    var subject: Subject
    var kind: SocketOperations.Kind
    var index: UInt32

    init(_ subject: Subject, _ kind: SocketOperations.Kind, _ index: UInt32) {
      self.subject = subject
      self.kind = kind
      self.index = index
    }

    init(raw: UInt64) {
      guard let subject = Subject(rawValue: raw >> 34),
        let kind = SocketOperations.Kind(rawValue: UInt8(truncatingIfNeeded: raw >> 32 & 3))
      else { preconditionFailure("a completion of a request that was never made") }
      self.init(subject, kind, UInt32(truncatingIfNeeded: raw))
    }

    var raw: UInt64 { subject.rawValue << 34 | UInt64(kind.rawValue) << 32 | UInt64(index) }
  }

  // MARK: A turn

  /// Writes all requests, sends first: what they have to report is then in front of everything else.
  func flush(_ loop: EventLoop) {
    buffers.publish()
    settlesAtOnce = false
    loop.takeDirty { slot in
      loop.prepareOutput(slot)
      if !slot.hasOutgoing || slot.isBroken { return loop.outputSettled(slot) }
      if ring.isFull {
        submit()
        settle(loop)
      }
      writeSend(slot)
    }
    // Requests may make further changes only after the next wait.
    while let slot = changed.popLast() {
      slot.isChanged = false
      writeRequests(slot)
    }
  }

  func wait(timeout: Int64?) {
    if settlesAtOnce || timeout == 0 || !bulk.isEmpty {
      enter(waitingFor: 0, timeout: nil)
    } else {
      enter(waitingFor: 1, timeout: timeout)
    }
  }

  /// The trial at start has shown that the ring may be used, so a refusal is a bug.
  private func enter(waitingFor count: Int, timeout: Int64?) {
    do throws(Errno) {
      try ring.wait(for: count, timeout: timeout)
    } catch {
      preconditionFailure("io_uring_enter: errno \(error.code)")
    }
  }

  private func submit() {
    do throws(Errno) {
      try ring.submit()
    } catch {
      preconditionFailure("io_uring_enter: errno \(error.code)")
    }
  }

  func dispatch(_ loop: EventLoop) {
    settle(loop)
    while true {
      while let completion = ring.next() { handle(completion, loop) }
      guard ring.hasOverflown else { break }
      enter(waitingFor: 0, timeout: nil)
    }
    if !bulk.isEmpty { receiveBulk(loop) }
  }

  private func handle(_ completion: Ring.Completion, _ loop: EventLoop) {
    let name = Name(raw: completion.name)
    let slot = loop.slots[Int(name.index)]
    switch name.subject {
    case .operation:
      slot.operations.completed(name.kind, isLast: completion.isLast)
      if completion.isLast {
        if name.kind == .input { slot.receivesRepeatedly = false }
        change(slot)
      }
      switch name.kind {
      case .input: input(completion, slot, loop)
      case .accept: accepted(completion.result, slot, loop)
      case .hangUp: hangUp(completion, slot, loop)
      case .output: output(slot, loop)
      }
      if let buffer = completion.buffer { buffers.giveBack(buffer) }
    case .cancel:
      slot.operations.cancelFailed(name.kind)
      change(slot)
    case .handled: return
    case .send: preconditionFailure("a send was reported late")
    }
    if slot.isLeaving && slot.operations.isIdle { loop.free(slot) }
  }

  // MARK: Input

  private func input(_ completion: Ring.Completion, _ slot: Slot, _ loop: EventLoop) {
    switch slot.role {
    case .connection(let connection):
      if !slot.isUnwatched { received(completion, slot, connection, loop) }
    case .closing:
      if completion.result > 0 { stopInput(slot) }
      if failure(completion.result) != nil { loop.drop(slot) }
    case .listener(let listener): if completion.result > 0 { loop.accept(slot, listener) }
    case .mail: if completion.result > 0 { loop.mailArrived() }
    case .free: break
    }
  }

  private func received(_ completion: Ring.Completion, _ slot: Slot, _ connection: Connection, _ loop: EventLoop) {
    if let buffer = completion.buffer, completion.result > 0 {
      let bytes = unsafe buffers.bytes(buffer, Int(completion.result))
      if !slot.takesInput { stopInput(slot) }
      noteFullness(slot, bytes.count)
      unsafe loop.arrived(bytes, slot, connection)
    } else if completion.result > 0 {
      // A poll's answer.
      guard slot.takesInput else { return }
      slot.awaitsTurn = true
      bulk.append(slot.id)
    } else if completion.result == 0 {
      loop.foundEnd(slot, connection)
    } else if let error = failure(completion.result) {
      loop.broke(slot, connection, .failed(error))
    }
  }

  /// Nothing is under way on the socket yet. Its end, where that is all there is, is found by the receive that follows.
  func receiveFirst(_ slot: Slot, _ connection: Connection, _ loop: EventLoop) {
    switch unsafe System.receive(slot.descriptor, into: scratch) {
    case .bytes(0), .wouldBlock: break
    case .bytes(let count):
      unsafe loop.arrived(UnsafeRawBufferPointer(rebasing: scratch[..<count]), slot, connection)
    case .failed(let error): loop.broke(slot, connection, .failed(error))
    }
  }

  /// Receive buffers, filled without a pause, that make a socket bulk.
  private static let buffersOfBulk = EventLoop.bulkSize / ProvidedBuffers.size

  private func noteFullness(_ slot: Slot, _ count: Int) {
    // What the kernel had received before it was told is bulk already.
    guard !slot.isBulk else { return }
    slot.fullBuffers = count == ProvidedBuffers.size ? slot.fullBuffers + 1 : 0
    guard slot.fullBuffers == UringDriver.buffersOfBulk else { return }
    slot.isBulk = true
    change(slot)
  }

  /// Bulk that comes at a pace often has a short rest. So it is no bulk any more only after as many short receives in a row as
  /// there were full buffers when it became that.
  private func noteShortness(_ slot: Slot, _ count: Int) {
    slot.fullBuffers = count < ProvidedBuffers.size ? slot.fullBuffers - 1 : UringDriver.buffersOfBulk
    if slot.fullBuffers == 0 { slot.isBulk = false }
  }

  /// As much of what waits as a turn may have. A socket that had all that it could bring at once comes again behind the
  /// others; any other is asked for by a poll, or is no bulk any more.
  private func receiveBulk(_ loop: EventLoop) {
    var budget = EventLoop.bulkPerTurn
    for _ in 0..<bulk.count where budget > 0 {
      let socket = bulk.removeFirst()
      guard let slot = loop.slot(socket) else { continue }
      slot.awaitsTurn = false
      change(slot)
      guard case .connection(let connection) = slot.role, slot.takesInput, !slot.isUnwatched else { continue }
      switch unsafe System.receive(slot.descriptor, into: scratch) {
      case .bytes(0): loop.foundEnd(slot, connection)
      case .bytes(let count):
        budget -= count
        if unsafe count == scratch.count {
          slot.awaitsTurn = true
          bulk.append(socket)
        }
        noteShortness(slot, count)
        unsafe loop.arrived(UnsafeRawBufferPointer(rebasing: scratch[..<count]), slot, connection)
      case .wouldBlock: break
      case .failed(let error): loop.broke(slot, connection, .failed(error))
      }
    }
  }

  private func stopInput(_ slot: Slot) {
    slot.hasOverrun = true
    change(slot)
  }

  /// nil where the request was only stopped, or found no free buffer; it is made again where it is still wanted.
  private func failure(_ result: Int32) -> Int32? {
    switch -result {
    case ...0, ECANCELED, ENOBUFS, EINTR, EAGAIN: nil
    case let error: error
    }
  }

  private func hangUp(_ completion: Ring.Completion, _ slot: Slot, _ loop: EventLoop) {
    let isBroken = completion.result > 0 && UInt32(completion.result) & (EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0
    guard isBroken, !slot.isUnwatched else { return }
    switch slot.role {
    // Reported once only, so it is kept also while input is wanted: it may not be wanted later.
    case .connection(let connection): loop.hungUp(slot, connection)
    case .closing: loop.drop(slot)
    case .listener, .mail, .free: break
    }
  }

  private func accepted(_ result: Int32, _ slot: Slot, _ loop: EventLoop) {
    guard case .listener(let listener) = slot.role else {
      // A client came while the loop stopped listening.
      if result >= 0 { System.closeDescriptor(result) }
      return
    }
    if result >= 0 {
      loop.accepted(result, slot, listener)
    } else if let error = failure(result), error != ECONNABORTED {
      loop.acceptFailed(slot, listener, error)
    }
  }

  // MARK: Output

  private func writeSend(_ slot: Slot) {
    let bytes = unsafe slot.outgoing
    ring.write(unsafe .send(bytes, to: slot.descriptor, name: Name(.send, .output, slot.id.index).raw))
    slot.sent = bytes.count
    sending.append(slot.id)
    if slot.isBacklogged { settlesAtOnce = true }
    if case .closing = slot.role { settlesAtOnce = true }
  }

  /// Learns what became of the sends. Those that the kernel has not reported it took as a whole.
  func settle(_ loop: EventLoop) {
    guard !sending.isEmpty else { return }
    while ring.waiting > 0, case let name = Name(raw: ring.completion(at: 0).name), name.subject == .send,
      let completion = ring.next()
    {
      let slot = loop.slots[Int(name.index)]
      slot.sent = max(0, Int(completion.result))
      if let error = failure(completion.result) { loop.failOutput(slot, .failed(error)) }
    }
    // No handler runs before all is known: it might queue more on any of these sockets.
    for socket in sending {
      if let slot = loop.slot(socket) { slot.consumeOutgoing(slot.sent, loop.blocks) }
    }
    while let socket = sending.popLast() {
      if let slot = loop.slot(socket) { loop.outputSettled(slot) }
    }
  }

  private func output(_ slot: Slot, _ loop: EventLoop) {
    guard slot.waitsForOutput, !slot.isUnwatched else { return }
    slot.waitsForOutput = false
    loop.markDirty(slot)
  }

  // MARK: Operations

  private func wishes(of slot: Slot) -> SocketOperations.Wishes {
    var wishes = SocketOperations.Wishes()
    guard !slot.isUnwatched else { return wishes }
    switch slot.role {
    case .connection, .closing:
      // A repeated receive waits for news after the last bytes, and a broken connection has none: its end must be asked for.
      // And for bulk it is replaced by a poll, which is not made before what it has announced has been taken.
      let mayRepeat = !slot.isHungUp && !slot.isBulk
      wishes.input = slot.takesInput && !slot.awaitsTurn && (mayRepeat || !slot.receivesRepeatedly)
      if wishes.input { slot.hasOverrun = false }
      wishes.stopsInput = slot.hasOverrun || !mayRepeat
      wishes.hangUp = !slot.awaitsTurn
      wishes.output = slot.waitsForOutput
    case .listener(let listener):
      wishes.input = listener.isShared || slot.isNearLimit
      wishes.accept = !wishes.input
    case .mail: wishes.input = true
    case .free: return wishes
    }
    wishes.isWatched = true
    return wishes
  }

  private func writeRequests(_ slot: Slot) {
    let wishes = wishes(of: slot)
    while let request = slot.operations.next(for: wishes) {
      if ring.isFull { submit() }
      ring.write(submission(request, slot))
    }
  }

  private func submission(_ request: SocketOperations.Request, _ slot: Slot) -> lifeguard_submission {
    switch request {
    case .start(let kind):
      let name = Name(.operation, kind, slot.id.index).raw
      switch kind {
      case .input: return input(of: slot, name)
      case .accept: return .accept(on: slot.descriptor, name: name)
      // A peer that only sends no more is reported as well, once; it has not hung up.
      case .hangUp: return .poll(0, of: slot.descriptor, repeatedly: true, name: name)
      case .output: return .poll(EPOLLOUT.rawValue, of: slot.descriptor, name: name)
      }
    case .cancel(let kind):
      return .cancel(
        Name(.operation, kind, slot.id.index).raw, name: Name(.cancel, kind, slot.id.index).raw)
    }
  }

  private func input(of slot: Slot, _ name: UInt64) -> lifeguard_submission {
    switch slot.role {
    case .connection, .closing:
      if slot.isBulk && !slot.isHungUp { return .poll(EPOLLIN.rawValue, of: slot.descriptor, name: name) }
      // What goes on by itself has to be cancelled, and waited for, before another loop can have the socket.
      slot.receivesRepeatedly = !slot.isHungUp && !slot.mayLeave
      return .receive(from: slot.descriptor, repeatedly: slot.receivesRepeatedly, name: name)
    // Asked again after each event, which puts this loop behind the others that wait: they take turns.
    case .listener: return .poll(EPOLLIN.rawValue | System.exclusiveWakeUp, of: slot.descriptor, name: name)
    case .mail: return .poll(EPOLLIN.rawValue, of: slot.descriptor, repeatedly: true, name: name)
    case .free: preconditionFailure("a free slot is not watched")
    }
  }

  // MARK: Leaving

  /// Cancels what is under way on an unwatched slot, and waits until it is over. What has come in before, and has not
  /// been handled, goes into the slot; completions of other sockets stay where they are.
  func finish(_ slot: Slot, _ loop: EventLoop) {
    while !slot.operations.isIdle {
      writeRequests(slot)
      enter(waitingFor: ring.waiting + 1, timeout: nil)
      for position in 0..<ring.waiting {
        let completion = ring.completion(at: position)
        let name = Name(raw: completion.name)
        guard name.index == slot.id.index, name.subject != .handled else { continue }
        ring.rename(at: position, to: Name(.handled, .input, 0).raw)
        if name.subject == .cancel {
          slot.operations.cancelFailed(name.kind)
          continue
        }
        slot.operations.completed(name.kind, isLast: completion.isLast)
        guard let buffer = completion.buffer else { continue }
        if completion.result > 0 {
          slot.hold(unsafe Span(_unsafeBytes: buffers.bytes(buffer, Int(completion.result))), loop.blocks)
        }
        buffers.giveBack(buffer)
      }
    }
  }
}
