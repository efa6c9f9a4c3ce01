internal import NIOCore
internal import NIOHTTP1

/// One HTTP connection: one request at a time, each phase with a deadline.
///
/// ```
/// readingHead ──head──> answering ──written──> idle ──first byte──> readingHead
///      │                    │
///      │ too long, no HTTP  │ last answer, or another request came meanwhile
///      └─────answering──────┴──────────> lingering ──peer closes──> closed
/// ```
///
/// A client that pipelines gets its first answer, and then the connection is closed: it has to expect that (RFC 9112
/// section 9.3.2), and nothing it sends is ever stored.
final class StatusConnection: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  /// What the connection is doing.
  enum Phase {
    /// Between two requests. Ends with the next one's first byte, or `idleTimeout`.
    case idle
    /// Part of a request's head may have come. Ends with the whole head, or `headTimeout`.
    case readingHead
    /// The answer is being made or written. Ends when the peer has room for all of it, or `answerTimeout`.
    case answering
    /// All has been said and our side is shut down: what still comes is thrown away, so that no reset overtakes the
    /// answer. Ends with the peer's end of file, or `lingerTimeout`.
    case lingering
  }

  private let source: any StatusSource
  private let limits: StatusLimits
  private let connections: StatusConnections
  private let answers: PendingAnswers
  private var context: ChannelHandlerContext?
  private var phase = Phase.readingHead
  private var deadline: Scheduled<Void>?
  /// Bytes since the last complete head.
  private var headBytes = 0
  /// Bytes that have been thrown away.
  private var discardedBytes = 0
  /// The current answer is the last one.
  private var closesAfterAnswer = false
  private var inputEnded = false

  init(
    source: any StatusSource, limits: StatusLimits, connections: StatusConnections, answers: PendingAnswers
  ) {
    self.answers = answers
    self.source = source
    self.limits = limits
    self.connections = connections
  }

  /// The peer has asked, and waits for the rest of its answer.
  var isAnswering: Bool { phase == .answering }

  /// Ends the connection, whatever it is doing.
  func close() {
    context?.close(promise: nil)
  }

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    connections.add(self)
    enter(.readingHead, within: limits.headTimeout)
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    deadline?.cancel()
    connections.remove(self)
    self.context = nil
  }

  /// Says whether bytes that have come may be read as HTTP.
  func admits(byteCount: Int) -> Bool {
    switch phase {
    case .lingering, .answering:
      closesAfterAnswer = true
      discardedBytes += byteCount
      if discardedBytes > limits.maxDiscardedBytes { close() }
      return false
    case .idle: enter(.readingHead, within: limits.headTimeout)
    case .readingHead: break
    }
    headBytes += byteCount
    guard headBytes <= limits.maxHeadBytes else {
      refuse(.requestHeaderFieldsTooLarge)
      return false
    }
    return true
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard case .head(let head) = unwrapInboundIn(data) else { return }
    guard phase == .readingHead else {
      closesAfterAnswer = true
      return
    }
    let route = StatusRoute(head)
    headBytes = 0
    // Behind an upgrade the decoder would no longer read HTTP.
    closesAfterAnswer = !head.isKeepAlive || inputEnded || head.headers.contains(name: "upgrade")
    if case .refused(_, closes: true) = route { closesAfterAnswer = true }
    enter(.answering, within: limits.answerTimeout)

    let connection = NIOLoopBound(self, eventLoop: context.eventLoop)
    let withBody = head.method != .HEAD
    guard answers.begin() else { return context.close(promise: nil) }
    Task { [source, answers] in
      let answer = await route.answer(from: source)
      connection.eventLoop.execute {
        connection.value.send(answer, withBody: withBody)
        answers.end()
      }
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard event as? ChannelEvent == .inputClosed else {
      context.fireUserInboundEventTriggered(event)
      return
    }
    inputEnded = true
    closesAfterAnswer = true
    if phase != .answering { context.close(promise: nil) }
  }

  /// A peer that does not speak HTTP is told so; any other error ends the connection.
  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard error is HTTPParserError else {
      context.close(promise: nil)
      return
    }
    closesAfterAnswer = true
    if phase == .readingHead { refuse(.badRequest) }
  }

  private func refuse(_ status: HTTPResponseStatus) {
    closesAfterAnswer = true
    enter(.answering, within: limits.answerTimeout)
    send(StatusAnswer(status), withBody: true)
  }

  private func send(_ answer: StatusAnswer, withBody: Bool) {
    // The deadline may have come first.
    guard let context, phase == .answering else { return }
    let head = HTTPResponseHead(
      version: .http1_1, status: answer.status, headers: answer.headers(closing: closesAfterAnswer))
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    if withBody {
      context.write(
        wrapOutboundOut(.body(.byteBuffer(context.channel.allocator.buffer(string: answer.body)))), promise: nil)
    }
    context.writeAndFlush(wrapOutboundOut(.end(nil))).assumeIsolated().whenSuccess { self.answered() }
  }

  private func answered() {
    guard let context, phase == .answering else { return }
    if inputEnded {
      context.close(promise: nil)
    } else if closesAfterAnswer {
      enter(.lingering, within: limits.lingerTimeout)
      context.close(mode: .output, promise: nil)
    } else {
      enter(.idle, within: limits.idleTimeout)
    }
  }

  /// The one place where the phase changes: each phase ends in time.
  private func enter(_ phase: Phase, within time: Duration) {
    self.phase = phase
    deadline?.cancel()
    deadline = context?.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(time)) {
      self.context?.close(promise: nil)
    }
  }
}

/// Stands before the HTTP decoder and passes on only what its connection admits.
final class StatusByteGate: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let connection: StatusConnection

  init(_ connection: StatusConnection) {
    self.connection = connection
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if connection.admits(byteCount: unwrapInboundIn(data).readableBytes) { context.fireChannelRead(data) }
  }
}
