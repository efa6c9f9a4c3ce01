import COpenSSL
import Glibc
import Testing

@testable import Reactor

@Suite(.timeLimit(.minutes(1))) struct TLSClosingTests {
  @Test(arguments: EventLoopDriver.usable) func bytesAfterCloseNotifyAreIgnored(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver)
    tls.secure()
    tls.script.then {
      tls.peer.send([1, 2, 3])
      let record = [UInt8](tls.peer.outgoing)
      tls.peer.shutdown()
      tls.peer.outgoing += record + [1, 2, 3]
    }
    tls.finish()
    tls.script.run()
    #expect(tls.recorder.bytes == [1, 2, 3] && tls.recorder.ends == [.endOfStream])
  }

  /// PostgreSQL's clients leave like that, and cables break in the middle of a record.
  @Test(arguments: EventLoopDriver.usable, [0, 1, 4, 5, 6, 500]) func theStreamMayEndWithoutCloseNotify(
    _ driver: EventLoopDriver, cut: Int
  ) {
    let tls = TLSCase(driver)
    tls.secure()
    tls.script.then {
      tls.peer.send([1])
      tls.peer.push()
      tls.peer.send(pattern(1_000))
      tls.peer.push(limit: cut)
      shutdown(tls.pair.far, Int32(SHUT_WR))
    }
    tls.closeAtEnd()
    tls.script.run()
    #expect(tls.recorder.bytes == [1] && tls.recorder.ends == [.endOfStream])
  }

  @Test(arguments: EventLoopDriver.usable) func closingAfterOutputEndsWithCloseNotify(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver)
    let output = pattern(1_000_000)
    tls.secure()
    tls.script.then {
      tls.script.send(output, to: tls.recorder)
      tls.script.send([1], to: tls.recorder)
      tls.script.loop.closeAfterOutput(tls.recorder)
      #expect(tls.recorder.socket == .none)
    }
    tls.script.when("everything and the end arrive") {
      tls.peer.pull(limit: 200_000)
      return tls.peer.isAtEnd
    }
    tls.script.run()
    #expect(tls.peer.plaintext == output + [1] && tls.peer.isClosed && tls.peer.failure == nil)
  }

  @Test(arguments: EventLoopDriver.usable) func closingDuringTheHandshakeDropsWhatWaitsForIt(_ driver: EventLoopDriver)
  {
    let tls = TLSCase(driver)
    tls.script.then {
      tls.script.send([1], to: tls.recorder)
      tls.script.loop.closeAfterOutput(tls.recorder)
    }
    tls.script.when("the descriptor is closed") { read(tls.pair.far).isAtEnd }
    tls.script.run()
  }

  @Test(arguments: EventLoopDriver.usable) func endingTheOutputSaysSoAndGoesOnReceiving(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver)
    tls.secure()
    tls.script.then {
      tls.script.send([1], to: tls.recorder)
      tls.script.loop.endOutput(tls.recorder)
    }
    tls.script.when("the peer sees it") {
      tls.peer.pull()
      return tls.peer.isAtEnd
    } then: {
      #expect(tls.peer.plaintext == [1] && tls.peer.isClosed)
      tls.peer.updateKeys()
      tls.peer.send([2])
      tls.peer.shutdown()
    }
    tls.finish()
    tls.script.run()
    #expect(tls.recorder.bytes == [2] && tls.recorder.ends == [.endOfStream])
  }

  // MARK: Moving

  /// A conversation of numbered pieces that changes loops and threads in the middle: the first loop holds received bytes
  /// that its owner did not want yet, and output that the peer has not read.
  @Test(arguments: EventLoopDriver.usable, [true, false]) func aConnectionMovesToALoopOnAnotherThread(
    _ driver: EventLoopDriver, hasTLS: Bool
  ) throws {
    let (files, first, pair, recorder) = (TestFiles(), Script(driver), SocketPair(), Recorder())
    let peer = TLSPeer(pair.far)
    let (input, output) = (pattern(200_000), pattern(600_000))
    first.loop.adopt(pair.near, for: recorder, owned: true)
    if hasTLS {
      first.loop.startTLS(on: recorder, files.context(), requiresALPN: false, received: Span())
      first.when("the handshake is complete") {
        peer.pump()
        return recorder.securedAt != nil && peer.isSecured
      }
    }
    var released: ReleasedSocket?
    recorder.onReceived = { first.loop.setReceiving(false, on: recorder.socket) }
    first.then {
      if hasTLS { peer.send(input) } else { peer.outgoing = input }
      peer.push()
      first.send(Array(output[..<400_000]), to: recorder)
    }
    first.when("the first piece arrives") {
      !recorder.bytes.isEmpty
    } then: {
      first.send(Array(output[400_000...]), to: recorder)
      #expect(first.loop.pendingOutput(recorder.socket) > 0 && recorder.bytes.count < input.count)
      released = first.loop.release(recorder)
      recorder.onReceived = {}
      #expect(recorder.socket == .none)
    }
    first.run()

    let moved = Recorder()
    moved.bytes = recorder.bytes
    let luggage = Luggage(socket: try #require(released), recorder: moved)
    released = nil
    let peerLuggage = Luggage(socket: peer, recorder: moved)
    onThread {
      let second = Script(driver)
      let (moved, peer) = (luggage.recorder, peerLuggage.socket)
      second.loop.adopt(luggage.socket, for: moved)
      second.when("all arrives") {
        peer.push()
        if hasTLS { peer.pull() } else { peer.plaintext += read(peer.descriptor).bytes }
        return moved.bytes.count == input.count && peer.plaintext.count == output.count
      } then: {
        second.loop.close(moved)
      }
      second.run()
    }
    #expect(moved.bytes == input && peer.plaintext == output && moved.ends.isEmpty && moved.securedAt == nil)
  }

  @Test(arguments: EventLoopDriver.usable) func aReleasedSocketThatNobodyTakesIsClosed(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver)
    tls.secure()
    tls.script.then { tls.script.loop.release(tls.recorder).close() }
    tls.script.when("the descriptor is closed") { read(tls.pair.far).isAtEnd }
    tls.script.run()
  }

  // MARK: Borrowed

  /// As libpq's: connected by somebody else over the socket, then ours, then theirs again.
  @Test(
    arguments: EventLoopDriver.usable,
    [(TLS1_2_VERSION, false), (TLS1_2_VERSION, true), (TLS1_3_VERSION, false), (TLS1_3_VERSION, true)])
  func aBorrowedStreamGoesOnAndIsGivenBack(_ driver: EventLoopDriver, _ kind: (version: Int32, isCut: Bool)) throws {
    let (version, isCut) = kind
    let (script, pair, recorder) = (Script(driver), SocketPair(), Recorder())
    // OpenSSL's own sockets raise it.
    signal(SIGPIPE, SIG_IGN)
    let server = BorrowingServer(pair.far)
    let clientContext = unsafe SSL_CTX_new(TLS_client_method())
    unsafe lifeguard_ssl_ctx_set_max_proto_version(clientContext, version)
    let client = unsafe SSL_new(clientContext)!
    unsafe SSL_set_fd(client, pair.near)
    unsafe SSL_set_connect_state(client)
    for _ in 0..<5 where unsafe SSL_do_handshake(client) != 1 { server.step() }
    server.step()
    // The record has been read from the socket, and only a part of it by libpq.
    server.send(pattern(100))
    var start = [UInt8](repeating: 0, count: 10)
    #expect(unsafe SSL_read(client, &start, 10) == 10 && start == Array(pattern(100)[..<10]))

    script.then {
      let stream = unsafe TLSStream(borrowing: UnsafeMutableRawPointer(client))
      script.loop.adopt(pair.near, for: recorder, owned: false, tls: stream)
      #expect(stream.isHandshakeComplete && stream.version == (version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3"))
      #expect(stream.endPointHash == nil && stream.peerCommonName == nil)
    }
    script.when("the rest of it arrives") {
      recorder.bytes.count == 90
    } then: {
      #expect(recorder.bytes == Array(pattern(100)[10...]))
      recorder.bytes = []
      script.send(pattern(300_000), to: recorder)
      server.send(pattern(60_000))
    }
    script.when("bytes arrive both ways") {
      server.step()
      return server.plaintext.count == 300_000 && recorder.bytes.count == 60_000
    } then: {
      #expect(server.plaintext == pattern(300_000) && recorder.bytes == pattern(60_000))
      if isCut { script.send(pattern(2_000_000), to: recorder) }
    }
    script.then { script.loop.close(recorder) }
    script.run()
    #expect(recorder.ends.isEmpty && recorder.securedAt == nil)

    // What PQfinish does: a last message, close_notify, and the end, on whatever thread.
    let luggage = unsafe Luggage(socket: UnsafeMutableRawPointer(client), recorder: recorder)
    onThread {
      let client = unsafe OpaquePointer(luggage.socket)
      let terminate: [UInt8] = [UInt8(ascii: "X"), 0, 0, 0, 4]
      #expect(unsafe SSL_write(client, terminate, 5) == 5)
      unsafe SSL_shutdown(client)
      unsafe SSL_free(client)
    }
    unsafe SSL_CTX_free(clientContext)
    close(pair.near)
    for _ in 0..<100 where !server.isAtEnd { server.step() }
    // Nothing follows a record that was cut off.
    #expect(server.isClosed == !isCut && server.failure == nil)
    #expect(isCut || server.plaintext.suffix(5) == [UInt8(ascii: "X"), 0, 0, 0, 4])
  }
}

/// Carries what a test hands to another thread, while this one waits.
struct Luggage<Socket>: @unchecked Sendable {
  let socket: Socket
  let recorder: Recorder
}

/// Runs `body` on a thread of its own and waits for it.
func onThread(_ body: @escaping @Sendable () -> Void) {
  let boxed = unsafe Unmanaged.passRetained(ThreadBody(body)).toOpaque()
  var thread = pthread_t()
  let outcome = unsafe pthread_create(
    &thread, nil,
    { boxed in
      unsafe Unmanaged<ThreadBody>.fromOpaque(boxed!).takeRetainedValue().body()
      return nil
    }, boxed)
  precondition(outcome == 0, "no thread")
  pthread_join(thread, nil)
}

private final class ThreadBody {
  let body: @Sendable () -> Void

  init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}

/// A server with BIOs on the socket itself.
@safe final class BorrowingServer {
  var plaintext: [UInt8] = []
  var isAtEnd = false
  var failure: String?
  var isClosed: Bool { unsafe SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN != 0 }

  private let ssl: OpaquePointer
  private let descriptor: Int32

  init(_ descriptor: Int32) {
    self.descriptor = descriptor
    let certificate = TestCertificate("server.test")
    let context = unsafe SSL_CTX_new(TLS_server_method())
    unsafe SSL_CTX_use_certificate(context, certificate.pointer)
    unsafe SSL_CTX_use_PrivateKey(context, certificate.key.pointer)
    unsafe ssl = SSL_new(context)!
    unsafe SSL_CTX_free(context)
    unsafe SSL_set_fd(ssl, descriptor)
    unsafe SSL_set_accept_state(ssl)
  }

  deinit {
    unsafe SSL_free(ssl)
    close(descriptor)
  }

  func send(_ bytes: [UInt8]) {
    let count = unsafe SSL_write(ssl, bytes, Int32(bytes.count))
    precondition(Int(count) == bytes.count, "not written")
  }

  /// Goes on with the handshake, or reads what there is.
  func step() {
    var buffer = [UInt8](repeating: 0, count: 16_384)
    while true {
      OpenSSLError.clear()
      let count = unsafe SSL_read(ssl, &buffer, Int32(buffer.count))
      if count > 0 {
        plaintext += buffer[..<Int(count)]
        continue
      }
      switch unsafe SSL_get_error(ssl, count) {
      case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: break
      case SSL_ERROR_ZERO_RETURN: isAtEnd = true
      default:
        isAtEnd = true
        let reason = OpenSSLError.take()
        if reason != "unexpected eof while reading" { failure = reason }
      }
      return
    }
  }
}
