import Pooling
import Testing

/// Limits above pools, reloads, pause and retirement.
struct PoolLimitTests {
  @Test("A waiter may have another pool's longest idle connection under the same limit closed")
  func reclaim() {
    let script = PoolScript(limits: [2])
    let other = script.addPool(limits: [0])
    script.fill(2)
    script.checkout(1, from: other)
    #expect(script.effects() == ["close 0 limit"])
    script.checkout(2, from: other)
    #expect(script.effects() == ["close 1 limit"])
    script.closed(0)
    script.closed(1)
    #expect(script.effects() == ["dial 2 elsewhere", "dial 3 elsewhere"])
  }

  @Test("A connection that becomes idle goes to a pool that lacks only its permit")
  func comesBackForAnother() {
    let script = PoolScript(limits: [1])
    let other = script.addPool(limits: [0])
    script.checkout(1)
    script.dialed(0)
    script.checkout(2, from: other)
    _ = script.effects()
    script.checkin(0)
    script.closed(0)
    #expect(script.effects() == ["close 0 limit", "dial 1 elsewhere"])
  }

  @Test("A freed permit goes to the pool that waits longest")
  func longestWaitingPool() {
    let script = PoolScript(limits: [1])
    let second = script.addPool(limits: [0])
    let third = script.addPool(limits: [0])
    script.checkout(1, from: second)
    _ = script.effects()
    script.wait(milliseconds: 1)
    script.checkout(2, from: third)
    script.wait(milliseconds: 1)
    script.checkout(3)
    script.dialed(0)
    script.discard(0)
    script.closed(0)
    #expect(script.effects() == ["assign 1 to 0", "close 0 unfit", "dial 1 elsewhere"])
    script.dialed(1)
    #expect(script.effects() == ["assign 2 to 1"])
  }

  @Test("A pool without any connection does not starve beside a busy one")
  func noStarvation() {
    let script = PoolScript(limits: [1])
    let other = script.addPool(limits: [0])
    script.checkout(1)
    script.dialed(0)
    script.checkout(2, from: other)
    script.wait(milliseconds: 50)
    script.checkout(3)
    script.checkin(0)
    script.checkout(4)
    #expect(script.effects() == ["dial 0", "assign 1 to 0", "assign 3 to 0"])
    script.wait(milliseconds: 51)
    script.checkin(0)
    #expect(script.effects() == ["close 0 limit"])
    script.closed(0)
    #expect(script.effects() == ["dial 1 elsewhere"])
  }

  @Test("A limit that shrinks closes what is idle, and the rest at checkin; one that grows serves who waits")
  func limitChanges() {
    let script = PoolScript(limits: [3])
    script.fill(2)
    script.checkout(1)
    script.setLimit(0, to: 1)
    #expect(script.effects() == ["assign 1 to 1", "close 0 shrunk"])
    script.closed(0)
    script.checkout(2)
    #expect(script.effects() == [])
    script.setLimit(0, to: 2)
    #expect(script.effects() == ["dial 2"])
    script.dialed(2)
    script.setLimit(0, to: 1)
    script.checkin(1)
    script.checkin(2)
    #expect(script.effects() == ["assign 2 to 2", "close 1 shrunk"])
  }

  @Test("A bound that shrinks closes what is idle, and the rest at checkin; one that grows serves who waits")
  func boundChanges() {
    let script = PoolScript()
    script.fill(2)
    for client in 1...2 { script.checkout(UInt32(client)) }
    script.checkin(0)
    _ = script.effects()
    script.configure {
      $0.poolSize = 1
      $0.maxOverflow = 0
    }
    #expect(script.effects() == ["close 0 shrunk"])
    script.closed(0)
    script.checkout(3)
    #expect(script.effects() == [])
    script.configure { $0.poolSize = 2 }
    #expect(script.effects() == ["dial 2"])
    script.dialed(2)
    script.configure {
      $0.poolSize = 1
      $0.maxOverflow = 0
    }
    script.checkin(1)
    script.checkin(2)
    #expect(script.effects() == ["assign 3 to 2", "close 1 shrunk"])
  }

  @Test("A paused pool lends, dials and pings nothing; waits go on, and resume serves them")
  func pause() {
    let script = PoolScript { $0.poolTimeoutNanoseconds = 1_000_000_000 }
    script.fill(1)
    script.pause()
    #expect(script.effects() == ["close 0 paused"])
    script.closed(0)
    script.checkout(1)
    script.wait(milliseconds: 500)
    script.checkout(2)
    #expect(script.effects() == [] && script.counts.isPaused)
    script.wait(milliseconds: 500)
    #expect(script.effects() == ["fail 1 timeout"])
    script.resume()
    #expect(script.effects() == ["dial 1"])
  }

  @Test("Who waits for a paused pool fails when it is retired")
  func retirePaused() {
    let script = PoolScript()
    script.pause()
    script.checkout(3)
    script.retire()
    #expect(script.effects() == ["fail 3 retired"])
  }

  @Test("A paused pool closes what comes back, until nothing is open")
  func pauseDrains() {
    let script = PoolScript()
    script.fill(2)
    script.checkout(1)
    _ = script.effects()
    script.pause()
    #expect(script.effects() == ["close 0 paused"])
    script.checkin(1)
    #expect(script.effects() == ["close 1 paused"])
    script.closed(0)
    script.closed(1)
    #expect(script.isEmpty)
  }

  @Test("After a reconnect the pool has outdated connections until the end of the last one has been seen")
  func outdated() {
    let script = PoolScript()
    script.fill(2)
    script.checkout(1)
    #expect(!script.hasOutdated)
    script.reconnect()
    _ = script.effects()
    script.closed(0)
    #expect(script.hasOutdated && script.isOutdated(1))
    script.checkin(1)
    script.closed(1)
    #expect(!script.hasOutdated)
  }

  @Test("A pool is named as changed once for any number of events, and not again before the next")
  func changed() {
    let script = PoolScript()
    while script.changed() != nil {}
    script.fill(1)
    script.checkout(1)
    #expect(script.changed() == script.pool)
    #expect(script.changed() == nil)
    script.checkin(0)
    #expect(script.changed() == script.pool)
  }

  @Test("A retired pool fails its waiters, closes what is idle now and the rest when it comes back, then is empty")
  func retire() {
    let script = PoolScript()
    script.fill(2)
    script.checkout(1)
    script.checkout(2)
    script.checkin(1)
    _ = script.effects()
    script.retire()
    #expect(script.effects() == ["close 1 retired"])
    script.checkout(4)
    #expect(script.effects() == ["fail 4 retired"])
    script.checkin(0)
    #expect(script.effects() == ["close 0 retired"])
    script.closed(0)
    #expect(!script.isEmpty)
    script.closed(1)
    #expect(script.isEmpty)
    script.machine.remove(script.pool)
    let next = script.addPool(limits: [])
    #expect(next.index == script.pool.index && next.generation != script.pool.generation)
  }
}
