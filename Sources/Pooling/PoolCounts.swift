/// One pool at a glance, for the console, metrics and health checks.
public struct PoolCounts: Equatable, Sendable {
  /// Being opened.
  public var dialing = 0
  /// Open and lent to nobody, those of an older generation included.
  public var idle = 0
  /// Waiting for the answer to a ping.
  public var testing = 0
  /// Lent to a client.
  public var active = 0
  /// Being cleaned after a client, or waiting for the end of a cancel request.
  public var settling = 0
  /// Being closed, EOF not seen yet.
  public var closing = 0
  /// Clients that wait for a connection.
  public var waiting = 0
  /// Connections open beyond `poolSize`.
  public var overflow = 0
  /// Since when the client waits that waits longest; nil when none does.
  public var oldestWaitSince: MonotonicTime?
  /// What the pool's last dials said.
  public var standing = PoolStanding.open
  /// No connection is lent until the pool is resumed.
  public var isPaused = false

  /// An empty pool.
  public init() {}

  /// All connections that count against the bound.
  public var open: Int { dialing + idle + testing + active + settling + closing }
}
