internal import Glibc
internal import Locking
internal import NIOCore
internal import NIOPosix
internal import Settings

/// One listening socket, which stays open until it is told to close.
///
/// Out of descriptors or memory, accepting pauses (``StatusAcceptGuard``). Any other error of accept(2), such as a
/// network that went away, makes swift-nio close the socket; then it is opened again.
final class StatusListener: Sendable {
  /// Makes the bootstrap for each opening; bootstraps cannot be shared between threads.
  typealias MakeBootstrap = @Sendable () -> ServerBootstrap

  private let makeBootstrap: MakeBootstrap
  private let address: SocketAddress
  private let reopenAfter: TimeAmount
  private let state: Mutex<State>

  private struct State {
    var channel: any Channel
    var isClosing = false
  }

  private init(
    _ makeBootstrap: @escaping MakeBootstrap, _ channel: any Channel, _ address: SocketAddress, _ reopenAfter: Duration
  ) {
    self.makeBootstrap = makeBootstrap
    self.address = address
    self.reopenAfter = TimeAmount(reopenAfter)
    state = Mutex(State(channel: channel))
    reopenWhenClosed(channel)
  }

  /// Opens the sockets that an address stands for. `localhost` and `*` do with one family where the other is missing.
  static func open(
    _ listen: ListenAddress, reopenAfter: Duration, _ makeBootstrap: @escaping MakeBootstrap
  ) async throws(StatusServerError) -> [StatusListener] {
    var listeners: [StatusListener] = []
    var lastError: (any Error)?
    do {
      for address in try addresses(of: listen) {
        do {
          let channel = try await bind(address, makeBootstrap)
          // With port 0 the kernel chose one, and it shall stay the same.
          listeners.append(StatusListener(makeBootstrap, channel, channel.localAddress ?? address, reopenAfter))
        } catch let error as IOError where [EADDRNOTAVAIL, EAFNOSUPPORT].contains(error.errnoCode) {
          lastError = error
        }
      }
    } catch {
      lastError = error
      for listener in listeners { listener.close() }
      listeners = []
    }
    if let lastError, listeners.isEmpty { throw StatusServerError(listen, lastError) }
    return listeners
  }

  /// The port; nil for a Unix socket.
  var port: Int? { address.port }

  /// The socket now.
  var currentChannel: any Channel { state.withLock { $0.channel } }

  /// Closes the socket for good; swift-nio removes a Unix socket's file.
  func close() {
    let channel = state.withLock { state in
      state.isClosing = true
      return state.channel
    }
    channel.close(promise: nil)
  }

  private func reopenWhenClosed(_ channel: any Channel) {
    channel.closeFuture.whenComplete { _ in self.scheduleReopening(on: channel.eventLoop) }
  }

  private func scheduleReopening(on eventLoop: any EventLoop) {
    if state.withLock({ $0.isClosing }) { return }
    eventLoop.scheduleTask(in: reopenAfter) {
      Self.replace(self.address, self.makeBootstrap).whenComplete { result in
        switch result {
        case .success(let channel): self.reopened(channel)
        case .failure: self.scheduleReopening(on: eventLoop)
        }
      }
    }
  }

  private func reopened(_ channel: any Channel) {
    let isClosing = state.withLock { state in
      state.channel = channel
      return state.isClosing
    }
    if isClosing {
      channel.close(promise: nil)
    } else {
      reopenWhenClosed(channel)
    }
  }

  private static func addresses(of listen: ListenAddress) throws -> [SocketAddress] {
    switch listen {
    case .unix(let path): return [try SocketAddress(unixDomainSocketPath: path)]
    case .tcp(let host, let port):
      let hosts =
        switch host {
        case "localhost": ["127.0.0.1", "::1"]
        case "*": ["0.0.0.0", "::"]
        default: [host]
        }
      return try hosts.map { try SocketAddress(ipAddress: $0, port: Int(port)) }
    }
  }

  /// Binds and listens. The file of a Unix socket that nobody listens on any more is replaced.
  private static func bind(_ address: SocketAddress, _ makeBootstrap: MakeBootstrap) async throws -> any Channel {
    do {
      return try await bootstrap(for: address, makeBootstrap).bind(to: address).get()
    } catch let error as IOError where error.errnoCode == EADDRINUSE {
      guard await isAbandonedFile(address) else { throw error }
      return try await replace(address, makeBootstrap).get()
    }
  }

  /// Binds and listens; a Unix socket's file is replaced.
  private static func replace(
    _ address: SocketAddress, _ makeBootstrap: MakeBootstrap
  ) -> EventLoopFuture<any Channel> {
    let bootstrap = bootstrap(for: address, makeBootstrap)
    guard let path = address.pathname else { return bootstrap.bind(to: address) }
    return bootstrap.bind(unixDomainSocketPath: path, cleanupExistingSocketFile: true)
  }

  /// An IPv6 socket leaves IPv4 to the IPv4 one beside it.
  private static func bootstrap(for address: SocketAddress, _ makeBootstrap: MakeBootstrap) -> ServerBootstrap {
    guard address.protocol == .inet6 else { return makeBootstrap() }
    let only = ChannelOptions.Types.SocketOption(level: .ipv6, name: .ipv6_v6only)
    return makeBootstrap().serverChannelOption(only, value: 1)
  }

  /// Whether an address is the file of a Unix socket on which nobody listens.
  private static func isAbandonedFile(_ address: SocketAddress) async -> Bool {
    if address.pathname == nil { return false }
    do {
      let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).connect(to: address).get()
      channel.close(promise: nil)
      return false
    } catch let error as IOError {
      return error.errnoCode == ECONNREFUSED
    } catch {
      return false
    }
  }
}
