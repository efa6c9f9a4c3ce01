/// Some of a pool's hosts, by the numbers that the caller gives them. All from 63 on are in it together.
public struct HostSet: Equatable, Sendable {
  private var bits: UInt64 = 0

  public init() {}

  public var isEmpty: Bool { bits == 0 }

  public func contains(_ host: UInt32) -> Bool { bits & HostSet.bit(host) != 0 }

  public mutating func insert(_ host: UInt32) { bits |= HostSet.bit(host) }

  private static func bit(_ host: UInt32) -> UInt64 { 1 << UInt64(min(host, 63)) }
}
