/// How the kernel notices peers that vanish without a word (tcp(7): keepalive, TCP_USER_TIMEOUT).
public struct SilentPeers: Sendable {
  /// Silence after which it asks (1 to 32,767 s); nil never asks.
  public var idleSeconds: Int32?
  /// How far apart it asks again (1 to 32,767 s).
  public var intervalSeconds: Int32
  /// How often it asks (1 to 127).
  public var count: Int32
  /// How long sent bytes may stay unacknowledged (ms); nil for the kernel's own time, some 15 minutes.
  public var unacknowledgedMilliseconds: Int32?

  public init(idleSeconds: Int32?, intervalSeconds: Int32, count: Int32, unacknowledgedMilliseconds: Int32?) {
    self.idleSeconds = idleSeconds
    self.intervalSeconds = intervalSeconds
    self.count = count
    self.unacknowledgedMilliseconds = unacknowledgedMilliseconds
  }
}
