/// The buckets of every histogram: log-linear over whole microseconds, so that their bounds are round decimal numbers.
///
/// ```
/// bucket      0 … 9           10 … 27                28 … 45            …   100 … 117         118 … 127     128
/// above (µs)  0, 1, … 9       10, 15, 20, … 95       100, 150, … 950    …   1 s, 1.5 s, …     10 s, 15 s …  60 s
/// up to       1, 2, … 10      15, 20, … 100          150, 200, … 1000   …   10 s              60 s          ∞
/// ```
///
/// A bucket holds the durations above its lower bound and up to its upper bound, as Prometheus' `le` wants it. From
/// 10 µs on a bucket is at most half as wide as its lower bound.
public enum HistogramScale {
  /// How many buckets there are; the last one has no upper bound.
  public static let bucketCount = 129

  /// The longest duration that has a bounded bucket: one minute.
  public static let longestMicroseconds: UInt64 = 60_000_000

  /// The bucket of a duration. The division is by a constant in each branch, hence a multiplication.
  @inlinable
  public static func bucket(forMicroseconds microseconds: UInt64) -> Int {
    // One less, so that a duration that equals an upper bound falls below it.
    let value = microseconds == 0 ? 0 : microseconds &- 1
    if value < 10 { return Int(truncatingIfNeeded: value) }
    if value < 100 { return 8 &+ Int(truncatingIfNeeded: value / 5) }
    if value < 1_000 { return 26 &+ Int(truncatingIfNeeded: value / 50) }
    if value < 10_000 { return 44 &+ Int(truncatingIfNeeded: value / 500) }
    if value < 100_000 { return 62 &+ Int(truncatingIfNeeded: value / 5_000) }
    if value < 1_000_000 { return 80 &+ Int(truncatingIfNeeded: value / 50_000) }
    if value < 10_000_000 { return 98 &+ Int(truncatingIfNeeded: value / 500_000) }
    if value < longestMicroseconds { return 116 &+ Int(truncatingIfNeeded: value / 5_000_000) }
    return bucketCount - 1
  }

  /// The lower bound of a bucket in microseconds; its durations are above it.
  public static func lowerBoundMicroseconds(ofBucket bucket: Int) -> UInt64 {
    precondition(bucket >= 0 && bucket < bucketCount, "no such bucket")
    if bucket < 10 { return UInt64(bucket) }
    // Each power of ten has 18 buckets: 1.0, 1.5, 2.0, … 9.5 times itself.
    let (power, step) = (bucket - 10).quotientAndRemainder(dividingBy: 18)
    var halfUnit: UInt64 = 5
    for _ in 0..<power { halfUnit *= 10 }
    return halfUnit * UInt64(step + 2)
  }

  /// The upper bound of a bucket in microseconds, which belongs to it; nil for the last.
  public static func upperBoundMicroseconds(ofBucket bucket: Int) -> UInt64? {
    bucket == bucketCount - 1 ? nil : lowerBoundMicroseconds(ofBucket: bucket + 1)
  }
}
