import Telemetry

/// A daemon with two pools of one database, one client and one server connection.
func exampleDaemon() -> DaemonSnapshot {
  var daemon = DaemonSnapshot(
    version: "0.1.0", startTime: UnixTime(microseconds: 1_795_630_327_250_000),
    time: UnixTime(microseconds: 1_795_630_400_000_000), workers: 1, eventLoop: "epoll", maxClients: 100)
  daemon.clientCount = 7
  daemon.loginClientCount = 1
  daemon.databases = [
    DatabaseSnapshot(
      name: "app", host: "db1,db2", port: "5432", serverDatabase: "app", forcedUser: nil, poolSize: 5, minSize: 0,
      maxOverflow: 10, recycleSeconds: 3_600, mode: "transaction", maxConnections: 40)
  ]

  var standby = HostSnapshot(host: "db2:5432")
  standby.databases = ["app"]
  standby.state = "up"
  standby.role = "standby"
  standby.isReadOnly = true
  standby.isProbed = true
  standby.latencyMicroseconds = 1_250
  standby.lagBytes = 8_192
  standby.lagMicroseconds = 2_500_000
  standby.since = UnixTime(microseconds: 1_795_630_328_000_000)
  standby.answeredCount = 9
  standby.failedCount = 1
  standby.history = [
    HostSnapshot.Check(
      outcome: "-", time: UnixTime(microseconds: 1_795_630_397_000_000), latencyMicroseconds: nil),
    HostSnapshot.Check(
      outcome: "+", time: UnixTime(microseconds: 1_795_630_399_000_000), latencyMicroseconds: 1_250),
  ]
  var away = HostSnapshot(host: "db1:5432")
  away.state = "down"
  away.breaker = "half_open"
  away.lastError = "Connection refused"
  daemon.hosts = [away, standby]

  let telemetry = PoolTelemetry()
  telemetry.xactCount.add(10)
  telemetry.queryCount.add(20)
  telemetry.serverAssignmentCount.add(11)
  telemetry.bytesReceived.add(1_000)
  telemetry.bytesSent.add(5_000)
  telemetry.query.record(microseconds: 1_500_000)
  telemetry.query.record(microseconds: 100)
  telemetry.transaction.record(microseconds: 2_000_000)
  telemetry.wait.record(microseconds: 30)
  telemetry.clients.set(6)
  telemetry.clientsWaiting.set(2)
  telemetry.serversActive.set(5)
  telemetry.serversDialing.set(1)
  telemetry.serversClosing.set(1)
  telemetry.oldestWaitSinceNanoseconds.set(1_000_000_000)
  daemon.pools = [
    PoolSnapshot(
      database: "app", user: "zoe", mode: "session", poolSize: 2, maxOverflow: 0, gauges: PoolGauges(),
      counters: PoolCounters()),
    PoolSnapshot(
      database: "app", user: "alice", mode: "transaction", poolSize: 5, maxOverflow: 10,
      gauges: telemetry.gauges(atNanoseconds: 4_250_000_000), counters: telemetry.counters()),
  ]

  var clientConnection = ConnectionSnapshot(
    id: 26, database: "app", user: "alice", connectTime: UnixTime(microseconds: 1_795_630_328_000_000))
  clientConnection.remote = SocketAddressSnapshot(host: "127.0.0.1", port: 40_000)
  clientConnection.local = SocketAddressSnapshot(host: "127.0.0.1", port: 6_432)
  clientConnection.applicationName = "psql"
  var client = ClientSnapshot(state: .waiting, connection: clientConnection)
  client.waitMicroseconds = 3_250_000
  client.serverID = 31
  daemon.clients = [client]

  var server = ServerSnapshot(
    state: .active,
    connection: ConnectionSnapshot(
      id: 31, database: "app", user: "alice", connectTime: UnixTime(microseconds: 1_795_630_329_000_000)))
  server.backendProcessID = 4_711
  server.clientID = 26
  server.closeNeeded = true
  daemon.servers = [server]
  return daemon
}
