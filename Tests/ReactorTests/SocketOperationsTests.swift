import Testing

@testable import Reactor

@Suite struct SocketOperationsTests {
  private typealias Kind = SocketOperations.Kind
  private typealias Wishes = SocketOperations.Wishes

  private func requests(_ operations: inout SocketOperations, _ wishes: Wishes) -> [SocketOperations.Request] {
    var made: [SocketOperations.Request] = []
    while let request = operations.next(for: wishes) { made.append(request) }
    return made
  }

  @Test func aShortPauseCostsNothing() {
    var operations = SocketOperations()
    let wanted = Wishes(isWatched: true, input: true, hangUp: true)
    let paused = Wishes(isWatched: true, hangUp: true)
    #expect(requests(&operations, wanted) == [.start(.input)])
    #expect(requests(&operations, paused) == [])
    #expect(requests(&operations, wanted) == [])
  }

  @Test func inputThatComesInAPauseStopsItAndAHangUpIsWaitedFor() {
    var operations = SocketOperations()
    let paused = Wishes(isWatched: true, stopsInput: true, hangUp: true)
    #expect(requests(&operations, Wishes(isWatched: true, input: true)) == [.start(.input)])
    operations.completed(.input, isLast: false)
    #expect(requests(&operations, paused) == [.cancel(.input)])
    #expect(requests(&operations, paused) == [])
    operations.completed(.input, isLast: true)
    #expect(requests(&operations, paused) == [.start(.hangUp)])
  }

  @Test func inputThatIsWantedAgainWhileItStopsBeginsAnewAfterIt() {
    var operations = SocketOperations()
    let wanted = Wishes(isWatched: true, input: true)
    #expect(requests(&operations, wanted) == [.start(.input)])
    #expect(requests(&operations, Wishes(isWatched: true, stopsInput: true)) == [.cancel(.input)])
    #expect(requests(&operations, wanted) == [])
    operations.completed(.input, isLast: true)
    #expect(requests(&operations, wanted) == [.start(.input)])
  }

  @Test func aCancelThatFindsNothingIsRepeatedUntilTheEndHasCome() {
    var operations = SocketOperations()
    #expect(requests(&operations, Wishes(isWatched: true, accept: true)) == [.start(.accept)])
    #expect(requests(&operations, Wishes()) == [.cancel(.accept)])
    operations.cancelFailed(.accept)
    #expect(requests(&operations, Wishes()) == [.cancel(.accept)] && !operations.isIdle)
    operations.completed(.accept, isLast: true)
    operations.cancelFailed(.accept)
    #expect(requests(&operations, Wishes()) == [] && operations.isIdle)
  }

  /// What a kernel does with one socket: each operation that runs ends some time, cancelled or not; a cancellation may
  /// miss.
  private struct Kernel {
    var running: Set<Kind> = []
    var isCancelled: Set<Kind> = []

    mutating func take(_ request: SocketOperations.Request) -> Kind? {
      switch request {
      case .start(let kind):
        precondition(running.insert(kind).inserted, "\(kind) runs twice")
      case .cancel(let kind):
        guard running.contains(kind) else { return kind }
        isCancelled.insert(kind)
      }
      return nil
    }
  }

  @Test(arguments: 1...200 as ClosedRange<UInt64>) func noOperationRunsTwiceAndAllEnd(seed: UInt64) {
    var random = SplitMix(seed)
    var operations = SocketOperations()
    var kernel = Kernel()
    var wishes = Wishes(isWatched: true)
    func submit() {
      while let request = operations.next(for: wishes) {
        // Now and then the kernel is between two steps, and finds nothing although there is something.
        if case .cancel(let kind) = request, random.chance(4) {
          operations.cancelFailed(kind)
          return
        }
        if let missed = kernel.take(request) { operations.cancelFailed(missed) }
      }
    }
    func complete(_ kind: Kind, isLast: Bool) {
      if isLast {
        kernel.running.remove(kind)
        kernel.isCancelled.remove(kind)
      }
      operations.completed(kind, isLast: isLast)
    }
    for _ in 0..<500 {
      wishes.input = random.chance(2)
      wishes.stopsInput = random.chance(2)
      wishes.hangUp = random.chance(2)
      wishes.output = random.chance(3)
      wishes.accept = random.chance(3)
      if random.chance(20) { wishes.isWatched.toggle() }
      submit()
      for kind in kernel.running where random.chance(3) { complete(kind, isLast: random.chance(2)) }
      // What is wanted runs, or will after an end that is to come.
      submit()
      if wishes.isWatched && wishes.input { #expect(kernel.running.contains(.input)) }
      for kind in Kind.allCases { #expect((operations[kind] != .idle) == kernel.running.contains(kind)) }
    }
    wishes = Wishes()
    for _ in 0..<100 where !operations.isIdle {
      submit()
      for kind in kernel.isCancelled { complete(kind, isLast: true) }
    }
    #expect(operations.isIdle && kernel.running.isEmpty)
  }
}

/// A generator that a seed replays.
struct SplitMix {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }

  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

  /// True once in so many times.
  mutating func chance(_ once: Int) -> Bool { below(once) == 0 }
}
