internal import Telemetry

/// What SHOW CLIENTS, SERVERS and SOCKETS show of a connection, whichever side it is on.
private struct ConnectionRow {
  var type: String
  var state: String
  var connection: ConnectionSnapshot
  var waitMicroseconds: Int64 = 0
  var closeNeeded = false
  var pointer: String
  var link: String
  var backendProcessID: Int32 = 0
  var pin: PinSnapshot?
  var isIdle: Bool

  init(_ client: ClientSnapshot) {
    type = "C"
    state = client.state.rawValue
    connection = client.connection
    waitMicroseconds = client.waitMicroseconds
    pointer = ConnectionRow.pointer("c", client.connection.id)
    link = client.serverID.map { ConnectionRow.pointer("s", $0) } ?? ""
    pin = client.pin
    isIdle = client.state == .idle
  }

  init(_ server: ServerSnapshot) {
    type = "S"
    state = server.state.rawValue
    connection = server.connection
    closeNeeded = server.closeNeeded
    pointer = ConnectionRow.pointer("s", server.connection.id)
    link = server.clientID.map { ConnectionRow.pointer("c", $0) } ?? ""
    backendProcessID = server.backendProcessID ?? 0
    isIdle = server.state == .idle
  }

  /// PgBouncer shows memory addresses in `ptr` and `link`; all that matters is that the two match.
  private static func pointer(_ kind: String, _ id: Int64) -> String { kind + String(id, radix: 16) }

  /// PgBouncer's columns.
  static var columns: [ColumnSource<ConnectionRow>] {
    let before: [ColumnSource<ConnectionRow>] = [
      .text("type") { $0.type },
      .text("user") { $0.connection.user },
      .text("database") { $0.connection.database },
      .text("replication") { _ in "none" },
      .text("state") { $0.state },
      .text("addr") { $0.connection.remote?.host },
      .int4("port") { $0.connection.remote?.port ?? 0 },
      .text("local_addr") { $0.connection.local?.host },
      .int4("local_port") { $0.connection.local?.port ?? 0 },
      .text("connect_time") { $0.connection.connectTime.description },
      .text("request_time") { $0.connection.requestTime?.description },
    ]
    let after: [ColumnSource<ConnectionRow>] = [
      .int4("close_needed") { $0.closeNeeded ? 1 : 0 },
      .text("ptr") { $0.pointer },
      .text("link") { $0.link },
      .int4("remote_pid") { Int($0.backendProcessID) },
      .text("tls") { $0.connection.tls ?? "" },
      .text("application_name") { $0.connection.applicationName ?? "" },
      .int4("prepared_statements") { $0.connection.preparedStatements },
      .int8("id") { $0.connection.id },
    ]
    return before + ColumnSource.duration("wait", "wait_us") { $0.waitMicroseconds } + after
  }

  /// PgBouncer's columns for the buffers of a socket. Lifeguard relays messages without a buffer between the two sides,
  /// so what waits is unread input (`pkt_avail`) and output that the peer has not taken (`send_avail`).
  static var bufferColumns: [ColumnSource<ConnectionRow>] {
    [
      .int4("recv_pos") { $0.connection.unreadBytes },
      .int4("pkt_pos") { _ in 0 },
      .int4("pkt_remain") { _ in 0 },
      .int4("send_pos") { _ in 0 },
      .int4("send_remain") { $0.connection.unsentBytes },
      .int4("pkt_avail") { $0.connection.unreadBytes },
      .int4("send_avail") { $0.connection.unsentBytes },
    ]
  }
}

extension AdminTable {
  /// SHOW CLIENTS.
  static func clients(_ daemon: DaemonSnapshot) -> AdminTable {
    AdminTable(clientRows(daemon), ConnectionRow.columns + [.text("pinned") { $0.pin?.text }])
  }

  /// SHOW PINS.
  static func pins(_ daemon: DaemonSnapshot) -> AdminTable {
    let columns: [ColumnSource<ConnectionRow>] = [
      .text("database") { $0.connection.database },
      .text("user") { $0.connection.user },
      .int8("client") { $0.connection.id },
      .text("application_name") { $0.connection.applicationName ?? "" },
      .text("link") { $0.link },
      .text("reason") { $0.pin?.text },
      .text("statement") { $0.pin?.statement },
    ]
    let age = ColumnSource<ConnectionRow>.duration("age", "age_us") { $0.pin?.ageMicroseconds ?? 0 }
    return AdminTable(clientRows(daemon).filter { $0.pin != nil }, columns + age)
  }

  /// SHOW SERVERS.
  static func servers(_ daemon: DaemonSnapshot) -> AdminTable {
    AdminTable(
      serverRows(daemon),
      ConnectionRow.columns + [.text("pool") { "\($0.connection.database)/\($0.connection.user)" }])
  }

  /// SHOW SOCKETS and SHOW ACTIVE_SOCKETS.
  static func sockets(_ daemon: DaemonSnapshot, withIdle: Bool) -> AdminTable {
    let rows = (clientRows(daemon) + serverRows(daemon)).filter { withIdle || !$0.isIdle }
    return AdminTable(rows, ConnectionRow.columns + ConnectionRow.bufferColumns)
  }

  /// SHOW MEM.
  static func memory(_ daemon: DaemonSnapshot) -> AdminTable {
    AdminTable(
      daemon.memory ?? [],
      [
        .text("name") { $0.name },
        .int4("size") { $0.size },
        .int4("used") { $0.used },
        .int4("free") { $0.free },
        .int8("memtotal") { Int64($0.size) * Int64($0.used + $0.free) },
      ])
  }

  private static func clientRows(_ daemon: DaemonSnapshot) -> [ConnectionRow] {
    (daemon.clients ?? []).sorted { $0.connection.id < $1.connection.id }.map { ConnectionRow($0) }
  }

  private static func serverRows(_ daemon: DaemonSnapshot) -> [ConnectionRow] {
    (daemon.servers ?? []).sorted { $0.connection.id < $1.connection.id }.map { ConnectionRow($0) }
  }
}
