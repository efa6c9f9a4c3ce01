import Pooling
import Testing

@Suite("A pool and the hosts that it shares with others")
struct PoolHostTests {
  @Test("A dial that no host lets through is an outage, and is tried again when they do")
  func deferred() {
    let script = PoolScript()
    script.checkout(1)
    script.checkout(2)
    #expect(script.effects() == ["dial 0", "dial 1"])
    script.dialDeferred(0, milliseconds: 120)
    script.dialDeferred(1, milliseconds: 120)
    #expect(script.effects() == [])
    #expect(script.counts.standing == .outage && script.counts.open == 0)
    #expect(script.nextDeadline == script.now + 120_000_000)
    script.wait(milliseconds: 120)
    #expect(script.effects() == ["dial 2"], "one at a time")
  }

  @Test("A host that can be reached again is not waited for")
  func reached() {
    let script = PoolScript()
    script.checkout(1)
    script.dialDeferred(0, milliseconds: 150)
    _ = script.effects()
    script.hostReached()
    #expect(script.effects() == ["dial 1"])
    script.hostReached()
    #expect(script.effects() == [], "the trial is under way already")
    script.dialed(1)
    #expect(script.effects() == ["assign 1 to 1"])
    #expect(script.counts.standing == .open)
  }

  @Test("News of hosts do not end a rejection")
  func rejected() {
    let script = PoolScript()
    script.checkout(1)
    script.dialFailed(0, .rejected)
    #expect(script.effects() == ["dial 0", "fail 1 rejected"])
    script.hostReached()
    script.checkout(2)
    #expect(script.effects() == ["fail 2 rejected"])
  }

  @Test("Fail: clients get the error at once where the hosts let no dial through")
  func fail() {
    let script = PoolScript { $0.onOutage = .fail }
    script.checkout(1)
    script.dialDeferred(0, milliseconds: 100)
    #expect(script.effects() == ["dial 0", "fail 1 outage"])
  }

  @Test("A refill that is put off for long makes no client wait for that")
  func refill() {
    let script = PoolScript { $0.minSize = 1 }
    script.dialDeferred(0, milliseconds: 5_000)
    _ = script.effects()
    script.checkout(1)
    #expect(script.effects() == [])
    script.wait(milliseconds: 200)
    #expect(script.effects() == ["dial 1"])
  }

  @Test(
    "Idle connections to a host that is not the right one any more are replaced one by one, used ones when they come back"
  )
  func outdated() {
    let script = PoolScript { $0.poolSize = 3 }
    script.fill(3)
    script.checkout(1)
    #expect(script.effects() == ["assign 1 to 2"])
    for server in 0..<3 { script.outdate(server) }
    #expect(script.effects() == ["close 0 generation"])
    script.wait(milliseconds: 10)
    #expect(script.effects() == ["close 1 generation"])
    script.checkin(2)
    #expect(script.effects() == ["close 2 generation"])
  }

  @Test("Connections to other hosts of the pool stay")
  func others() {
    let script = PoolScript()
    script.fill(2)
    script.outdate(1)
    script.checkout(1)
    #expect(script.effects() == ["close 1 generation", "assign 1 to 0"])
    #expect(!script.isOutdated(0))
  }

  @Test("A connection that is outdated while it is pinged or cleaned goes to nobody")
  func busy() {
    let script = PoolScript {
      $0.prePing = true
      $0.prePingIdleNanoseconds = 0
    }
    script.fill(1)
    script.checkout(1)
    #expect(script.effects() == ["ping 0"])
    script.outdate(0)
    script.pinged(0, ok: true)
    #expect(script.effects() == ["close 0 generation", "dial 1"])
  }

  @Test(
    "A server that went down outdates connections to its host only, whatever they are doing", arguments: [true, false])
  func generationOfAHost(byPing: Bool) {
    let script = PoolScript {
      $0.poolSize = 4
      $0.prePing = byPing
      $0.prePingIdleNanoseconds = 0
    }
    for client in 0..<4 { script.checkout(UInt32(client)) }
    for server in 0..<4 { script.dialed(server, host: server < 2 ? 0 : 1) }
    for server in 1..<4 { script.checkin(server) }
    _ = script.effects()
    if byPing {
      script.checkout(9)
      #expect(script.effects() == ["ping 3"])
      script.pinged(3, ok: false)
    } else {
      script.lost(3, .crashed)
    }
    #expect(script.isOutdated(2) && !script.isOutdated(1) && !script.isOutdated(0))
    #expect(script.effects().contains("close 2 generation"))
    script.checkin(0)
    #expect(script.state(0) != .closing)
  }

  // MARK: Hosts that do not answer

  /// A pool of two whose connections, both to host 0, are pinged for clients 1 and 2.
  private func pinging() -> PoolScript {
    let script = PoolScript {
      $0.maxOverflow = 0
      $0.prePing = true
    }
    script.fill(2)
    script.wait(milliseconds: 2_000)
    script.checkout(1)
    script.checkout(2)
    #expect(script.effects() == ["ping 1", "ping 0"])
    return script
  }

  @Test("The permits of connections that do not answer serve dials to other hosts, before their ends are seen")
  func silent() {
    let script = pinging()
    script.pinged(1, ok: false)
    script.pinged(0, ok: false)
    #expect(script.effects() == ["close 1 pingFailed", "dial 2", "close 0 pingFailed", "dial 3"])
    #expect(script.avoided(2) == [0] && script.avoided(3) == [0], "host 0 has as many as the bound allows")
    script.dialed(2, host: 1)
    script.dialed(3, host: 1)
    #expect(script.effects() == ["assign 1 to 2", "assign 2 to 3"])
    script.checkout(3)
    #expect(script.effects() == [], "host 1 has as many as the bound allows")
    #expect(script.counts.open == 4)
    script.closed(1)
    script.closed(0)
    #expect(script.effects() == [])
    script.checkin(2)
    #expect(script.effects() == ["assign 3 to 2"])
  }

  @Test("A dial that may end at the host that does not answer counts there")
  func maybe() {
    let script = PoolScript {
      $0.maxOverflow = 1
      $0.prePing = true
    }
    script.fill(2)
    script.wait(milliseconds: 2_000)
    script.checkout(1)
    script.checkout(2)
    script.pinged(1, ok: false)
    script.pinged(0, ok: false)
    #expect(script.effects() == ["ping 1", "ping 0", "close 1 pingFailed", "dial 2", "close 0 pingFailed", "dial 3"])
    #expect(script.avoided(2) == [], "one more is within the bound")
    #expect(script.avoided(3) == [0], "two are being closed, and the first dial may end there too")
  }

  @Test("Where no other host serves, the ends of those that do not answer are waited for")
  func noOther() {
    let script = pinging()
    script.pinged(1, ok: false)
    _ = script.effects()
    script.noOtherHost(2)
    #expect(script.effects() == [], "nothing is tried again at once")
    script.pinged(0, ok: false)
    #expect(script.effects() == ["close 0 pingFailed"])
    #expect(script.counts.standing == .open, "of the hosts that were left out nothing is known")
    script.closed(1)
    #expect(script.effects() == ["dial 3"])
    #expect(script.avoided(3) == [], "the bound holds by itself")
  }

  @Test("A dial that had to leave hosts out and fails is no outage")
  func otherFails() {
    let script = pinging()
    script.pinged(1, ok: false)
    _ = script.effects()
    script.dialFailed(2, .rejected)
    #expect(script.effects() == [])
    #expect(script.counts.standing == .open)
    script.hostsChanged()
    #expect(script.effects() == ["dial 3"])
    #expect(script.avoided(3) == [0])
  }

  @Test("Connections of the same host that were idle give their permits too")
  func idleOnes() {
    let script = PoolScript {
      $0.poolSize = 3
      $0.maxOverflow = 0
      $0.prePing = true
    }
    script.fill(3)
    script.wait(milliseconds: 2_000)
    script.checkout(1)
    script.pinged(2, ok: false)
    #expect(script.effects() == ["ping 2", "close 2 pingFailed", "close 0 generation", "dial 3"])
    script.checkout(2)
    #expect(script.effects() == ["dial 4"])
    script.checkout(3)
    #expect(script.effects() == ["close 1 generation", "dial 5"], "nobody waits for its end")
    #expect(script.avoided(5) == [0])
  }

  @Test("A question of the daemon's that is not answered is a missed ping")
  func unanswered() {
    let script = PoolScript {
      $0.poolSize = 1
      $0.maxOverflow = 0
    }
    script.fill(1)
    script.checkout(1)
    script.discard(0, .unanswered)
    script.checkout(2)
    #expect(script.effects() == ["assign 1 to 0", "close 0 unanswered", "dial 1"])
    #expect(script.avoided(1) == [0])
  }

  @Test("A connection that answers after all is like any other")
  func answersAgain() {
    let script = PoolScript {
      $0.maxOverflow = 0
      $0.prePing = true
    }
    script.fill(2)
    script.checkout(1)
    script.wait(milliseconds: 2_000)
    script.checkout(2)
    script.pinged(0, ok: false)
    _ = script.effects()
    script.checkin(1)
    #expect(script.effects() == ["close 1 generation"])
    script.checkout(3)
    #expect(script.effects() == [], "its end comes at once, and is waited for")
  }
}
