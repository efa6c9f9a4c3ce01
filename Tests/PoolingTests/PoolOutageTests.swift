import Pooling
import Testing

/// Dials that fail, servers that die, generations.
struct PoolOutageTests {
  @Test("An outage is tried at once, then every 100 to 200 ms, one dial at a time, while somebody waits")
  func trials() {
    let script = PoolScript()
    for client in 0..<3 { script.checkout(UInt32(client)) }
    _ = script.effects()
    script.dialFailed(0, .unreachable)
    script.dialFailed(1, .unreachable)
    #expect(script.effects() == [], "dials are still under way")
    script.dialFailed(2, .unreachable)
    #expect(script.effects() == ["dial 3"])
    #expect(script.counts.standing == .outage)
    script.dialFailed(3, .unreachable, jitter: 500)
    #expect(script.nextDeadline == script.now + 150_000_000)
    script.wait(milliseconds: 149)
    #expect(script.effects() == [])
    script.wait(milliseconds: 1)
    #expect(script.effects() == ["dial 4"])
  }

  @Test("A dial that succeeds ends the outage; then dials go out at a limited pace")
  func recovery() {
    let script = PoolScript {
      $0.poolSize = 10
    }
    for client in 0..<10 { script.checkout(UInt32(client)) }
    for server in 0..<10 { script.dialFailed(server, .unreachable) }
    _ = script.effects()
    script.dialed(10)
    #expect(script.effects() == ["assign 0 to 10", "dial 11", "dial 12"])
    script.dialed(11)
    #expect(script.effects() == ["assign 1 to 11", "dial 13", "dial 14", "dial 15"])
    script.dialed(12)
    #expect(script.effects() == ["assign 2 to 12", "dial 16", "dial 17", "dial 18", "dial 19"])
    #expect(script.counts.standing == .open)
  }

  @Test("Nobody waits: an outage is tried on demand")
  func onDemand() {
    let script = PoolScript()
    script.checkout(1)
    #expect(script.abandon(1))
    script.dialFailed(0, .unreachable)
    script.wait(milliseconds: 60_000)
    #expect(script.effects() == ["dial 0"])
    script.checkout(2)
    #expect(script.effects() == ["dial 1"])
  }

  @Test("Hold: clients wait out the outage, up to pool_timeout")
  func hold() {
    let script = PoolScript { $0.poolTimeoutNanoseconds = 1_000_000_000 }
    script.checkout(1)
    script.dialFailed(0, .unreachable)
    script.wait(milliseconds: 1_000)
    #expect(script.effects() == ["dial 0", "dial 1", "fail 1 outage"])
  }

  @Test("Fail: waiting clients fail at once, a newcomer tries, those behind it fail")
  func fail() {
    let script = PoolScript { $0.onOutage = .fail }
    script.checkout(1)
    script.checkout(2)
    #expect(script.effects() == ["dial 0", "dial 1"])
    script.dialFailed(0, .unreachable)
    #expect(script.effects() == ["fail 2 outage"])
    script.dialFailed(1, .unreachable)
    #expect(script.effects() == ["fail 1 outage"])
    script.checkout(3)
    script.checkout(4)
    #expect(script.effects() == ["dial 2", "fail 4 outage"])
    script.dialed(2)
    #expect(script.effects() == ["assign 3 to 2"])
  }

  @Test("Connections that answer stay in use during an outage")
  func useDuringOutage() {
    let script = PoolScript()
    script.checkout(1)
    script.dialed(0)
    script.checkout(2)
    script.dialFailed(1, .unreachable)
    _ = script.effects()
    script.checkin(0)
    #expect(script.effects() == ["assign 2 to 0"])
  }

  @Test("A rejected login fails all waiters and, for a second, whoever comes; then one dial tries")
  func rejected() {
    let script = PoolScript()
    script.checkout(1)
    script.checkout(2)
    script.dialFailed(0, .rejected)
    #expect(script.effects() == ["dial 0", "dial 1", "fail 1 rejected", "fail 2 rejected"])
    script.dialFailed(1, .rejected)
    script.wait(milliseconds: 999)
    script.checkout(3)
    #expect(script.effects() == ["fail 3 rejected"])
    script.wait(milliseconds: 1)
    script.checkout(4)
    script.checkout(5)
    #expect(script.effects() == ["dial 2"])
    script.dialFailed(2, .rejected)
    #expect(script.effects() == ["fail 4 rejected", "fail 5 rejected"])
  }

  @Test("A rejected login fails nobody while a connection that works may come back")
  func rejectedButAlive() {
    let script = PoolScript()
    script.checkout(1)
    script.dialed(0)
    script.checkout(2)
    script.dialFailed(1, .rejected)
    _ = script.effects()
    script.checkin(0)
    #expect(script.effects() == ["assign 2 to 0"])
  }

  @Test("53300 backs off for 200 ms, doubling up to 2 s; clients wait")
  func exhausted() {
    let script = PoolScript()
    script.checkout(1)
    var server = 0
    for pause in [200, 400, 800, 1_600, 2_000, 2_000] as [Int64] {
      script.dialFailed(server, .exhausted)
      _ = script.effects()
      script.wait(milliseconds: pause - 1)
      #expect(script.effects() == [])
      script.wait(milliseconds: 1)
      server += 1
      #expect(script.effects() == ["dial \(server)"])
    }
    #expect(script.counts.waiting == 1)
  }

  @Test("A failed ping starts a new generation: the others are closed at a limited pace, those in use at checkin")
  func failedPing() {
    let script = PoolScript {
      $0.poolSize = 5
      $0.prePing = true
    }
    script.fill(5)
    script.checkout(1)
    script.wait(milliseconds: 2_000)
    script.checkout(2)
    #expect(script.effects() == ["assign 1 to 4", "ping 3"])
    script.pinged(3, ok: false)
    #expect(script.effects() == ["close 3 pingFailed", "close 0 generation", "dial 5"])
    script.wait(milliseconds: 10)
    #expect(script.effects() == ["close 1 generation"])
    script.checkin(4)
    #expect(script.effects() == ["close 4 generation"])
    script.dialed(5)
    #expect(script.effects() == ["assign 2 to 5"])
    script.checkin(5)
    #expect(script.state(5) == .idle, "it answered after the failure")
  }

  @Test("A connection of an older generation gives its permit to who waits at the bound")
  func staleMakesRoom() {
    let script = PoolScript {
      $0.poolSize = 3
      $0.maxOverflow = 0
    }
    script.fill(3)
    script.reconnect()
    #expect(script.effects() == ["close 0 generation"])
    script.checkout(1)
    script.checkout(2)
    #expect(script.effects() == ["close 1 generation"])
    script.closed(0)
    script.closed(1)
    #expect(script.effects() == ["dial 3", "dial 4"])
  }

  @Test(
    "57P02 and 57P03 start a new generation, once for all that die of it",
    arguments: [LossKind.crashed, .cannotConnectNow])
  func serverWideLoss(kind: LossKind) {
    let script = PoolScript { $0.poolSize = 3 }
    script.fill(3)
    script.checkout(1)
    script.checkout(2)
    script.lost(2, kind)
    script.lost(1, kind)
    #expect(script.effects() == ["assign 1 to 2", "assign 2 to 1", "close 0 generation"])
    script.closed(0)
    script.checkout(3)
    script.dialed(3)
    script.checkin(3)
    #expect(script.state(3) == .idle)
  }

  @Test("A single EOF or ended session only has the others pinged", arguments: [LossKind.eof, .terminated])
  func singleLoss(kind: LossKind) {
    let script = PoolScript()
    script.fill(2)
    script.lost(1, kind)
    script.checkout(1)
    #expect(script.effects() == ["ping 0"])
    script.wait(milliseconds: 1)
    script.pinged(0, ok: true)
    script.checkin(0)
    script.checkout(2)
    #expect(script.effects() == ["assign 1 to 0", "assign 2 to 0"])
  }

  @Test("After a reconnect, what was being dialed is old too")
  func reconnectWhileDialing() {
    let script = PoolScript()
    script.checkout(1)
    script.reconnect()
    script.dialed(0)
    #expect(script.effects() == ["dial 0", "close 0 generation", "dial 1"])
    script.dialed(1)
    #expect(script.effects() == ["assign 1 to 1"])
  }
}
