/// How far a standby is behind its primary.
public struct ReplicationLag: Equatable, Sendable {
  /// WAL that it has not replayed; 0 or more.
  public var bytes: Int64
  /// Since when its newest data is out of date; 0 or more.
  public var nanoseconds: Int64

  public init(bytes: Int64, nanoseconds: Int64) {
    self.bytes = bytes
    self.nanoseconds = nanoseconds
  }
}

/// Where the WAL of a primary was at each of the last probes: what standbys are measured by.
///
/// A standby alone cannot say how far it is behind: when it receives nothing any more, it has replayed all that it has,
/// and on a primary where nothing happens the age of its last transaction grows although nothing is missing. So its
/// position is compared with those of the primary: it is behind since the first probe that saw the primary further on.
/// The answer is exact to the interval of the probes.
public struct WALTrack: Sendable {
  private struct Sample {
    var position: Int64
    var at: MonotonicTime
  }

  /// Oldest first, positions rising.
  private var samples: [Sample] = []
  /// Which host wrote them: after a failover the old primary's positions mean nothing.
  private var host: String?

  /// With this many samples the older half is dropped. At two seconds from probe to probe more than an hour is left; a
  /// standby that is further behind shows what is left.
  public static let sampleLimit = 4096

  public init() {}

  /// The primary's WAL is at this byte.
  public mutating func primary(_ host: String, at position: Int64, _ now: MonotonicTime) {
    if self.host != host { samples = [] }
    self.host = host
    // A position that goes back is another history: the primary was restored.
    if let last = samples.last, position < last.position { samples = [] }
    guard samples.last?.position != position else { return }
    if samples.count == Self.sampleLimit { samples.removeFirst(Self.sampleLimit / 2) }
    samples.append(Sample(position: position, at: now))
  }

  /// How far a standby is behind that has replayed up to this byte; nil where no primary has been seen.
  public func lag(replayed: Int64, _ now: MonotonicTime) -> ReplicationLag? {
    guard let newest = samples.last else { return nil }
    guard let missed = samples.first(where: { $0.position > replayed }) else {
      return ReplicationLag(bytes: 0, nanoseconds: 0)
    }
    return ReplicationLag(
      bytes: newest.position - replayed, nanoseconds: max(0, now.nanoseconds(since: missed.at)))
  }
}
