public import Telemetry

/// What the status page shows, as JSON: `/api/status`.
public enum StatusDocument {
  /// Events beyond are left out, the oldest first.
  static let eventLimit = 100
  /// Pools beyond are added up, as in the metrics.
  static let poolLimit = 200
  /// Hosts beyond are left out.
  static let hostLimit = 200

  /// One object. Counters only grow, so that the page gets rates and quantiles from the differences of two documents;
  /// durations of waits come as buckets, `[index, count]` for each that is not empty, whose upper bounds are
  /// `bucket_bounds_us` (the last bucket has none).
  public static func json(of daemon: DaemonSnapshot) -> String {
    let bounds = (0..<HistogramScale.bucketCount).compactMap(HistogramScale.upperBoundMicroseconds)
    return JSONText.object([
      ("version", JSONText.string(daemon.version)),
      ("event_loop", JSONText.string(daemon.eventLoop)),
      ("workers", String(daemon.workers)),
      ("time_us", String(daemon.time.microseconds)),
      ("start_time_us", String(daemon.startTime.microseconds)),
      ("paused", String(daemon.isPaused)),
      ("draining", String(daemon.isDraining)),
      ("clients", String(daemon.clientCount)),
      ("login_clients", String(daemon.loginClientCount)),
      ("max_clients", String(daemon.maxClients)),
      ("bucket_bounds_us", JSONText.array(bounds.map { String($0) })),
      ("pools", JSONText.array(PoolLabels.bounded(daemon.pools, atMost: poolLimit).map(pool))),
      ("hosts", JSONText.array(daemon.hosts.prefix(hostLimit).map(host))),
      ("events", JSONText.array(daemon.events.suffix(eventLimit).map(event))),
    ]) + "\n"
  }

  private static func pool(_ pool: PoolSnapshot) -> String {
    let gauges = pool.gauges
    let counters = pool.counters
    return JSONText.object([
      ("database", JSONText.string(pool.database)),
      ("user", JSONText.string(pool.user)),
      ("mode", JSONText.string(pool.mode)),
      ("pool_size", String(pool.poolSize)),
      ("max_overflow", String(pool.maxOverflow)),
      ("paused", String(pool.isPaused)),
      ("standing", JSONText.string(pool.standing.rawValue)),
      ("last_error", JSONText.string(pool.lastError)),
      ("latency_us", pool.latencyMicroseconds.map { String($0) } ?? "null"),
      ("role", JSONText.string(pool.role)),
      ("clients", String(gauges.clientsActive + gauges.clientsWaiting)),
      ("waiting", String(gauges.clientsWaiting)),
      ("max_wait_us", String(gauges.maxWaitMicroseconds)),
      ("checked_out", String(pool.checkedOut)),
      ("idle", String(gauges.serversIdle)),
      ("dialing", String(gauges.serversDialing)),
      ("closing", String(gauges.serversClosing)),
      ("pinned", String(gauges.serversPinned)),
      ("overflow", String(pool.overflow)),
      ("transactions", String(counters.xactCount)),
      ("queries", String(counters.queryCount)),
      ("timeouts", String(counters.timeouts)),
      ("connect_failures", String(counters.connectFailures)),
      ("wait", buckets(counters.wait)),
    ])
  }

  private static func host(_ host: HostSnapshot) -> String {
    JSONText.object([
      ("host", JSONText.string(host.host)),
      ("databases", JSONText.array(host.databases.map { JSONText.string($0) })),
      ("state", JSONText.string(host.state)),
      ("breaker", JSONText.string(host.breaker)),
      ("probed", String(host.isProbed)),
      ("role", JSONText.string(host.role)),
      ("read_only", String(host.isReadOnly)),
      ("latency_us", host.latencyMicroseconds.map { String($0) } ?? "null"),
      ("lag_bytes", host.lagBytes.map { String($0) } ?? "null"),
      ("lag_us", host.lagMicroseconds.map { String($0) } ?? "null"),
      ("last_error", JSONText.string(host.lastError)),
      ("history", JSONText.string(String(host.history.map(\.outcome)))),
    ])
  }

  private static func buckets(_ histogram: HistogramSnapshot) -> String {
    JSONText.array(
      histogram.counts.enumerated().compactMap { bucket, count in count > 0 ? "[\(bucket), \(count)]" : nil })
  }

  private static func event(_ event: EventSnapshot) -> String {
    JSONText.object([
      ("id", String(event.id)),
      ("time_us", String(event.time.microseconds)),
      ("kind", JSONText.string(event.kind)),
      ("pool", JSONText.string(event.pool)),
      ("detail", JSONText.string(event.detail)),
      ("count", String(event.count)),
    ])
  }
}
