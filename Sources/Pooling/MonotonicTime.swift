/// A moment of a monotonic clock, given by the caller: nothing in this module reads a clock.
///
/// Differences are nanoseconds. `distantPast` and `distantFuture` mean "before everything" and "never".
@frozen
public struct MonotonicTime: Comparable, Hashable, Sendable {
  /// Nanoseconds since an arbitrary start.
  public var nanoseconds: Int64

  @inlinable
  public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  /// Earlier than every moment of the clock.
  @inlinable public static var distantPast: MonotonicTime { MonotonicTime(nanoseconds: .min) }
  /// Later than every moment of the clock.
  @inlinable public static var distantFuture: MonotonicTime { MonotonicTime(nanoseconds: .max) }

  @inlinable
  public static func < (left: MonotonicTime, right: MonotonicTime) -> Bool { left.nanoseconds < right.nanoseconds }

  /// The moment so many nanoseconds later; a sum that does not fit is `distantFuture`.
  @inlinable
  public static func + (time: MonotonicTime, nanoseconds: Int64) -> MonotonicTime {
    let (sum, overflow) = time.nanoseconds.addingReportingOverflow(nanoseconds)
    return MonotonicTime(nanoseconds: overflow ? .max : sum)
  }

  /// The moment so many nanoseconds earlier; a difference that does not fit is `distantPast`.
  @inlinable
  public static func - (time: MonotonicTime, nanoseconds: Int64) -> MonotonicTime {
    let (difference, overflow) = time.nanoseconds.subtractingReportingOverflow(nanoseconds)
    return MonotonicTime(nanoseconds: overflow ? .min : difference)
  }

  /// The nanoseconds from `earlier` to this moment.
  @inlinable
  public func nanoseconds(since earlier: MonotonicTime) -> Int64 { nanoseconds - earlier.nanoseconds }
}
