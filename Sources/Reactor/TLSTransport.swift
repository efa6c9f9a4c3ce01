import CLinux
import COpenSSL
import Glibc

/// What OpenSSL takes for the network: a BIO that reads from and writes to a `TLSStream` in memory. (OpenSSL's own
/// memory BIO would do, but it keeps its buffer for as long as the connection lives.)
enum TLSTransport {
  /// A kind of BIO. Unchecked: made once, never changed after that, and OpenSSL only reads it.
  @safe private struct Method: @unchecked Sendable {
    let pointer: OpaquePointer

    init(
      name: StaticString, write: @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, Int32) -> Int32,
      read: @convention(c) (OpaquePointer?, UnsafeMutablePointer<CChar>?, Int32) -> Int32
    ) {
      let made = name.withUTF8Buffer { text in
        unsafe text.withMemoryRebound(to: CChar.self) { text in
          unsafe BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, text.baseAddress)
        }
      }
      guard let method = unsafe made else { preconditionFailure("out of memory for a BIO method") }
      unsafe BIO_meth_set_write(method, write)
      unsafe BIO_meth_set_read(method, read)
      // A flush has nothing to do, and must succeed; nothing else is supported.
      unsafe BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
      unsafe pointer = method
    }
  }

  private static let streaming = unsafe Method(
    name: "lifeguard TLS stream",
    write: { bio, bytes, count in
      guard let bytes = unsafe bytes, count > 0 else { return 0 }
      unsafe TLSTransport.stream(of: bio).write(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
      return count
    },
    read: { bio, buffer, count in
      unsafe lifeguard_bio_clear_retry_flags(bio)
      guard let buffer = unsafe buffer, count > 0 else { return 0 }
      let room = unsafe UnsafeMutableRawBufferPointer(start: buffer, count: Int(count))
      let taken = unsafe TLSTransport.stream(of: bio).read(into: room)
      if taken > 0 { return Int32(taken) }
      unsafe lifeguard_bio_set_retry_read(bio)
      return -1
    })

  /// For an `SSL*` that goes back to its owner: what the owner still says (close_notify) goes to the socket as far as the
  /// kernel takes it at once, or nowhere; there is nothing to read.
  private static let farewell = unsafe Method(
    name: "lifeguard TLS farewell",
    write: { bio, bytes, count in
      guard let encoded = unsafe BIO_get_data(bio) else { return count }
      let flags = Int32(MSG_NOSIGNAL | MSG_DONTWAIT)
      _ = unsafe send(Int32(UInt(bitPattern: encoded) - 1), bytes, Int(max(count, 0)), flags)
      return count
    },
    read: { _, _, _ in 0 })

  /// Makes `stream` the network of `ssl`. The stream must outlive that.
  static func attach(_ stream: TLSStream, to ssl: OpaquePointer) {
    unsafe install(streaming, data: Unmanaged.passUnretained(stream).toOpaque(), in: ssl)
  }

  /// Makes `descriptor`, or nothing where it is nil, the network of `ssl`, for its last words.
  static func detach(_ ssl: OpaquePointer, from descriptor: Int32?) {
    let data = unsafe descriptor.flatMap { unsafe UnsafeMutableRawPointer(bitPattern: UInt($0) + 1) }
    unsafe install(farewell, data: data, in: ssl)
  }

  /// The stream that is the network of `ssl`, for OpenSSL's callbacks.
  static func stream(ofSSL ssl: OpaquePointer?) -> TLSStream { unsafe stream(of: SSL_get_rbio(ssl)) }

  private static func stream(of bio: OpaquePointer?) -> TLSStream {
    guard let data = unsafe BIO_get_data(bio) else { preconditionFailure("a BIO without its stream") }
    return unsafe Unmanaged<TLSStream>.fromOpaque(data).takeUnretainedValue()
  }

  /// Frees the BIOs that `ssl` had before.
  private static func install(_ method: Method, data: UnsafeMutableRawPointer?, in ssl: OpaquePointer) {
    guard let bio = unsafe BIO_new(method.pointer) else { preconditionFailure("out of memory for a BIO") }
    unsafe BIO_set_data(bio, data)
    unsafe SSL_set_bio(ssl, bio, bio)
  }
}
