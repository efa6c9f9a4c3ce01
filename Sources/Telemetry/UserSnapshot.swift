/// One user of the settings, of the list of secrets, or of a pool.
public struct UserSnapshot: Sendable, Equatable {
  /// The name with which clients log in.
  public var name: String
  /// The connections that each of the user's pools keeps open; nil where the user has no setting of its own.
  public var poolSize: Int?
  /// The mode of the user's pools; nil where the user has no setting of its own.
  public var mode: String?
  /// The most server connections of all of the user's pools together; 0 for no limit beyond the pools' own.
  public var maxConnections = 0

  /// A user without settings of its own, unless told otherwise.
  public init(name: String, poolSize: Int? = nil, mode: String? = nil, maxConnections: Int = 0) {
    self.name = name
    self.poolSize = poolSize
    self.mode = mode
    self.maxConnections = maxConnections
  }
}
