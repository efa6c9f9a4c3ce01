/// What one pool is told. The names are those of the settings file; all times are nanoseconds.
public struct PoolConfiguration: Equatable, Sendable {
  /// What waiting clients do while the upstream cannot be reached.
  public enum OutagePolicy: Equatable, Sendable {
    /// They go on waiting, up to `poolTimeout`.
    case hold
    /// They get the error at once, except those that a dial or a ping is under way for.
    case fail
  }

  /// Connections that stay open when they come back; 1 or more.
  public var poolSize: Int
  /// Connections that may be opened beyond `poolSize`; 0 or more.
  public var maxOverflow: Int
  /// Connections that are opened ahead of demand; 0 to `poolSize`.
  public var minSize = 0
  /// The longest wait for a connection; nil waits for ever. Zero does not wait: the client fails at once, unless a
  /// connection for it is on its way, which it then waits for up to `connectTimeoutNanoseconds`.
  public var poolTimeoutNanoseconds: Int64? = 30_000_000_000
  /// The age at which a connection is replaced, less up to a tenth of it as jitter; nil never replaces.
  public var poolRecycleNanoseconds: Int64? = 3_600_000_000_000
  /// Whether a connection that has been idle for `prePingIdleNanoseconds` is pinged before a client gets it.
  public var prePing = true
  /// Proven alive more recently than this: no ping. Zero pings at every checkout.
  public var prePingIdleNanoseconds: Int64 = 1_000_000_000
  /// Whether the connection that came back last is lent first; otherwise the one that has been idle longest.
  public var useLIFO = true
  /// How long a connection stays idle that came back while `poolSize` were idle; zero closes it at once.
  public var overflowLingerNanoseconds: Int64 = 1_000_000_000
  /// What waiting clients do in an outage.
  public var onOutage = OutagePolicy.hold
  /// The longest time for opening a connection. Dials are timed by who carries them out; here it bounds the wait of
  /// clients that do not wait (`poolTimeoutNanoseconds` zero).
  public var connectTimeoutNanoseconds: Int64 = 5_000_000_000

  /// The defaults of the settings file, for a pool of this size.
  public init(poolSize: Int = 5, maxOverflow: Int = 10) {
    self.poolSize = poolSize
    self.maxOverflow = maxOverflow
  }

  /// The hard limit of server connections, as PostgreSQL counts them.
  public var bound: Int { poolSize + maxOverflow }

  func validate() {
    precondition(poolSize >= 1 && maxOverflow >= 0, "a pool is bounded and not empty")
    precondition((0...poolSize).contains(minSize), "min_size is at most pool_size")
    precondition(prePingIdleNanoseconds >= 0 && overflowLingerNanoseconds >= 0 && connectTimeoutNanoseconds > 0)
    precondition(poolTimeoutNanoseconds ?? 0 >= 0 && poolRecycleNanoseconds ?? 1 > 0)
  }
}
