import Reactor
import Testing

@testable import Upstream

/// A worker's loop borrows socket and `SSL*` from libpq.
@Suite(.enabled(if: TestServer.secured != nil, "no PostgreSQL with TLS"))
struct BorrowingTests {
  @Test(arguments: ["TLSv1.2", "TLSv1.3"])
  func aBorrowedConnectionAnswersASyncAndIsFinished(_ version: String) throws {
    let server = try #require(TestServer.secured)
    let link = try dial("\(server.overLoopback) sslmode=require ssl_max_protocol_version=\(version)").get()
    let handle = unsafe try #require(unsafe link.tlsHandle)
    let stream = unsafe TLSStream(borrowing: handle)
    #expect(stream.version == version && stream.version == link.tlsVersion && stream.cipher == link.tlsCipher)

    let borrower = Borrower()
    borrower.loop.adopt(link.descriptor, for: borrower.connection, owned: false, tls: stream)
    borrower.run()
    #expect(borrower.connection.bytes == [UInt8(ascii: "Z"), 0, 0, 0, 5, UInt8(ascii: "I")])
    #expect(borrower.connection.end == .endOfStream)
    borrower.loop.close(borrower.connection)
    link.finish()
  }

  /// libpq says goodbye itself, on BIOs that are safe for it.
  @Test func aConnectionIsFinishedInTheMiddleToo() throws {
    let server = try #require(TestServer.secured)
    let link = try dial("\(server.overLoopback) sslmode=require").get()
    let handle = unsafe try #require(unsafe link.tlsHandle)
    let borrower = Borrower()
    borrower.loop.adopt(
      link.descriptor, for: borrower.connection, owned: false, tls: unsafe TLSStream(borrowing: handle))
    borrower.loop.close(borrower.connection)
    link.finish()
  }
}

/// A loop with one connection: Sync, its answer, Terminate, the end.
private final class Borrower: EventLoopDelegate {
  final class Peer: Reactor.Connection {
    var bytes: [UInt8] = []
    var end: StreamEnd?

    override func received(_ bytes: Span<UInt8>) {
      for index in bytes.indices { self.bytes.append(bytes[index]) }
    }

    override func ended(_ end: StreamEnd) { self.end = end }
  }

  let loop = EventLoop(.epoll)
  let connection = Peer()
  private var isTerminating = false

  /// Returns once the server has closed, or after 20 seconds.
  func run() {
    loop.schedule(at: loop.now + 20_000_000_000, token: 0)
    send("S")
    loop.run(self)
  }

  private func send(_ type: Unicode.Scalar) {
    let message = [UInt8(ascii: type), 0, 0, 0, 4]
    loop.send(message.span, to: connection.socket)
  }

  func turnEnding() {
    if connection.end != nil { return loop.stop() }
    if !isTerminating && connection.bytes.count >= 6 {
      isTerminating = true
      send("X")
    }
  }

  func timerFired(_ token: UInt64) { loop.stop() }
  func mailArrived() {}
  func accepted(_ descriptor: Int32, from peer: PeerAddress, on listener: Listener) {}
  func acceptFailed(_ error: Int32, on listener: Listener) {}
}
