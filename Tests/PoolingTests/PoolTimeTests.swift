import Pooling
import Testing

/// What time does: waits that run out, pings, age, lingering, `min_size`.
struct PoolTimeTests {
  @Test("A wait ends at pool_timeout, for each client at its own time")
  func poolTimeout() {
    let script = PoolScript {
      $0.poolSize = 1
      $0.maxOverflow = 0
      $0.poolTimeoutNanoseconds = 30_000_000_000
    }
    script.checkout(0)
    script.dialed(0)
    script.checkout(1)
    script.wait(milliseconds: 10_000)
    script.checkout(2)
    _ = script.effects()
    #expect(script.nextDeadline == script.now + 20_000_000_000)
    script.wait(milliseconds: 19_999)
    #expect(script.effects() == [])
    script.wait(milliseconds: 1)
    #expect(script.effects() == ["fail 1 timeout"])
    script.wait(milliseconds: 10_000)
    #expect(script.effects() == ["fail 2 timeout"])
  }

  @Test("pool_timeout zero does not wait, except for what is on its way, and that no longer than connect_timeout")
  func noWait() {
    let script = PoolScript {
      $0.poolSize = 1
      $0.maxOverflow = 0
      $0.poolTimeoutNanoseconds = 0
      $0.connectTimeoutNanoseconds = 5_000_000_000
    }
    script.checkout(1)
    script.checkout(2)
    #expect(script.effects() == ["dial 0", "fail 2 timeout"])
    script.dialed(0)
    script.checkout(3)
    #expect(script.effects() == ["assign 1 to 0", "fail 3 timeout"])
    script.discard(0)
    script.checkout(4)
    #expect(script.effects() == ["close 0 unfit"])
    script.closed(0)
    #expect(script.effects() == ["dial 1"])
    script.wait(milliseconds: 5_000)
    #expect(script.effects() == ["fail 4 timeout"])
  }

  @Test("A reload's pool_timeout holds for who waits already")
  func reloadedTimeout() {
    let script = PoolScript {
      $0.poolSize = 1
      $0.maxOverflow = 0
    }
    script.checkout(0)
    script.dialed(0)
    script.checkout(1)
    script.wait(milliseconds: 2_000)
    _ = script.effects()
    script.configure {
      $0.poolSize = 1
      $0.maxOverflow = 0
      $0.poolTimeoutNanoseconds = 1_000_000_000
    }
    #expect(script.effects() == ["fail 1 timeout"])
  }

  @Test("Proven within pre_ping_idle: no ping; idle for longer: one ping, then the client")
  func prePing() {
    let script = PoolScript { $0.prePing = true }
    script.fill(1)
    script.wait(milliseconds: 999)
    script.checkout(1)
    #expect(script.effects() == ["assign 1 to 0"])
    script.checkin(0)
    script.wait(milliseconds: 1_000)
    script.checkout(2)
    #expect(script.effects() == ["ping 0"])
    script.pinged(0, ok: true)
    #expect(script.effects() == ["assign 2 to 0"])
  }

  @Test("pre_ping_idle zero pings at each checkout, but never a connection that was just dialed")
  func pingAlways() {
    let script = PoolScript {
      $0.prePing = true
      $0.prePingIdleNanoseconds = 0
    }
    script.checkout(1)
    script.dialed(0)
    #expect(script.effects() == ["dial 0", "assign 1 to 0"])
    script.checkin(0)
    script.checkout(1)
    #expect(script.effects() == ["ping 0"])
  }

  @Test("While one connection is pinged, another that comes back serves first")
  func pingIsNobodys() {
    let script = PoolScript { $0.prePing = true }
    script.fill(2)
    script.checkout(1)
    script.wait(milliseconds: 2_000)
    script.checkout(2)
    #expect(script.effects() == ["assign 1 to 1", "ping 0"])
    script.checkin(1)
    #expect(script.effects() == ["assign 2 to 1"])
    script.pinged(0, ok: true)
    #expect(script.state(0) == .idle)
  }

  @Test("A connection that is discarded while it is pinged is made up for by a dial")
  func discardedWhilePinged() {
    let script = PoolScript { $0.prePing = true }
    script.fill(1)
    script.wait(milliseconds: 2_000)
    script.checkout(1)
    script.discard(0)
    #expect(script.effects() == ["ping 0", "close 0 unfit", "dial 1"])
  }

  @Test("Oldest first: the unproven one gets its ping and a proven one behind it serves the client")
  func fifoPing() {
    let script = PoolScript {
      $0.prePing = true
      $0.useLIFO = false
    }
    script.fill(2)
    script.wait(milliseconds: 900)
    script.checkout(1)
    script.checkin(0)
    _ = script.effects()
    script.wait(milliseconds: 500)
    script.checkout(2)
    #expect(script.effects() == ["ping 1", "assign 2 to 0"])
  }

  @Test("A connection is replaced at pool_recycle, less up to a tenth", arguments: [0, 1000] as [UInt32])
  func recycle(jitter: UInt32) {
    let script = PoolScript { $0.poolRecycleNanoseconds = 30_000_000_000 }
    let age: Int64 = jitter == 0 ? 30_000 : 27_000
    script.checkout(1)
    script.dialed(0, jitter: jitter)
    script.wait(milliseconds: age - 1)
    script.checkin(0)
    script.checkout(2)
    script.checkout(3)
    #expect(script.effects() == ["dial 0", "assign 1 to 0", "assign 2 to 0", "dial 1"])
    #expect(script.abandon(3))
    script.wait(milliseconds: 1)
    #expect(script.effects() == [], "a connection in use is never closed for its age")
    script.checkin(0)
    #expect(script.effects() == ["close 0 recycled"])
  }

  @Test("A checkin that is too old gives its waiter a dial instead")
  func recycleWithWaiter() {
    let script = PoolScript {
      $0.poolSize = 1
      $0.maxOverflow = 0
      $0.poolRecycleNanoseconds = 30_000_000_000
    }
    script.checkout(1)
    script.dialed(0)
    script.checkout(2)
    script.wait(milliseconds: 31_000)
    _ = script.effects()
    script.checkin(0)
    script.closed(0)
    #expect(script.effects() == ["close 0 recycled", "dial 1"])
  }

  @Test("Idle connections are recycled when it is time, and at a checkout that comes first")
  func recycleIdle() {
    let script = PoolScript { $0.poolRecycleNanoseconds = 30_000_000_000 }
    script.fill(1)
    #expect(script.nextDeadline == script.now + 30_000_000_000)
    script.wait(milliseconds: 30_000)
    #expect(script.effects() == ["close 0 recycled"])
    script.checkout(1)
    script.dialed(1)
    script.checkin(1)
    _ = script.effects()
    script.now = script.now + 30_000_000_000
    script.checkout(2)
    #expect(script.effects() == ["close 1 recycled", "dial 2"])
  }

  @Test(
    "A connection that comes back while pool_size are idle lingers, is lent again, and is closed if nobody wants it")
  func linger() {
    let script = PoolScript { $0.overflowLingerNanoseconds = 1_000_000_000 }
    script.fill(3)
    #expect(script.counts.idle == 3)
    script.wait(milliseconds: 500)
    script.checkout(1)
    script.checkin(2)
    #expect(script.effects() == ["assign 1 to 2"])
    script.wait(milliseconds: 999)
    #expect(script.effects() == [])
    script.wait(milliseconds: 1)
    #expect(script.effects() == ["close 2 overflow"])
    script.wait(milliseconds: 10_000)
    #expect(script.effects() == [])
  }

  @Test("A lingering connection stays if no more than pool_size are idle when its time comes")
  func lingerStays() {
    let script = PoolScript {
      $0.overflowLingerNanoseconds = 1_000_000_000
      $0.useLIFO = false
    }
    script.fill(3)
    script.checkout(1)
    script.wait(milliseconds: 1_000)
    #expect(script.effects() == ["assign 1 to 0"])
    #expect(script.counts.idle == 2)
  }

  @Test("A waiter comes before linger zero")
  func waiterBeforeOverflow() {
    let script = PoolScript()
    script.fill(2)
    for client in 1...4 { script.checkout(UInt32(client)) }
    script.dialed(2)
    script.checkin(2)
    #expect(script.effects() == ["assign 1 to 1", "assign 2 to 0", "dial 2", "assign 3 to 2", "assign 4 to 2"])
  }

  @Test("min_size is dialed ahead of demand, one at a time, and again after a loss")
  func minSize() {
    let script = PoolScript { $0.minSize = 2 }
    #expect(script.effects() == ["dial 0"])
    script.dialed(0)
    #expect(script.effects() == ["dial 1"])
    script.dialed(1)
    #expect(script.effects() == [])
    script.lost(0, .eof)
    #expect(script.effects() == ["dial 2"])
  }

  @Test("min_size is tried once a second while dials fail")
  func minSizeInOutage() {
    let script = PoolScript { $0.minSize = 1 }
    script.dialFailed(0, .unreachable)
    #expect(script.effects() == ["dial 0"])
    script.wait(milliseconds: 999)
    #expect(script.effects() == [])
    script.wait(milliseconds: 1)
    #expect(script.effects() == ["dial 1"])
  }
}
