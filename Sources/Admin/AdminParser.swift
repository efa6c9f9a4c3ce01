extension AdminCommand {
  /// Reads one command, in any letter case, with or without a semicolon and comments.
  ///
  /// - Throws: 42601 for what is no command, 0A000 for a command of PgBouncer's that Lifeguard does not have.
  public static func parse(_ text: String) throws(AdminError) -> AdminCommand {
    var tokens = try AdminScanner.tokens(of: text)
    while tokens.last == .symbol(";") { tokens.removeLast() }
    guard let first = tokens.first else { return .empty }
    if tokens.contains(.symbol(";")) { throw .syntax("one command at a time, please") }
    guard let verb = first.keyword else { throw .syntax("\(quoted(first)) begins no command") }
    let arguments = Array(tokens.dropFirst())

    switch verb {
    case "show": return .show(try parseSubject(arguments))
    case "reload": return try parseReload(arguments)
    case "pause": return .pause(database: try parseDatabase(of: "PAUSE", arguments))
    case "resume": return .resume(database: try parseDatabase(of: "RESUME", arguments))
    case "disable": return .disable(database: try requireDatabase(of: "DISABLE", arguments))
    case "enable": return .enable(database: try requireDatabase(of: "ENABLE", arguments))
    case "reconnect": return .reconnect(database: try parseDatabase(of: "RECONNECT", arguments))
    case "kill": return .kill(database: try parseDatabase(of: "KILL", arguments))
    case "kill_client": return .killClient(try parseClient(arguments))
    case "wait_close": return .waitClose(database: try parseDatabase(of: "WAIT_CLOSE", arguments))
    case "shutdown": return .shutdown(try parseShutdownMode(arguments))
    case "set": return try parseSet(arguments)
    case "suspend":
      throw .notHere("SUSPEND", hint: "PAUSE lets clients wait, and needs nobody to take over their connections.")
    default: break
    }
    if let tag = tagsWithoutEffect[verb] { return .noEffect(tag: tag) }
    throw .syntax("\(quoted(first)) begins no command")
  }

  private static func parseSubject(_ arguments: [AdminScanner.Token]) throws(AdminError) -> ShowSubject {
    guard let first = arguments.first else { throw .syntax("SHOW needs to be told what") }
    guard let name = first.keyword else { throw .syntax("SHOW cannot show \(quoted(first))") }
    guard let subject = ShowSubject(rawValue: name) else {
      if name == "fds" { throw .notHere("SHOW FDS", hint: "SHOW SOCKETS has the connections.") }
      throw .syntax("SHOW cannot show \(quoted(first))")
    }
    try requireNothing(after: "SHOW \(name.uppercased())", Array(arguments.dropFirst()))
    return subject
  }

  private static func parseReload(_ arguments: [AdminScanner.Token]) throws(AdminError) -> AdminCommand {
    if arguments.prefix(2).map(\.keyword) == ["dry", "run"] {
      try requireNothing(after: "RELOAD DRY RUN", Array(arguments.dropFirst(2)))
      return .reloadDryRun
    }
    try requireNothing(after: "RELOAD", arguments)
    return .reload
  }

  /// The name of a database, which may be left out.
  private static func parseDatabase(
    of command: String, _ arguments: [AdminScanner.Token]
  ) throws(AdminError) -> String? {
    guard let first = arguments.first else { return nil }
    try requireNothing(after: "\(command) \(shown(first))", Array(arguments.dropFirst()))
    switch first {
    case .word(let name), .quoted(let name): return name
    case .symbol: throw .syntax("\(quoted(first)) is no name of a database")
    }
  }

  private static func requireDatabase(
    of command: String, _ arguments: [AdminScanner.Token]
  ) throws(AdminError) -> String {
    guard let name = try parseDatabase(of: command, arguments) else {
      throw .syntax("\(command) needs the name of a database")
    }
    return name
  }

  private static func parseClient(_ arguments: [AdminScanner.Token]) throws(AdminError) -> Int64 {
    guard let first = arguments.first else { throw .syntax("KILL_CLIENT needs the id of a client") }
    try requireNothing(after: "KILL_CLIENT \(shown(first))", Array(arguments.dropFirst()))
    guard let id = Int64(shown(first)) else { throw .syntax("\(quoted(first)) is no id of a client (SHOW CLIENTS)") }
    return id
  }

  private static func parseShutdownMode(_ arguments: [AdminScanner.Token]) throws(AdminError) -> ShutdownMode {
    guard let first = arguments.first else { return .immediate }
    try requireNothing(after: "SHUTDOWN \(shown(first).uppercased())", Array(arguments.dropFirst()))
    switch first.keyword {
    case "wait_for_servers": return .waitForServers
    case "wait_for_clients": return .waitForClients
    default: throw .syntax("SHUTDOWN takes WAIT_FOR_SERVERS or WAIT_FOR_CLIENTS, not \(quoted(first))")
    }
  }

  /// SET changes settings; drivers also send SET for PostgreSQL's parameters as soon as they connect.
  private static func parseSet(_ arguments: [AdminScanner.Token]) throws(AdminError) -> AdminCommand {
    var names = arguments[...]
    if let scope = names.first?.keyword, ["session", "local"].contains(scope) { names = names.dropFirst() }
    guard let first = names.first, let name = first.keyword else { throw .syntax("SET needs a key and a value") }
    if parametersOfSessions.contains(name) { return .noEffect(tag: "SET") }
    guard let equals = arguments.firstIndex(where: { $0 == .symbol("=") || $0.keyword == "to" }), equals > 0,
      equals + 1 < arguments.count
    else { throw .syntax("SET needs a key and a value: SET key = 'value'") }
    return .set(key: text(of: arguments[..<equals]), value: text(of: arguments[(equals + 1)...]))
  }

  private static func text(of tokens: ArraySlice<AdminScanner.Token>) -> String {
    tokens.map(whole).joined()
  }

  private static func requireNothing(
    after command: String, _ rest: [AdminScanner.Token]
  ) throws(AdminError) {
    if let first = rest.first { throw .syntax("\(quoted(first)) after \(command)") }
  }

  private static func quoted(_ token: AdminScanner.Token) -> String { "\"\(shown(token))\"" }

  /// As it may stand in an error: not longer than a name can be.
  private static func shown(_ token: AdminScanner.Token) -> String {
    let text = whole(token)
    let longest = 63
    return text.count > longest ? text.prefix(longest) + "…" : text
  }

  private static func whole(_ token: AdminScanner.Token) -> String {
    switch token {
    case .word(let word): word
    case .quoted(let text): text
    case .symbol(let symbol): String(symbol)
    }
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
}
