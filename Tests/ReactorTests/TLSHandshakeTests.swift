import COpenSSL
import Glibc
import Testing

@testable import Reactor

@Suite(.timeLimit(.minutes(1))) struct TLSHandshakeTests {
  private static let postgresql: [UInt8] = [10] + Array("postgresql".utf8)
  private static let http: [UInt8] = [8] + Array("http/1.1".utf8)

  @Test(arguments: EventLoopDriver.usable, [(TLS1_2_VERSION, "TLSv1.2"), (TLS1_3_VERSION, "TLSv1.3")])
  func aHandshakeThenBytesBothWays(_ driver: EventLoopDriver, _ protocolVersion: (version: Int32, name: String)) {
    let (version, name) = protocolVersion
    let tls = TLSCase(driver, version: version)
    tls.secure()
    tls.script.then {
      #expect(tls.recorder.securedAt == 0)
      #expect(tls.tls.isHandshakeComplete && tls.tls.version == name && tls.tls.cipher.contains("AES"))
      #expect(tls.tls.alpn == nil && tls.tls.peerCommonName == nil)
      tls.peer.send([1, 2, 3])
      tls.script.send([4, 5], to: tls.recorder)
      tls.script.send([6], to: tls.recorder)
    }
    tls.script.when("both arrive") {
      tls.peer.pump()
      return tls.recorder.bytes == [1, 2, 3] && tls.peer.plaintext == [4, 5, 6]
    } then: {
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
    #expect(tls.recorder.ends.isEmpty)
  }

  /// PostgreSQL's 'S', and a greeting that waits for the handshake.
  @Test(arguments: EventLoopDriver.usable) func whatWasQueuedBeforeLeavesInClearAndWhatComesAfterWaits(
    _ driver: EventLoopDriver
  ) {
    let (files, script, pair, recorder) = (TestFiles(), Script(driver), SocketPair(), Recorder())
    let peer = TLSPeer(pair.far)
    var clear: [UInt8] = []
    script.loop.adopt(pair.near, for: recorder, owned: true)
    script.then {
      script.send([UInt8(ascii: "S")], to: recorder)
      script.loop.startTLS(on: recorder, files.context(), requiresALPN: false, received: Span())
      script.send([7, 8, 9], to: recorder)
      #expect(script.loop.pendingOutput(recorder.socket) == 4)
    }
    for _ in 0..<3 { script.then {} }
    script.when("the answer arrives in clear, alone") {
      clear += read(pair.far).bytes
      return clear == [UInt8(ascii: "S")]
    }
    script.when("the greeting arrives") {
      peer.pump()
      return peer.plaintext == [7, 8, 9]
    } then: {
      #expect(script.loop.pendingOutput(recorder.socket) == 0)
      script.loop.close(recorder)
    }
    script.run()
  }

  @Test(arguments: EventLoopDriver.usable, [TLS1_2_VERSION, TLS1_3_VERSION]) func recordsMayBeCutAnywhere(
    _ driver: EventLoopDriver, version: Int32
  ) {
    let tls = TLSCase(driver, version: version)
    let sent = pattern(1_000)
    var isSent = false
    tls.script.when("all arrives, a byte at a time") {
      tls.peer.pull(limit: 1)
      if tls.peer.isSecured && !isSent {
        isSent = true
        tls.peer.send(sent)
        tls.script.send(sent, to: tls.recorder)
      }
      tls.peer.push(limit: 1)
      return tls.recorder.bytes.count == sent.count && tls.peer.plaintext.count == sent.count
    } then: {
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
    #expect(tls.recorder.bytes == sent && tls.peer.plaintext == sent && tls.recorder.securedAt == 0)
  }

  // MARK: Direct TLS and ALPN

  @Test(arguments: EventLoopDriver.usable) func directTLSBeginsWithBytesThatWereReceivedBefore(
    _ driver: EventLoopDriver
  ) {
    let (files, script, pair, recorder) = (TestFiles(), Script(driver), SocketPair(), Recorder())
    let peer = TLSPeer(pair.far, alpn: Self.postgresql)
    script.loop.adopt(pair.near, for: recorder, owned: true)
    script.then {
      peer.process()
      script.loop.startTLS(on: recorder, files.context(), requiresALPN: true, received: peer.outgoing.span)
      #expect(recorder.securedAt == nil)
      peer.outgoing = []
    }
    script.when("the handshake is complete") {
      peer.pump()
      return recorder.securedAt != nil
    } then: {
      #expect(script.loop.tls(of: recorder)?.alpn == "postgresql")
      script.loop.close(recorder)
    }
    script.run()
  }

  @Test(
    arguments: EventLoopDriver.usable,
    [
      (TLS1_3_VERSION, postgresql, false), (TLS1_3_VERSION, http + postgresql, true),
      (TLS1_2_VERSION, postgresql, true),
    ])
  func alpnIsAnswered(_ driver: EventLoopDriver, _ hello: (version: Int32, offer: [UInt8], isRequired: Bool)) {
    let (version, offer, isRequired) = hello
    let tls = TLSCase(driver, version: version, alpn: offer, requiresALPN: isRequired)
    tls.secure()
    tls.script.then {
      #expect(tls.tls.alpn == "postgresql")
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
  }

  @Test(
    arguments: EventLoopDriver.usable,
    [
      (TLS1_3_VERSION, nil, true), (TLS1_2_VERSION, nil, true), (TLS1_3_VERSION, http, true),
      (TLS1_3_VERSION, http, false),
    ] as [(Int32, [UInt8]?, Bool)])
  func withoutOurProtocolTheAlertSaysSo(
    _ driver: EventLoopDriver, _ hello: (version: Int32, offer: [UInt8]?, isRequired: Bool)
  ) {
    let (version, offer, isRequired) = hello
    let tls = TLSCase(driver, version: version, alpn: offer, requiresALPN: isRequired)
    tls.finish()
    tls.script.run()
    guard case .tlsFailed(let reason)? = tls.recorder.ends.first else { return #expect(Bool(false)) }
    #expect(reason == (offer == nil ? "the client does not offer ALPN \"postgresql\"" : "no application protocol"))
    #expect(tls.peer.failure == "tlsv1 alert no application protocol" && tls.recorder.securedAt == nil)
  }

  // MARK: Refused

  @Test(arguments: EventLoopDriver.usable) func olderVersionsAreRefused(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver, version: TLS1_1_VERSION)
    tls.finish()
    tls.script.run()
    #expect(tls.recorder.ends == [.tlsFailed("unsupported protocol")])
    #expect(tls.peer.failure == "tlsv1 alert protocol version")
  }

  @Test(arguments: EventLoopDriver.usable) func clientCertificatesAreVerified(_ driver: EventLoopDriver) {
    let authority = TestCertificate("authority")
    let tls = TLSCase(driver, certificate: TestCertificate("alice", issuer: authority), authority: authority)
    tls.secure()
    tls.script.then {
      #expect(tls.tls.peerCommonName == "alice")
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
    #expect(tls.recorder.ends.isEmpty)
  }

  @Test(arguments: EventLoopDriver.usable) func aCommonNameWithANULIsNone(_ driver: EventLoopDriver) {
    let authority = TestCertificate("authority")
    let tls = TLSCase(driver, certificate: TestCertificate("alice\u{0}.evil", issuer: authority), authority: authority)
    tls.secure()
    tls.script.then {
      #expect(tls.tls.peerCommonName == nil)
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
  }

  @Test(arguments: EventLoopDriver.usable, [TLS1_2_VERSION, TLS1_3_VERSION]) func aClientWithoutCertificateIsRefused(
    _ driver: EventLoopDriver, version: Int32
  ) {
    let tls = TLSCase(driver, version: version, authority: TestCertificate("authority"))
    tls.finish()
    tls.script.run()
    #expect(tls.recorder.ends == [.tlsFailed("peer did not return a certificate")])
    #expect(tls.peer.failure?.contains("alert") == true)
  }

  @Test(arguments: EventLoopDriver.usable, ["authority", "stranger"]) func aCertificateOfAnotherAuthorityIsRefused(
    _ driver: EventLoopDriver, name: String
  ) {
    let stranger = TestCertificate(name)
    let tls = TLSCase(
      driver, certificate: TestCertificate("alice", issuer: stranger), authority: TestCertificate("authority"))
    tls.finish()
    tls.script.run()
    guard case .tlsFailed(let reason)? = tls.recorder.ends.first else { return #expect(Bool(false)) }
    #expect(reason.hasPrefix("certificate verify failed: ") && !reason.contains("\n"))
  }

  @Test(arguments: EventLoopDriver.usable, 0..<3) func garbageIsAnsweredByAnAlert(_ driver: EventLoopDriver, stage: Int)
  {
    let tls = TLSCase(driver)
    let garbage = [UInt8]("GET / HTTP/1.1\r\nHost: database\r\n\r\n".utf8)
    switch stage {
    case 0: tls.script.then { write(garbage, to: tls.pair.far) }
    case 1:
      tls.script.when("the server has answered") {
        tls.peer.push()
        tls.peer.pull()
        return tls.peer.isSecured
      } then: {
        tls.peer.outgoing = garbage
      }
    default:
      tls.secure()
      tls.script.then { tls.peer.outgoing = [23, 3, 3, 0, 32] + garbage }
    }
    tls.finish()
    tls.script.run()
    guard case .tlsFailed(let reason)? = tls.recorder.ends.first else { return #expect(Bool(false)) }
    #expect(tls.recorder.ends.count == 1 && tls.recorder.bytes.isEmpty && !reason.contains("database"))
    #expect((tls.recorder.securedAt != nil) == (stage == 2))
    #expect(stage == 0 || tls.peer.failure?.contains("alert") == true)
  }

  @Test(arguments: EventLoopDriver.usable) func aHandshakeMayEndBeforeItIsComplete(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver)
    tls.script.then {
      tls.peer.process()
      tls.peer.push(limit: 20)
      shutdown(tls.pair.far, Int32(SHUT_WR))
    }
    tls.closeAtEnd()
    tls.script.run()
    #expect(tls.recorder.ends == [.endOfStream] && tls.recorder.securedAt == nil)
  }

  @Test(arguments: EventLoopDriver.usable) func anEndlessHandshakeIsCutOff(_ driver: EventLoopDriver) {
    let tls = TLSCase(driver)
    // A ClientHello that claims 128 KiB, in records of one byte each.
    let hello: [UInt8] = [1, 1, 255, 255] + [UInt8](repeating: 0, count: 131_072)
    var stream = hello.flatMap { [22, 3, 1, 0, 1, $0] as [UInt8] }
    tls.script.when("it is refused") {
      stream.removeFirst(write(stream, to: tls.pair.far))
      return !tls.recorder.ends.isEmpty
    } then: {
      tls.script.loop.close(tls.recorder)
    }
    tls.script.run()
    guard case .tlsFailed? = tls.recorder.ends.first else { return #expect(Bool(false)) }
    #expect(!stream.isEmpty)
  }
}
