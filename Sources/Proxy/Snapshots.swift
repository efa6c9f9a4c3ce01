import CLinux
import Glibc
import Pooling
import Reactor
public import Telemetry

/// The connections of one worker, or of all, at one moment.
public struct ConnectionsSnapshot: Sendable {
  public var clients: [ClientSnapshot] = []
  public var servers: [ServerSnapshot] = []
  public var memory: [MemorySnapshot] = []

  static func += (left: inout ConnectionsSnapshot, right: ConnectionsSnapshot) {
    left.clients += right.clients
    left.servers += right.servers
    for part in right.memory {
      if let index = left.memory.firstIndex(where: { $0.name == part.name }) {
        left.memory[index].used += part.used
        left.memory[index].free += part.free
      } else {
        left.memory.append(part)
      }
    }
  }
}

extension Worker {
  /// Takes time for each connection: for an administrator who asks, not for scrapers.
  func connections() -> ConnectionsSnapshot {
    var snapshot = ConnectionsSnapshot()
    let clock = SnapshotClock(now: loop.now)
    let all = allClients
    snapshot.clients = all.filter { !$0.isHalfOpen }.map { clientSnapshot($0, clock) }
    snapshot.servers = servers.all.map { serverSnapshot($0, clock) }
    snapshot.servers += dials.values.map { dialSnapshot($0, clock) }
    snapshot.memory = [
      MemorySnapshot(name: "client", objects: all), MemorySnapshot(name: "server", objects: servers.all),
      MemorySnapshot(name: "pool", objects: allPools),
    ]
    snapshot.memory += loop.blocks.counts.map {
      MemorySnapshot(name: "block_\($0.size >> 10)k", size: $0.size, used: $0.used, free: $0.free)
    }
    return snapshot
  }

  private func clientSnapshot(_ client: Client, _ clock: SnapshotClock) -> ClientSnapshot {
    var connection = ConnectionSnapshot(
      id: client.id, database: client.database, user: client.user, connectTime: clock.wall(client.connectedAt))
    connection.remote = SocketAddressSnapshot(client.peer)
    connection.local = loop.localAddress(of: client).map { SocketAddressSnapshot($0) }
    connection.tls = client.tlsSummary
    connection.requestTime = client.requestedAt > 0 ? clock.wall(client.requestedAt) : nil
    connection.applicationName = client.applicationName
    connection.unreadBytes = client.inbox.count
    connection.unsentBytes = loop.pendingOutput(client.socket)
    connection.preparedStatements = client.statementCount
    let state: ClientState
    if client.isWaiting {
      state = .waiting
    } else if client.phase == .login && client.server == nil {
      state = .login
    } else {
      state = client.server != nil || client.isRunningCommand ? .active : .idle
    }
    var snapshot = ClientSnapshot(state: state, connection: connection)
    if client.isWaiting { snapshot.waitMicroseconds = max(0, loop.now - client.waitingSince) / 1000 }
    snapshot.serverID = client.server?.id
    if let server = client.server, server.isPinned {
      snapshot.pin = PinSnapshot(
        reasons: server.pins.reasons, statement: client.requests.session.statement,
        ageMicroseconds: max(0, loop.now - server.pinnedSince) / 1000)
    }
    return snapshot
  }

  private func dialSnapshot(_ dial: Dial, _ clock: SnapshotClock) -> ServerSnapshot {
    let connection = ConnectionSnapshot(
      id: dial.id, database: dial.pool.name.database, user: dial.pool.user, connectTime: clock.wall(dial.since))
    return ServerSnapshot(state: .new, connection: connection)
  }

  private func serverSnapshot(_ server: Server, _ clock: SnapshotClock) -> ServerSnapshot {
    var connection = ConnectionSnapshot(
      id: server.id, database: server.pool.name.database, user: server.pool.user,
      connectTime: clock.wall(server.connectedAt))
    connection.remote = SocketAddressSnapshot(host: server.link.host.name, port: Int(server.link.host.port))
    connection.local = loop.localAddress(of: server).map { SocketAddressSnapshot($0) }
    connection.tls = server.link.tlsVersion.map { "\($0)/\(server.link.tlsCipher ?? "")" }
    connection.requestTime = server.requestSince > 0 ? clock.wall(server.requestSince) : nil
    connection.applicationName = server.settings["application_name"]?.text
    connection.unreadBytes = server.unreadCount
    connection.unsentBytes = loop.pendingOutput(server.socket)
    connection.preparedStatements = server.statements.count
    var snapshot = ServerSnapshot(state: server.snapshotState, connection: connection)
    snapshot.closeNeeded = pools.isOutdated(server.token)
    snapshot.backendProcessID = server.link.processID
    snapshot.clientID = server.client?.id
    return snapshot
  }
}

extension MemorySnapshot {
  /// Objects of one class, with the size that the allocator gave one of them.
  fileprivate init(name: String, objects: [some AnyObject]) {
    let size = objects.first.map { unsafe malloc_usable_size(Unmanaged.passUnretained($0).toOpaque()) }
    self.init(name: name, size: size ?? 0, used: objects.count)
  }
}

extension Server {
  fileprivate var snapshotState: Telemetry.ServerState {
    switch work {
    case .closing: .closing
    case .handOver: .new
    case .ping, .reset, .cleanup, .deallocation: .tested
    case .cancelBeforeCleanup: .beingCanceled
    case .none, .settings, .opening, .inspection, .fence, .blockRollback, .departing:
      client != nil ? .active : isCancelling ? .beingCanceled : .idle
    }
  }
}

extension SocketAddressSnapshot {
  fileprivate init(_ address: PeerAddress) { self.init(host: address.host, port: address.port) }
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
