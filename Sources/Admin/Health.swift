public import Telemetry

extension HealthSnapshot {
  /// How a database is, from what its pools say.
  ///
  /// - Parameters:
  ///   - database: the name that clients connect to.
  ///   - pools: pools of any databases.
  ///   - poolSize: what the settings give each pool of the database; holds while there is none.
  public init(database: String, pools: [PoolSnapshot], poolSize: Int) {
    let pools = pools.filter { $0.database == database }.sorted { $0.user < $1.user }
    if let pool = pools.first(where: { $0.standing == .outage || $0.standing == .rejected }) {
      self.init(database: database, status: .unhealthy, reason: Self.reason(pool))
    } else if pools.contains(where: \.hasConnected) {
      self.init(database: database, status: .healthy)
    } else {
      self.init(database: database, status: .unknown, reason: "no server connection has been opened yet")
    }
    latencyMilliseconds = pools.compactMap(\.latencyMicroseconds).max().map { Double($0) / 1000 }
    role = pools.compactMap(\.role).first
    self.poolSize = pools.isEmpty ? poolSize : pools.reduce(0) { $0 + $1.poolSize }
    poolCheckedOut = pools.reduce(0) { $0 + $1.checkedOut }
    overflow = pools.reduce(0) { $0 + $1.overflow }
    waiting = pools.reduce(0) { $0 + $1.gauges.clientsWaiting }
    lastError = pools.compactMap(\.lastError).first
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
      ("pool_size", String(poolSize)),
      ("pool_checked_out", String(poolCheckedOut)),
      ("overflow", String(overflow)),
      ("waiting", String(waiting)),
      ("reason", JSONText.string(reason)),
      ("last_error", JSONText.string(lastError)),
    ]) + "\n"
  }
}
