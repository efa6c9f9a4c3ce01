public import Synchronization

/// A number that only grows, written by one thread and read by any.
///
/// Adding is a load and a store without a lock prefix, which is right only because one thread writes. A reader sees
/// each value whole, but two counters read one after the other may be a few events apart.
public struct Counter: ~Copyable, Sendable {
  @usableFromInline let value = Atomic<UInt64>(0)

  /// Starts at 0.
  @inlinable
  public init() {}

  /// Adds `amount`. Only the owning thread may call this.
  @inlinable @inline(__always)
  public func add(_ amount: UInt64 = 1) {
    value.store(value.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
  }

  /// The sum so far.
  @inlinable
  public var count: UInt64 { value.load(ordering: .relaxed) }
}

/// A number that goes up and down, written by one thread and read by any.
public struct Gauge: ~Copyable, Sendable {
  @usableFromInline let value = Atomic<Int>(0)

  /// Starts at 0.
  @inlinable
  public init() {}

  /// Replaces the value. Only the owning thread may call this.
  @inlinable @inline(__always)
  public func set(_ newValue: Int) {
    value.store(newValue, ordering: .relaxed)
  }

  /// Adds `amount`, which may be negative. Only the owning thread may call this.
  @inlinable @inline(__always)
  public func add(_ amount: Int) {
    value.store(value.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
  }

  /// The value now.
  @inlinable
  public var current: Int { value.load(ordering: .relaxed) }
}
