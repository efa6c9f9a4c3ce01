extension AdminCommand {
  /// Reads one command, in any letter case, with or without a semicolon and comments.
  ///
  /// - Throws: 42601 for what is no command, 0A000 for a command of PgBouncer's that Lifeguard does not have.
  public static func parse(_ text: String) throws(AdminError) -> AdminCommand {
    var tokens = try AdminScanner.tokens(of: text)
    while tokens.last == .symbol(";") { tokens.removeLast() }
    if tokens.isEmpty { return .empty }
    if tokens.contains(.symbol(";")) { throw .syntax("one command at a time, please") }
    guard case .word(let verb) = tokens[0] else { throw .syntax("\(quoted(tokens[0])) begins no command") }
    let arguments = Array(tokens.dropFirst())

    switch verb {
    case "show": return .show(try parseSubject(arguments))
    case "reload":
      try requireNothing(after: "RELOAD", arguments)
      return .reload
    case "shutdown": return .shutdown(try parseShutdownMode(arguments))
    case "set": return try parseSet(arguments)
    default: break
    }
    if let tag = tagsWithoutEffect[verb] { return .noEffect(tag: tag) }
    if commandsOfPgBouncer.contains(verb) { throw .notThereYet(verb.uppercased()) }
    throw .syntax("\(quoted(tokens[0])) begins no command")
  }

  private static func parseSubject(_ arguments: [AdminScanner.Token]) throws(AdminError) -> ShowSubject {
    guard let first = arguments.first else { throw .syntax("SHOW needs to be told what") }
    guard case .word(let name) = first else { throw .syntax("SHOW cannot show \(quoted(first))") }
    guard let subject = ShowSubject(rawValue: name) else {
      if subjectsOfPgBouncer.contains(name) { throw .notThereYet("SHOW \(name.uppercased())") }
      throw .syntax("SHOW cannot show \(quoted(first))")
    }
    try requireNothing(after: "SHOW \(name.uppercased())", Array(arguments.dropFirst()))
    return subject
  }

  private static func parseShutdownMode(_ arguments: [AdminScanner.Token]) throws(AdminError) -> ShutdownMode {
    guard let first = arguments.first else { return .immediate }
    try requireNothing(after: "SHUTDOWN \(shown(first).uppercased())", Array(arguments.dropFirst()))
    switch first {
    case .word("wait_for_servers"): return .waitForServers
    case .word("wait_for_clients"): return .waitForClients
    default: throw .syntax("SHUTDOWN takes WAIT_FOR_SERVERS or WAIT_FOR_CLIENTS, not \(quoted(first))")
    }
  }

  /// PgBouncer's SET changes its settings; drivers also send SET for PostgreSQL's parameters as soon as they connect.
  private static func parseSet(_ arguments: [AdminScanner.Token]) throws(AdminError) -> AdminCommand {
    var names = arguments[...]
    if names.first == .word("session") || names.first == .word("local") { names = names.dropFirst() }
    guard case .word(let name) = names.first else { throw .syntax("SET needs a name and a value") }
    guard parametersOfSessions.contains(name) else { throw .notThereYet("SET \(name)") }
    return .noEffect(tag: "SET")
  }

  private static func requireNothing(
    after command: String, _ rest: [AdminScanner.Token]
  ) throws(AdminError) {
    if let first = rest.first { throw .syntax("\(quoted(first)) after \(command)") }
  }

  private static func quoted(_ token: AdminScanner.Token) -> String { "\"\(shown(token))\"" }

  /// As it may stand in an error: not longer than a name can be.
  private static func shown(_ token: AdminScanner.Token) -> String {
    let text =
      switch token {
      case .word(let word): word
      case .quoted(let text): text
      case .symbol(let symbol): String(symbol)
      }
    let longest = 63
    return text.count > longest ? text.prefix(longest) + "…" : text
  }

  /// What psql (with AUTOCOMMIT off or ON_ERROR_ROLLBACK on), drivers and their pools send of their own accord, and
  /// the tags they expect.
  private static let tagsWithoutEffect = [
    "begin": "BEGIN", "start": "START TRANSACTION", "commit": "COMMIT", "end": "COMMIT", "rollback": "ROLLBACK",
    "abort": "ROLLBACK", "savepoint": "SAVEPOINT", "release": "RELEASE", "discard": "DISCARD ALL", "reset": "RESET",
  ]

  /// PostgreSQL's parameters that psql and drivers set of their own accord, and the first words of SET NAMES, SET TIME
  /// ZONE, SET TRANSACTION and SET SESSION CHARACTERISTICS.
  private static let parametersOfSessions: Set<String> = [
    "application_name", "bytea_output", "client_encoding", "client_min_messages", "datestyle",
    "default_transaction_isolation", "default_transaction_read_only", "extra_float_digits", "idle_session_timeout",
    "idle_in_transaction_session_timeout", "intervalstyle", "lock_timeout", "names", "search_path",
    "standard_conforming_strings", "statement_timeout", "time", "timezone", "transaction", "characteristics",
  ]

  private static let commandsOfPgBouncer: Set<String> = [
    "pause", "resume", "disable", "enable", "reconnect", "kill", "kill_client", "suspend", "wait_close",
  ]

  private static let subjectsOfPgBouncer: Set<String> = [
    "active_sockets", "dns_hosts", "dns_zones", "fds", "mem", "peer_pools", "peers", "sockets", "stats_averages",
    "stats_totals", "totals", "users",
  ]
}
