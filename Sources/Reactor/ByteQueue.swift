import Glibc

/// Free blocks of one event loop, by size, so that a buffer costs no allocation in the steady state and an idle
/// connection holds none.
@safe public final class BlockPool {
  /// The smallest block, in bytes. Enough for most requests and replies.
  static let smallest = 4096
  /// Blocks above this size (bytes) go back to the allocator instead of the pool.
  static let largestKept = 256 * 1024
  /// Blocks kept for each size.
  static let keptPerSize = 64

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
      if unsafe free[size].count < BlockPool.keptPerSize {
        unsafe free[size].append(block)
        return
      }
    }
    unsafe Glibc.free(block)
  }
}

/// Bytes that wait: appended at the back, consumed from the front. Holds a block only while it holds bytes.
///
/// ```
///   base            head                 tail          capacity
///    |  consumed     |  waiting           |  room       |
/// ```
@safe public struct ByteQueue: ~Copyable {
  private var base: UnsafeMutableRawPointer?
  private var capacity = 0
  private var head = 0
  private var tail = 0

  public init() { unsafe base = nil }

  deinit {
    if let base = unsafe base { unsafe free(base) }
  }

  /// Bytes waiting.
  public var count: Int { tail - head }
  public var isEmpty: Bool { tail == head }

  var holdsBlock: Bool { unsafe base != nil }

  /// The waiting bytes, valid until the queue is next changed.
  public var bytes: Span<UInt8> {
    @_lifetime(borrow self)
    get {
      let start = unsafe base.map { unsafe UnsafeRawPointer($0 + head).assumingMemoryBound(to: UInt8.self) }
      let span = unsafe Span(_unsafeElements: UnsafeBufferPointer(start: start, count: count))
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// Where the waiting bytes are, for the kernel; until the queue is next changed.
  var memory: UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: base.map { unsafe UnsafeRawPointer($0 + head) }, count: count)
  }

  /// The waiting bytes in an array of their own.
  public var copy: [UInt8] {
    guard let base = unsafe base else { return [] }
    return unsafe Array(UnsafeRawBufferPointer(start: base + head, count: count))
  }

  /// Adds bytes at the back.
  public mutating func append(_ bytes: Span<UInt8>, from pool: BlockPool) {
    guard bytes.count > 0 else { return }
    reserve(bytes.count, from: pool)
    unsafe bytes.withUnsafeBytes { source in
      _ = unsafe memcpy(base! + tail, source.baseAddress!, source.count)
    }
    tail += bytes.count
  }

  /// Removes `count` bytes from the front; gives the block back when nothing is left.
  public mutating func consume(_ count: Int, to pool: BlockPool) {
    precondition(count >= 0 && count <= self.count, "consumed more than is there")
    head += count
    if head == tail { release(to: pool) }
  }

  /// Drops everything.
  public mutating func release(to pool: BlockPool) {
    if let base = unsafe base { unsafe pool.give(base, capacity: capacity) }
    unsafe base = nil
    capacity = 0
    head = 0
    tail = 0
  }

  private mutating func reserve(_ extra: Int, from pool: BlockPool) {
    if capacity - tail >= extra { return }
    let needed = count + extra
    if let old = unsafe base {
      if capacity >= needed && head >= capacity / 2 {
        unsafe memmove(old, old + head, count)
        (head, tail) = (0, count)
        return
      }
      let larger = BlockPool.capacity(for: max(needed, capacity * 2))
      let block = unsafe pool.take(capacity: larger)
      unsafe memcpy(block, old + head, count)
      unsafe pool.give(old, capacity: capacity)
      unsafe base = block
      (head, tail) = (0, count)
      capacity = larger
    } else {
      capacity = BlockPool.capacity(for: needed)
      unsafe base = unsafe pool.take(capacity: capacity)
    }
  }
}
