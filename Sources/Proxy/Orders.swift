/// What an administrator has ordered beyond the settings. It holds until it is revoked or the daemon ends, also for pools
/// and clients that come later.
public struct Orders: Sendable, Equatable {
  /// PAUSE without a name.
  public var pausesAll = false
  /// PAUSE with a name.
  public var paused: Set<String> = []
  /// DISABLE.
  public var disabled: Set<String> = []

  /// Nothing is ordered.
  public init() {}

  /// Whether the pools of a database are paused.
  public func pauses(_ database: String) -> Bool { pausesAll || paused.contains(database) }
}

/// Which databases a command is about.
public enum OrderScope: Sendable, Equatable {
  case all
  case database(String)

  func contains(_ database: String) -> Bool {
    switch self {
    case .all: true
    case .database(let name): name.utf8.elementsEqual(database.utf8)
    }
  }
}

/// What a command waits for, on every worker.
public enum PoolCondition: Sendable {
  /// No server connection is open: what PAUSE waits for.
  case closed
  /// No server connection is left that RECONNECT or a reload has made outdated: what WAIT_CLOSE waits for.
  case current
}

/// How a wait for a condition ended.
public enum PoolWaitOutcome: Sendable {
  case reached
  /// RESUME came first.
  case revoked
}

/// A wait on one worker.
struct PoolWait: Sendable {
  let condition: PoolCondition
  let scope: OrderScope
  let reply: @Sendable (PoolWaitOutcome) -> Void
}

/// What a worker is to do once.
enum Operation: Sendable {
  /// Replace every connection, the idle ones now, the others when they come back.
  case reconnect(OrderScope)
  /// Close every client and every server connection at once.
  case kill(OrderScope)
  /// Close the client with this number.
  case killClient(Int64, @Sendable (Bool) -> Void)
}
