/// One command of the admin console.
public enum AdminCommand: Sendable, Equatable {
  /// Rows about the daemon.
  case show(ShowSubject)
  /// Reads the settings again.
  case reload
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
    case .reload, .shutdown: true
    case .show, .noEffect, .empty: false
    }
  }

  /// The tag of its CommandComplete; empty for ``empty``, which is answered by EmptyQueryResponse.
  public var tag: String {
    switch self {
    case .show: "SHOW"
    case .reload: "RELOAD"
    case .shutdown: "SHUTDOWN"
    case .noEffect(let tag): tag
    case .empty: ""
    }
  }
}

/// What SHOW can show.
public enum ShowSubject: String, Sendable, CaseIterable {
  case clients, config, databases, help, lists, pools, servers, state, stats, version

  /// What it shows, for SHOW HELP.
  var purpose: String {
    switch self {
    case .clients: "the connected clients"
    case .config: "the settings in force"
    case .databases: "the databases, where they lead and what limits them"
    case .help: "this list"
    case .lists: "how many there are of each thing"
    case .pools: "each pool: clients, server connections, waits"
    case .servers: "the server connections"
    case .state: "whether the daemon serves, is paused or drains"
    case .stats: "counters and averages of each database"
    case .version: "the daemon's version"
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
