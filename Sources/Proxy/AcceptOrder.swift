import Locking

/// Whether a worker accepts clients at once, or lets the other workers come first.
///
/// A client whose pool lives on another worker has to be sent there, which costs more than all the rest of its login. So a
/// worker with which nobody of many stays comes last: it looks for clients now and then, and takes those whom the others
/// do not get to. The first one that stays ends it, and so do many that the others have had to send here.
struct AcceptOrder {
  /// Clients in a row that went to other workers, after which a worker comes last; and those that came from other workers
  /// meanwhile, after which it no longer does.
  static let patience = 64

  private let workers: AcceptingWorkers
  private var sentAway = 0
  private var received = 0
  private(set) var comesLast = false

  init(_ workers: AcceptingWorkers) { self.workers = workers }

  /// A client has been accepted here and has logged in.
  mutating func placed(stays: Bool) {
    guard !stays else {
      comeFirst()
      return
    }
    sentAway += 1
    if sentAway >= AcceptOrder.patience && !comesLast { comesLast = workers.leave() }
  }

  /// A client has been accepted by another worker and stays here.
  mutating func arrived() {
    guard comesLast else { return }
    received += 1
    if received >= AcceptOrder.patience { comeFirst() }
  }

  private mutating func comeFirst() {
    if comesLast { workers.enter() }
    comesLast = false
    sentAway = 0
    received = 0
  }
}

/// How many workers accept clients at once: never none. Any thread.
final class AcceptingWorkers: Sendable {
  private let count: Mutex<Int>

  init(_ count: Int) { self.count = Mutex(count) }

  func enter() { count.withLock { $0 += 1 } }

  /// Not for the last one.
  func leave() -> Bool {
    count.withLock { count in
      guard count > 1 else { return false }
      count -= 1
      return true
    }
  }
}
