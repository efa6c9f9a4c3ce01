/// How things are in one pool now: on one worker, or on several workers added up.
public struct PoolGauges: Sendable, Equatable {
  /// Clients that are not waiting, idle ones among them, as PgBouncer's `cl_active` counts.
  public var clientsActive = 0
  /// Clients that wait for a server connection.
  public var clientsWaiting = 0
  /// Server connections that clients have.
  public var serversActive = 0
  /// Server connections that can be given out.
  public var serversIdle = 0
  /// Server connections that are being opened.
  public var serversDialing = 0
  /// Server connections whose ping is under way.
  public var serversTesting = 0
  /// Server connections that are being cleaned after a client left.
  public var serversResetting = 0
  /// Server connections whose end has not been seen yet; they still count towards the bound.
  public var serversClosing = 0
  /// Server connections that one client keeps for its session state; most of them are active too.
  public var serversPinned = 0
  /// Those of them that are kept for a reason; one may have several. In the order of `PinReason.allCases`.
  public var serversPinnedByReason = PinReason.allCases.map { _ in 0 }
  /// How long the first in the queue has been waiting, in microseconds; 0 when nobody waits.
  public var maxWaitMicroseconds = 0

  /// Zeros.
  public init() {}

  /// Server connections that count towards the bound: all there are, in whatever state.
  public var serversTotal: Int {
    serversActive + serversIdle + serversDialing + serversTesting + serversResetting + serversClosing
  }

  /// Adds the gauges of another worker or pool; the longest wait is the longer one.
  public static func += (left: inout PoolGauges, right: PoolGauges) {
    left.clientsActive += right.clientsActive
    left.clientsWaiting += right.clientsWaiting
    left.serversActive += right.serversActive
    left.serversIdle += right.serversIdle
    left.serversDialing += right.serversDialing
    left.serversTesting += right.serversTesting
    left.serversResetting += right.serversResetting
    left.serversClosing += right.serversClosing
    left.serversPinned += right.serversPinned
    for index in left.serversPinnedByReason.indices {
      left.serversPinnedByReason[index] += right.serversPinnedByReason[index]
    }
    left.maxWaitMicroseconds = max(left.maxWaitMicroseconds, right.maxWaitMicroseconds)
  }
}
