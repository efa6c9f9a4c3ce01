/// Finds the key that a person meant who wrote another one.
enum Suggestions {
  /// The candidate that is nearest to `word`, if it is near enough to be a slip of the fingers.
  static func nearest(to word: String, among candidates: some Sequence<String>) -> String? {
    let limit = max(1, min(3, word.count / 3))
    var best: (distance: Int, candidate: String)?
    for candidate in candidates {
      let distance = editDistance(word.lowercased(), candidate.lowercased())
      if distance <= limit, best.map({ distance < $0.distance }) ?? true { best = (distance, candidate) }
    }
    return best?.candidate
  }

  /// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string alignment).
  static func editDistance(_ a: String, _ b: String) -> Int {
    let a = Array(a.unicodeScalars)
    let b = Array(b.unicodeScalars)
    // Keys are short; a pasted paragraph must not cost its length squared.
    if abs(a.count - b.count) > 8 || a.count > 64 { return max(a.count, b.count) }
    var beforeLast: [Int] = []
    var last = Array(0...b.count)
    for i in 0..<a.count {
      var row = [i + 1]
      for j in 0..<b.count {
        var cost = min(last[j] + (a[i] == b[j] ? 0 : 1), last[j + 1] + 1, row[j] + 1)
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, beforeLast[j - 1] + 1) }
        row.append(cost)
      }
      beforeLast = last
      last = row
    }
    return last[b.count]
  }

  /// Names that people bring along from SQLAlchemy, PgBouncer, PostgreSQL and libpq, and what they are called here.
  static let foreignNames: [String: (section: String, key: String)] = [
    // SQLAlchemy's create_engine() and QueuePool
    "size": ("pool", "pool_size"),
    "overflow": ("pool", "max_overflow"),
    "timeout": ("pool", "pool_timeout"),
    "recycle": ("pool", "pool_recycle"),
    "pre_ping": ("pool", "pool_pre_ping"),
    "pool_use_lifo": ("pool", "use_lifo"),
    "lifo": ("pool", "use_lifo"),
    "pool_reset_on_return": ("pool", "reset_query"),
    "reset_on_return": ("pool", "reset_query"),
    // PgBouncer
    "pool_mode": ("pool", "mode"),
    "default_pool_size": ("pool", "pool_size"),
    "min_pool_size": ("pool", "min_size"),
    "reserve_pool_size": ("pool", "max_overflow"),
    "server_lifetime": ("pool", "pool_recycle"),
    "server_idle_timeout": ("pool", "overflow_linger"),
    "server_connect_timeout": ("pool", "connect_timeout"),
    "server_reset_query": ("pool", "reset_query"),
    "server_check_delay": ("pool", "pre_ping_idle"),
    "server_check_query": ("pool", "pool_pre_ping"),
    "server_round_robin": ("pool", "use_lifo"),
    "query_wait_timeout": ("pool", "pool_timeout"),
    "cancel_wait_timeout": ("pool", "cancel_timeout"),
    "max_client_conn": ("server", "max_clients"),
    "listen_addr": ("server", "listen"),
    "listen_port": ("server", "listen"),
    "unix_socket_dir": ("server", "listen"),
    "client_tls_sslmode": ("server", "tls_mode"),
    "client_tls_cert_file": ("server", "tls_cert"),
    "client_tls_key_file": ("server", "tls_key"),
    "client_tls_ca_file": ("server", "tls_ca"),
    "max_db_connections": ("databases.NAME", "max_connections"),
    "max_user_connections": ("users.NAME", "max_connections"),
    "auth_type": ("auth", "method"),
    "auth_file": ("auth", "file"),
    "admin_users": ("admin", "users"),
    "stats_users": ("admin", "stats_users"),
    "log_connections": ("log", "connections"),
    "log_disconnections": ("log", "connections"),
    "verbose": ("log", "level"),
    // PostgreSQL
    "listen_addresses": ("server", "listen"),
    "statement_timeout": ("pool", "query_timeout"),
    "idle_in_transaction_session_timeout": ("pool", "idle_transaction_timeout"),
    "idle_session_timeout": ("pool", "client_idle_timeout"),
    // a connection's parts, which belong into the connection string
    "host": ("databases.NAME", "upstream"),
    "hostaddr": ("databases.NAME", "upstream"),
    "dbname": ("databases.NAME", "upstream"),
    "user": ("databases.NAME", "upstream"),
    "passwd": ("databases.NAME", "password"),
    "dsn": ("databases.NAME", "upstream"),
    "url": ("databases.NAME", "upstream"),
    "sslmode": ("databases.NAME", "upstream"),
    "target_session_attrs": ("databases.NAME", "upstream"),
  ]
}
