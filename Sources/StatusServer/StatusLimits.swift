/// What the status server grants its peers, who need not prove who they are.
public struct StatusLimits: Sendable {
  /// Connections at a time; one beyond has an old one closed. Balancers, Prometheus and a person need a handful.
  public var maxConnections = 64
  /// The most bytes of a request's head.
  public var maxHeadBytes = 16 * 1_024
  /// How long a request's head may take, from the connection or from its first byte.
  public var headTimeout: Duration = .seconds(10)
  /// How long a connection may stay open between two requests.
  public var idleTimeout: Duration = .seconds(60)
  /// How long an answer may take until the peer has room for all of it.
  public var answerTimeout: Duration = .seconds(10)
  /// How long a peer may take to close its side after its last answer.
  public var lingerTimeout: Duration = .seconds(2)
  /// The most bytes that are received and thrown away behind a peer's last request.
  public var maxDiscardedBytes = 1_024 * 1_024
  /// The pause before accepting goes on after accepting failed, for want of descriptors for example.
  public var acceptPause: Duration = .seconds(1)

  /// The defaults.
  public init() {}
}
