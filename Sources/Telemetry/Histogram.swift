public import Synchronization

/// How often durations fell into each bucket of ``HistogramScale``, written by one thread and read by any.
///
/// Takes about 1 KiB. Recording costs two relaxed loads and stores.
public struct Histogram: ~Copyable, Sendable {
  @usableFromInline let sum = Counter()
  @usableFromInline let buckets = InlineArray<129, Atomic<UInt64>> { _ in Atomic(0) }

  /// Starts empty.
  @inlinable
  public init() {}

  /// Adds one duration in microseconds. Only the owning thread may call this.
  @inlinable
  public func record(microseconds: UInt64) {
    let bucket = HistogramScale.bucket(forMicroseconds: microseconds)
    buckets[bucket].store(buckets[bucket].load(ordering: .relaxed) &+ 1, ordering: .relaxed)
    sum.add(microseconds)
  }

  /// What has been recorded so far. The count comes from the buckets, so that the two always agree; the sum may be a
  /// few events off.
  public func snapshot() -> HistogramSnapshot {
    var snapshot = HistogramSnapshot()
    snapshot.sumMicroseconds = sum.count
    for bucket in 0..<HistogramScale.bucketCount {
      snapshot.counts[bucket] = buckets[bucket].load(ordering: .relaxed)
    }
    return snapshot
  }
}

/// The content of one histogram, or of several added up.
public struct HistogramSnapshot: Sendable, Equatable {
  /// How many durations each bucket of ``HistogramScale`` holds.
  public internal(set) var counts: [UInt64]
  /// All durations added up, in microseconds.
  public internal(set) var sumMicroseconds: UInt64 = 0

  /// Empty.
  public init() {
    counts = Array(repeating: 0, count: HistogramScale.bucketCount)
  }

  /// How many durations were recorded.
  public var count: UInt64 { counts.reduce(0, &+) }

  /// How many durations were at most this long. Exact where `microseconds` is a bucket's upper bound; otherwise the
  /// bucket that it falls into is left out.
  public func count(upToMicroseconds microseconds: UInt64) -> UInt64 {
    var total: UInt64 = 0
    for (bucket, count) in counts.enumerated() {
      guard let upper = HistogramScale.upperBoundMicroseconds(ofBucket: bucket), upper <= microseconds else { break }
      total &+= count
    }
    return total
  }

  /// The duration in microseconds that the share `quantile` (0 … 1) of all durations does not exceed, interpolated
  /// within its bucket; nil when nothing was recorded. What is longer than the scale counts as the scale's end.
  public func quantile(_ quantile: Double) -> Double? {
    precondition(quantile >= 0 && quantile <= 1, "a quantile is from 0 to 1")
    let total = count
    guard total > 0 else { return nil }
    let rank = quantile * Double(total)
    var below: UInt64 = 0
    for (bucket, count) in counts.enumerated() where count > 0 {
      if Double(below &+ count) >= rank {
        let lower = Double(HistogramScale.lowerBoundMicroseconds(ofBucket: bucket))
        guard let upper = HistogramScale.upperBoundMicroseconds(ofBucket: bucket) else { return lower }
        return lower + (Double(upper) - lower) * (rank - Double(below)) / Double(count)
      }
      below &+= count
    }
    return Double(HistogramScale.longestMicroseconds)
  }

  /// Adds the content of another histogram.
  public static func += (left: inout HistogramSnapshot, right: HistogramSnapshot) {
    for bucket in left.counts.indices { left.counts[bucket] &+= right.counts[bucket] }
    left.sumMicroseconds &+= right.sumMicroseconds
  }
}
