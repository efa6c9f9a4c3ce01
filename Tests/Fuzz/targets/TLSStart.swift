import COpenSSL
import Glibc

@testable import Reactor

/// A peer that nobody knows yet sends whatever it likes to the server's side of TLS: from the first byte on, behind a
/// ClientHello, or behind a whole handshake.
///
/// The first byte of the input says which (bits 0 to 5: 63 is a whole handshake, which takes the most time; odd numbers
/// are a ClientHello), and whether ALPN is required (bit 7); the second into pieces of how many bytes the rest is cut (0:
/// not at all).
func fuzz(_ input: [UInt8]) {
  guard input.count >= 2 else { return }
  let bench = Bench(requiresALPN: input[0] & 128 != 0)
  let start = input[0] & 63
  if start == 63 {
    while bench.end == nil && !(bench.isSecured && bench.client.isSecured) {
      bench.client.process()
      bench.feed(bench.client.takeOutgoing())
      bench.client.take(bench.takeCiphertext())
    }
    precondition(bench.end == nil, "a good handshake failed")
    precondition(bench.stream.version == "TLSv1.3" && bench.stream.alpn == "postgresql")
  } else if start & 1 == 1 {
    bench.feed(hello)
  }
  let piece = input[1] == 0 ? input.count : Int(input[1])
  var next = 2
  while next < input.count && bench.end == nil {
    let end = min(next + piece, input.count)
    bench.feed(Array(input[next..<end]))
    next = end
  }
  bench.finish()
}

/// What all runs share. Unchecked: the fuzzer has one thread.
@safe private struct Shared: @unchecked Sendable {
  let server = TestFiles().context()
  let client: OpaquePointer
  let plaintext = UnsafeMutableRawBufferPointer.allocate(byteCount: EventLoop.receiveSize, alignment: 64)

  init() {
    unsafe client = SSL_CTX_new(TLS_client_method())!
    let alpn: [UInt8] = [10] + Array("postgresql".utf8)
    unsafe SSL_CTX_set_alpn_protos(client, alpn, UInt32(alpn.count))
  }
}

private let shared = Shared()

/// A good ClientHello.
private let hello: [UInt8] = {
  let client = Client()
  client.process()
  return client.takeOutgoing()
}()

/// A stream in place of a connection, with what the loop would do with it.
private final class Bench {
  let stream: TLSStream
  lazy var client = Client()
  var isSecured = false
  var end: StreamEnd?
  private let blocks = BlockPool()

  init(requiresALPN: Bool) {
    stream = TLSStream(shared.server, requiresALPN: requiresALPN)
    stream.attach(to: blocks)
  }

  func feed(_ bytes: [UInt8]) {
    guard !bytes.isEmpty else { return }
    unsafe bytes.withUnsafeBytes { bytes in
      unsafe stream.offer(bytes)
      while end == nil {
        let (count, stop) = unsafe stream.decrypt(into: shared.plaintext)
        precondition(count == 0 || isSecured, "plaintext before the handshake was complete")
        switch stop {
        case .needsInput: return precondition(!stream.isHolding && stream.kept.isEmpty)
        case .bufferFull: precondition(unsafe count == shared.plaintext.count)
        case .secured:
          precondition(!isSecured && stream.isHandshakeComplete)
          isSecured = true
        case .ended(let reason): end = reason
        }
      }
    }
    precondition(stream.ciphertext.count <= 64 * 1024, "answers without end")
  }

  func takeCiphertext() -> [UInt8] {
    let bytes = stream.ciphertext.copy
    stream.consume(bytes.count)
    return bytes
  }

  /// What the loop does at the end, whatever the state.
  func finish() {
    if let end {
      precondition(unsafe stream.decrypt(into: shared.plaintext).stop == .ended(end), "an end that does not last")
    } else if isSecured {
      let bytes: [UInt8] = [1, 2, 3]
      precondition(stream.encrypt(bytes.span) == nil, "output failed without a reason")
    }
    stream.endOutput()
    stream.detach(from: nil)
    precondition(!stream.ciphertext.holdsBlock && !stream.kept.holdsBlock)
  }
}

/// A good client, in memory.
@safe private final class Client {
  private let ssl: OpaquePointer
  private let input: OpaquePointer
  private let output: OpaquePointer

  init() {
    unsafe ssl = SSL_new(shared.client)!
    unsafe input = BIO_new(BIO_s_mem())!
    unsafe output = BIO_new(BIO_s_mem())!
    unsafe SSL_set_bio(ssl, input, output)
    unsafe SSL_set_connect_state(ssl)
  }

  deinit { unsafe SSL_free(ssl) }

  var isSecured: Bool { unsafe SSL_is_init_finished(ssl) == 1 }

  func process() {
    ERR_clear_error()
    unsafe SSL_do_handshake(ssl)
  }

  func take(_ bytes: [UInt8]) {
    if !bytes.isEmpty { unsafe BIO_write(input, bytes, Int32(bytes.count)) }
  }

  func takeOutgoing() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: unsafe BIO_ctrl_pending(output))
    let count = unsafe BIO_read(output, &bytes, Int32(bytes.count))
    return Array(bytes.prefix(max(0, Int(count))))
  }
}
