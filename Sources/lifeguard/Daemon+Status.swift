import Admin
import StatusServer
import Telemetry

extension Daemon: StatusSource {
  func snapshot() async -> DaemonSnapshot { await snapshot(.pools) }

  func health(of database: String) async -> HealthSnapshot? {
    let configuration = configuration
    let settings = configuration.settings
    // `*` stands for other names; nobody is connected to it.
    guard database != "*", let section = settings.database(named: database) else { return nil }
    let pool = settings.pool(database: database, user: section.upstream["user"] ?? "")
    let daemon = await snapshot()
    let upstream = configuration.upstream(of: database)
    return HealthSnapshot(
      database: database, hosts: daemon.hosts.filter { upstream.hosts.contains($0.host) },
      wantsPrimary: upstream.wantsPrimary, pools: daemon.pools, poolSize: pool.poolSize)
  }
}
