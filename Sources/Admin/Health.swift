public import Telemetry

extension HealthSnapshot {
  /// How a database is, from what its pools say.
  ///
  /// - Parameters:
  ///   - database: the name that clients connect to.
  ///   - hosts: the hosts of its upstream.
  ///   - wantsPrimary: whether its sessions have to be on a primary; nil where it does not matter.
  ///   - pools: pools of any databases.
  ///   - poolSize: what the settings give each pool of the database; holds while there is none.
  public init(
    database: String, hosts: [HostSnapshot] = [], wantsPrimary: Bool? = nil, pools: [PoolSnapshot], poolSize: Int
  ) {
    let pools = pools.filter { $0.database == database }.sorted { $0.user < $1.user }
    let serving = hosts.filter { $0.mayServe(wantsPrimary: wantsPrimary) }
    if let pool = pools.first(where: { $0.standing == .outage || $0.standing == .rejected }) {
      self.init(database: database, status: .unhealthy, reason: Self.reason(pool))
    } else if !hosts.isEmpty, serving.isEmpty {
      self.init(database: database, status: .unhealthy, reason: Self.reason(hosts))
    } else if pools.contains(where: \.hasConnected) || serving.contains(where: { $0.state == "up" }) {
      self.init(database: database, status: .healthy)
    } else {
      self.init(database: database, status: .unknown, reason: "no server connection has been opened yet")
    }
    let host = serving.first { $0.state == "up" } ?? serving.first ?? hosts.first
    let latency = pools.compactMap(\.latencyMicroseconds).max() ?? host?.latencyMicroseconds
    latencyMilliseconds = latency.map { Double($0) / 1000 }
    role = host?.role ?? pools.compactMap(\.role).first
    lagBytes = host?.lagBytes
    lagSeconds = host?.lagMicroseconds.map { Double($0) / 1_000_000 }
    self.poolSize = pools.isEmpty ? poolSize : pools.reduce(0) { $0 + $1.poolSize }
    poolCheckedOut = pools.reduce(0) { $0 + $1.checkedOut }
    overflow = pools.reduce(0) { $0 + $1.overflow }
    waiting = pools.reduce(0) { $0 + $1.gauges.clientsWaiting }
    lastError = pools.compactMap(\.lastError).first ?? hosts.compactMap(\.lastError).first
  }

  private static func reason(_ hosts: [HostSnapshot]) -> String {
    let words = hosts.map { host in
      host.state == "down"
        ? "host \(host.host) is down\(host.lastError.map { ": \($0)" } ?? "")"
        : "host \(host.host) is a \(host.role ?? "host of unknown role")"
    }
    return words.joined(separator: "; ")
  }

  private static func reason(_ pool: PoolSnapshot) -> String {
    let text = pool.lastError.map { ": \($0)" } ?? ""
    return pool.standing == .rejected
      ? "pool \"\(pool.label)\": the server refuses the login\(text)"
      : "pool \"\(pool.label)\": the server cannot be reached\(text)"
  }

  /// A JSON object with a member for each property, null where it is unknown. Ends with a newline.
  public var json: String {
    JSONText.object([
      ("status", JSONText.string(status.rawValue)),
      ("latency_ms", JSONText.number(latencyMilliseconds)),
      ("role", JSONText.string(role)),
      ("lag_bytes", lagBytes.map { String($0) } ?? "null"),
      ("lag_seconds", JSONText.number(lagSeconds)),
      ("pool_size", String(poolSize)),
      ("pool_checked_out", String(poolCheckedOut)),
      ("overflow", String(overflow)),
      ("waiting", String(waiting)),
      ("reason", JSONText.string(reason)),
      ("last_error", JSONText.string(lastError)),
    ]) + "\n"
  }
}

extension HostSnapshot {
  /// Whether nothing speaks against the host.
  fileprivate func mayServe(wantsPrimary: Bool?) -> Bool {
    if state == "down" { return false }
    guard let wantsPrimary, let role else { return true }
    return wantsPrimary == (role == "primary")
  }
}
