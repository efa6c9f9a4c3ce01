public import Admin
internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// The admin socket: a Unix socket, mode 0600, on which each line is a command (``AdminRequest``). A connection may send
/// several; each is answered before the next is read, so `socat` and a shell will do as a client.
public final class AdminSocket: Sendable {
  /// Answers a request of a process of this user.
  public typealias Answer = @Sendable (_ request: AdminRequest, _ peerUserID: UInt32) async -> AdminAnswer

  private let group: MultiThreadedEventLoopGroup
  private let channel: any Channel
  private let file: AdminSocketFile
  private let answers: PendingAnswers

  private init(
    group: MultiThreadedEventLoopGroup, channel: any Channel, file: AdminSocketFile, answers: PendingAnswers
  ) {
    self.group = group
    self.answers = answers
    self.channel = channel
    self.file = file
  }

  /// Begins to listen. A missing directory is made, one level deep; a file that nobody listens on any more is replaced.
  ///
  /// - Throws: when that is not possible; nothing is left behind then.
  public static func start(path: String, answer: @escaping Answer) async throws(AdminSocketError) -> AdminSocket {
    let file = try AdminSocketFile.open(path)
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    do {
      let answers = PendingAnswers()
      let connections = ConnectionCount(limit: AdminConnection.maxConnections)
      let channel = try await ServerBootstrap(group: group)
        .serverChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandler(
              StatusAcceptGuard(
                pause: .seconds(1), share: DescriptorReserve.adminShare, makeRoom: { false }))
          }
        }
        // Out of descriptors, accept(2) fails also when nobody waits: it is asked once for each client.
        .serverChannelOption(.maxMessagesPerRead, value: 1)
        .childChannelOption(.allowRemoteHalfClosure, value: true)
        .childChannelOption(.autoRead, value: false)
        .childChannelOption(.maxMessagesPerRead, value: 1)
        .childChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            try connections.add(channel)
            try channel.pipeline.syncOperations.addHandler(AdminConnection(answer, answers))
          }
        }
        .withBoundSocket(file.descriptor).get()
      return AdminSocket(group: group, channel: channel, file: file, answers: answers)
    } catch {
      file.remove()
      await StatusServer.shutDown(group)
      throw AdminSocketError(path: path, reason: "\(error)")
    }
  }

  /// Where its file is.
  public var path: String { file.path }

  /// Closes all connections and removes the file. Must be called once, before the socket is let go.
  public func stop() async {
    file.remove()
    channel.close(promise: nil)
    await answers.finish()
    await StatusServer.shutDown(group)
  }
}

/// The admin socket cannot be opened.
public struct AdminSocketError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Where it was to be.
  public let path: String
  /// Why it cannot.
  public let reason: String

  /// Names the path, the reason and the setting to change.
  public var description: String { "cannot open the admin socket \(path): \(reason) (setting: [admin] socket)" }
}

/// Counts the open connections.
private final class ConnectionCount: Sendable {
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

/// One connection to the admin socket.
private final class AdminConnection: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  /// Connections at a time; those beyond are closed at once.
  static let maxConnections = 32
  /// The most bytes of a line.
  private static let longestLine = 64 * 1024

  private let answer: AdminSocket.Answer
  private let answers: PendingAnswers
  private var input = ByteBuffer()
  private var inputEnded = false
  private var isAnswering = false
  private var peerUserID: UInt32?

  init(_ answer: @escaping AdminSocket.Answer, _ answers: PendingAnswers) {
    self.answer = answer
    self.answers = answers
  }

  func channelActive(context: ChannelHandlerContext) {
    peerUserID = PeerCredentials.userID(of: context.channel)
    context.read()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    input.writeBuffer(&bytes)
    goOn(context)
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event as? ChannelEvent == .inputClosed {
      inputEnded = true
      goOn(context)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

  /// Answers the next line, or reads on. Nothing is read while a command is carried out.
  private func goOn(_ context: ChannelHandlerContext) {
    if isAnswering { return }
    guard let line = nextLine() else {
      if input.readableBytes > AdminConnection.longestLine {
        let error = AdminError(sqlState: "54000", message: "the line is too long")
        send(AdminAnswer.failed(error).text, context)
        context.close(promise: nil)
      } else if inputEnded {
        context.close(promise: nil)
      } else {
        context.read()
      }
      return
    }
    guard let peerUserID, answers.begin() else { return context.close(promise: nil) }
    let request = AdminRequest(line: line)
    isAnswering = true
    let connection = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    Task { [answer, answers] in
      let reply = await answer(request, peerUserID)
      connection.eventLoop.execute {
        defer { answers.end() }
        let (connection, context) = connection.value
        connection.isAnswering = false
        guard context.channel.isActive else { return }
        connection.send(request.wantsJSON ? reply.json : reply.text, context)
        connection.goOn(context)
      }
    }
  }

  /// The next whole line, without its end; what is left when the input has ended.
  private func nextLine() -> String? {
    let bytes = input.readableBytesView
    if let end = bytes.firstIndex(of: UInt8(ascii: "\n")) {
      let line = String(decoding: bytes[..<end], as: UTF8.self)
      input.moveReaderIndex(forwardBy: end - bytes.startIndex + 1)
      input.discardReadBytes()
      return line.last == "\r" ? String(line.dropLast()) : line
    }
    guard inputEnded, !bytes.isEmpty, bytes.count <= AdminConnection.longestLine else { return nil }
    defer { input.clear() }
    return String(decoding: bytes, as: UTF8.self)
  }

  private func send(_ text: String, _ context: ChannelHandlerContext) {
    context.writeAndFlush(wrapOutboundOut(context.channel.allocator.buffer(string: text)), promise: nil)
  }
}
