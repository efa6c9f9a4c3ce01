import COpenSSL
import Glibc

/// TLS of one connection as a transform of bytes: what the peer sent goes in and plaintext comes out, and the other way
/// round. It knows no socket. It lives on the thread of the loop that has its socket, and moves with it.
///
/// ```
///   socket → offer → [kept] → OpenSSL → decrypt → Connection.received
///   socket ← [ciphertext]   ← OpenSSL ← encrypt ← EventLoop.send
/// ```
///
/// Only the queues in brackets hold bytes, and both are empty on an idle connection; OpenSSL gives its own buffers back
/// then too (SSL_MODE_RELEASE_BUFFERS).
@safe public final class TLSStream {
  /// Why `decrypt` stopped.
  enum Stop: Equatable {
    /// Everything offered has been used up.
    case needsInput
    /// There may be more plaintext than the buffer took.
    case bufferFull
    /// The handshake is complete. There may be plaintext behind it.
    case secured
    /// Nothing more will come.
    case ended(StreamEnd)
  }

  /// Bytes a peer may send during a handshake: far more than OpenSSL lets a ClientHello (128 KiB) or a chain of
  /// certificates (100 KiB) have in one.
  private static let handshakeLimit = 256 * 1024
  /// Bytes a peer may send without any data in them after the handshake: the largest record (16,640) fits, a flood of
  /// requests for new keys does not.
  private static let silenceLimit = 32 * 1024
  /// Bytes of answers to such requests that may wait for a peer which does not read.
  private static let replyLimit = 64 * 1024

  /// nil once detached.
  private var ssl: OpaquePointer?
  /// The rules of the server's side; nil for a borrowed `SSL*`.
  private let context: TLSServerContext?
  /// The client has to offer ALPN.
  let requiresALPN: Bool
  /// Free blocks of the loop that has the socket.
  private var blocks: BlockPool?

  /// Records for the peer that have not left yet.
  private(set) var ciphertext = ByteQueue()
  /// What was received and OpenSSL has not taken yet.
  private(set) var kept = ByteQueue()
  /// The rest of what `offer` was given; in front of it nothing is kept.
  private var input: UnsafeRawPointer?
  private var inputCount = 0
  /// How the peer's bytes ended, once they did.
  private var end: StreamEnd?
  /// Why one of our callbacks refused the handshake, which OpenSSL cannot know.
  private var refusal: String?
  /// OpenSSL has failed, and must not be called any more.
  private var isFailed = false
  /// Records were thrown away: the peer could not make sense of any that follow.
  private var isCut = false
  /// `decrypt` stopped where there may be more, or has not been called for what is kept.
  private(set) var isHolding = false

  private var isDecrypting = false
  /// Bytes taken since there was last plaintext, or since the handshake was complete.
  private var silentBytes = 0
  /// Bytes that OpenSSL wrote while decrypting, since `ciphertext` was last empty.
  private var replyBytes = 0
  private var isExcessive = false

  /// The handshake is complete: plaintext may be sent.
  public private(set) var isHandshakeComplete: Bool

  /// Borrows the `SSL*` of a connection that libpq has made, on any thread: its BIOs are replaced. The stream must be
  /// given to a loop, and the loop must have closed the connection, before `PQfinish`: that sets BIOs which are safe for
  /// `SSL_shutdown` on any thread.
  public init(borrowing ssl: UnsafeMutableRawPointer) {
    let ssl = OpaquePointer(ssl)
    precondition(unsafe SSL_is_init_finished(ssl) == 1, "borrowed before the handshake was complete")
    unsafe self.ssl = ssl
    context = nil
    requiresALPN = false
    isHandshakeComplete = true
    unsafe SSL_set_options(ssl, lifeguard_ssl_op_no_renegotiation)
    unsafe lifeguard_ssl_set_mode(ssl, Int(SSL_MODE_RELEASE_BUFFERS))
    unsafe TLSTransport.attach(self, to: ssl)
    isHolding = unsafe SSL_has_pending(ssl) == 1
  }

  /// The server's side of a new handshake.
  init(_ context: TLSServerContext, requiresALPN: Bool) {
    let ssl = unsafe context.makeSSL()
    unsafe self.ssl = ssl
    self.context = context
    self.requiresALPN = requiresALPN
    isHandshakeComplete = false
    unsafe TLSTransport.attach(self, to: ssl)
  }

  deinit { detach(from: nil) }

  // MARK: What was agreed on

  /// The version of the protocol, such as "TLSv1.3".
  public var version: String { unsafe String(cString: SSL_get_version(handle)) }

  /// The name of the cipher, such as "TLS_AES_256_GCM_SHA384"; "(NONE)" before the handshake is complete.
  public var cipher: String { unsafe String(cString: SSL_CIPHER_get_name(SSL_get_current_cipher(handle))) }

  /// The first common name in the subject of a client's certificate that has been verified; nil where there is none, or
  /// where it has a NUL inside, which a comparison in C would take for its end.
  public var peerCommonName: String? {
    guard let context, context.verifiesClients, unsafe SSL_get_verify_result(handle) == Int(X509_V_OK),
      let certificate = unsafe SSL_get0_peer_certificate(handle)
    else { return nil }
    let subject = unsafe X509_get_subject_name(certificate)
    let index = unsafe X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
    guard index >= 0 else { return nil }
    var text: UnsafeMutablePointer<UInt8>?
    let value = unsafe X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index))
    let count = unsafe ASN1_STRING_to_UTF8(&text, value)
    guard count > 0, let text = unsafe text else { return nil }
    defer { unsafe CRYPTO_free(text, nil, 0) }
    let bytes = unsafe UnsafeBufferPointer(start: text, count: Int(count))
    return unsafe bytes.contains(0) ? nil : String(validating: bytes, as: UTF8.self)
  }

  /// The application protocol agreed on (RFC 7301); nil where the client offered none.
  public var alpn: String? {
    var name: UnsafePointer<UInt8>?
    var count: UInt32 = 0
    unsafe SSL_get0_alpn_selected(handle, &name, &count)
    guard let name = unsafe name else { return nil }
    return unsafe String(decoding: UnsafeBufferPointer(start: name, count: Int(count)), as: UTF8.self)
  }

  /// The hash of the certificate that this connection's handshake used, whichever is in the settings by now; see
  /// `TLSServerContext.endPointHash`. nil for a borrowed `SSL*`.
  public var endPointHash: [UInt8]? { context?.endPointHash }

  // MARK: Belonging to a loop

  /// Takes blocks from the loop that has the socket from now on.
  func attach(to blocks: BlockPool) { self.blocks = blocks }

  /// Leaves the loop that has the socket, for another one. What was offered is kept.
  func leave() {
    keepInput()
    blocks = nil
  }

  /// The end: frees what is our own, gives back what is borrowed. The last words of who gets it back go to `descriptor`,
  /// unless what went before them was cut off.
  func detach(from descriptor: Int32?) {
    guard let ssl = unsafe ssl else { return }
    if context != nil {
      unsafe SSL_free(ssl)
    } else {
      discardOutput()
      unsafe TLSTransport.detach(ssl, from: isCut || isFailed ? nil : descriptor)
    }
    unsafe self.ssl = nil
    if let blocks {
      ciphertext.release(to: blocks)
      kept.release(to: blocks)
    }
    inputCount = 0
    isHolding = false
  }

  // MARK: From the peer

  /// Has `decrypt` work on these bytes. They must stay valid until it says that it needs more, or until `keepInput`.
  func offer(_ bytes: UnsafeRawBufferPointer) {
    precondition(kept.isEmpty && inputCount == 0, "bytes offered before older ones were used up")
    unsafe input = bytes.baseAddress
    inputCount = bytes.count
  }

  /// Keeps what is left of the bytes offered.
  func keepInput() {
    guard inputCount > 0 else { return }
    keep(unsafe Span(_unsafeBytes: UnsafeRawBufferPointer(start: input, count: inputCount)))
    inputCount = 0
  }

  /// Keeps bytes for `decrypt`.
  func keep(_ bytes: Span<UInt8>) {
    guard bytes.count > 0 else { return }
    kept.append(bytes, from: pool)
    isHolding = true
  }

  /// Fills the buffer with plaintext as far as there is some.
  func decrypt(into buffer: UnsafeMutableRawBufferPointer) -> (count: Int, stop: Stop) {
    var count = 0
    let stop = unsafe decrypt(into: buffer, &count)
    isHolding = stop != .needsInput
    return (count, stop)
  }

  private func decrypt(into buffer: UnsafeMutableRawBufferPointer, _ count: inout Int) -> Stop {
    if let end { return .ended(end) }
    isDecrypting = true
    defer { isDecrypting = false }
    if !isHandshakeComplete {
      OpenSSLError.clear()
      let outcome = unsafe SSL_do_handshake(handle)
      guard outcome == 1 else { return stop(after: outcome) }
      isHandshakeComplete = true
      silentBytes = 0
      return .secured
    }
    while count < buffer.count {
      // Asking OpenSSL in vain costs more than asking whether to ask.
      if unsafe inputCount == 0 && kept.isEmpty && SSL_has_pending(handle) == 0 { return .needsInput }
      OpenSSLError.clear()
      var taken = 0
      let room = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[count...])
      let outcome = unsafe SSL_read_ex(handle, room.baseAddress, room.count, &taken)
      guard outcome == 1 else { return stop(after: outcome) }
      count += taken
      silentBytes = 0
    }
    return .bufferFull
  }

  /// What an OpenSSL call that did not succeed means.
  private func stop(after outcome: Int32) -> Stop {
    switch unsafe SSL_get_error(handle, outcome) {
    case SSL_ERROR_WANT_READ where !isExcessive: return .needsInput
    case SSL_ERROR_WANT_READ: return fail("the peer sends too much that is not data")
    case SSL_ERROR_ZERO_RETURN: return finish(.endOfStream)
    default: return fail(OpenSSLError.take())
    }
  }

  private func fail(_ reason: String) -> Stop {
    var reason = refusal ?? reason
    let verdict = unsafe SSL_get_verify_result(handle)
    if context != nil && verdict != Int(X509_V_OK) {
      reason = unsafe "certificate verify failed: " + String(cString: X509_verify_cert_error_string(verdict))
    }
    isFailed = true
    return finish(.tlsFailed(reason))
  }

  /// What the peer sent behind its end is ignored.
  private func finish(_ end: StreamEnd) -> Stop {
    self.end = end
    inputCount = 0
    return .ended(end)
  }

  // MARK: To the peer

  /// Turns plaintext into records, which are added to `ciphertext`.
  ///
  /// - Returns: how it failed, if it did; after a failure nothing more can be sent.
  func encrypt(_ bytes: Span<UInt8>) -> StreamEnd? {
    precondition(isHandshakeComplete, "plaintext before the handshake was complete")
    if isFailed { return end }
    var start = 0
    while start < bytes.count {
      OpenSSLError.clear()
      var taken = 0
      let outcome = unsafe bytes.extracting(start...).withUnsafeBytes { rest in
        unsafe SSL_write_ex(handle, rest.baseAddress, rest.count, &taken)
      }
      guard outcome == 1 else {
        // The network never refuses bytes, and renegotiation is off: there is nothing to wait for.
        _ = fail(OpenSSLError.take())
        return end
      }
      start += taken
    }
    return nil
  }

  /// Adds close_notify to `ciphertext`: the peer knows then that nothing was cut off.
  func endOutput() {
    guard isHandshakeComplete, !isFailed else { return }
    OpenSSLError.clear()
    unsafe SSL_shutdown(handle)
    OpenSSLError.clear()
  }

  /// Adds what was to be sent before TLS, in clear, to `ciphertext`.
  func prepend(_ output: inout ByteQueue) {
    precondition(ciphertext.isEmpty, "clear text behind records")
    swap(&ciphertext, &output)
  }

  /// Takes away records that the kernel has.
  func consume(_ count: Int) { ciphertext.consume(count, to: pool) }

  /// Throws away records that cannot be sent.
  func discardOutput() {
    guard !ciphertext.isEmpty else { return }
    isCut = true
    if let blocks { ciphertext.release(to: blocks) } else { ciphertext = ByteQueue() }
  }

  // MARK: For OpenSSL's callbacks

  /// Why the handshake is going to fail.
  func refuse(_ reason: String) { refusal = reason }

  func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
    if isExcessive { return 0 }
    let available = kept.isEmpty ? inputCount : kept.count
    let count = min(buffer.count, available)
    guard count > 0 else { return 0 }
    silentBytes += count
    if silentBytes > (isHandshakeComplete ? TLSStream.silenceLimit : TLSStream.handshakeLimit) {
      isExcessive = true
      return 0
    }
    if kept.isEmpty {
      unsafe buffer.copyMemory(from: UnsafeRawBufferPointer(start: input, count: count))
      unsafe input = input.map { unsafe $0 + count }
      inputCount -= count
    } else {
      unsafe TLSStream.copy(kept.bytes, count, to: buffer)
      kept.consume(count, to: pool)
    }
    return count
  }

  private static func copy(_ bytes: Span<UInt8>, _ count: Int, to buffer: UnsafeMutableRawBufferPointer) {
    unsafe bytes.withUnsafeBytes { bytes in
      unsafe buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
    }
  }

  func write(_ bytes: UnsafeRawBufferPointer) {
    if isDecrypting && isHandshakeComplete {
      replyBytes = ciphertext.isEmpty ? bytes.count : replyBytes + bytes.count
      if replyBytes > TLSStream.replyLimit { isExcessive = true }
    }
    ciphertext.append(unsafe Span(_unsafeBytes: bytes), from: pool)
  }

  private var handle: OpaquePointer {
    guard let ssl = unsafe ssl else { preconditionFailure("a TLS stream used after its end") }
    return unsafe ssl
  }

  private var pool: BlockPool {
    guard let blocks else { preconditionFailure("a TLS stream used without a loop") }
    return blocks
  }
}
