/// One database of the settings and what is connected to it.
public struct DatabaseSnapshot: Sendable, Equatable {
  /// The name that clients connect to.
  public var name: String
  /// The upstream's hosts, as they are written in its connection string; nil for libpq's default.
  public var host: String?
  /// The upstream's ports, as they are written in its connection string.
  public var port: String
  /// The database's name on the server; nil where it is the client's.
  public var serverDatabase: String?
  /// The user of the server connections where the upstream fixes it.
  public var forcedUser: String?
  /// Connections that each pool keeps open.
  public var poolSize: Int
  /// Connections that each pool opens ahead of demand.
  public var minSize: Int
  /// Connections that each pool may open beyond `poolSize`.
  public var maxOverflow: Int
  /// The age in seconds at which connections are replaced; 0 for never.
  public var recycleSeconds: Int
  /// `session`, `transaction` or `statement`.
  public var mode: String
  /// How libpq chooses among several hosts; nil where it is not set.
  public var loadBalanceHosts: String?
  /// The most server connections of all pools together; 0 for no limit beyond the pools' own.
  public var maxConnections: Int
  /// Whether PAUSE is in force.
  public var isPaused = false
  /// Whether new clients are refused.
  public var isDisabled = false

  /// A database that is neither paused nor disabled.
  public init(
    name: String, host: String?, port: String, serverDatabase: String?, forcedUser: String?, poolSize: Int,
    minSize: Int, maxOverflow: Int, recycleSeconds: Int, mode: String, loadBalanceHosts: String? = nil,
    maxConnections: Int
  ) {
    self.name = name
    self.host = host
    self.port = port
    self.serverDatabase = serverDatabase
    self.forcedUser = forcedUser
    self.poolSize = poolSize
    self.minSize = minSize
    self.maxOverflow = maxOverflow
    self.recycleSeconds = recycleSeconds
    self.mode = mode
    self.loadBalanceHosts = loadBalanceHosts
    self.maxConnections = maxConnections
  }
}

/// The whole daemon at one moment: what workers hand to the control plane.
///
/// Collecting the connections costs the workers time for each of them, so they are left out unless somebody asks.
public struct DaemonSnapshot: Sendable, Equatable {
  /// The daemon's version, such as `0.1.0`.
  public var version: String
  /// When the daemon started.
  public var startTime: UnixTime
  /// When this was taken.
  public var time: UnixTime
  /// Threads that serve clients.
  public var workers: Int
  /// What waits for the kernel: `epoll` or `io_uring`.
  public var eventLoop: String
  /// Whether PAUSE is in force for all databases.
  public var isPaused = false
  /// Whether the daemon is stopping and lets nobody in.
  public var isDraining = false
  /// Clients that may be connected at once.
  public var maxClients: Int
  /// Clients that are connected, those that are logging in among them.
  public var clientCount = 0
  /// Clients that are logging in.
  public var loginClientCount = 0
  /// The databases of the settings, and those that were made from `"*"`.
  public var databases: [DatabaseSnapshot] = []
  /// The users of the settings, of the list of secrets and of the pools.
  public var users: [UserSnapshot] = []
  /// The pools, sorted by nothing in particular.
  public var pools: [PoolSnapshot] = []
  /// The hosts of the upstreams, by name.
  public var hosts: [HostSnapshot] = []
  /// The last events, oldest first.
  public var events: [EventSnapshot] = []
  /// The clients; nil where nobody asked for them.
  public var clients: [ClientSnapshot]?
  /// The server connections; nil where nobody asked for them.
  public var servers: [ServerSnapshot]?
  /// Objects by kind; nil where nobody asked for them.
  public var memory: [MemorySnapshot]?

  /// A daemon without databases, pools and connections.
  public init(
    version: String, startTime: UnixTime, time: UnixTime, workers: Int, eventLoop: String, maxClients: Int
  ) {
    self.version = version
    self.startTime = startTime
    self.time = time
    self.workers = workers
    self.eventLoop = eventLoop
    self.maxClients = maxClients
  }

  /// The pools by database and then user.
  public var sortedPools: [PoolSnapshot] {
    pools.sorted { ($0.database, $0.user) < ($1.database, $1.user) }
  }
}
