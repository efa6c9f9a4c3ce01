import Admin
import StatusServer
import Telemetry

extension Daemon: StatusSource {
  func snapshot() async -> DaemonSnapshot { await snapshot(.pools) }

  func health(of database: String) async -> HealthSnapshot? {
    let settings = settings
    // `*` stands for other names; nobody is connected to it.
    guard database != "*", let section = settings.database(named: database) else { return nil }
    let pool = settings.pool(database: database, user: section.upstream["user"] ?? "")
    return HealthSnapshot(database: database, pools: await snapshot().pools, poolSize: pool.poolSize)
  }
}
