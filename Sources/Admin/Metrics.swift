public import Telemetry

/// The daemon's metrics for Prometheus.
public enum Metrics {
  /// The Content-Type of ``render(_:process:)``'s text.
  public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  /// The upper bounds of the histograms' `le` buckets in microseconds. Each is a bound of ``HistogramScale`` too, so
  /// that the counts are exact.
  static let bucketBoundsMicroseconds: [UInt64] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
  ]

  /// The buckets of ``HistogramScale`` that end with those bounds.
  private static let lastBuckets = bucketBoundsMicroseconds.map(HistogramScale.bucket)
  /// The value of each `le`.
  private static let bucketLabels = bucketBoundsMicroseconds.map { MetricsWriter.seconds(microseconds: $0) } + ["+Inf"]

  /// How many pools have labels of their own; the rest are one more together (``PoolLabels``).
  public static let poolLimit = 500

  /// Everything there is to say about the daemon, in Prometheus' text format 0.0.4.
  ///
  /// Names, units and types follow prometheus.io/docs/practices/naming; `process_…` are the names that every client
  /// library uses for the process itself.
  public static func render(_ daemon: DaemonSnapshot, process: ProcessStatistics = .read()) -> String {
    var writer = MetricsWriter()
    writeDaemon(daemon, to: &writer)
    writeHosts(daemon.hosts, to: &writer)
    let pools = PoolLabels.bounded(daemon.pools, atMost: poolLimit).map {
      (pool: $0, labels: MetricsWriter.labels([("database", $0.database), ("user", $0.user)]))
    }
    writeGauges(pools, to: &writer)
    writeCounters(pools, to: &writer)
    writeHistograms(pools, to: &writer)
    writeProcess(daemon, process, to: &writer)
    return writer.text
  }

  private typealias LabelledPool = (pool: PoolSnapshot, labels: String)

  private static func writeDaemon(_ daemon: DaemonSnapshot, to writer: inout MetricsWriter) {
    writer.family(
      "lifeguard_build_info", .gauge, "The daemon's version and event loop; always 1.",
      [(MetricsWriter.labels([("version", daemon.version), ("event_loop", daemon.eventLoop)]), "1")])
    writer.single(
      "lifeguard_uptime_seconds", .gauge, "Since the daemon started.",
      MetricsWriter.seconds(microseconds: UInt64(max(0, daemon.time.microseconds - daemon.startTime.microseconds))))
    writer.single("lifeguard_workers", .gauge, "Threads that serve clients.", String(daemon.workers))
    writer.single(
      "lifeguard_client_connections", .gauge, "Connected clients, logged in or not.", String(daemon.clientCount))
    writer.single(
      "lifeguard_login_client_connections", .gauge, "Connected clients that have not logged in yet.",
      String(daemon.loginClientCount))
    writer.single(
      "lifeguard_max_client_connections", .gauge, "Clients that may be connected at once (max_clients).",
      String(daemon.maxClients))
    writer.single(
      "lifeguard_paused", .gauge, "Whether PAUSE is in force for all databases.", daemon.isPaused ? "1" : "0")
    writer.single("lifeguard_draining", .gauge, "Whether the daemon is stopping.", daemon.isDraining ? "1" : "0")
  }

  private static func writeHosts(_ hosts: [HostSnapshot], to writer: inout MetricsWriter) {
    let hosts = hosts.map { (host: $0, labels: MetricsWriter.labels([("host", $0.host)])) }
    func gauge(_ name: String, _ help: String, _ value: (HostSnapshot) -> String?) {
      writer.family(
        "lifeguard_host_\(name)", .gauge, help, hosts.compactMap { host, labels in value(host).map { (labels, $0) } })
    }
    func choice(_ name: String, _ help: String, _ values: [String], _ value: (HostSnapshot) -> String?) {
      writer.family(
        "lifeguard_host_\(name)", .gauge, help,
        hosts.flatMap { host, labels in
          values.map { ("\(labels),\(name)=\"\($0)\"", value(host) == $0 ? "1" : "0") }
        })
    }
    choice("state", "1 for what the probes say of the host: unknown, up, down.", HostSnapshot.states, \.state)
    choice(
      "breaker", "1 for the state of the host's circuit breaker: closed (dials go through), open, half_open.",
      HostSnapshot.breakerStates, \.breaker)
    choice("role", "1 for the host's role, where it is known: primary, standby.", ["primary", "standby"], \.role)
    gauge("round_trip_seconds", "The last answer to a probe.") {
      $0.latencyMicroseconds.map { MetricsWriter.seconds(microseconds: UInt64($0)) }
    }
    gauge("lag_bytes", "WAL that a standby has not replayed.") { $0.lagBytes.map { String($0) } }
    gauge("lag_seconds", "How old a standby's data are.") {
      $0.lagMicroseconds.map { MetricsWriter.seconds(microseconds: UInt64($0)) }
    }
    writer.family(
      "lifeguard_host_probes_total", .counter,
      "Probes by outcome: answered, refused (the login is refused, but somebody is there), failed.",
      hosts.flatMap { host, labels in
        [
          ("\(labels),outcome=\"answered\"", String(host.answeredCount)),
          ("\(labels),outcome=\"refused\"", String(host.refusedCount)),
          ("\(labels),outcome=\"failed\"", String(host.failedCount)),
        ]
      })
  }

  private static func writeGauges(_ pools: [LabelledPool], to writer: inout MetricsWriter) {
    func states(_ name: String, _ help: String, _ states: [(String, (PoolGauges) -> Int)]) {
      writer.family(
        name, .gauge, help,
        pools.flatMap { pool, labels in
          states.map { state, value in ("\(labels),state=\"\(state)\"", String(value(pool.gauges))) }
        })
    }
    func gauge(_ name: String, _ help: String, _ value: (PoolSnapshot) -> String) {
      writer.family(name, .gauge, help, pools.map { ($0.labels, value($0.pool)) })
    }
    states(
      "lifeguard_pool_clients", "Clients of the pool; active ones are all that do not wait.",
      [("active", \.clientsActive), ("waiting", \.clientsWaiting)])
    states(
      "lifeguard_pool_server_connections", "Server connections of the pool; all states count towards its bound.",
      [
        ("active", \.serversActive), ("idle", \.serversIdle), ("dialing", \.serversDialing),
        ("testing", \.serversTesting), ("resetting", \.serversResetting), ("closing", \.serversClosing),
      ])
    gauge("lifeguard_pool_pinned_server_connections", "Server connections kept by one client for its session state.") {
      String($0.gauges.serversPinned)
    }
    writer.family(
      "lifeguard_pool_pins", .gauge, "Reasons for which server connections are kept; one may have several.",
      pools.flatMap { pool, labels in
        zip(PinReason.allCases, pool.gauges.serversPinnedByReason).map { reason, count in
          ("\(labels),reason=\"\(reason.rawValue)\"", String(count))
        }
      })
    gauge("lifeguard_pool_size", "Server connections that are kept open (pool_size).") { String($0.poolSize) }
    gauge("lifeguard_pool_max_overflow", "Server connections that may be opened beyond pool_size (max_overflow).") {
      String($0.maxOverflow)
    }
    gauge("lifeguard_pool_overflow", "Server connections beyond pool_size.") { String($0.overflow) }
    gauge("lifeguard_pool_paused", "Whether PAUSE is in force for the pool.") { $0.isPaused ? "1" : "0" }
    writer.family(
      "lifeguard_pool_standing", .gauge,
      "1 for what the last attempts to connect say: open, exhausted (no more connections to give), outage, rejected.",
      pools.flatMap { pool, labels in
        PoolStandingSnapshot.allCases.map {
          ("\(labels),standing=\"\($0.rawValue)\"", pool.standing == $0 ? "1" : "0")
        }
      })
    writer.family(
      "lifeguard_pool_round_trip_seconds", .gauge,
      "The latest round trip to the server, of a ping or of the first message on a new connection.",
      pools.compactMap { pool, labels in
        pool.latencyMicroseconds.map { (labels, MetricsWriter.seconds(microseconds: UInt64($0))) }
      })
    gauge("lifeguard_pool_max_wait_seconds", "How long the first client in the queue has been waiting.") {
      MetricsWriter.seconds(microseconds: UInt64(max(0, $0.gauges.maxWaitMicroseconds)))
    }
  }

  private static func writeCounters(_ pools: [LabelledPool], to writer: inout MetricsWriter) {
    func counter(_ name: String, _ help: String, _ value: (PoolCounters) -> UInt64) {
      writer.family(
        "lifeguard_pool_\(name)_total", .counter, help,
        pools.map { ($0.labels, String(value($0.pool.counters))) })
    }
    counter("transactions", "Transactions that the server ended.", \.xactCount)
    counter("queries", "Queries that the server answered.", \.queryCount)
    counter("server_assignments", "Requests that were given a server connection.", \.serverAssignmentCount)
    counter("received_bytes", "Bytes received from clients, without what TLS adds.", \.bytesReceived)
    counter("sent_bytes", "Bytes sent to clients, without what TLS adds.", \.bytesSent)
    counter("client_parses", "Parse messages of clients that went to a server.", \.clientParseCount)
    counter("server_parses", "Parse messages that were sent to servers.", \.serverParseCount)
    counter("binds", "Bind messages of clients that went to a server.", \.bindCount)
    counter("client_logins", "Clients that logged in.", \.loginCount)
    counter("connects", "Server connections that were opened.", \.connects)
    counter("connect_failures", "Dials that failed.", \.connectFailures)
    counter("checkouts", "Server connections handed to clients, for logins too.", \.checkouts)
    counter("checkins", "Server connections given back by clients, left behind or lost.", \.checkins)
    counter("invalidations", "Server connections lost, or closed as unfit, paused or the like.", \.invalidations)
    counter("recycles", "Server connections replaced for their age (pool_recycle).", \.recycles)
    counter("overflow_dials", "Dials beyond pool_size.", \.overflowDials)
    counter("overflow_closes", "Overflow connections closed after overflow_linger.", \.overflowCloses)
    counter("timeouts", "Waits that pool_timeout ended.", \.timeouts)
    writer.family(
      "lifeguard_pool_limits_exceeded_total", .counter, "Times that a client or its transaction reached a time limit.",
      pools.flatMap { pool, labels in
        zip(TimeLimit.allCases, pool.counters.limitsExceeded).map { limit, count in
          ("\(labels),limit=\"\(limit.rawValue)\"", String(count))
        }
      })
    writer.family(
      "lifeguard_pool_read_fallbacks_total", .counter,
      "Reads that went to the primary because of: lag, unreachable, role, timeout, rejected.",
      pools.flatMap { pool, labels in
        zip(ReadFallback.allCases, pool.counters.readFallbacks).map { reason, count in
          ("\(labels),reason=\"\(reason.rawValue)\"", String(count))
        }
      })
    let outcomes: [(String, (PoolCounters) -> UInt64)] = [
      ("ok", \.pingsOK), ("failed", \.pingsFailed), ("timed_out", \.pingsTimedOut),
    ]
    writer.family(
      "lifeguard_pool_pings_total", .counter, "Pings of idle server connections by outcome.",
      pools.flatMap { pool, labels in
        outcomes.map { outcome, value in ("\(labels),outcome=\"\(outcome)\"", String(value(pool.counters))) }
      })
    let proofs: [(String, (PoolCounters) -> UInt64)] = [
      ("recent", \.checkoutsProven), ("ping", \.checkoutsPinged), ("dial", \.checkoutsDialed),
    ]
    writer.family(
      "lifeguard_pool_checkout_proofs_total", .counter,
      "Checkouts by what it took to know that the connection is alive: nothing (recent), a ping, a dial.",
      pools.flatMap { pool, labels in
        proofs.map { proof, value in ("\(labels),proof=\"\(proof)\"", String(value(pool.counters))) }
      })
    counter("idle_losses", "Idle server connections whose end was noticed at once.", \.idleLosses)
    counter("cancels", "Cancel requests sent to the server.", \.cancels)
    counter(
      "settings_applied", "Times that a client's settings were written ahead of its first bytes.", \.settingsApplied)
    counter("settings_confirmed", "Times that a client's settings took a round trip.", \.settingsConfirmed)
    counter(
      "session_inspections", "Times that the server was asked what a client had left on a connection.", \.inspections)
    counter(
      "statement_heals", "Requests sent again with a statement parsed anew, without the client noticing.", \.heals)
    counter(
      "session_scrubs", "Times that a connection was cleaned of what no text showed before another client got it.",
      \.scrubs)
    counter("shard_permits", "Permits that shards of the pool got from others (pool_workers).", \.shardPermits)
    counter(
      "shard_connections", "Server connections that shards of the pool got from others (pool_workers).",
      \.shardConnections)
  }

  private static func writeHistograms(_ pools: [LabelledPool], to writer: inout MetricsWriter) {
    func histogram(_ name: String, _ help: String, _ value: (PoolCounters) -> HistogramSnapshot) {
      if pools.isEmpty { return }
      let family = "lifeguard_pool_\(name)_seconds"
      writer.begin(family, .histogram, help)
      for (pool, labels) in pools {
        let histogram = value(pool.counters)
        let totals = cumulated(histogram)
        for (bound, total) in zip(bucketLabels, totals) {
          writer.line("\(family)_bucket", "\(labels),le=\"\(bound)\"", String(total))
        }
        writer.line("\(family)_sum", labels, MetricsWriter.seconds(microseconds: histogram.sumMicroseconds))
        writer.line("\(family)_count", labels, String(totals[lastBuckets.count]))
      }
    }
    histogram("wait", "From a client's request to its server connection, or to the end of the wait.", \.wait)
    histogram("connect", "From the start of a dial to a usable server connection.", \.connect)
    histogram("ping", "From a ping to its answer.", \.ping)
    histogram("query", "From a request to its ReadyForQuery.", \.query)
    histogram("transaction", "From a transaction's first request to the ReadyForQuery that ended it.", \.transaction)
    histogram(
      "idle_in_transaction", "From a ReadyForQuery inside a transaction block to the client's next request.",
      \.idleInTransaction)
    histogram(
      "shard_transfer", "How long a shard's client waited for a permit or connection that another shard had to spare.",
      \.shardTransfer)
  }

  /// How many durations there were up to each bound, and all of them at the end.
  private static func cumulated(_ histogram: HistogramSnapshot) -> [UInt64] {
    var totals: [UInt64] = []
    var total: UInt64 = 0
    for (bucket, count) in histogram.counts.enumerated() {
      total &+= count
      if totals.count < lastBuckets.count, bucket == lastBuckets[totals.count] { totals.append(total) }
    }
    return totals + [total]
  }

  private static func writeProcess(
    _ daemon: DaemonSnapshot, _ process: ProcessStatistics, to writer: inout MetricsWriter
  ) {
    func gauge(_ name: String, _ help: String, _ value: UInt64?) {
      if let value { writer.single(name, .gauge, help, String(value)) }
    }
    writer.single(
      "process_cpu_seconds_total", .counter, "CPU time in user and kernel mode.",
      MetricsWriter.seconds(microseconds: process.cpuMicroseconds))
    writer.single(
      "process_start_time_seconds", .gauge, "When the daemon started, since the Unix epoch.",
      MetricsWriter.seconds(microseconds: UInt64(max(0, daemon.startTime.microseconds))))
    gauge("process_resident_memory_bytes", "Resident memory.", process.residentBytes)
    gauge("process_virtual_memory_bytes", "Virtual memory.", process.virtualBytes)
    gauge("process_open_fds", "Open file descriptors.", process.openDescriptors)
    gauge(
      "process_max_fds", "Open file descriptors that clients and server connections may use up.", process.maxDescriptors
    )
  }
}
