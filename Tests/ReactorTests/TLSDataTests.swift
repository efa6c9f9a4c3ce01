import COpenSSL
import Glibc
import Testing

@testable import Reactor

@Suite(.timeLimit(.minutes(1))) struct TLSDataTests {
  @Test(arguments: EventLoopDriver.usable) func severalRecordsOfOneSegmentAreOneCall(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver)
    tls.secure()
    tls.script.then {
      for byte in 1...5 as ClosedRange<UInt8> { tls.peer.send([byte]) }
      tls.peer.push()
    }
    tls.script.when("they arrive") {
      !tls.recorder.bytes.isEmpty
    } then: {
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
    #expect(tls.recorder.bytes == [1, 2, 3, 4, 5] && tls.recorder.calls == 1)
  }

  @Test(arguments: EventLoopDriver.usable) func smallPiecesOfATurnAreOneRecord(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver)
    tls.secure()
    tls.script.then { for byte in 1...5 as ClosedRange<UInt8> { tls.script.send([byte], to: tls.recorder) } }
    tls.script.when("they arrive") {
      tls.peer.outgoing = read(tls.pair.far).bytes
      return !tls.peer.outgoing.isEmpty
    } then: {
      // A header of 5, the type of 1, the tag of 16.
      #expect(tls.peer.outgoing.count == 5 + 5 + 1 + 16)
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
  }

  @Test(arguments: EventLoopDriver.usable, [TLS1_2_VERSION, TLS1_3_VERSION]) func tenMegabytesBothWaysWithASlowReader(
    _ driver: EventLoopDriver, version: Int32
  ) {
    let tls = TLSCase(driver, version: version)
    // A length that no buffer has, so that a shifted piece shows.
    let piece = pattern(99_991)
    var data: [UInt8] = []
    for _ in 0..<101 { data += piece }
    var wasBacklogged = false
    var sent = 0
    var queued = 0
    /// What the other direction's producer would do: stop while it is backlogged, go on once it is drained.
    func produce() {
      while queued < data.count && !tls.recorder.isBacklogged {
        let count = min([100, 20_000, 5_000][queued % 3], data.count - queued)
        tls.script.send(Array(data[queued..<queued + count]), to: tls.recorder)
        queued += count
      }
      if tls.recorder.isBacklogged {
        wasBacklogged = true
        let pending = tls.script.loop.pendingOutput(tls.recorder.socket)
        #expect(pending > EventLoop.lowWater && pending < EventLoop.highWater + 25_000)
      }
    }
    tls.recorder.onDrained = {
      #expect(tls.script.loop.pendingOutput(tls.recorder.socket) < EventLoop.lowWater)
      produce()
    }
    tls.secure()
    tls.script.then { produce() }
    tls.script.when("all of it arrives") {
      if tls.peer.outgoing.isEmpty && sent < data.count {
        let count = min(150_000, data.count - sent)
        tls.peer.send(Array(data[sent..<sent + count]))
        sent += count
      }
      tls.peer.push()
      tls.peer.pull(limit: 70_000)
      return tls.recorder.bytes.count == data.count && tls.peer.plaintext.count == data.count
    } then: {
      #expect(tls.script.loop.pendingOutput(tls.recorder.socket) == 0)
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
    #expect(tls.recorder.bytes == data && tls.peer.plaintext == data)
    #expect(wasBacklogged && tls.recorder.drains > 0 && tls.recorder.ends.isEmpty)
  }

  @Test(arguments: EventLoopDriver.usable) func anIdleStreamHoldsNoBlock(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver)
    tls.secure()
    tls.script.then {
      tls.peer.send(pattern(50_000))
      tls.script.send(pattern(50_000), to: tls.recorder)
    }
    tls.script.when("both arrive") {
      tls.peer.pump()
      return tls.recorder.bytes.count == 50_000 && tls.peer.plaintext.count == 50_000
    } then: {
      #expect(!tls.tls.ciphertext.holdsBlock && !tls.tls.kept.holdsBlock && !tls.tls.isHolding)
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
  }

  // MARK: Stopping in between

  /// OpenSSL has the better part of a record when the next receive comes: together they are more than is handed over in
  /// one call, and the owner wants one call at a time.
  @Test(arguments: EventLoopDriver.usable) func receivingStopsInTheMiddleAndNothingIsLost(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver)
    let sent = pattern(150_000)
    var seen = 0
    tls.recorder.onReceived = { tls.script.loop.setReceiving(false, on: tls.recorder.socket) }
    tls.secure()
    tls.script.then {
      tls.peer.send(sent)
      tls.peer.push(limit: 16_000)
    }
    for _ in 0..<3 { tls.script.then {} }
    tls.script.then {
      tls.peer.push()
      shutdown(tls.pair.far, Int32(SHUT_WR))
    }
    tls.script.when("a piece arrives") {
      !tls.recorder.bytes.isEmpty
    } then: {
      seen = tls.recorder.bytes.count
    }
    for _ in 0..<5 { tls.script.then {} }
    tls.script.then {
      #expect(tls.recorder.calls == 1 && tls.recorder.bytes.count == seen && tls.tls.isHolding)
      // What may come in before the kernel learns of the stop.
      let most = driver == .epoll ? EventLoop.receiveSize : ProvidedBuffers.count * ProvidedBuffers.size
      #expect(tls.tls.kept.count <= most)
    }
    tls.script.when("the rest arrives piece by piece, then the end") {
      tls.script.loop.setReceiving(true, on: tls.recorder.socket)
      return !tls.recorder.ends.isEmpty
    } then: {
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
    #expect(tls.recorder.bytes == sent && tls.recorder.calls > 2 && tls.recorder.ends == [.endOfStream])
  }

  /// What was received lies in the loop's own memory, which the next receive of any socket writes over.
  @Test(arguments: EventLoopDriver.usable) func bytesOfAStoppedConnectionOutliveAnotherSocketsBytes(
    _ driver: EventLoopDriver
  ) {
    let tls = TLSCase(driver)
    let other = SocketPair()
    let noise = Recorder()
    let sent = pattern(10_000)
    defer { close(other.far) }
    tls.script.loop.adopt(other.near, for: noise, owned: true)
    tls.recorder.onSecured = { tls.script.loop.setReceiving(false, on: tls.recorder.socket) }
    tls.script.when("the client has the server's part of the handshake") {
      if !tls.peer.outgoing.isEmpty { tls.peer.push() }
      tls.peer.pull()
      return tls.peer.isSecured
    } then: {
      // The client's last message and its data are one segment.
      tls.peer.send(sent)
      tls.peer.push()
    }
    tls.script.when("the handshake is complete") {
      tls.recorder.securedAt != nil
    } then: {
      write([UInt8](repeating: 0xff, count: 60_000), to: other.far)
    }
    tls.script.when("the other socket's bytes arrive") {
      noise.bytes.count == 60_000
    } then: {
      #expect(tls.recorder.bytes.isEmpty && tls.tls.isHolding)
      tls.script.loop.setReceiving(true, on: tls.recorder.socket)
    }
    tls.script.when("its own bytes arrive") {
      tls.recorder.bytes.count >= sent.count || !tls.recorder.ends.isEmpty
    } then: {
      tls.script.loop.close(tls.recorder)
      tls.script.loop.close(noise)
    }
    tls.script.run()
    #expect(tls.recorder.bytes == sent && tls.recorder.ends.isEmpty)
  }

  /// A record and a damaged one, in one segment: the failure waits behind the bytes until receiving resumes.
  @Test(arguments: EventLoopDriver.usable, [false, true]) func theEndWaitsBehindTheBytes(
    _ driver: EventLoopDriver, isDamaged: Bool
  ) {
    let tls = TLSCase(driver)
    tls.recorder.onReceived = { tls.script.loop.setReceiving(false, on: tls.recorder.socket) }
    tls.secure()
    tls.script.then {
      tls.peer.send([1])
      if isDamaged { tls.peer.outgoing += [23, 3, 3, 0, 20] + [UInt8](repeating: 7, count: 20) }
      if !isDamaged { tls.peer.shutdown() }
      tls.peer.push()
    }
    tls.script.when("the byte arrives") { tls.recorder.bytes == [1] }
    for _ in 0..<5 { tls.script.then {} }
    tls.script.then {
      #expect(tls.recorder.ends.isEmpty)
      tls.script.loop.setReceiving(true, on: tls.recorder.socket)
    }
    tls.finish()
    tls.script.run()
    #expect(tls.recorder.ends.count == 1 && (tls.recorder.ends == [.endOfStream]) == !isDamaged)
  }

  @Test(arguments: EventLoopDriver.usable) func aBrokenConnectionIsNoticedWhileReceivingIsStopped(
    _ driver: EventLoopDriver
  ) {
    let tls = TLSCase(driver)
    let sent = pattern(100_000)
    tls.recorder.onReceived = { tls.script.loop.setReceiving(false, on: tls.recorder.socket) }
    tls.secure()
    tls.script.then {
      tls.peer.send(sent)
      tls.peer.push()
      shutdown(tls.pair.far, Int32(SHUT_RDWR))
    }
    tls.closeAtEnd()
    tls.script.run()
    #expect(tls.recorder.bytes == sent && tls.recorder.ends == [.endOfStream])
  }

  @Test(arguments: EventLoopDriver.usable, [false, true]) func theOwnerMayCloseWhileItIsTold(
    _ driver: EventLoopDriver, whenSecured: Bool
  ) {
    let tls = TLSCase(driver)
    if whenSecured {
      tls.recorder.onSecured = { tls.script.loop.close(tls.recorder) }
    } else {
      tls.recorder.onReceived = { tls.script.loop.close(tls.recorder) }
    }
    tls.script.when("the connection is closed") {
      tls.peer.pump()
      if tls.peer.isSecured && tls.peer.outgoing.isEmpty { tls.peer.send(pattern(100_000)) }
      return tls.recorder.socket == .none
    }
    tls.script.run()
    #expect(tls.recorder.calls == (whenSecured ? 0 : 1) && tls.recorder.ends.isEmpty)
  }

  // MARK: What is not data

  @Test(arguments: EventLoopDriver.usable) func keysMayBeUpdated(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver, version: TLS1_3_VERSION)
    let sent = pattern(20_000)
    tls.secure()
    for _ in 0..<3 {
      tls.script.then {
        tls.peer.updateKeys()
        tls.peer.send(sent)
        tls.script.send(sent, to: tls.recorder)
      }
      tls.script.when("both arrive") {
        tls.peer.pump()
        let isThere = tls.recorder.bytes.count == sent.count && tls.peer.plaintext.count == sent.count
        return isThere
      } then: {
        #expect(tls.recorder.bytes == sent && tls.peer.plaintext == sent)
        (tls.recorder.bytes, tls.peer.plaintext) = ([], [])
      }
    }
    tls.script.then { tls.script.loop.close(tls.recorder) }
    tls.script.run()
    #expect(tls.recorder.ends.isEmpty)
  }

  /// Whether the flood comes alone, or with a byte of data now and then and unread answers.
  @Test(arguments: EventLoopDriver.usable, [false, true]) func aFloodOfKeyUpdatesIsCutOff(
    _ driver: EventLoopDriver, withData: Bool
  ) {
    let tls = TLSCase(driver, version: TLS1_3_VERSION)
    tls.secure()
    var updates = 0
    tls.script.when("it is refused") {
      for _ in 0..<100 where tls.recorder.ends.isEmpty {
        tls.peer.updateKeys()
        updates += 1
      }
      if withData { tls.peer.send([1]) }
      tls.peer.push()
      return !tls.recorder.ends.isEmpty || updates > 100_000
    } then: {
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
    #expect(tls.recorder.ends == [.tlsFailed("the peer sends too much that is not data")])
  }

  @Test(arguments: EventLoopDriver.usable) func renegotiationIsRefusedAndDataGoesOn(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver, version: TLS1_2_VERSION)
    tls.secure()
    tls.script.then {
      unsafe SSL_renegotiate(tls.peer.ssl)
      unsafe SSL_do_handshake(tls.peer.ssl)
      tls.peer.collect()
    }
    tls.script.when("it is refused") {
      tls.peer.pump()
      return tls.peer.failure != nil || !tls.recorder.ends.isEmpty
    } then: {
      #expect(tls.peer.failure == "no renegotiation" && tls.recorder.ends.isEmpty)
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
  }
}
