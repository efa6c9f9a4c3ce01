internal import Telemetry

extension AdminTable {
  /// SHOW CLIENTS.
  static func clients(_ daemon: DaemonSnapshot) -> AdminTable {
    let columns: [ColumnSource<ClientSnapshot>] =
      [
        .text("type") { _ in "C" },
        .text("user") { $0.connection.user },
        .text("database") { $0.connection.database },
        .text("replication") { _ in "none" },
        .text("state") { $0.state.rawValue },
      ]
      + addresses(\.connection)
      + ColumnSource.duration("wait", "wait_us") { $0.waitMicroseconds }
      + [
        .int4("close_needed") { _ in 0 },
        .text("ptr") { pointer("c", $0.connection.id) },
        .text("link") { client in client.serverID.map { pointer("s", $0) } ?? "" },
        .int4("remote_pid") { _ in 0 },
      ]
      + details(\.connection)
      + [.text("pinned") { $0.pinReason }]
    return AdminTable((daemon.clients ?? []).sorted { $0.connection.id < $1.connection.id }, columns)
  }

  /// SHOW SERVERS.
  static func servers(_ daemon: DaemonSnapshot) -> AdminTable {
    let columns: [ColumnSource<ServerSnapshot>] =
      [
        .text("type") { _ in "S" },
        .text("user") { $0.connection.user },
        .text("database") { $0.connection.database },
        .text("replication") { _ in "none" },
        .text("state") { $0.state.rawValue },
      ]
      + addresses(\.connection)
      + ColumnSource.duration("wait", "wait_us") { _ in 0 }
      + [
        .int4("close_needed") { $0.closeNeeded ? 1 : 0 },
        .text("ptr") { pointer("s", $0.connection.id) },
        .text("link") { server in server.clientID.map { pointer("c", $0) } ?? "" },
        .int4("remote_pid") { Int($0.backendProcessID ?? 0) },
      ]
      + details(\.connection)
      + [.text("pool") { "\($0.connection.database)/\($0.connection.user)" }]
    return AdminTable((daemon.servers ?? []).sorted { $0.connection.id < $1.connection.id }, columns)
  }

  private static func addresses<Thing>(
    _ connection: KeyPath<Thing, ConnectionSnapshot>
  ) -> [ColumnSource<Thing>] {
    [
      .text("addr") { $0[keyPath: connection].remote?.host },
      .int4("port") { $0[keyPath: connection].remote?.port ?? 0 },
      .text("local_addr") { $0[keyPath: connection].local?.host },
      .int4("local_port") { $0[keyPath: connection].local?.port ?? 0 },
      .text("connect_time") { $0[keyPath: connection].connectTime.description },
      .text("request_time") { $0[keyPath: connection].requestTime?.description },
    ]
  }

  private static func details<Thing>(
    _ connection: KeyPath<Thing, ConnectionSnapshot>
  ) -> [ColumnSource<Thing>] {
    [
      .text("tls") { $0[keyPath: connection].tls ?? "" },
      .text("application_name") { $0[keyPath: connection].applicationName ?? "" },
      .int4("prepared_statements") { $0[keyPath: connection].preparedStatements },
      .int8("id") { $0[keyPath: connection].id },
    ]
  }

  /// PgBouncer shows memory addresses in `ptr` and `link`; all that matters is that the two match.
  private static func pointer(_ kind: String, _ id: Int64) -> String {
    kind + String(id, radix: 16)
  }
}
