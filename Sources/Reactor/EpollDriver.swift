import CLinux
import Glibc

/// Waits with epoll(7). Descriptors are registered level-triggered once, and touched again only for back-pressure and for
/// output that the kernel would not take: in the steady state a turn is one `epoll_wait`, one `recv` for each socket
/// that is ready, and one `send` for each that has output.
@safe final class EpollDriver {
  /// Sockets served in one turn. The kernel has those that it did not report come first in the next.
  private static let eventsPerTurn = 512

  private let epoll: Int32
  private let events: UnsafeMutableBufferPointer<epoll_event>
  private var eventCount = 0
  /// What one receive took.
  private let scratch: UnsafeMutableRawBufferPointer
  /// Sockets with bulk that are ready in this turn, and the place of the first one to be served.
  private var bulk: [SocketID] = []
  private var bulkStart = 0

  init() {
    epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
    precondition(epoll >= 0, "epoll_create1: errno \(errno)")
    unsafe events = .allocate(capacity: EpollDriver.eventsPerTurn)
    unsafe scratch = .allocate(byteCount: EventLoop.receiveSize, alignment: 64)
  }

  deinit {
    unsafe events.deallocate()
    unsafe scratch.deallocate()
    System.closeDescriptor(epoll)
  }

  // MARK: What is watched

  func watch(_ slot: Slot) {
    slot.epollInterest = interest(of: slot)
    control(EPOLL_CTL_ADD, slot)
  }

  func update(_ slot: Slot) {
    let interest = interest(of: slot)
    guard slot.epollInterest != interest else { return }
    slot.epollInterest = interest
    control(EPOLL_CTL_MOD, slot)
  }

  func unwatch(_ slot: Slot) { control(EPOLL_CTL_DEL, slot) }

  private func interest(of slot: Slot) -> UInt32 {
    switch slot.role {
    case .connection, .closing:
      return (slot.isReceiving ? EPOLLIN.rawValue : 0) | (slot.waitsForOutput ? EPOLLOUT.rawValue : 0)
    // An exclusive wish cannot be changed, only taken back as a whole.
    case .listener(let listener): return EPOLLIN.rawValue | (listener.isShared ? System.exclusiveWakeUp : 0)
    // Told each time there is mail, so that nobody has to empty the descriptor.
    case .mail: return EPOLLIN.rawValue | EPOLLET.rawValue
    case .free: preconditionFailure("a free slot is not watched")
    }
  }

  private func control(_ operation: Int32, _ slot: Slot) {
    var event = unsafe epoll_event()
    unsafe event.events = slot.epollInterest
    unsafe event.data.u64 = slot.id.raw
    let outcome = unsafe epoll_ctl(epoll, operation, slot.descriptor, &event)
    precondition(outcome == 0, "epoll_ctl: errno \(errno)")
  }

  // MARK: A turn

  func flush(_ loop: EventLoop) {
    loop.takeDirty { slot in
      if slot.pendingOutput > 0 { writable(slot, loop) }
    }
  }

  func wait(timeout: Int64?) {
    // Rounded up: a timer never fires early.
    let milliseconds = timeout.map { Int32(min(($0 + 999_999) / 1_000_000, 60_000)) } ?? -1
    let count = unsafe epoll_wait(epoll, events.baseAddress, Int32(events.count), milliseconds)
    precondition(count >= 0 || errno == EINTR, "epoll_wait: errno \(errno)")
    eventCount = Int(max(count, 0))
  }

  func dispatch(_ loop: EventLoop) {
    for index in 0..<eventCount {
      let event = unsafe events[index]
      unsafe dispatch(event.events, SocketID(raw: event.data.u64), loop)
    }
    if !bulk.isEmpty { receiveBulk(loop) }
  }

  func receiveFirst(_ slot: Slot, _ connection: Connection, _ loop: EventLoop) { _ = receive(slot, connection, loop) }

  /// Bulk comes after all else, as much as a turn may have. Whose turn it was not is ready again in the next one, so that
  /// one begins behind where this one has ended.
  private func receiveBulk(_ loop: EventLoop) {
    var budget = EventLoop.bulkPerTurn
    var served = 0
    while served < bulk.count, budget > 0 {
      let socket = bulk[(bulkStart &+ served) % bulk.count]
      served += 1
      guard let slot = loop.slot(socket), case .connection(let connection) = slot.role, slot.takesInput,
        !slot.isUnwatched
      else { continue }
      budget -= receive(slot, connection, loop)
    }
    bulkStart = (bulkStart &+ served) % bulk.count
    bulk.removeAll(keepingCapacity: true)
  }

  private func dispatch(_ ready: UInt32, _ socket: SocketID, _ loop: EventLoop) {
    guard let slot = loop.slot(socket) else { return }
    let isHungUp = ready & (EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0
    switch slot.role {
    case .connection(let connection):
      if ready & EPOLLOUT.rawValue != 0 { writable(slot, loop) }
      // `drained` may have closed it.
      guard connection.socket == socket else { return }
      if isHungUp && !slot.isReceiving { slot.isHungUp = true }
      guard isHungUp || ready & EPOLLIN.rawValue != 0, slot.takesInput else { return }
      if slot.isBulk { bulk.append(socket) } else { _ = receive(slot, connection, loop) }
    case .closing: if isHungUp { loop.drop(slot) } else { writable(slot, loop) }
    case .listener(let listener): loop.accept(slot, listener)
    case .mail: loop.mailArrived()
    case .free: break
    }
  }

  /// One receive. What a TLS stream holds from before comes first; as long as it does, the kernel keeps what it has.
  /// Returns the bytes received.
  private func receive(_ slot: Slot, _ connection: Connection, _ loop: EventLoop) -> Int {
    if slot.isHolding {
      let socket = slot.id
      loop.deliverHeld(slot, connection)
      guard slot.id == socket, !slot.isUnwatched, !slot.isHolding else { return 0 }
    }
    switch unsafe System.receive(slot.descriptor, into: scratch) {
    case .bytes(0): loop.end(slot, connection, .endOfStream)
    case .bytes(let count):
      slot.isBulk = count >= EventLoop.bulkSize
      unsafe loop.arrived(UnsafeRawBufferPointer(rebasing: scratch[..<count]), slot, connection)
      return count
    case .wouldBlock: break
    case .failed(let error): loop.end(slot, connection, .failed(error))
    }
    return 0
  }

  /// Offers what is queued to the kernel.
  private func writable(_ slot: Slot, _ loop: EventLoop) {
    loop.prepareOutput(slot)
    loop.transferOutput(slot)
    loop.outputSettled(slot)
  }
}
