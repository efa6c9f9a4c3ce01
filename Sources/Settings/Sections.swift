/// `[server]`: the daemon itself.
public struct ServerSettings: Sendable, Equatable {
  /// Where clients connect; never empty.
  public var listen: [ListenAddress] = [.tcp(host: "127.0.0.1", port: 6432)]
  /// Threads that serve clients; nil for "auto".
  public var workers: Int?
  /// The numbers of workers there may be: a cancel key has six bits for the worker.
  public static let workerRange = 1...63
  /// Clients that may be connected at once.
  public var maxClients = 10_000
  /// What waits for the kernel.
  public var eventLoop = EventLoopKind.auto
  /// How long a client may take to log in; nil for "off".
  public var clientLoginTimeout: Duration? = .seconds(60)
  /// How long a stop waits for running transactions; nil waits for ever.
  public var shutdownTimeout: Duration? = .seconds(60)
  /// After how much silence the kernel asks whether a client is still there (whole seconds); nil never asks.
  public var tcpKeepIdle: Duration? = .seconds(60)
  /// How far apart it asks again (whole seconds).
  public var tcpKeepInterval: Duration = .seconds(10)
  /// How often it asks before it gives the client up.
  public var tcpKeepCount = 6
  /// How long sent bytes may stay unacknowledged before a client is given up; nil leaves it to the kernel.
  public var tcpUserTimeout: Duration?
  /// Whether clients may or must use TLS.
  public var tlsMode = TLSMode.disable
  /// The file with the certificate chain shown to clients.
  public var tlsCertificate: String?
  /// The file with its private key.
  public var tlsKey: String?
  /// The file with the authorities that client certificates must come from.
  public var tlsAuthority: String?

  /// The defaults.
  public init() {}
}

/// The kernel interface that a worker waits on.
public enum EventLoopKind: String, Sendable, CaseIterable {
  /// The best that the kernel allows.
  case auto
  case ioUring = "io_uring"
  case epoll
}

/// TLS between client and daemon, as PgBouncer's `client_tls_sslmode`. Unix sockets never have any.
public enum TLSMode: String, Sendable, CaseIterable {
  /// Not offered.
  case disable
  /// Whoever asks for it gets it; the same as `prefer`.
  case allow
  case prefer
  /// Clients that do not ask for it are refused.
  case require
  /// As `require`, and clients need a certificate that `tls_ca` has signed; the same as `verifyFull`, since clients have
  /// no host name to be checked.
  case verifyCA = "verify-ca"
  case verifyFull = "verify-full"

  /// Clients can have TLS.
  public var offersTLS: Bool { self != .disable }

  /// Clients cannot do without.
  public var requiresTLS: Bool { self == .require || requiresClientCertificate }

  /// Clients need a certificate.
  public var requiresClientCertificate: Bool { self == .verifyCA || self == .verifyFull }
}

/// `[databases.NAME]`.
public struct DatabaseSettings: Sendable, Equatable {
  /// The name that clients connect to; `*` for any that has no section of its own.
  public var name: String
  /// Where its connections go.
  public var upstream: Conninfo
  /// The password for its server connections; nil where it is in `upstream`, or libpq finds it.
  public var password: PasswordSource?
  /// Where its read-only transactions may go; nil where all go to `upstream`.
  public var readUpstream: Conninfo?
  /// What pools for the reads of a database are called where others are called by its name. No database can have the name.
  public static func readsName(of database: String) -> String { database + readsSuffix }
  static let readsSuffix = ":reads"
  /// The most server connections of all its pools together; nil for no limit beyond the pools' own.
  public var maxConnections: Int?
  /// The pool keys that this section sets.
  public var overrides = PoolOverrides()
}

/// `[users.NAME]`.
public struct UserSettings: Sendable, Equatable {
  /// The name with which clients log in.
  public var name: String
  /// The password for this user's server connections; nil where it is elsewhere.
  public var password: PasswordSource?
  /// The most server connections of all its pools together; nil for no limit beyond the pools' own.
  public var maxConnections: Int?
  /// The pool keys that this section sets.
  public var overrides = PoolOverrides()
}

extension UserSettings {
  /// The `pool_size` that this section sets; nil where it sets none.
  public var poolSize: Int? { overrides.poolSize }

  /// The `mode` that this section sets; nil where it sets none.
  public var mode: PoolMode? { overrides.mode }
}

/// `[auth]`: how clients prove who they are.
public struct AuthSettings: Sendable, Equatable {
  /// The method. Without `[auth]` it is trust, which is legal only where nothing but Unix sockets listens.
  public var method = AuthMethod.trust
  /// The file with users and secrets, in PgBouncer's format.
  public var file: String?
  /// Whether trust may be used beyond loopback and Unix sockets.
  public var allowRemoteTrust = false

  /// The defaults.
  public init() {}
}

/// The ways of `[auth] method`.
public enum AuthMethod: String, Sendable, CaseIterable {
  /// Whoever reaches the listener may be anybody.
  case trust
  /// The password in clear, checked against `file`.
  case password
  /// A salted MD5 of it, checked against `file`.
  case md5
  /// SCRAM, checked against `file`.
  case scramSHA256 = "scram-sha-256"
  /// A client certificate whose common name is the user's.
  case cert
  /// By the rules of a file like pg_hba.conf.
  case hba
  /// The password in clear, checked by logging in to the upstream with it.
  case upstream
}

/// `[admin]`: the console.
public struct AdminSettings: Sendable, Equatable {
  /// Where the admin socket is when no setting names it and the directory can be written.
  public static let defaultSocket = "/run/lifeguard/admin.sock"

  /// The admin socket; nil where no setting names it, so that the daemon may choose the user's own directory.
  public var socket: String?
  /// Users who may change things on the console.
  public var users: [String] = []
  /// Users who may look.
  public var statsUsers: [String] = []

  /// The defaults.
  public init() {}
}

/// `[http]`: metrics, health and the status page.
public struct HTTPSettings: Sendable, Equatable {
  /// Where HTTP is served; nil for "off".
  public var listen: ListenAddress? = .tcp(host: "127.0.0.1", port: 9127)

  /// The defaults.
  public init() {}
}

/// `[health]`: how hosts are probed.
public struct HealthSettings: Sendable, Equatable {
  /// From one probe of a host to the next; nil for "off".
  public var interval: Duration? = .seconds(2)
  /// The longest time for one probe.
  public var timeout: Duration = .seconds(1)
  /// Probes in a row that have to succeed until a host that is down is up.
  public var rise = 2
  /// Probes in a row that have to fail until a host is down.
  public var fall = 3

  /// The defaults.
  public init() {}
}

/// `[log]`.
public struct LogSettings: Sendable, Equatable {
  /// The least important messages that are written.
  public var level = LogLevel.info
  /// How they are written.
  public var format = LogFormat.auto
  /// Whether clients that come and go are logged.
  public var connections = true

  /// The defaults.
  public init() {}
}

/// From everything to almost nothing; swift-log's words.
public enum LogLevel: String, Sendable, CaseIterable {
  case trace, debug, info, notice, warning, error, critical
}

/// How log messages are written.
public enum LogFormat: String, Sendable, CaseIterable {
  /// The journal under systemd, text elsewhere.
  case auto
  case journal, text, json
}
