internal import Glibc
internal import NIOCore

/// Stops accepting for a while when the process has no descriptors or memory left.
///
/// Without it, and also with swift-nio's own `AcceptBackoffHandler`, a listening socket stays registered for reading
/// after accept(2) has failed, and the event loop spins for as long as connections are waiting. Switching `autoRead`
/// off removes the registration.
final class StatusAcceptPause: ChannelInboundHandler {
  typealias InboundIn = any Channel

  private let pause: TimeAmount
  private var resumption: Scheduled<Void>?

  init(_ pause: Duration) {
    self.pause = TimeAmount(pause)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let error = error as? IOError, [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(error.errnoCode) else { return }
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
