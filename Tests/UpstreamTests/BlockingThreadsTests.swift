import Synchronization
import Testing

@testable import Upstream

@Suite struct BlockingThreadsTests {
  /// Lets jobs block until the test says so.
  final class Gate: Sendable {
    private let monitor = Monitor(false)
    func open() { monitor.update { $0 = true } }
    func pass() { monitor.await(until: nil) { isOpen, _ in isOpen ? () : nil } }
  }

  private func job(
    _ identifier: UInt64, _ lane: String, abandon: @escaping @Sendable (BlockingThreads.Abandonment) -> Void = { _ in },
    run: @escaping @Sendable () -> Void
  ) -> BlockingThreads.Job {
    BlockingThreads.Job(identifier: identifier, lane: lane, run: run, abandon: abandon)
  }

  @Test func aFullLaneLeavesTheOthersAlone() throws {
    let threads = BlockingThreads(laneLimit: 2, maximumThreads: 3, lingerNanoseconds: 1_000_000_000)
    let (gate, begun, other) = (Gate(), Delivery<Int>(), Delivery<Int>())
    for number in 0..<10 {
      threads.submit(
        job(UInt64(number), "dead") {
          begun.deliver(number); gate.pass()
        })
    }
    threads.submit(job(100, "alive") { other.deliver(1) })
    #expect(try other.value() == 1)
    #expect(begun.count <= 2)
    gate.open()
    threads.close()
    threads.join(includingRunning: true)
    #expect(threads.load.threads == 0)
  }

  @Test func jobsOfALaneStartInTheirOrder() throws {
    let threads = BlockingThreads(laneLimit: 1, maximumThreads: 4, lingerNanoseconds: 1_000_000_000)
    let order = Mutex<[Int]>([])
    let done = Delivery<Int>()
    for number in 0..<100 {
      threads.submit(
        job(UInt64(number), "a") {
          order.withLock { $0.append(number) }
          if number == 99 { done.deliver(number) }
        })
    }
    _ = try done.value()
    #expect(order.withLock { $0 } == Array(0..<100))
    threads.close()
    threads.join(includingRunning: true)
  }

  @Test func withdrawnAndAbandonedJobsNeverRun() throws {
    let threads = BlockingThreads(laneLimit: 1, maximumThreads: 1, lingerNanoseconds: 1_000_000_000)
    let (gate, begun, ran, abandoned) = (Gate(), Delivery<Int>(), Delivery<Int>(), Delivery<Int>())
    threads.submit(
      job(1, "a") {
        begun.deliver(1); gate.pass()
      })
    _ = try begun.value()
    threads.submit(job(2, "a", abandon: { _ in abandoned.deliver(2) }) { ran.deliver(2) })
    threads.submit(job(3, "a", abandon: { _ in abandoned.deliver(3) }) { ran.deliver(3) })
    #expect(threads.withdraw(2))
    #expect(!threads.withdraw(2))
    #expect(!threads.withdraw(1))
    threads.close()
    #expect(try abandoned.value() == 3)
    gate.open()
    threads.join(includingRunning: true)
    threads.submit(job(4, "a", abandon: { _ in abandoned.deliver(4) }) { ran.deliver(4) })
    #expect(abandoned.count == 2)
    #expect(ran.count == 0)
  }

  @Test func idleThreadsAreReusedAndLeaveAfterTheirLinger() throws {
    let threads = BlockingThreads(laneLimit: 4, maximumThreads: 4, lingerNanoseconds: 0)
    let done = Delivery<Int>()
    for number in 0..<1000 { threads.submit(job(UInt64(number), "a") { if number == 999 { done.deliver(1) } }) }
    _ = try done.value()
    #expect(threads.load.threads <= 4)
    threads.close()
    threads.join(includingRunning: true)
    #expect(threads.load == (0, 0, 0))
  }
}
