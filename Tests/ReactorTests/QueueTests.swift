import Testing

@testable import Reactor

/// The same numbers every time.
private struct Numbers {
  var state: UInt64

  mutating func below(_ limit: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int(state >> 33) % limit
  }
}

@Suite struct ByteQueueTests {
  private func check(
    _ queue: borrowing ByteQueue, _ expected: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let (count, isEmpty) = (queue.count, queue.isEmpty)
    let bytes = queue.bytes
    var contents: [UInt8] = []
    for index in bytes.indices { contents.append(bytes[index]) }
    #expect(count == expected.count && isEmpty == expected.isEmpty, sourceLocation: sourceLocation)
    #expect(contents == expected, sourceLocation: sourceLocation)
  }

  @Test func capacitiesArePowersOfTwoThatFit() {
    #expect(BlockPool.capacity(for: 0) == 512 && BlockPool.capacity(for: 512) == 512)
    #expect(BlockPool.capacity(for: 513) == 1024 && BlockPool.capacity(for: 1 << 30) == 1 << 30)
    var numbers = Numbers(state: 1)
    for _ in 0..<10_000 {
      let count = numbers.below(1 << (1 + numbers.below(31)))
      let capacity = BlockPool.capacity(for: count)
      #expect(capacity.nonzeroBitCount == 1 && capacity >= count && (capacity == 512 || capacity / 2 < count))
    }
  }

  @Test func blocksAreUsedAgain() {
    let pool = BlockPool()
    let small = unsafe pool.take(capacity: 512)
    unsafe pool.give(small, capacity: 512)
    let large = unsafe pool.take(capacity: 1024)
    #expect(unsafe small != large)
    let again = unsafe pool.take(capacity: 512)
    #expect(unsafe small == again)
    unsafe pool.give(large, capacity: 1024)
    unsafe pool.give(again, capacity: 512)
    let huge = unsafe pool.take(capacity: 1 << 20)
    unsafe pool.give(huge, capacity: 1 << 20)
  }

  @Test func moreBlocksThanThePoolKeepsAreTakenAndGiven() {
    let pool = BlockPool()
    let blocks = unsafe (0..<2000).map { _ in unsafe pool.take(capacity: 512) }
    #expect(unsafe Set(blocks).count == 2000)
    for index in 0..<2000 { unsafe pool.give(blocks[index], capacity: 512) }
  }

  @Test func anEmptyQueueHasGivenItsBlockBack() {
    let pool = BlockPool()
    let block = unsafe pool.take(capacity: 512)
    unsafe pool.give(block, capacity: 512)
    var queue = ByteQueue()
    let (nothing, three): ([UInt8], [UInt8]) = ([], [1, 2, 3])
    queue.append(nothing.span, from: pool)
    check(queue, [])
    queue.append(three.span, from: pool)
    let other = unsafe pool.take(capacity: 512)
    #expect(unsafe other != block)
    queue.consume(2, to: pool)
    check(queue, [3])
    queue.consume(1, to: pool)
    let again = unsafe pool.take(capacity: 512)
    #expect(unsafe again == block)
    check(queue, [])
    unsafe pool.give(again, capacity: 512)
    unsafe pool.give(other, capacity: 512)
  }

  @Test func whatWentInComesOutWhateverTheSizes() {
    let pool = BlockPool()
    var numbers = Numbers(state: 7)
    for _ in 0..<30 {
      var queue = ByteQueue()
      var model: [UInt8] = []
      var next: UInt8 = 0
      for _ in 0..<150 {
        let limit = numbers.below(10) == 0 ? 100_000 : 3000
        if numbers.below(2) == 0 {
          let bytes = (0..<numbers.below(limit)).map { _ in
            next &+= 1
            return next
          }
          queue.append(bytes.span, from: pool)
          model += bytes
        } else {
          let count = numbers.below(min(limit, model.count) + 1)
          queue.consume(count, to: pool)
          model.removeFirst(count)
        }
        let count = queue.count
        #expect(count == model.count)
      }
      check(queue, model)
      queue.release(to: pool)
      check(queue, [])
    }
  }
}

@Suite struct TimerQueueTests {
  @Test func timersComeAsFromASortedArray() {
    var numbers = Numbers(state: 3)
    var queue = TimerQueue()
    var model: [(deadline: Int64, token: UInt64)] = []
    for round in 0..<5000 {
      if numbers.below(3) > 0 {
        let deadline = Int64(numbers.below(500))
        queue.insert(deadline: deadline, token: UInt64(round))
        model.append((deadline, UInt64(round)))
      } else {
        let now = Int64(numbers.below(500))
        while let token = queue.popDue(at: now) {
          let earliest = model.map(\.deadline).min()
          guard let index = model.firstIndex(where: { $0.token == token }) else {
            Issue.record("token \(token) came twice")
            return
          }
          #expect(model[index].deadline == earliest && model[index].deadline <= now)
          model.remove(at: index)
        }
        #expect(model.allSatisfy { $0.deadline > now })
      }
      #expect(queue.nextDeadline == model.map(\.deadline).min())
    }
  }

  @Test func aTimerIsDueAtItsDeadlineAndNotBefore() {
    var queue = TimerQueue()
    #expect(queue.nextDeadline == nil && queue.popDue(at: .max) == nil)
    queue.insert(deadline: 10, token: 1)
    #expect(queue.popDue(at: 9) == nil)
    #expect(queue.popDue(at: 10) == 1)
    #expect(queue.nextDeadline == nil)
  }
}
