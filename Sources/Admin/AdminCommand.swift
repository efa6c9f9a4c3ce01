/// One command of the admin console.
public enum AdminCommand: Sendable, Equatable {
  /// Rows about the daemon.
  case show(ShowSubject)
  /// Reads the settings again.
  case reload
  /// Shows what `reload` would change, and changes nothing.
  case reloadDryRun
  /// Lends no server connections, and waits until none is open; of one database, or of all.
  case pause(database: String?)
  /// Ends a pause or a kill.
  case resume(database: String?)
  /// Lets no new client into a database.
  case disable(database: String)
  /// Ends `disable`.
  case enable(database: String)
  /// Has server connections replaced as clients give them back.
  case reconnect(database: String?)
  /// Pauses, and closes all clients and server connections at once.
  case kill(database: String?)
  /// Closes the client with this `id` of SHOW CLIENTS.
  case killClient(Int64)
  /// Waits until the connections that RECONNECT or RELOAD made outdated are closed.
  case waitClose(database: String?)
  /// Changes a setting until the next reload.
  case set(key: String, value: String)
  /// Ends the daemon.
  case shutdown(ShutdownMode)
  /// What clients send of their own accord and what means nothing here, such as `BEGIN` or `SET client_encoding`: it
  /// succeeds with this command tag and does nothing.
  case noEffect(tag: String)
  /// No command at all: an empty statement, or only a comment.
  case empty

  /// Whether it changes anything, and so needs ``AdminPrivilege/change``.
  public var changes: Bool {
    switch self {
    case .reload, .pause, .resume, .disable, .enable, .reconnect, .kill, .killClient, .set, .shutdown: true
    case .show, .reloadDryRun, .waitClose, .noEffect, .empty: false
    }
  }

  /// The tag of its CommandComplete; empty for ``empty``, which is answered by EmptyQueryResponse.
  public var tag: String {
    switch self {
    case .show: "SHOW"
    case .reload, .reloadDryRun: "RELOAD"
    case .pause: "PAUSE"
    case .resume: "RESUME"
    case .disable: "DISABLE"
    case .enable: "ENABLE"
    case .reconnect: "RECONNECT"
    case .kill: "KILL"
    case .killClient: "KILL_CLIENT"
    case .waitClose: "WAIT_CLOSE"
    case .set: "SET"
    case .shutdown: "SHUTDOWN"
    case .noEffect(let tag): tag
    case .empty: ""
    }
  }

  /// Every command that changes something or waits, and what it does, for SHOW HELP.
  static let purposes = [
    ("RELOAD", "reads the settings again"),
    ("RELOAD DRY RUN", "shows what RELOAD would change"),
    ("PAUSE [db]", "lets clients wait, and waits until no server connection is open"),
    ("RESUME [db]", "ends PAUSE and KILL"),
    ("DISABLE db", "lets no new client in"),
    ("ENABLE db", "ends DISABLE"),
    ("RECONNECT [db]", "has server connections replaced as clients give them back"),
    ("WAIT_CLOSE [db]", "waits until the connections that RECONNECT or RELOAD made outdated are closed"),
    ("KILL [db]", "pauses, and closes all clients and server connections at once"),
    ("KILL_CLIENT id", "closes the client with this id of SHOW CLIENTS"),
    ("SET key = 'value'", "changes a setting until the next RELOAD (keys: SHOW CONFIG)"),
    ("SHUTDOWN", "ends the daemon at once"),
    ("SHUTDOWN WAIT_FOR_SERVERS", "lets running transactions end, then ends the daemon"),
    ("SHUTDOWN WAIT_FOR_CLIENTS", "waits until all clients have left, then ends the daemon"),
  ]
}

/// What SHOW can show.
public enum ShowSubject: String, Sendable, CaseIterable {
  case activeSockets = "active_sockets"
  case clients, config, databases
  case dnsHosts = "dns_hosts"
  case dnsZones = "dns_zones"
  case events, health, help, lists, mem
  case peerPools = "peer_pools"
  case peers, pins, pools, servers, sockets, state, stats
  case statsAverages = "stats_averages"
  case statsTotals = "stats_totals"
  case totals, users, version

  /// What it shows, for SHOW HELP.
  var purpose: String {
    switch self {
    case .activeSockets: "as SOCKETS, without connections that are idle"
    case .clients: "the connected clients"
    case .config: "the settings in force"
    case .databases: "the databases, where they lead and what limits them"
    case .dnsHosts: "nothing: libpq resolves names at each dial"
    case .dnsZones: "nothing: libpq resolves names at each dial"
    case .events: "the last events of pools and of the daemon, with their reasons"
    case .health: "the hosts of the upstreams: state, role, lag, the last probes"
    case .help: "this list"
    case .lists: "how many there are of each thing"
    case .mem: "how many objects of each kind there are, and their size"
    case .peerPools: "nothing: there are no peers"
    case .peers: "nothing: there are no peers"
    case .pins: "the clients that keep their server connection, and why"
    case .pools: "each pool: clients, server connections, waits"
    case .servers: "the server connections"
    case .sockets: "clients and server connections with the bytes that wait"
    case .state: "whether the daemon serves, is paused or drains"
    case .stats: "counters and averages of each database"
    case .statsAverages: "the averages of each database over the last period"
    case .statsTotals: "the counters of each database"
    case .totals: "counters and averages of all databases together"
    case .users: "the users, their limits and connections"
    case .version: "the daemon's version"
    }
  }

  /// Whether it shows connections one by one, which costs the workers time for each.
  public var needsConnections: Bool {
    switch self {
    case .clients, .pins, .servers, .sockets, .activeSockets, .mem: true
    case .config, .databases, .dnsHosts, .dnsZones, .events, .health, .help, .lists, .peerPools, .peers, .pools, .state,
      .stats,
      .statsAverages, .statsTotals, .totals, .users, .version:
      false
    }
  }
}

/// How much a shutdown waits for.
public enum ShutdownMode: Sendable, Equatable {
  /// Nothing.
  case immediate
  /// Clients give back their server connections: running transactions end first.
  case waitForServers
  /// Clients leave of their own accord.
  case waitForClients
}
