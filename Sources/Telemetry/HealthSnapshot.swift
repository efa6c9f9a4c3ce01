/// How one database is, as `/health/NAME` says it.
public struct HealthSnapshot: Sendable, Equatable {
  /// Whether clients can be served.
  public enum Status: String, Sendable, Equatable {
    /// The upstream has answered a pool or a probe, and nothing has spoken against it since.
    case healthy
    /// Nothing has been tried yet.
    case unknown
    /// The upstream cannot be reached, refuses the pools' logins, or has no host of the role that is wanted.
    case unhealthy
  }

  /// The name that clients connect to.
  public var database: String
  /// Whether clients can be served.
  public var status: Status
  /// Why it is not healthy; nil where it is.
  public var reason: String?
  /// The latest round trip to the server in milliseconds; nil before the first.
  public var latencyMilliseconds: Double?
  /// `primary` or `standby`; nil where the server has not said.
  public var role: String?
  /// How many bytes of WAL a standby is behind; nil where that is not known.
  public var lagBytes: Int64?
  /// How old its data are; nil where that is not known.
  public var lagSeconds: Double?
  /// Connections that the database's pools keep open.
  public var poolSize = 0
  /// Connections that clients have.
  public var poolCheckedOut = 0
  /// Connections beyond the pools' sizes.
  public var overflow = 0
  /// Clients that wait for a connection.
  public var waiting = 0
  /// The last failure to connect, without secrets; nil where none has been since the last success.
  public var lastError: String?

  /// A database that nothing is known of but its status.
  public init(database: String, status: Status, reason: String? = nil) {
    self.database = database
    self.status = status
    self.reason = reason
  }
}
