import CUring

/// Buffers that the kernel fills when bytes come in, whichever socket they come for. An idle socket has none. A buffer
/// is ours from its completion until `giveBack`, and the kernel's otherwise.
///
/// ```
///   entries   |  given back, in the order that the kernel takes them  |     a ring, with its tail in the first entry
///                 |         |
///   bytes     |  4  |  0  |  1  |  2  |  3  | …                             `size` bytes each
/// ```
@safe struct ProvidedBuffers: ~Copyable {
  /// Buffers; a power of two. More sockets than that may have input in one turn: the rest are received from in the next.
  static let count = 256
  /// Bytes of one buffer, a page. What a larger message has beyond it comes in the next ones. All together are the most
  /// that one busy socket can bring in a turn, and that is held where its owner wants no more.
  static let size = 4 * 1024
  /// Names these buffers in requests.
  static let group: UInt16 = 0
  private static let entriesSize = count * MemoryLayout<io_uring_buf>.stride

  private let entries: UnsafeMutableRawPointer
  private let bytes: UnsafeMutableRawPointer
  private var tail: UInt16 = 0

  init(for ring: Ring) throws(Errno) {
    guard let entries = unsafe lifeguard_map_pages(ProvidedBuffers.entriesSize),
      let bytes = unsafe lifeguard_map_pages(ProvidedBuffers.count * ProvidedBuffers.size)
    else { preconditionFailure("out of memory for receive buffers") }
    unsafe self.entries = entries
    unsafe self.bytes = bytes
    for buffer in 0..<ProvidedBuffers.count { giveBack(UInt16(buffer)) }
    publish()
    unsafe try ring.provide(entries, count: ProvidedBuffers.count, group: ProvidedBuffers.group)
  }

  /// The ring must be closed before: the kernel takes buffers until then.
  deinit {
    unsafe lifeguard_unmap_pages(entries, ProvidedBuffers.entriesSize)
    unsafe lifeguard_unmap_pages(bytes, ProvidedBuffers.count * ProvidedBuffers.size)
  }

  /// The first `count` bytes of a buffer, which must be ours.
  func bytes(_ buffer: UInt16, _ count: Int) -> UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: start(of: buffer), count: count)
  }

  /// Lets the kernel have a buffer again, once that is published.
  mutating func giveBack(_ buffer: UInt16) {
    unsafe lifeguard_buffer_write(
      entries, tail & UInt16(ProvidedBuffers.count - 1), start(of: buffer), UInt32(ProvidedBuffers.size), buffer)
    tail &+= 1
  }

  /// Shows the kernel what has been given back.
  func publish() { unsafe lifeguard_buffer_publish(entries, tail) }

  private func start(of buffer: UInt16) -> UnsafeMutableRawPointer {
    unsafe bytes + Int(buffer) * ProvidedBuffers.size
  }
}
