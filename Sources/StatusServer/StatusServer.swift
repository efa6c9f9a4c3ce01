internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
public import Settings
internal import Synchronization
public import Telemetry

/// Where the status server gets what it shows.
public protocol StatusSource: Sendable {
  /// The daemon now. Clients and servers may be left out.
  func snapshot() async -> DaemonSnapshot
  /// Whether the daemon is stopping. Asked often; must not wait for anything.
  var isDraining: Bool { get }
}

/// Serves `/livez`, `/readyz` and `/metrics` over HTTP/1.1 on one thread of its own.
///
/// Its peers are not authenticated, so whatever they do costs at most what ``StatusLimits`` grants.
public final class StatusServer: Sendable {
  private let group: MultiThreadedEventLoopGroup
  private let listeners: [StatusListener]

  private init(group: MultiThreadedEventLoopGroup, listeners: [StatusListener]) {
    self.group = group
    self.listeners = listeners
  }

  /// Begins to serve.
  ///
  /// - Parameters:
  ///   - listen: `[http] listen`. Port 0 takes any free port.
  ///   - source: asked once for each request that needs it.
  ///   - limits: what peers may cost.
  /// - Throws: when the address cannot be listened on; nothing is left behind then.
  public static func start(
    listen: ListenAddress, source: any StatusSource, limits: StatusLimits = StatusLimits()
  ) async throws(StatusServerError) -> StatusServer {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    do {
      let connections = ConnectionCount(limit: limits.maxConnections)
      let listeners = try await StatusListener.open(listen, reopenAfter: limits.acceptPause) {
        bootstrap(on: group, source, limits, connections)
      }
      return StatusServer(group: group, listeners: listeners)
    } catch {
      await shutDown(group)
      throw error
    }
  }

  /// The port that is listened on; nil for a Unix socket.
  public var port: Int? { listeners.first?.port }

  /// Stops listening and closes all connections. Must be called once, before the server is let go.
  public func stop() async {
    for listener in listeners { listener.close() }
    await Self.shutDown(group)
  }

  /// The sockets that are listened on, for tests.
  var listeningChannels: [any Channel] { listeners.map(\.currentChannel) }

  static func shutDown(_ group: MultiThreadedEventLoopGroup) async {
    do {
      try await group.shutdownGracefully()
    } catch {
      preconditionFailure("the group belongs to the server and is shut down once: \(error)")
    }
  }

  private static func bootstrap(
    on group: MultiThreadedEventLoopGroup, _ source: any StatusSource, _ limits: StatusLimits,
    _ connections: ConnectionCount
  ) -> ServerBootstrap {
    ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelOption(.backlog, value: 128)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(StatusAcceptPause(limits.acceptPause))
        }
      }
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 4_096))
      .childChannelOption(.maxMessagesPerRead, value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try connections.add(channel)
          let connection = StatusConnection(source: source, limits: limits)
          try channel.pipeline.syncOperations.addHandlers([
            StatusByteGate(connection),
            HTTPResponseEncoder(),
            ByteToMessageHandler(HTTPRequestDecoder()),
            connection,
          ])
        }
      }
  }
}

/// Counts the open connections.
final class ConnectionCount: Sendable {
  /// A connection beyond the limit. The bootstrap closes it.
  struct LimitReached: Error {}

  private let limit: Int
  private let current = Atomic<Int>(0)

  init(limit: Int) {
    self.limit = limit
  }

  /// Counts a connection until it is closed.
  func add(_ channel: any Channel) throws(LimitReached) {
    guard current.add(1, ordering: .relaxed).newValue <= limit else {
      current.subtract(1, ordering: .relaxed)
      throw LimitReached()
    }
    channel.closeFuture.whenComplete { _ in self.current.subtract(1, ordering: .relaxed) }
  }
}
