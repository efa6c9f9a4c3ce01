import Testing

@testable import Proxy

@Suite("Heartbeats of workers")
struct HeartbeatsTests {
  private final class Subject {
    private var heartbeats: Heartbeats

    init(workers: Int) { heartbeats = Heartbeats(workers: workers) }

    func nextRound() -> (isEveryoneTurning: Bool, question: UInt64) { heartbeats.nextRound() }
    func answered(_ worker: Int, _ question: UInt64) { heartbeats.answered(worker, question) }
    func ended(_ worker: Int) { heartbeats.ended(worker) }
  }

  @Test("everyone turns before the first question, and while all answer")
  func answers() {
    let heartbeats = Subject(workers: 2)
    for _ in 0..<5 {
      let (isEveryoneTurning, question) = heartbeats.nextRound()
      #expect(isEveryoneTurning)
      heartbeats.answered(0, question)
      heartbeats.answered(1, question)
    }
  }

  @Test("one worker that does not answer is enough to say no, round after round")
  func stuck() {
    let heartbeats = Subject(workers: 2)
    for round in 0..<4 {
      let (isEveryoneTurning, question) = heartbeats.nextRound()
      #expect(isEveryoneTurning == (round == 0))
      heartbeats.answered(0, question)
    }
  }

  @Test("an answer that comes in a later round does not count for it; a worker that is back does")
  func late() {
    let heartbeats = Subject(workers: 1)
    let first = heartbeats.nextRound().question
    let second = heartbeats.nextRound().question
    heartbeats.answered(0, first)
    #expect(!heartbeats.nextRound().isEveryoneTurning)
    heartbeats.answered(0, second)
    let third = heartbeats.nextRound()
    #expect(!third.isEveryoneTurning)
    heartbeats.answered(0, third.question)
    #expect(heartbeats.nextRound().isEveryoneTurning)
  }

  @Test("answers in the wrong order take nothing back")
  func order() {
    let heartbeats = Subject(workers: 1)
    let first = heartbeats.nextRound().question
    let second = heartbeats.nextRound().question
    heartbeats.answered(0, second)
    heartbeats.answered(0, first)
    #expect(heartbeats.nextRound().isEveryoneTurning)
  }

  @Test("a worker whose loop has ended is not waited for")
  func ended() {
    let heartbeats = Subject(workers: 2)
    let question = heartbeats.nextRound().question
    heartbeats.answered(0, question)
    heartbeats.ended(1)
    heartbeats.answered(1, question)
    #expect(heartbeats.nextRound().isEveryoneTurning)
  }
}
