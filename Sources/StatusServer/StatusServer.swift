internal import Admin
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
public import Settings
public import Telemetry

/// Where the status server gets what it shows.
public protocol StatusSource: Sendable {
  /// The daemon now. Clients and servers may be left out.
  func snapshot() async -> DaemonSnapshot
  /// How a database is; nil where there is none of that name.
  func health(of database: String) async -> HealthSnapshot?
  /// Whether the daemon is stopping. Asked often; must not wait for anything.
  var isDraining: Bool { get }
}

/// Serves the routes of ``StatusRoute`` over HTTP/1.1 on one thread of its own.
///
/// Its peers are not authenticated, so whatever they do costs at most what ``StatusLimits`` grants.
public final class StatusServer: Sendable {
  private let group: MultiThreadedEventLoopGroup
  private let listeners: [StatusListener]
  private let answers: PendingAnswers

  private init(group: MultiThreadedEventLoopGroup, listeners: [StatusListener], answers: PendingAnswers) {
    self.group = group
    self.answers = answers
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
      let eventLoop = group.next()
      let answers = PendingAnswers()
      let shared = NIOLoopBoundBox.makeBoxSendingValue(Shared(limits), eventLoop: eventLoop)
      let listeners = try await StatusListener.open(listen, reopenAfter: limits.acceptPause) {
        bootstrap(on: group, source, limits, shared, answers)
      }
      return StatusServer(group: group, listeners: listeners, answers: answers)
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
    await answers.finish()
    await Self.shutDown(group)
  }

  /// The sockets that are listened on, for tests.
  var listeningChannels: [any Channel] { listeners.map(\.currentChannel) }

  /// What the listeners and connections of one server have in common.
  private struct Shared {
    let connections: StatusConnections

    init(_ limits: StatusLimits) {
      connections = StatusConnections(limit: limits.maxConnections)
    }
  }

  static func shutDown(_ group: MultiThreadedEventLoopGroup) async {
    do {
      try await group.shutdownGracefully()
    } catch {
      preconditionFailure("the group belongs to the server and is shut down once: \(error)")
    }
  }

  private static func bootstrap(
    on group: MultiThreadedEventLoopGroup, _ source: any StatusSource, _ limits: StatusLimits,
    _ shared: NIOLoopBoundBox<Shared>, _ answers: PendingAnswers
  ) -> ServerBootstrap {
    ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelOption(.backlog, value: 128)
      // Out of descriptors, accept(2) fails also when nobody waits: it is asked once for each client.
      .serverChannelOption(.maxMessagesPerRead, value: 1)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(
            StatusAcceptGuard(
              pause: limits.acceptPause, share: DescriptorReserve.statusShare,
              makeRoom: { shared.value.connections.closeOldest() }))
        }
      }
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 4_096))
      .childChannelOption(.maxMessagesPerRead, value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let connection = StatusConnection(
            source: source, limits: limits, connections: shared.value.connections, answers: answers)
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
