/// How many of one kind of object there are, for SHOW MEM.
public struct MemorySnapshot: Sendable, Equatable {
  /// What the objects are.
  public var name: String
  /// Bytes of one of them, without what it refers to.
  public var size: Int
  /// Objects in use.
  public var used: Int
  /// Objects kept for the next use.
  public var free: Int

  /// Objects of one kind.
  public init(name: String, size: Int, used: Int, free: Int = 0) {
    self.name = name
    self.size = size
    self.used = used
    self.free = free
  }
}
