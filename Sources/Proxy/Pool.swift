import Authentication
import Pooling
import PostgresWire
import Reactor
import Settings
import Telemetry
import Upstream

/// What a worker keeps for one (database, server user) pair beside the pool machine's own state.
///
/// A database with a `read_upstream` has two for each user: `reads` of the first is the second, which serves read-only
/// transactions of the same clients.
final class Pool {
  let id: PoolID
  let database: String
  let user: String
  private let clientName: ClientName
  /// It serves what may be read on a standby, for the clients of another pool.
  let isForReads: Bool
  /// The pool that serves its clients' read-only transactions, on the same worker; nil where there is no `read_upstream`.
  var reads: Pool?
  /// What libpq connects to.
  private(set) var target: ConnectionTarget
  /// Where that is, and which of it is of use.
  var hosts: PoolHosts
  var settings: PoolSettings
  /// The password that its last client has proven, under `method = "upstream"`.
  var knownPassword: Password?
  /// What other threads may see of it.
  let published: PublishedPool
  let telemetry: PoolTelemetry

  /// The settings of a server connection on which no client has changed anything yet; nil until one has been opened.
  private(set) var base: SessionSettings?
  /// What logins with these startup settings were given, so that the next one needs no server connection.
  private var logins: [StartupSettings: KnownLogin] = [:]
  private static let loginsKept = 1024

  /// The last failure to connect, for DETAIL.
  var lastFailure: ConnectFailure? {
    didSet {
      published.update {
        $0.lastError = lastFailure?.text
        $0.dialedAt = EventLoop.monotonicNanoseconds()
      }
    }
  }
  /// As other threads see it.
  var publishedStanding = PoolStanding.open
  /// Clients cannot get at it any more.
  var isRetired = false
  /// The shards of which it is one, and which; nil for a pool that is on one worker as a whole.
  let shard: (group: ShardGroup, number: Int)?
  /// Connections that have left for other shards, and have not been heard of.
  var travelling = 0
  /// When all of its connections were killed last. One that arrives and is older than that is killed, too.
  var killedAt = Int64.min
  /// Clients here that keep their connection because of what they have on it.
  var pinned = 0 {
    didSet {
      telemetry.serversPinned.set(pinned)
      shard?.group.addPinned(pinned - oldValue)
    }
  }
  /// Those of all shards.
  var pinnedInAll: Int { shard?.group.pinned ?? pinned }
  /// Clients logged in.
  var clients = 0 {
    didSet {
      telemetry.clients.set(clients)
      if let shard { shard.group.setClients(clients, of: shard.number) }
    }
  }

  init(
    id: PoolID, database: String, user: String, isForReads: Bool, target: ConnectionTarget, settings: PoolSettings,
    shard: (group: ShardGroup, number: Int)?, board: HostBoard
  ) {
    self.id = id
    self.database = database
    self.user = user
    clientName = ClientName(user: user, database: database)
    self.isForReads = isForReads
    self.target = target
    self.settings = settings
    self.shard = shard
    hosts = PoolHosts(board.records(of: target), HostWish(target, maxLag: settings.maxLag))
    published = PublishedPool(
      PoolName(database: isForReads ? DatabaseSettings.readsName(of: database) : database, user: user),
      settings: settings)
    telemetry = published.telemetry
    label = "\(published.name.database)/\(user)"
  }

  /// Connects to another target, or with another wish, from now on.
  func connect(to target: ConnectionTarget, _ board: HostBoard) {
    self.target = target
    hosts = PoolHosts(board.records(of: target), HostWish(target, maxLag: settings.maxLag), after: hosts)
  }

  /// The name that its clients share, or that of one who calls itself otherwise.
  func shared(_ name: ClientName) -> ClientName { name == clientName ? clientName : name }

  /// As it is called where people see it; that of a pool for reads is no name of a database.
  var name: PoolName { published.name }
  let label: String
  /// As it begins the text of errors.
  var quotedLabel: String { "pool \"\(label)\"" }
  /// Connections change hands between transactions or statements.
  var sharesConnections: Bool { settings.mode != .session }

  /// Prepared statements with names are shared.
  var sharesStatements: Bool { sharesConnections && settings.maxPreparedStatements > 0 }

  /// A server connection was opened and reports these settings. Where they are not those of the last one, the server
  /// was changed, and what logins were told is no longer true.
  func opened(with settings: SessionSettings) {
    if base !== settings {
      base = settings
      logins.removeAll()
      let role = settings["in_hot_standby"].map { $0.text == "on" ? "standby" : "primary" }
      published.update { $0.role = role }
    }
  }

  func knownLogin(_ startup: StartupSettings) -> KnownLogin? { logins[startup] }

  func remember(login startup: StartupSettings, _ settings: SessionSettings) -> KnownLogin {
    if logins.count >= Pool.loginsKept { logins.removeAll() }
    let known = KnownLogin(settings)
    logins[startup] = known
    return known
  }
}

/// What comes of startup settings that a server has taken.
struct KnownLogin {
  /// Those of the session.
  let settings: SessionSettings
  /// What each client that logs in so is told, up to its cancel key.
  let greeting: [UInt8]

  init(_ settings: SessionSettings) {
    self.settings = settings
    var writer = MessageWriter()
    writer.authenticationOk()
    for setting in settings.reported { writer.parameterStatus(name: WireText(setting.name), value: setting.value) }
    greeting = writer.bytes
  }
}

/// Why a server connection could not be opened.
struct ConnectFailure {
  var verdict: DialVerdict
  var code: SQLState?
  /// libpq's or the server's words, without secrets.
  var text: String
}

extension Duration {
  /// In nanoseconds; durations beyond 292 years are cut there.
  var nanoseconds: Int64 {
    let (seconds, overflow) = components.seconds.multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? .max : seconds + components.attoseconds / 1_000_000_000
  }
}
