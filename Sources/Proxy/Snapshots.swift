import CLinux
import Glibc
import Pooling
public import Telemetry

/// How much a snapshot is to hold: connections cost time for each of them.
public enum SnapshotDetail: Sendable {
  case pools
  case connections
}

/// What one worker knows at one moment.
public struct WorkerSnapshot: Sendable {
  public var worker: Int
  public var pools: [PoolSnapshot] = []
  public var clientCount = 0
  public var loginClientCount = 0
  public var isDraining = false
  /// Empty unless asked for.
  public var clients: [ClientSnapshot] = []
  /// Empty unless asked for.
  public var servers: [ServerSnapshot] = []
}

extension Worker {
  func snapshot(_ detail: SnapshotDetail) -> WorkerSnapshot {
    var snapshot = WorkerSnapshot(worker: index)
    snapshot.clientCount = clientCount
    snapshot.isDraining = isDraining
    snapshot.pools = allPools.map(poolSnapshot)
    let clients = allClients
    snapshot.loginClientCount = clients.count { $0.isHalfOpen || $0.phase == .login }
    guard case .connections = detail else { return snapshot }
    let clock = SnapshotClock(now: loop.now)
    snapshot.clients = clients.filter { !$0.isHalfOpen }.map { clientSnapshot($0, clock) }
    snapshot.servers = servers.all.map { serverSnapshot($0, clock) }
    return snapshot
  }

  private func poolSnapshot(_ pool: Pool) -> PoolSnapshot {
    let counts = pools.counts(pool.id)
    var gauges = PoolGauges()
    gauges.clientsActive = pool.clients - counts.waiting
    gauges.clientsWaiting = counts.waiting
    gauges.serversActive = counts.active
    gauges.serversIdle = counts.idle
    gauges.serversDialing = counts.dialing
    gauges.serversTesting = counts.testing
    gauges.serversResetting = counts.settling
    gauges.serversClosing = counts.closing
    gauges.serversPinned = pool.pinned
    if let since = counts.oldestWaitSince {
      gauges.maxWaitMicroseconds = Int(max(0, loop.now - since.nanoseconds) / 1000)
    }
    return PoolSnapshot(
      database: pool.database, user: pool.user, mode: pool.settings.mode.rawValue, poolSize: pool.settings.poolSize,
      maxOverflow: pool.settings.maxOverflow, gauges: gauges, counters: pool.telemetry.counters())
  }

  private func clientSnapshot(_ client: Client, _ clock: SnapshotClock) -> ClientSnapshot {
    let id = CancelKeyLayout.processID(slot: Int(client.token.index), worker: index, node: environment.node)
    var connection = ConnectionSnapshot(
      id: Int64(id), database: client.database, user: client.user, connectTime: clock.wall(client.connectedAt))
    connection.remote = SocketAddressSnapshot(host: client.peer.host, port: client.peer.port)
    connection.local = client.local
    connection.tls = client.tlsSummary
    connection.requestTime = client.requestSince > 0 ? clock.wall(client.requestSince) : nil
    connection.applicationName = client.applicationName
    let state: ClientState
    if client.isWaiting || client.isApplying {
      state = .waiting
    } else if client.phase == .login {
      state = .login
    } else {
      state = client.server != nil || client.console.running != nil ? .active : .idle
    }
    var snapshot = ClientSnapshot(state: state, connection: connection)
    if client.isWaiting { snapshot.waitMicroseconds = max(0, loop.now - client.waitingSince) / 1000 }
    snapshot.serverID = client.server.map { Int64($0.token.index) }
    if client.server?.isPinned == true { snapshot.pinReason = "prepared statement" }
    return snapshot
  }

  private func serverSnapshot(_ server: Server, _ clock: SnapshotClock) -> ServerSnapshot {
    var connection = ConnectionSnapshot(
      id: Int64(server.token.index), database: server.pool.database, user: server.pool.user,
      connectTime: clock.wall(server.connectedAt))
    connection.remote = SocketAddressSnapshot(host: server.link.host.name, port: Int(server.link.host.port))
    connection.tls = server.link.tlsVersion.map { "\($0)/\(server.link.tlsCipher ?? "")" }
    connection.requestTime = server.requestSince > 0 ? clock.wall(server.requestSince) : nil
    connection.applicationName = server.settings["application_name"]?.text
    var snapshot = ServerSnapshot(state: server.snapshotState, connection: connection)
    snapshot.backendProcessID = server.link.processID
    snapshot.clientID = server.client.map {
      Int64(CancelKeyLayout.processID(slot: Int($0.token.index), worker: index, node: environment.node))
    }
    return snapshot
  }
}

extension Server {
  fileprivate var snapshotState: Telemetry.ServerState {
    switch work {
    case .closing: .closing
    case .handOver: .new
    case .ping, .reset, .cleanup: .tested
    case .cancelBeforeCleanup: .beingCanceled
    case .none, .settings, .fence, .blockRollback: client != nil ? .active : isCancelling ? .beingCanceled : .idle
    }
  }
}

extension Client {
  /// Our end of its socket.
  fileprivate var local: SocketAddressSnapshot? { nil }
}

/// Turns the loop's clock into the wall clock, with one reading of both.
struct SnapshotClock {
  private let offset: Int64

  init(now: Int64) {
    var time = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &time)
    offset = Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec) - now
  }

  func wall(_ nanoseconds: Int64) -> UnixTime { UnixTime(microseconds: (nanoseconds + offset) / 1000) }
}
