import Authentication
import Locking

/// Passwords that servers have called right, under `method = "upstream"`: each counts for a minute, so that clients which
/// come and go do not log in at the server each time. One table for all workers: a newer password replaces the older one
/// everywhere at once. Any thread; the lock is taken once a login.
final class ProvenPasswords: Sendable {
  private struct Entry {
    var password: Password
    var until: Int64
  }

  private static let nanoseconds: Int64 = 60_000_000_000
  private static let most = 10_000

  private let entries = Mutex<[PoolName: Entry]>([:])

  /// Whether the password is known to be right.
  ///
  /// - Parameters:
  ///   - name: the database, and the user as the client names it.
  ///   - now: nanoseconds of CLOCK_MONOTONIC.
  func hold(_ password: Password, of name: PoolName, now: Int64) -> Bool {
    entries.withLock { entries in
      guard let entry = entries[name], entry.until > now else { return false }
      return entry.password.isSame(as: password)
    }
  }

  /// The server has just called it right.
  func add(_ password: Password, of name: PoolName, now: Int64) {
    entries.withLock { entries in
      if entries.count >= ProvenPasswords.most { entries.removeAll() }
      entries[name] = Entry(password: password, until: now + ProvenPasswords.nanoseconds)
    }
  }

  /// Settings have changed: the server may be another one.
  func removeAll() { entries.withLock { $0.removeAll() } }
}
