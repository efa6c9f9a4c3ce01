import CLinux
import Glibc
import Testing

@testable import Reactor

@Suite(.timeLimit(.minutes(1))) struct EventLoopTests {
  @Test(arguments: EventLoopDriver.usable) func bytesArriveBothWays(_ driver: EventLoopDriver) {
    let (script, pair, recorder) = (Script(driver), SocketPair(), Recorder())
    let sent = pattern(150_000)
    var written = 0
    var answer: [UInt8] = []
    script.loop.adopt(pair.near, for: recorder, owned: true)
    script.when("everything arrives") {
      written += write(Array(sent[written...]), to: pair.far)
      return recorder.bytes.count == sent.count
    } then: {
      script.send([1, 2], to: recorder)
      script.send([3], to: recorder)
    }
    script.when("the answer arrives") {
      answer += read(pair.far).bytes
      return answer == [1, 2, 3]
    } then: {
      script.loop.close(recorder)
    }
    script.when("the descriptor is closed") { read(pair.far).isAtEnd }
    script.run()
    #expect(recorder.bytes == sent && recorder.ends.isEmpty && recorder.socket == .none)
    close(pair.far)
  }

  @Test(arguments: EventLoopDriver.usable) func aSlowReaderRaisesBackPressureAndDrainingEndsIt(
    _ driver: EventLoopDriver
  ) {
    let (script, pair, recorder) = (Script(driver), SocketPair(), Recorder())
    let output = pattern(2_000_000)
    var got: [UInt8] = []
    script.loop.adopt(pair.near, for: recorder, owned: true)
    script.then { script.send(output, to: recorder) }
    script.then {
      #expect(recorder.isBacklogged)
      #expect(script.loop.pendingOutput(recorder.socket) > EventLoop.highWater)
      #expect(recorder.drains == 0)
    }
    script.when("drained is called") {
      got += read(pair.far, limit: 100_000).bytes
      return recorder.drains > 0
    } then: {
      #expect(!recorder.isBacklogged)
      #expect(script.loop.pendingOutput(recorder.socket) < EventLoop.lowWater)
    }
    script.when("the rest arrives") {
      got += read(pair.far).bytes
      return got.count == output.count
    } then: {
      script.loop.close(recorder)
    }
    script.run()
    #expect(got == output && recorder.drains == 1)
    close(pair.far)
  }

  @Test(arguments: EventLoopDriver.usable) func closingAfterOutputSendsEverythingFirst(_ driver: EventLoopDriver) {
    let (script, pair, recorder) = (Script(driver), SocketPair(), Recorder())
    let output = pattern(1_500_000)
    var got: [UInt8] = []
    var isAtEnd = false
    script.loop.adopt(pair.near, for: recorder, owned: true)
    script.then {
      script.send(output, to: recorder)
      script.loop.closeAfterOutput(recorder)
      #expect(recorder.socket == .none)
      write([1], to: pair.far)
    }
    script.when("everything and the end arrive") {
      let (bytes, end) = read(pair.far, limit: 200_000)
      got += bytes
      isAtEnd = end
      return isAtEnd
    }
    script.run()
    #expect(got == output && recorder.bytes.isEmpty && recorder.ends.isEmpty && recorder.drains == 0)
    close(pair.far)
  }

  @Test(arguments: EventLoopDriver.usable) func closingAfterOutputFromDrainedHearsNothingMore(_ driver: EventLoopDriver)
  {
    let (script, pair, recorder) = (Script(driver), SocketPair(), Recorder())
    var got = 0
    script.loop.adopt(pair.near, for: recorder, owned: true)
    recorder.onDrained = { script.loop.closeAfterOutput(recorder) }
    script.then {
      script.send(pattern(1_000_000), to: recorder)
      script.loop.setReceiving(false, on: recorder.socket)
    }
    script.when("drained is called") {
      got += read(pair.far, limit: 100_000).bytes.count
      write([1], to: pair.far)
      return recorder.drains > 0
    }
    script.when("the rest and the end arrive") {
      let (bytes, isAtEnd) = read(pair.far)
      got += bytes.count
      // Closing with input unread resets a connection, but only after the peer has been given the output.
      return isAtEnd || errno == ECONNRESET
    }
    script.run()
    #expect(got == 1_000_000 && recorder.bytes.isEmpty && recorder.ends.isEmpty)
    close(pair.far)
  }

  /// Two sockets are ready in one turn, and the handler of one closes the other and adopts a third into its slot.
  @Test(arguments: EventLoopDriver.usable) func anEventForASlotsFormerSocketIsSkipped(_ driver: EventLoopDriver) {
    let script = Script(driver)
    let pairs = (0..<3).map { _ in SocketPair() }
    let recorders = (0..<3).map { _ in Recorder() }
    for index in 0..<2 {
      script.loop.adopt(pairs[index].near, for: recorders[index], owned: true)
      recorders[index].onReceived = {
        let other = recorders[1 - index]
        guard other.socket != .none, recorders[2].socket == .none else { return }
        script.loop.close(other)
        script.loop.adopt(pairs[2].near, for: recorders[2], owned: true)
      }
    }
    script.then {
      write([1], to: pairs[0].far)
      write([2], to: pairs[1].far)
    }
    script.when("one of them is received") {
      recorders[2].socket != .none
    } then: {
      write([3], to: pairs[2].far)
    }
    script.when("the third is received") { !recorders[2].bytes.isEmpty }
    script.run()
    #expect(recorders[2].bytes == [3])
    #expect(recorders[0].bytes.count + recorders[1].bytes.count == 1)
    #expect(recorders.allSatisfy { $0.ends.isEmpty })
    for recorder in recorders { script.loop.close(recorder) }
    for pair in pairs { close(pair.far) }
  }

  @Test(arguments: EventLoopDriver.usable) func anOldNameReachesNobody(_ driver: EventLoopDriver) {
    let (script, first, second) = (Script(driver), SocketPair(), SocketPair())
    let (old, new) = (Recorder(), Recorder())
    script.loop.adopt(first.near, for: old, owned: true)
    let name = old.socket
    let byte: [UInt8] = [1]
    script.loop.close(old)
    script.loop.adopt(second.near, for: new, owned: true)
    #expect(new.socket != name)
    script.then {
      script.loop.send(byte.span, to: name)
      script.loop.setReceiving(false, on: name)
      #expect(script.loop.pendingOutput(name) == 0)
      script.send([2], to: new)
    }
    script.when("only its own bytes arrive") { read(second.far).bytes == [2] }
    script.run()
    script.loop.close(new)
    close(first.far)
    close(second.far)
  }

  @Test(arguments: EventLoopDriver.usable) func thePeersCloseIsReportedOnceAfterItsLastBytes(_ driver: EventLoopDriver)
  {
    let (script, pair, recorder) = (Script(driver), SocketPair(), Recorder())
    script.loop.adopt(pair.near, for: recorder, owned: true)
    script.then {
      write([1, 2], to: pair.far)
      close(pair.far)
    }
    script.when("the end is reported") {
      !recorder.ends.isEmpty
    } then: {
      script.send([1], to: recorder)
      #expect(script.loop.pendingOutput(recorder.socket) == 0)
    }
    script.then {}
    script.then { script.loop.close(recorder) }
    script.run()
    #expect(recorder.bytes == [1, 2] && recorder.ends == [.endOfStream])
  }

  @Test(arguments: EventLoopDriver.usable, [false, true]) func aResetIsReportedOnce(
    _ driver: EventLoopDriver, whileSending: Bool
  ) throws {
    let (script, recorder) = (Script(driver), Recorder())
    let (near, far) = try loopbackPair()
    script.loop.adopt(near, for: recorder, owned: true)
    script.then {
      var discard = linger(l_onoff: 1, l_linger: 0)
      unsafe setsockopt(far, SOL_SOCKET, SO_LINGER, &discard, socklen_t(MemoryLayout<linger>.size))
      close(far)
      if whileSending { script.send(pattern(100), to: recorder) }
    }
    script.when("the reset is reported") { !recorder.ends.isEmpty }
    script.then {}
    script.then { script.loop.close(recorder) }
    script.run()
    #expect(recorder.ends.count == 1)
    // A send takes the error, and the receive after it sees the end only.
    if !whileSending { #expect(recorder.ends == [.failed(ECONNRESET)]) }
  }

  @Test(arguments: EventLoopDriver.usable) func receivingStopsAndResumes(_ driver: EventLoopDriver) {
    let (script, pair, recorder) = (Script(driver), SocketPair(), Recorder())
    script.loop.adopt(pair.near, for: recorder, owned: true)
    script.then {
      script.loop.setReceiving(false, on: recorder.socket)
      write([1], to: pair.far)
    }
    for _ in 0..<5 { script.then {} }
    script.then {
      #expect(recorder.bytes.isEmpty)
      script.loop.setReceiving(true, on: recorder.socket)
    }
    script.when("it resumes") {
      recorder.bytes == [1]
    } then: {
      script.loop.setReceiving(false, on: recorder.socket)
      close(pair.far)
    }
    script.when("a broken connection is noticed all the same") { recorder.ends == [.endOfStream] }
    script.then { script.loop.close(recorder) }
    script.run()
  }

  @Test(arguments: EventLoopDriver.usable) func aBorrowedDescriptorIsReleasedOpen(_ driver: EventLoopDriver) {
    let (script, pair, recorder) = (Script(driver), SocketPair(), Recorder())
    script.loop.adopt(pair.near, for: recorder, owned: false)
    script.loop.close(recorder)
    #expect(write([1], to: pair.near) == 1 && read(pair.far).bytes == [1])
    close(pair.near)
    close(pair.far)
  }

  @Test(arguments: EventLoopDriver.usable) func timersFireInOrderAndNeverEarly(_ driver: EventLoopDriver) {
    let script = Script(driver)
    let start = System.monotonicNanoseconds()
    for (token, milliseconds) in [(3, 15), (1, 0), (4, 20), (2, 5)] as [(UInt64, Int64)] {
      script.loop.schedule(at: start + milliseconds * 1_000_000, token: token)
    }
    script.when("all have fired") {
      for token in script.fired { #expect(script.loop.now >= start + Int64(5_000_000) * Int64(token - 1)) }
      return script.fired.count == 4
    }
    script.run()
    #expect(script.fired == [1, 2, 3, 4])
  }

  /// Both ends of a TCP connection over the loopback, non-blocking.
  private func loopbackPair() throws -> (near: Int32, far: Int32) {
    let listener = try #require(try Listener.open(.tcp(host: "127.0.0.1", port: 0)).first)
    defer { listener.release() }
    // A client that has not spoken is not waited for.
    System.setOption(listener.descriptor, level: Int32(IPPROTO_TCP), option: TCP_DEFER_ACCEPT, value: 0)
    let far = connect(toPort: port(of: listener.descriptor))
    while true {
      if case .success((let near, _))? = listener.accept() { return (near, far) }
    }
  }
}

/// The port that a TCP socket is bound to.
func port(of descriptor: Int32) -> UInt16 {
  var address = sockaddr_in()
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  unsafe withUnsafeMutablePointer(to: &address) { pointer in
    unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { rebound in
      _ = unsafe getsockname(descriptor, rebound, &length)
    }
  }
  return UInt16(bigEndian: address.sin_port)
}

/// A non-blocking client of 127.0.0.1, connected.
func connect(toPort port: UInt16) -> Int32 {
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = port.bigEndian
  address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  let outcome = unsafe withUnsafePointer(to: &address) { pointer in
    unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { rebound in
      unsafe connect(descriptor, rebound, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
  precondition(outcome == 0, "connect: errno \(errno)")
  _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
  return descriptor
}
