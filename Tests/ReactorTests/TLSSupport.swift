import COpenSSL
import Glibc

@testable import Reactor

/// The client's side of TLS, with memory in place of a network, so that a test decides which of its bytes leave when.
@safe final class TLSPeer {
  let descriptor: Int32
  let ssl: OpaquePointer
  /// Bytes of its stream that have not been written to the socket.
  var outgoing: [UInt8] = []
  /// What it was sent and decrypted.
  var plaintext: [UInt8] = []
  /// The socket's end was read.
  var isAtEnd = false
  /// The server has sent close_notify.
  var isClosed: Bool { unsafe SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN != 0 }
  /// OpenSSL's reason why it failed.
  var failure: String?

  private let fromServer: OpaquePointer
  private let toServer: OpaquePointer

  init(
    _ descriptor: Int32, version: Int32? = nil, alpn: [UInt8]? = nil, certificate: TestCertificate? = nil
  ) {
    self.descriptor = descriptor
    let context = unsafe SSL_CTX_new(TLS_client_method())
    defer { unsafe SSL_CTX_free(context) }
    if let version {
      unsafe lifeguard_ssl_ctx_set_min_proto_version(context, version)
      unsafe lifeguard_ssl_ctx_set_max_proto_version(context, version)
      if version < TLS1_2_VERSION { unsafe SSL_CTX_set_cipher_list(context, "ALL@SECLEVEL=0") }
    }
    if let certificate {
      unsafe SSL_CTX_use_certificate(context, certificate.pointer)
      unsafe SSL_CTX_use_PrivateKey(context, certificate.key.pointer)
    }
    unsafe ssl = SSL_new(context)!
    if let alpn { unsafe SSL_set_alpn_protos(ssl, alpn, UInt32(alpn.count)) }
    unsafe fromServer = BIO_new(BIO_s_mem())!
    unsafe toServer = BIO_new(BIO_s_mem())!
    unsafe SSL_set_bio(ssl, fromServer, toServer)
    unsafe SSL_set_connect_state(ssl)
  }

  deinit {
    unsafe SSL_free(ssl)
    close(descriptor)
  }

  var isSecured: Bool { unsafe SSL_is_init_finished(ssl) == 1 }

  /// Reads what has come in, and lets TLS answer: the answers go to `outgoing`.
  func pull(limit: Int = .max) {
    let (bytes, end) = read(descriptor, limit: limit)
    isAtEnd = isAtEnd || end
    if !bytes.isEmpty { unsafe BIO_write(fromServer, bytes, Int32(bytes.count)) }
    process()
  }

  /// Writes at most `limit` bytes of `outgoing` to the socket.
  func push(limit: Int = .max) {
    outgoing.removeFirst(write(Array(outgoing.prefix(limit)), to: descriptor))
  }

  /// Both ways.
  func pump() {
    pull()
    push()
  }

  func send(_ bytes: [UInt8]) {
    let count = unsafe SSL_write(ssl, bytes, Int32(bytes.count))
    precondition(Int(count) == bytes.count, "not written")
    collect()
  }

  /// Says close_notify.
  func shutdown() {
    unsafe SSL_shutdown(ssl)
    collect()
  }

  /// Asks for new keys of both sides.
  func updateKeys() {
    unsafe SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED)
    unsafe SSL_do_handshake(ssl)
    collect()
  }

  /// Takes a step in the handshake, or reads what there is.
  func process() {
    OpenSSLError.clear()
    if !isSecured {
      check(unsafe SSL_do_handshake(ssl))
    }
    var buffer = [UInt8](repeating: 0, count: 16_384)
    while isSecured {
      let count = unsafe SSL_read(ssl, &buffer, Int32(buffer.count))
      guard count > 0 else {
        check(count)
        break
      }
      plaintext += buffer[..<Int(count)]
    }
    collect()
  }

  private func check(_ outcome: Int32) {
    if outcome <= 0, unsafe SSL_get_error(ssl, outcome) == SSL_ERROR_SSL, failure == nil {
      failure = OpenSSLError.take()
    }
  }

  func collect() {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = unsafe BIO_read(toServer, &buffer, Int32(buffer.count))
      guard count > 0 else { return }
      outgoing += buffer[..<Int(count)]
    }
  }
}

/// A connection that becomes TLS, with the loop it lives in and its peer.
struct TLSCase {
  let script: Script
  let pair = SocketPair()
  let recorder = Recorder()
  let peer: TLSPeer

  init(
    _ driver: EventLoopDriver, version: Int32? = nil, alpn: [UInt8]? = nil, requiresALPN: Bool = false,
    certificate: TestCertificate? = nil,
    authority: TestCertificate? = nil
  ) {
    script = Script(driver)
    peer = TLSPeer(pair.far, version: version, alpn: alpn, certificate: certificate)
    script.loop.adopt(pair.near, for: recorder, owned: true)
    script.loop.startTLS(
      on: recorder, TestFiles().context(clientsSignedBy: authority), requiresALPN: requiresALPN, received: Span())
  }

  var tls: TLSStream { script.loop.tls(of: recorder)! }

  /// Adds a step that completes the handshake.
  func secure() {
    script.when("the handshake is complete") {
      peer.pump()
      return recorder.securedAt != nil && peer.isSecured
    }
  }

  /// Adds a step that waits until the owner hears of the end, and closes the connection then. The peer does nothing
  /// meanwhile, unless it is asked to.
  func closeAtEnd(whilePeer acts: @escaping () -> Void = {}) {
    script.when("the end is reported") {
      acts()
      return !recorder.ends.isEmpty
    } then: {
      script.loop.close(recorder)
    }
  }

  /// Adds steps that close the connection at its end, and wait until the peer has seen that.
  func finish() {
    closeAtEnd { peer.pump() }
    script.when("the descriptor is closed") {
      peer.pump()
      return peer.isAtEnd || errno == ECONNRESET
    }
  }
}
