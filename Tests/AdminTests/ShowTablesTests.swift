import Admin
import Telemetry
import Testing

@Suite struct ShowTablesTests {
  /// PgBouncer's columns, as its console sends them.
  private static let pgBouncersColumns: [(ShowSubject, String)] = [
    (
      .pools,
      """
      database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel \
      sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts
      """
    ),
    (
      .clients,
      """
      type user database replication state addr port local_addr local_port connect_time request_time wait wait_us \
      close_needed ptr link remote_pid tls application_name prepared_statements id
      """
    ),
    (
      .servers,
      """
      type user database replication state addr port local_addr local_port connect_time request_time wait wait_us \
      close_needed ptr link remote_pid tls application_name prepared_statements id
      """
    ),
    (
      .databases,
      """
      name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode \
      load_balance_hosts max_connections current_connections max_client_connections current_client_connections \
      paused disabled
      """
    ),
    (
      .stats,
      """
      database total_server_assignment_count total_xact_count total_query_count total_received total_sent \
      total_xact_time total_query_time total_wait_time total_client_parse_count total_server_parse_count \
      total_bind_count total_client_login_count avg_server_assignment_count avg_xact_count avg_query_count avg_recv \
      avg_sent avg_xact_time avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count \
      avg_bind_count avg_client_login_count
      """
    ),
    (
      .statsTotals,
      """
      database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time \
      client_parse_count server_parse_count bind_count client_login_count
      """
    ),
    (
      .statsAverages,
      """
      database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time \
      client_parse_count server_parse_count bind_count client_login_count
      """
    ),
    (.totals, "name value"),
    (
      .users,
      """
      name pool_size reserve_pool_size pool_mode max_user_connections current_connections max_user_client_connections \
      current_client_connections
      """
    ),
    (
      .sockets,
      """
      type user database replication state addr port local_addr local_port connect_time request_time wait wait_us \
      close_needed ptr link remote_pid tls application_name prepared_statements id recv_pos pkt_pos pkt_remain send_pos \
      send_remain pkt_avail send_avail
      """
    ),
    (.mem, "name size used free memtotal"),
    (.peers, "peer_id host port pool_size"),
    (.peerPools, "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login"),
    (.dnsHosts, "hostname ttl addrs"),
    (.dnsZones, "zonename serial count"),
    (.config, "key value default changeable"),
    (.state, "key value"),
    (.lists, "list items"),
    (.version, "version"),
  ]

  @Test func pgBouncersColumnsComeFirstAndInItsOrder() {
    for (subject, names) in Self.pgBouncersColumns {
      let expected = names.split(separator: " ").map(String.init)
      let table = show(subject)
      #expect(Array(table.columns.map(\.name).prefix(expected.count)) == expected, "SHOW \(subject)")
    }
  }

  @Test(arguments: ShowSubject.allCases)
  func everyRowHasAValueOfItsTypeForEachColumn(subject: ShowSubject) {
    let table = show(subject)
    #expect(Set(table.columns.map(\.name)).count == table.columns.count)
    for row in table.rows {
      #expect(row.count == table.columns.count)
      for (column, value) in zip(table.columns, row) {
        guard let value else { continue }
        switch column.type {
        case .int4: #expect(Int32(value) != nil)
        case .int8: #expect(Int64(value) != nil)
        case .numeric: #expect(UInt64(value) != nil)
        case .bool: #expect(["t", "f"].contains(value))
        case .text: break
        }
      }
    }
  }

  @Test func healthShowsWhatIsKnownOfEachHost() {
    let table = show(.health)
    #expect(table.rows.map { $0[0] } == ["db1:5432", "db2:5432"])
    let row = Dictionary(uniqueKeysWithValues: zip(table.columns.map(\.name), table.rows[1]))
    #expect(row["latency_ms"] == "1.25" && row["lag_bytes"] == "8192" && row["lag_seconds"] == "2.5")
    #expect(row["history"] == "-+" && row["role"] == "standby" && row["read_only"] == "t")
  }

  @Test func poolsAreSortedAndCountedAsPgBouncerWould() {
    let pools = show(.pools)
    #expect(pools.values("pool") == ["app/alice", "app/zoe"])
    #expect(pools.values("cl_active").first == "4")
    #expect(pools.values("cl_waiting").first == "2")
    #expect(pools.values("sv_login").first == "1")
    #expect(pools.values("maxwait").first == "3")
    #expect(pools.values("maxwait_us").first == "250000")
    #expect(pools.values("sv_total").first == "7")
    #expect(pools.values("overflow").first == "2")
    #expect(pools.values("overflow").last == "0")
  }

  @Test func clientsAndServersLinkToEachOther() {
    let (clients, servers) = (show(.clients), show(.servers))
    #expect(clients.values("link") == servers.values("ptr"))
    #expect(servers.values("link") == clients.values("ptr"))
    #expect(clients.values("wait") == ["3"])
    #expect(clients.values("wait_us") == ["250000"])
    #expect(clients.values("request_time") == [nil])
    #expect(servers.values("remote_pid") == ["4711"])
    #expect(servers.values("close_needed") == ["1"])
  }

  @Test func connectionsNobodyCollectedAreNoRows() {
    var daemon = exampleDaemon()
    daemon.clients = nil
    #expect(AdminTable.show(.clients, of: daemon, settings: [], stats: StatsPeriods()).rows.isEmpty)
  }

  @Test func averagesAreOverTheLatestPeriod() {
    var daemon = exampleDaemon()
    var periods = StatsPeriods()
    periods.record(daemon)
    #expect(AdminTable.show(.stats, of: daemon, settings: [], stats: periods).values("avg_xact_count") == ["0"])

    daemon.time.microseconds += 60_000_000
    daemon.pools[1].counters.xactCount += 600
    daemon.pools[1].counters.bytesSent += 6_000_000
    let telemetry = PoolTelemetry()
    telemetry.transaction.record(microseconds: 1_800_000)
    telemetry.wait.record(microseconds: 120)
    daemon.pools[1].counters += telemetry.counters()
    periods.record(daemon)

    let stats = AdminTable.show(.stats, of: daemon, settings: [], stats: periods)
    #expect(stats.values("total_xact_count") == ["610"])
    #expect(stats.values("total_xact_time") == ["3800000"])
    #expect(stats.values("avg_xact_count") == ["10"])
    #expect(stats.values("avg_sent") == ["100000"])
    #expect(stats.values("avg_xact_time") == ["3000"])
    #expect(stats.values("avg_query_time") == ["0"])
    #expect(stats.values("avg_wait_time") == ["2"])
  }

  @Test func aPoolThatIsGoneMakesNoAverageNegative() {
    var daemon = exampleDaemon()
    var periods = StatsPeriods()
    periods.record(daemon)
    daemon.time.microseconds += 1
    daemon.pools.removeLast()
    periods.record(daemon)
    let stats = AdminTable.show(.stats, of: daemon, settings: [], stats: periods)
    #expect(stats.values("avg_xact_count") == ["0"])
  }

  @Test func totalsAreTheSumsOfAllDatabases() {
    var daemon = exampleDaemon()
    var other = daemon.pools[1]
    other.database = "other"
    daemon.pools.append(other)
    let table = AdminTable.show(.totals, of: daemon, settings: [], stats: StatsPeriods())
    let values = Dictionary(uniqueKeysWithValues: zip(table.values("name"), table.values("value")))
    #expect(values["total_query_count"] == "40")
    #expect(values["total_client_bytes"] == "2000")
    #expect(values["avg_query_count"] == "0")
  }

  @Test func usersHaveTheConnectionsOfAllTheirPools() {
    var daemon = exampleDaemon()
    daemon.users = [UserSnapshot(name: "zoe"), UserSnapshot(name: "alice", poolSize: 5, maxConnections: 9)]
    let table = AdminTable.show(.users, of: daemon, settings: [], stats: StatsPeriods())
    #expect(table.values("name") == ["alice", "zoe"])
    #expect(table.values("pool_size") == ["5", nil])
    #expect(table.values("max_user_connections") == ["9", "0"])
    #expect(table.values("current_connections") == ["7", "0"])
    #expect(table.values("current_client_connections") == ["6", "0"])
  }

  @Test func activeSocketsLeaveOutWhatIsIdle() {
    var daemon = exampleDaemon()
    daemon.servers?[0].state = .idle
    let all = AdminTable.show(.sockets, of: daemon, settings: [], stats: StatsPeriods())
    let active = AdminTable.show(.activeSockets, of: daemon, settings: [], stats: StatsPeriods())
    #expect(all.values("type") == ["C", "S"])
    #expect(active.values("type") == ["C"])
  }

  @Test func memoryIsWhatIsUsedAndWhatIsKept() {
    var daemon = exampleDaemon()
    daemon.memory = [MemorySnapshot(name: "block_4k", size: 4_096, used: 2, free: 3)]
    let table = AdminTable.show(.mem, of: daemon, settings: [], stats: StatsPeriods())
    #expect(table.rows == [["block_4k", "4096", "2", "3", "20480"]])
  }

  @Test func stateSaysWhatThePgBouncerRowsSay() {
    var daemon = exampleDaemon()
    daemon.isDraining = true
    let state = AdminTable.show(.state, of: daemon, settings: [], stats: StatsPeriods())
    #expect(Array(state.values("key").prefix(3)) == ["active", "paused", "suspended"])
    #expect(Array(state.values("value").prefix(4)) == ["no", "no", "no", "yes"])
  }

  @Test func configShowsTheRowsItIsGiven() {
    let row = SettingRow(key: "pool.pool_size", value: "7", defaultValue: "5", isChangeable: true)
    let table = AdminTable.show(.config, of: exampleDaemon(), settings: [row], stats: StatsPeriods())
    #expect(table.rows == [["pool.pool_size", "7", "5", "yes"]])
  }

  @Test func helpNamesEveryCommandThatIsUnderstood() throws {
    for command in show(.help).values("command") {
      let example = (command ?? "").replacing("[db]", with: "app").replacing(" db", with: " app").replacing(
        " id", with: " 26")
      #expect(throws: Never.self) { try AdminCommand.parse(example) }
    }
  }

  private func show(_ subject: ShowSubject) -> AdminTable {
    let row = SettingRow(key: "pool.pool_size", value: nil, defaultValue: "5", isChangeable: false)
    return AdminTable.show(subject, of: exampleDaemon(), settings: [row], stats: StatsPeriods())
  }
}

extension AdminTable {
  /// The values of one column.
  fileprivate func values(_ name: String) -> [String?] {
    guard let index = columns.firstIndex(where: { $0.name == name }) else {
      Issue.record("no column \(name)")
      return []
    }
    return rows.map { $0[index] }
  }
}
