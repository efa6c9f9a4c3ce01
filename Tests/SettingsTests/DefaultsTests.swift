import Settings
import Testing

@Suite("Defaults")
struct DefaultsTests {
  @Test("every key has the default that the documentation names")
  func everyKey() throws {
    let rows = try settings("").effective()
    let shown = rows.map { "\($0.section).\($0.key)=\($0.value)" }
    #expect(
      shown == [
        "server.listen=127.0.0.1:6432", "server.workers=auto", "server.max_clients=10000", "server.event_loop=auto",
        "server.client_login_timeout=1min", "server.shutdown_timeout=1min",
        "server.tcp_keepidle=1min", "server.tcp_keepintvl=10s", "server.tcp_keepcnt=6", "server.tcp_user_timeout=off",
        "server.tls_mode=disable",
        "server.tls_cert=", "server.tls_key=", "server.tls_ca=",
        "pool.mode=transaction", "pool.pool_size=5", "pool.max_overflow=10", "pool.min_size=0",
        "pool.pool_timeout=30s", "pool.pool_recycle=1h", "pool.pool_pre_ping=true", "pool.pre_ping_idle=1s",
        "pool.pre_ping_timeout=1s", "pool.use_lifo=true", "pool.overflow_linger=1s", "pool.connect_timeout=5s",
        "pool.cancel_timeout=5s", "pool.close_timeout=5s", "pool.reset_query=DISCARD ALL", "pool.on_outage=hold",
        "pool.session_state=pin", "pool.hand_over_reset=auto", "pool.max_pinned=auto",
        "pool.max_prepared_statements=200", "pool.pool_workers=1", "pool.max_lag=off", "pool.query_timeout=off",
        "pool.transaction_timeout=off", "pool.idle_transaction_timeout=off", "pool.client_idle_timeout=off",
        "databases.app.upstream=host=db1 dbname=app",
        "auth.method=trust", "auth.file=", "auth.allow_remote_trust=false",
        "admin.socket=/run/lifeguard/admin.sock", "admin.users=", "admin.stats_users=",
        "http.listen=127.0.0.1:9127",
        "health.interval=2s", "health.timeout=1s", "health.rise=2", "health.fall=3",
        "log.level=info", "log.format=auto", "log.connections=true",
      ])
    #expect(rows.filter { $0.key != "upstream" }.allSatisfy { $0.value == $0.defaultValue })
  }

  @Test("the types hold the same defaults")
  func types() throws {
    let settings = try settings("")
    #expect(settings.server == ServerSettings())
    #expect(settings.pool == PoolSettings())
    #expect(settings.pool.poolTimeout == .seconds(30))
    #expect(settings.pool.poolRecycle == .seconds(3600))
    #expect(settings.pool.bound == 15)
    #expect(settings.pool.maxPinned == 14)
    #expect(settings.admin.socket == nil)
    #expect(settings.warnings.isEmpty)
  }

  @Test("only Unix sockets need no [auth]")
  func unixOnly() throws {
    let text = "server.listen = \"/run/.s.PGSQL.6432\"\ndatabases.app.upstream = \"dbname=app\""
    #expect(problems(of: text).isEmpty)
    #expect(try Settings.parse(text: text, file: "t.toml").auth.method == .trust)
  }

  @Test("a file without databases is legal but warned about")
  func noDatabases() throws {
    let settings = try Settings.parse(text: "auth.method = \"trust\"", file: "t.toml")
    #expect(
      settings.warnings.map(\.description) == [
        "t.toml: [databases] there is none, so every client will be refused; add [databases.NAME] with upstream = \"…\""
      ])
  }
}

@Suite("Pools of a database and user")
struct ResolutionTests {
  let text = """
    [pool]
    pool_size = 8
    pool_recycle = "off"
    mode = "session"
    [databases.app]
    pool_size = 20
    max_overflow = 0
    [databases."*"]
    upstream = "host=db2"
    pool_timeout = 0
    [users.alice]
    max_overflow = 3
    pool_recycle = "2h"
    max_connections = 7
    """
  var whole: String {
    """
    [auth]
    method = "trust"
    """ + "\n" + text.replacing("[databases.app]", with: "[databases.app]\nupstream = \"dbname=app\"")
  }

  @Test("defaults, [pool], the database, the user: the later counts")
  func order() throws {
    let settings = try Settings.parse(text: whole, file: "t.toml")
    let alice = settings.pool(database: "app", user: "alice")
    #expect(alice.mode == .session)
    #expect(alice.poolSize == 20)
    #expect(alice.maxOverflow == 3)
    #expect(alice.poolRecycle == .seconds(7200))
    #expect(alice.maxPinned == 22)
    #expect(settings.users["alice"]?.maxConnections == 7)

    let bob = settings.pool(database: "app", user: "bob")
    #expect(bob.maxOverflow == 0)
    #expect(bob.poolRecycle == nil)
    #expect(bob.poolTimeout == .seconds(30))
  }

  @Test("a name without a section falls back to \"*\"; the console's names never do")
  func fallback() throws {
    let settings = try Settings.parse(text: whole, file: "t.toml")
    #expect(settings.database(named: "app")?.upstream["dbname"] == "app")
    #expect(settings.database(named: "other")?.upstream["host"] == "db2")
    #expect(settings.database(named: "other")?.name == "*")
    #expect(settings.pool(database: "other", user: "bob").poolTimeout == .zero)
    #expect(settings.database(named: "lifeguard") == nil)
    #expect(settings.database(named: "pgbouncer") == nil)
    #expect(try Settings.parse(text: minimum, file: "t.toml").database(named: "other") == nil)
  }
}
