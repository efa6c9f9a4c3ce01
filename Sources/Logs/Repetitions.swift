/// Folds what happens again and again. The first time is written at once; what is the same within a while after it is
/// only counted, and the count is written when the while is over.
///
/// ```
///   happens:  x x x x x               x
///   written:  x        "x … 4 times"  x
///             |--window--|
/// ```
///
/// Events in, answers out: the caller has the clock.
public struct Repetitions<Key: Hashable, Message> {
  /// How long the same is only counted (nanoseconds).
  public let windowNanoseconds: Int64
  /// Kinds of things that are folded at once; whatever comes beyond that is written each time, so that hostile names
  /// cannot fill the memory.
  public let limit: Int

  private struct Window {
    var ends: Int64
    var repetitions = 0
    /// What is written with the count: the first.
    let message: Message
  }

  private var windows: [Key: Window] = [:]

  /// Nothing has happened yet.
  public init(windowNanoseconds: Int64 = 1_000_000_000, limit: Int = 1000) {
    self.windowNanoseconds = windowNanoseconds
    self.limit = limit
  }

  /// It happens.
  ///
  /// - Returns: whether it is to be written now. Otherwise it is in a later answer of `ended`.
  public mutating func happens(_ key: Key, _ message: @autoclosure () -> Message, at now: Int64) -> Bool {
    if let window = windows[key], now < window.ends {
      windows[key]?.repetitions += 1
      return false
    }
    precondition(windows[key].map { $0.repetitions == 0 } ?? true, "the last count has not been fetched")
    if windows[key] != nil || windows.count < limit {
      windows[key] = Window(ends: now + windowNanoseconds, message: message())
    }
    return true
  }

  /// What has been counted in windows that are over, in no order; always called before `happens`. Windows that have only
  /// their first are forgotten.
  public mutating func ended(at now: Int64) -> [(message: Message, repetitions: Int)] {
    if !windows.contains(where: { $0.value.ends <= now }) { return [] }
    let over = windows.values.filter { $0.ends <= now && $0.repetitions > 0 }
    windows = windows.filter { $0.value.ends > now }
    return over.map { ($0.message, $0.repetitions) }
  }

  /// When `ended` has something to say; nil while nothing was counted.
  public var nextEnd: Int64? { windows.values.filter { $0.repetitions > 0 }.map(\.ends).min() }
}
