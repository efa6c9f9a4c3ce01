import Admin
import Glibc
import Logging
import Settings

/// The limit of open descriptors: each client takes one, and so does each server connection.
enum Descriptors {
  /// Listeners, event loops, mailboxes, HTTP, the log, what libpq has open while it connects.
  private static let overhead = 100

  /// Raises the soft limit to the hard one. Returns how many descriptors there are without the reserve.
  static func raiseLimit() -> Int {
    var limit = rlimit()
    if unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
      limit.rlim_cur = limit.rlim_max
      unsafe _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
    return DescriptorReserve.start ?? Int(Int32.max)
  }

  /// Warns when `max_clients` cannot be reached, with the arithmetic.
  static func check(_ settings: Settings, limit: Int, logger: Logger) {
    let servers = settings.databases.values.reduce(0) { sum, database in
      sum + (database.maxConnections ?? settings.pool(database: database.name, user: "").bound)
    }
    let clients = settings.server.maxClients
    let needed = clients + servers + overhead
    guard needed > limit else { return }
    logger.warning(
      """
      max_clients \(clients) cannot be reached: \(clients) clients + \(servers) server connections of one user each \
      + \(overhead) others = \(needed) descriptors, but the limit (ulimit -n, LimitNOFILE) without the \(DescriptorReserve.size) of the \
      status server is \(limit)
      """)
  }
}
