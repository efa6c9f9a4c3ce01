import Glibc
import Testing

@testable import Reactor

/// Streams that always have more to bring, beside small transactions.
@Suite(.timeLimit(.minutes(1))) struct BulkTests {
  private static let streamCount = 64
  private static let smallCount = 8
  /// In so many turns each stream has one, if they are served one after the other.
  private static let turnsOfARound = streamCount * EventLoop.receiveSize / EventLoop.bulkPerTurn

  /// A stream whose far end writes again whatever has been taken.
  private final class Stream: Connection {
    let pair = SocketPair()
    /// Taken in the turn that goes on, and since it was last looked at.
    var taken = 0
    private static let chunk = [UInt8](repeating: 7, count: EventLoop.receiveSize)

    func fill() { while write(Stream.chunk, to: pair.far) > 0 {} }

    override func received(_ bytes: Span<UInt8>) {
      taken += bytes.count
      fill()
    }
  }

  @Test(arguments: EventLoopDriver.usable) func streamsShareWhatATurnMayTakeAndSmallOnesDoNotWait(
    _ driver: EventLoopDriver
  ) throws {
    let script = Script(driver)
    let streams = (0..<BulkTests.streamCount).map { _ in Stream() }
    let small = (0..<BulkTests.smallCount).map { _ in (pair: SocketPair(), recorder: Recorder()) }
    for stream in streams {
      stream.fill()
      script.loop.adopt(stream.pair.near, for: stream, owned: true)
    }
    for (pair, recorder) in small { script.loop.adopt(pair.near, for: recorder, owned: true) }

    func ask() { for (pair, _) in small { write([1], to: pair.far) } }
    script.when("all are known to bring bulk") {
      streams.allSatisfy { script.loop.slot($0.socket)?.isBulk == true }
    } then: {
      for stream in streams { stream.taken = 0 }
      ask()
    }
    var takenInTurn: [Int] = []
    var turnsOfStream = [Int](repeating: 0, count: streams.count)
    script.when("each has had its turns") {
      takenInTurn.append(streams.reduce(0) { $0 + $1.taken })
      for (index, stream) in streams.enumerated() {
        if stream.taken > 0 { turnsOfStream[index] += 1 }
        stream.taken = 0
      }
      #expect(small.allSatisfy { $0.recorder.bytes.count == takenInTurn.count })
      ask()
      return takenInTurn.count == 4 * BulkTests.turnsOfARound
    }
    script.run()
    // The budget is looked at before each receive.
    #expect(takenInTurn.allSatisfy { $0 < EventLoop.bulkPerTurn + EventLoop.receiveSize })
    // It is made use of, and nobody gets less than half of what the others get.
    #expect(takenInTurn.reduce(0, +) > takenInTurn.count * EventLoop.bulkPerTurn / 2)
    #expect(turnsOfStream.allSatisfy { $0 >= 2 })
    for stream in streams {
      script.loop.close(stream)
      close(stream.pair.far)
    }
    for (pair, recorder) in small {
      script.loop.close(recorder)
      close(pair.far)
    }
  }
}
