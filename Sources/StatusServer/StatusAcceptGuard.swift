internal import Admin
internal import Glibc
internal import NIOCore

/// Keeps accepting going when clients have taken all descriptors, or the process has none or no memory left.
///
/// Where clients have taken all descriptors but the reserve (``DescriptorReserve``), what is accepted comes out of that:
///
/// 1. While more of it is in use than this listener's share, the connections that have kept the server waiting longest make
///    room.
/// 2. Where there is none to close, it is the new one that goes.
///
/// Where accept(2) fails, a connection makes room as well, and where there is none, accepting pauses.
///
/// Without the pause, and also with swift-nio's own `AcceptBackoffHandler`, a listening socket stays registered for
/// reading after accept(2) has failed, and the event loop spins for as long as connections are waiting. Switching
/// `autoRead` off removes the registration.
final class StatusAcceptGuard: ChannelInboundHandler {
  typealias InboundIn = any Channel

  private let pause: TimeAmount
  private let share: Int
  private let makeRoom: () -> Bool
  private var resumption: Scheduled<Void>?

  /// - Parameters:
  ///   - share: how much of the reserve may be in use.
  ///   - makeRoom: closes a connection; false where there is none.
  init(pause: Duration, share: Int, makeRoom: @escaping () -> Bool) {
    self.pause = TimeAmount(pause)
    self.share = share
    self.makeRoom = makeRoom
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    while DescriptorReserve.used > share {
      if !makeRoom() { return unwrapInboundIn(data).close(promise: nil) }
    }
    context.fireChannelRead(data)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let error = error as? IOError, [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(error.errnoCode) else { return }
    if makeRoom() { return }
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
