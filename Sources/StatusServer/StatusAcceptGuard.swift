internal import Glibc
internal import NIOCore

/// Keeps accepting going when the process has no descriptors or memory left.
///
/// Out of descriptors, the story is:
///
/// 1. accept(2) fails with EMFILE. The reserve is opened, and the event loop comes back at once, because the client
///    still waits.
/// 2. accept(2) succeeds, with a descriptor of the reserve, and the reserve is closed again.
/// 3. Or it fails again, as the reserve is used up: the connection that has kept the server waiting longest makes room.
/// 4. Where there is none, accepting pauses.
///
/// Without the pause, and also with swift-nio's own `AcceptBackoffHandler`, a listening socket stays registered for
/// reading after accept(2) has failed, and the event loop spins for as long as connections are waiting. Switching
/// `autoRead` off removes the registration.
final class StatusAcceptGuard: ChannelInboundHandler {
  typealias InboundIn = any Channel

  private let pause: TimeAmount
  private let reserve: DescriptorReserve
  private let makeRoom: () -> Bool
  private var resumption: Scheduled<Void>?

  /// How long the reserve stays open for a client that has gone meanwhile.
  private static let reserveTime = TimeAmount.milliseconds(20)

  /// - Parameter makeRoom: closes a connection; false where there is none.
  init(pause: Duration, reserve: DescriptorReserve, makeRoom: @escaping () -> Bool) {
    self.pause = TimeAmount(pause)
    self.reserve = reserve
    self.makeRoom = makeRoom
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    reserve.close()
    context.fireChannelRead(data)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let error = error as? IOError, [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(error.errnoCode) else { return }
    if error.errnoCode == EMFILE, reserve.open() {
      context.eventLoop.assumeIsolated().scheduleTask(in: Self.reserveTime) { self.reserve.close() }
      return
    }
    if makeRoom() { return }
    reserve.close()
    setAutoRead(false, context.channel)
    let channel = context.channel
    resumption?.cancel()
    resumption = context.eventLoop.assumeIsolated().scheduleTask(in: pause) { self.setAutoRead(true, channel) }
  }

  func channelInactive(context: ChannelHandlerContext) {
    resumption?.cancel()
    context.fireChannelInactive()
  }

  private func setAutoRead(_ isOn: Bool, _ channel: any Channel) {
    do {
      try channel.syncOptions?.setOption(.autoRead, value: isOn)
    } catch {
      // The listener is closed already.
    }
  }
}
