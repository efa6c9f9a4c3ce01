import Pooling
import Testing

/// Checkout, checkin, the queue and the bound.
struct PoolCheckoutTests {
  @Test("A pool starts empty and dials for its first client")
  func startsEmpty() {
    let script = PoolScript()
    #expect(script.counts == PoolCounts())
    script.checkout(1)
    #expect(script.effects() == ["dial 0"])
    script.dialed(0)
    #expect(script.effects() == ["assign 1 to 0"])
    #expect(script.counts.active == 1)
  }

  @Test("A dial that hangs keeps nobody else from a connection")
  func hangingDial() {
    let script = PoolScript()
    script.checkout(1)
    script.checkout(2)
    #expect(script.effects() == ["dial 0", "dial 1"])
    script.dialed(1)
    #expect(script.effects() == ["assign 1 to 1"])
    script.checkin(1)
    #expect(script.effects() == ["assign 2 to 1"])
  }

  @Test("Size 3 and overflow 3: six out, three back, then the last three are closed")
  func sizeAndOverflow() {
    let script = PoolScript {
      $0.poolSize = 3
      $0.maxOverflow = 3
    }
    for client in 0..<6 {
      script.checkout(UInt32(client))
      script.dialed(client)
    }
    #expect(script.counts.active == 6 && script.counts.overflow == 3 && script.counts.idle == 0)
    _ = script.effects()
    for server in 0..<3 { script.checkin(server) }
    #expect(script.effects() == [])
    #expect(script.counts.idle == 3 && script.counts.overflow == 3 && script.counts.active == 3)
    for server in 3..<6 { script.checkin(server) }
    #expect(script.effects() == ["close 3 overflow", "close 4 overflow", "close 5 overflow"])
    for server in 3..<6 { script.closed(server) }
    #expect(script.counts.idle == 3 && script.counts.overflow == 0 && script.counts.active == 0)
    #expect(script.counts.open == 3)
  }

  @Test("The bound is hard, and a closing connection counts until its EOF")
  func hardBound() {
    let script = PoolScript()
    for client in 0..<5 { script.checkout(UInt32(client)) }
    #expect(script.effects() == ["dial 0", "dial 1", "dial 2"])
    for server in 0..<3 { script.dialed(server) }
    _ = script.effects()
    script.discard(0)
    #expect(script.effects() == ["close 0 unfit"])
    script.closed(0)
    #expect(script.effects() == ["dial 3"])
  }

  @Test("A released connection goes to who waits longest, not to a newcomer")
  func strictOrder() {
    let script = PoolScript()
    for client in 0..<3 {
      script.checkout(UInt32(client))
      script.dialed(client)
    }
    script.checkout(10)
    script.checkout(11)
    _ = script.effects()
    script.checkin(1)
    script.checkout(12)
    #expect(script.effects() == ["assign 10 to 1"])
    script.checkin(2)
    script.checkin(0)
    #expect(script.effects() == ["assign 11 to 2", "assign 12 to 0"])
  }

  @Test("Newest idle connection first; oldest first where use_lifo is off", arguments: [true, false])
  func lendingOrder(isLIFO: Bool) {
    let script = PoolScript {
      $0.poolSize = 3
      $0.useLIFO = isLIFO
    }
    script.fill(3)
    for client in 0..<3 { script.checkout(UInt32(client)) }
    let order = isLIFO ? [2, 1, 0] : [0, 1, 2]
    #expect(script.effects() == (0..<3).map { "assign \($0) to \(order[$0])" })
  }

  @Test("An idle connection with the wanted settings is preferred")
  func matchingSettings() {
    let script = PoolScript { $0.poolSize = 3 }
    for client in 0..<3 {
      script.checkout(UInt32(client))
      script.dialed(client)
    }
    for server in 0..<3 { script.checkin(server, settings: UInt32(server)) }
    _ = script.effects()
    script.checkout(1, settings: 1)
    script.checkout(7, settings: 7)
    script.checkout(8, settings: 0)
    #expect(script.effects() == ["assign 1 to 1", "assign 7 to 2", "assign 8 to 0"])
  }

  @Test("Who leaves the queue is forgotten, and who was served meanwhile is told so")
  func abandon() {
    let script = PoolScript()
    for client in 0..<3 {
      script.checkout(UInt32(client))
      script.dialed(client)
    }
    for client in 10..<13 { script.checkout(UInt32(client)) }
    _ = script.effects()
    #expect(script.abandon(11))
    script.checkin(0)
    script.checkin(1)
    #expect(script.effects() == ["assign 10 to 0", "assign 12 to 1"])
    #expect(!script.abandon(12))
    #expect(script.counts.waiting == 0)
  }

  @Test("A dial for a client that left is kept for the next")
  func dialAfterAbandon() {
    let script = PoolScript()
    script.checkout(1)
    #expect(script.abandon(1))
    script.dialed(0)
    #expect(script.counts.idle == 1)
    script.checkout(2)
    #expect(script.effects() == ["dial 0", "assign 2 to 0"])
  }

  @Test("One connection, five waiters, and it is discarded: exactly one new dial serves all five")
  func notifyWaiters() {
    let script = PoolScript {
      $0.poolSize = 1
      $0.maxOverflow = 0
    }
    script.checkout(0)
    script.dialed(0)
    for client in 1...5 { script.checkout(UInt32(client)) }
    script.discard(0)
    script.closed(0)
    script.dialed(1)
    for _ in 1...5 { script.checkin(1) }
    #expect(
      script.effects() == ["dial 0", "assign 0 to 0", "close 0 unfit", "dial 1"] + (1...5).map { "assign \($0) to 1" })
  }

  @Test("The permit of a failed dial, and of a connection that died, wakes who waits", arguments: [true, false])
  func freedPermitWakes(isDial: Bool) {
    let script = PoolScript {
      $0.poolSize = 1
      $0.maxOverflow = 0
    }
    script.checkout(1)
    script.checkout(2)
    if isDial {
      #expect(script.abandon(1))
      script.dialFailed(0, .unreachable)
    } else {
      script.dialed(0)
      script.lost(0, .eof)
    }
    #expect(script.effects().last == "dial 1")
    script.dialed(1)
    #expect(script.effects() == ["assign 2 to 1"])
  }

  @Test("A connection is nobody's while it is cleaned, then as after a checkin")
  func settling() {
    let script = PoolScript {
      $0.poolSize = 1
      $0.maxOverflow = 0
    }
    script.checkout(1)
    script.dialed(0)
    script.checkout(2)
    _ = script.effects()
    script.settle(0)
    #expect(script.effects() == [] && script.counts.settling == 1)
    script.settled(0)
    #expect(script.effects() == ["assign 2 to 0"])
  }

  @Test("A connection with a cancel under way is kept back after its checkin, then pinged before it is lent")
  func heldBack() {
    let script = PoolScript {
      $0.poolSize = 1
      $0.maxOverflow = 0
    }
    script.checkout(1)
    script.dialed(0)
    script.checkout(2)
    script.hold(0)
    script.hold(0)
    _ = script.effects()
    script.checkin(0)
    script.unhold(0)
    #expect(script.effects() == [] && script.state(0) == .parked)
    script.unhold(0)
    #expect(script.effects() == ["ping 0"])
    script.pinged(0, ok: true)
    #expect(script.effects() == ["assign 2 to 0"])
    script.checkin(0)
    #expect(script.effects() == [] && script.state(0) == .idle)
  }

  @Test("A cancel that ended before the checkin still costs a ping")
  func cancelledBeforeCheckin() {
    let script = PoolScript()
    script.checkout(1)
    script.dialed(0)
    script.hold(0)
    script.unhold(0)
    _ = script.effects()
    script.checkin(0)
    #expect(script.effects() == ["ping 0"])
  }

  @Test("Reports that come late are ignored for a connection that is closing or gone")
  func lateReports() {
    let script = PoolScript {
      $0.prePing = true
      $0.prePingIdleNanoseconds = 0
    }
    script.fill(1)
    script.checkout(1)
    #expect(script.effects() == ["ping 0"])
    script.discard(0)
    script.discard(0)
    script.pinged(0, ok: true)
    script.unhold(0)
    script.lost(0, .eof)
    script.pinged(0, ok: false)
    script.unhold(0)
    #expect(script.effects() == ["close 0 unfit", "dial 1"])
    #expect(script.state(0) == nil)
  }
}
