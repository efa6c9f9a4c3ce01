import Glibc

/// Free blocks of one event loop, by size, so that a buffer costs no allocation in the steady state and an idle
/// connection holds none.
@safe public final class BlockPool {
  /// The smallest block, in bytes. Enough for most requests and replies; a thousand of them, each of a client that waits,
  /// are not much more than a processor's nearest caches hold.
  static let smallest = 512
  /// Blocks above this size (bytes) go back to the allocator instead of the pool.
  static let largestKept = 256 * 1024
  /// Blocks kept for each size: so many, or more where they are small (bytes together).
  static let keptPerSize = 64
  static let keptBytes = 512 * 1024

  private var free: [[UnsafeMutableRawPointer]]
  /// Blocks in use, by size.
  private var used = InlineArray<40, Int>(repeating: 0)

  public init() {
    unsafe free = unsafe Array(repeating: [], count: BlockPool.sizeClass(BlockPool.largestKept) + 1)
  }

  deinit {
    for size in unsafe free.indices {
      while let block = unsafe free[size].popLast() { unsafe Glibc.free(block) }
    }
  }

  private static func sizeClass(_ capacity: Int) -> Int {
    capacity.trailingZeroBitCount - smallest.trailingZeroBitCount
  }

  /// The capacity of the block that holds `count` bytes: a power of two.
  static func capacity(for count: Int) -> Int {
    guard count > smallest else { return smallest }
    return 1 << (Int.bitWidth - (count - 1).leadingZeroBitCount)
  }

  /// Blocks of each size that there are, smallest first. Those above `largestKept` are never free.
  public var counts: [(size: Int, used: Int, free: Int)] {
    used.indices.compactMap { size in
      let kept = unsafe free.indices.contains(size) ? free[size].count : 0
      return used[size] + kept > 0 ? (BlockPool.smallest << size, used[size], kept) : nil
    }
  }

  func take(capacity: Int) -> UnsafeMutableRawPointer {
    used[BlockPool.sizeClass(capacity)] += 1
    if capacity <= BlockPool.largestKept, let block = unsafe free[BlockPool.sizeClass(capacity)].popLast() {
      return unsafe block
    }
    guard let block = unsafe malloc(capacity) else { preconditionFailure("out of memory for \(capacity) bytes") }
    return unsafe block
  }

  func give(_ block: UnsafeMutableRawPointer, capacity: Int) {
    used[BlockPool.sizeClass(capacity)] -= 1
    if capacity <= BlockPool.largestKept {
      let size = BlockPool.sizeClass(capacity)
      if unsafe free[size].count < max(BlockPool.keptPerSize, BlockPool.keptBytes / capacity) {
        unsafe free[size].append(block)
        return
      }
    }
    unsafe Glibc.free(block)
  }
}

/// Bytes that wait: appended at the back, consumed from the front. Holds a block only while it holds bytes, and is no
/// larger than the pointer to it: an idle connection has several.
///
/// ```
///   block     head                 tail          capacity
///    | Block   |  waiting           |  room       |
/// ```
@safe public struct ByteQueue: ~Copyable {
  /// What a block begins with. Offsets are from its beginning.
  private struct Block {
    var capacity: Int
    var head = MemoryLayout<Block>.size
    var tail = MemoryLayout<Block>.size

    var count: Int { tail - head }
  }

  private var block: UnsafeMutablePointer<Block>?

  public init() { unsafe block = nil }

  deinit {
    if let block = unsafe block { unsafe free(block) }
  }

  /// Bytes waiting.
  public var count: Int { unsafe block?.pointee.count ?? 0 }
  public var isEmpty: Bool { unsafe block == nil }

  var holdsBlock: Bool { unsafe block != nil }

  /// The waiting bytes, valid until the queue is next changed.
  public var bytes: Span<UInt8> {
    @_lifetime(borrow self)
    get {
      let span = unsafe Span<UInt8>(_unsafeElements: memory.assumingMemoryBound(to: UInt8.self))
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// Where the waiting bytes are, for the kernel; until the queue is next changed.
  var memory: UnsafeRawBufferPointer {
    guard let block = unsafe block else { return unsafe UnsafeRawBufferPointer(start: nil, count: 0) }
    return unsafe UnsafeRawBufferPointer(
      start: UnsafeRawPointer(block) + block.pointee.head, count: block.pointee.count)
  }

  /// The waiting bytes in an array of their own.
  public var copy: [UInt8] { unsafe Array(memory) }

  /// Adds bytes at the back.
  public mutating func append(_ bytes: Span<UInt8>, from pool: BlockPool) {
    guard bytes.count > 0 else { return }
    let block = unsafe room(for: bytes.count, from: pool)
    unsafe bytes.withUnsafeBytes { source in
      _ = unsafe memcpy(UnsafeMutableRawPointer(block) + block.pointee.tail, source.baseAddress!, source.count)
    }
    unsafe block.pointee.tail += bytes.count
  }

  /// Removes `count` bytes from the front; gives the block back when nothing is left.
  public mutating func consume(_ count: Int, to pool: BlockPool) {
    precondition(count >= 0 && count <= self.count, "consumed more than is there")
    guard let block = unsafe block else { return }
    unsafe block.pointee.head += count
    if unsafe block.pointee.count == 0 { release(to: pool) }
  }

  /// Drops everything.
  public mutating func release(to pool: BlockPool) {
    if let block = unsafe block { unsafe pool.give(block, capacity: block.pointee.capacity) }
    unsafe block = nil
  }

  /// The block, with room for `extra` bytes behind those that wait.
  private mutating func room(for extra: Int, from pool: BlockPool) -> UnsafeMutablePointer<Block> {
    guard let old = unsafe block else {
      let new = unsafe ByteQueue.make(MemoryLayout<Block>.size + extra, from: pool)
      unsafe block = unsafe new
      return unsafe new
    }
    let (capacity, head, count) = unsafe (old.pointee.capacity, old.pointee.head, old.pointee.count)
    if unsafe capacity - old.pointee.tail >= extra { return unsafe old }
    let needed = MemoryLayout<Block>.size + count + extra
    let isReused = capacity >= needed && head >= capacity / 2
    let new = unsafe isReused ? old : ByteQueue.make(max(needed, capacity * 2), from: pool)
    unsafe memmove(
      UnsafeMutableRawPointer(new) + MemoryLayout<Block>.size, UnsafeMutableRawPointer(old) + head, count)
    unsafe new.pointee.head = MemoryLayout<Block>.size
    unsafe new.pointee.tail = MemoryLayout<Block>.size + count
    if !isReused { unsafe pool.give(old, capacity: capacity) }
    unsafe block = unsafe new
    return unsafe new
  }

  /// A block of at least this many bytes.
  private static func make(_ size: Int, from pool: BlockPool) -> UnsafeMutablePointer<Block> {
    let capacity = BlockPool.capacity(for: size)
    let block = unsafe pool.take(capacity: capacity).bindMemory(to: Block.self, capacity: 1)
    unsafe block.initialize(to: Block(capacity: capacity))
    return unsafe block
  }
}
