/// One pool of a `PoolSet`: a slot and the slot's generation, so that an identifier that outlived its pool is noticed.
public struct PoolID: Hashable, Sendable {
  public let index: UInt32
  public let generation: UInt32

  public init(index: UInt32, generation: UInt32) {
    self.index = index
    self.generation = generation
  }
}

/// One limit above pools: of a database, of a user, or of all.
public struct LimitID: Hashable, Sendable {
  public let index: UInt32

  public init(index: UInt32) { self.index = index }
}

/// A client, as the caller names it.
///
/// `index` is a slot of the caller's table of clients and should be dense: memory grows with the highest index that
/// ever waited. `generation` tells apart the clients that had the slot one after another.
public struct ClientToken: Hashable, Sendable {
  public let index: UInt32
  public let generation: UInt32

  public init(index: UInt32, generation: UInt32) {
    self.index = index
    self.generation = generation
  }
}

/// A server connection, as the `PoolSet` names it when it asks for the dial.
///
/// `index` is dense, so that the caller can keep its own record of the connection in an array; `generation` tells apart
/// the connections that had the slot one after another.
public struct ServerToken: Hashable, Sendable {
  public let index: UInt32
  public let generation: UInt32

  public init(index: UInt32, generation: UInt32) {
    self.index = index
    self.generation = generation
  }
}
