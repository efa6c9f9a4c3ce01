/// Whether all workers' event loops turn: rounds of questions, each of which every worker has to answer before the next.
/// Knows no threads and no clock.
///
/// ```
///   round 1        round 2               round 3
///   ask 0, 1       0 and 1 have          1 has not answered
///                  answered: ask again   round 2: it is stuck
/// ```
struct Heartbeats {
  private enum Worker {
    /// It has answered the question of this round; 0 before the first.
    case running(answered: UInt64)
    /// Its loop has ended, as it should: it is asked nothing.
    case ended
  }

  private var workers: [Worker]
  /// The round whose question is open; 0 before the first.
  private var round: UInt64 = 0

  init(workers: Int) {
    self.workers = Array(repeating: .running(answered: 0), count: workers)
  }

  /// Ends a round and begins the next.
  ///
  /// - Returns: whether every worker that runs has answered since the last call; and what to ask now.
  mutating func nextRound() -> (isEveryoneTurning: Bool, question: UInt64) {
    let isEveryoneTurning = workers.allSatisfy { worker in
      switch worker {
      case .running(let answered): answered == round
      case .ended: true
      }
    }
    round += 1
    return (isEveryoneTurning, round)
  }

  /// A worker has answered a question, perhaps one of a round that is over.
  mutating func answered(_ worker: Int, _ question: UInt64) {
    if case .running(let last) = workers[worker] { workers[worker] = .running(answered: max(last, question)) }
  }

  /// A worker's loop has ended.
  mutating func ended(_ worker: Int) { workers[worker] = .ended }
}
