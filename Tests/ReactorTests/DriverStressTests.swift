import CLinux
import Glibc
import Testing

@testable import Reactor

/// Many sockets that echo, are paused, moved, and closed while bytes are on the way both ways.
@Suite(.timeLimit(.minutes(2))) struct DriverStressTests {
  private final class Echo {
    let pair = SocketPair()
    var recorder = Recorder()
    let sent: [UInt8]
    var written = 0
    var echoed: [UInt8] = []
    var received = 0

    init(_ script: Script, _ random: inout SplitMix) {
      sent = pattern(1 + random.below(random.chance(4) ? 300_000 : 3000))
      script.loop.adopt(pair.near, for: recorder, owned: true)
      echo(script)
    }

    /// Sends back what comes.
    func echo(_ script: Script) {
      recorder.onReceived = { [unowned self] in
        received += recorder.bytes.count
        script.send(recorder.bytes, to: recorder)
        recorder.bytes.removeAll(keepingCapacity: true)
      }
    }

    /// The peer's turn: a piece each way. Returns whether all of it has come back.
    func step(_ random: inout SplitMix) -> Bool {
      let piece = sent[written...].prefix(1 + random.below(50_000))
      written += write(Array(piece), to: pair.far)
      echoed += read(pair.far, limit: 1 + random.below(80_000)).bytes
      return echoed.count == sent.count
    }
  }

  @Test(arguments: EventLoopDriver.usable, [1, 2, 3] as [UInt64])
  func bytesStayInOrderWhateverHappensToTheirSockets(_ driver: EventLoopDriver, seed: UInt64) {
    let script = Script(driver)
    var random = SplitMix(seed)
    var echoes = (0..<300).map { _ in Echo(script, &random) }
    var finished = 0
    script.when("enough has come back") {
      for index in echoes.indices {
        let echo = echoes[index]
        let isComplete = echo.step(&random)
        #expect(echo.echoed.elementsEqual(echo.sent.prefix(echo.echoed.count)))
        #expect(echo.recorder.ends.isEmpty)
        if isComplete { finished += 1 }
        if isComplete || random.chance(500) {
          // In the middle of whatever is under way.
          script.loop.close(echo.recorder)
          close(echo.pair.far)
          echoes[index] = Echo(script, &random)
        } else if random.chance(50) {
          let released = script.loop.release(echo.recorder)
          echo.recorder = Recorder()
          echo.echo(script)
          script.loop.adopt(released, for: echo.recorder)
        } else {
          script.loop.setReceiving(!random.chance(3), on: echo.recorder.socket)
        }
      }
      script.loop.schedule(at: 0, token: 7)
      return finished >= 1500
    }
    script.then {
      for echo in echoes {
        script.loop.close(echo.recorder)
        close(echo.pair.far)
      }
    }
    script.run()
    for size in script.loop.blocks.counts { #expect(size.used == 0) }
  }

  /// A peer learns of a close although an operation of the kernel still had the socket.
  @Test(arguments: EventLoopDriver.usable) func aClosedSocketIsClosedForThePeerAndItsSlotServesAgain(
    _ driver: EventLoopDriver
  ) {
    let script = Script(driver)
    var pairs: [SocketPair] = []
    for round in 0..<20 {
      script.then {
        pairs = (0..<50).map { _ in SocketPair() }
        for pair in pairs {
          let recorder = Recorder()
          script.loop.adopt(pair.near, for: recorder, owned: true)
          if round % 2 == 0 { script.loop.setReceiving(false, on: recorder.socket) }
          write([1, 2, 3], to: pair.far)
          recorder.onReceived = { script.loop.close(recorder) }
          if round % 2 == 0 { script.loop.close(recorder) }
        }
      }
      script.when("all peers see the end") {
        pairs.allSatisfy { read($0.far).isAtEnd || errno == ECONNRESET }
      } then: {
        for pair in pairs { close(pair.far) }
      }
    }
    script.then { #expect(script.loop.slots.count <= 100) }
    script.run()
  }
}
