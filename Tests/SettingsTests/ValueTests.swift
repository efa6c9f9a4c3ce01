import Settings
import Testing

@Suite("Times")
struct TimeTests {
  @Test(
    "are numbers of seconds, or strings with a unit",
    arguments: [
      ("30", .seconds(30)), ("0.25", .milliseconds(250)), ("0", .zero), ("\"0\"", .zero),
      ("\"250us\"", .microseconds(250)),
      ("\"250ms\"", .milliseconds(250)), ("\"30s\"", .seconds(30)), ("\"1.5s\"", .milliseconds(1500)),
      ("\"5min\"", .seconds(300)), ("\"5m\"", .seconds(300)), ("\"2 h\"", .seconds(7200)),
      ("\"2d\"", .seconds(172_800)),
      ("\"off\"", nil), ("-1", nil), ("-1.0", nil), ("\"-1\"", nil), ("0.1", .milliseconds(100)),
    ] as [(String, Duration?)])
  func reading(text: String, time: Duration?) throws {
    #expect(try settings("[pool]\npool_timeout = \(text)").pool.poolTimeout == time)
  }

  @Test(
    "are shown in their largest whole unit",
    arguments: [
      ("90", "90s"), ("60", "1min"), ("7200", "2h"), ("172800", "2d"), ("0.25", "250ms"), ("\"1500us\"", "1500us"),
      ("0", "0s"), ("-1", "off"),
    ])
  func writing(text: String, shown: String) throws {
    let rows = try settings("[pool]\npool_timeout = \(text)").effective()
    let row = rows.first { $0.key == "pool_timeout" }
    #expect(row?.value == shown)
    #expect(row?.literal == "\"\(shown)\"")
    #expect(row?.defaultValue == "30s")
    #expect(row?.line == 6)
  }

  @Test("zero is legal where it means something")
  func zero() throws {
    let pool = try settings("[pool]\npool_timeout = 0\noverflow_linger = 0\npre_ping_idle = \"0s\"").pool
    #expect(pool.poolTimeout == .zero)
    #expect(pool.overflowLinger == .zero)
    #expect(pool.prePingIdle == .zero)
  }
}

@Suite("Values of every key")
struct EveryKeyTests {
  @Test("each key takes a value other than its default")
  func everyKey() throws {
    let text = """
      [server]
      listen = ["localhost:6432", "[::1]:6433", "/run/.s.PGSQL.6432"]
      workers = 1
      max_clients = 5
      event_loop = "epoll"
      client_login_timeout = "off"
      shutdown_timeout = 5
      tls_mode = "disable"
      tls_cert = "/c"
      tls_key = "/k"
      tls_ca = "/a"
      [pool]
      mode = "statement"
      pool_size = 6
      max_overflow = 0
      min_size = 2
      pool_timeout = 1
      pool_recycle = 2
      pool_pre_ping = false
      pre_ping_idle = 3
      pre_ping_timeout = 4
      use_lifo = false
      overflow_linger = 5
      connect_timeout = 6
      cancel_timeout = 7
      close_timeout = 8
      reset_query = ""
      on_outage = "fail"
      session_state = "reject"
      hand_over_reset = "full"
      max_pinned = 0
      max_prepared_statements = 0
      pool_workers = 1
      max_lag = 9
      query_timeout = 10
      transaction_timeout = 11
      idle_transaction_timeout = 12
      client_idle_timeout = 13
      [databases.app]
      upstream = "dbname=app"
      read_upstream = "dbname=ro"
      max_connections = 3
      [users.alice]
      max_connections = 4
      use_lifo = true
      [auth]
      method = "trust"
      file = "/u"
      allow_remote_trust = true
      [admin]
      socket = "/s"
      users = ["a", "b"]
      stats_users = ["c"]
      [http]
      listen = "off"
      [log]
      level = "debug"
      format = "json"
      connections = false
      """
    let settings = try Settings.parse(text: text, file: "t.toml")

    #expect(
      settings.server.listen == [
        .tcp(host: "localhost", port: 6432), .tcp(host: "::1", port: 6433), .unix(path: "/run/.s.PGSQL.6432"),
      ])
    #expect(settings.server.workers == 1)
    #expect(settings.server.maxClients == 5)
    #expect(settings.server.eventLoop == .epoll)
    #expect(settings.server.clientLoginTimeout == nil)
    #expect(settings.server.shutdownTimeout == .seconds(5))
    #expect(settings.server.tlsCertificate == "/c")
    #expect(settings.server.tlsKey == "/k")
    #expect(settings.server.tlsAuthority == "/a")

    var pool = PoolSettings()
    pool.mode = .statement
    pool.poolSize = 6
    pool.maxOverflow = 0
    pool.minSize = 2
    pool.poolTimeout = .seconds(1)
    pool.poolRecycle = .seconds(2)
    pool.poolPrePing = false
    pool.prePingIdle = .seconds(3)
    pool.prePingTimeout = .seconds(4)
    pool.useLIFO = false
    pool.overflowLinger = .seconds(5)
    pool.connectTimeout = .seconds(6)
    pool.cancelTimeout = .seconds(7)
    pool.closeTimeout = .seconds(8)
    pool.resetQuery = ""
    pool.onOutage = .fail
    pool.sessionState = .reject
    pool.handOverReset = .full
    pool.maxPinnedLimit = 0
    pool.maxPreparedStatements = 0
    pool.maxLag = .seconds(9)
    pool.queryTimeout = .seconds(10)
    pool.transactionTimeout = .seconds(11)
    pool.idleTransactionTimeout = .seconds(12)
    pool.clientIdleTimeout = .seconds(13)
    #expect(settings.pool == pool)
    pool.useLIFO = true
    #expect(settings.pool(database: "app", user: "alice") == pool)

    #expect(settings.databases["app"]?.readUpstream?["dbname"] == "ro")
    #expect(settings.databases["app"]?.maxConnections == 3)
    #expect(settings.users["alice"]?.maxConnections == 4)
    #expect(settings.auth.file == "/u")
    #expect(settings.auth.allowRemoteTrust)
    #expect(settings.admin.socket == "/s")
    #expect(settings.admin.users == ["a", "b"])
    #expect(settings.admin.statsUsers == ["c"])
    #expect(settings.http.listen == nil)
    #expect(settings.log.level == .debug)
    #expect(settings.log.format == .json)
    #expect(!settings.log.connections)

    // What is printed reads back as the same settings.
    #expect(try Settings.parse(text: settings.effectiveText(), file: "t.toml") == settings)
  }
}

@Suite("Listen addresses")
struct ListenAddressTests {
  @Test(
    "are read and shown alike",
    arguments: [
      ("127.0.0.1:6432", true), ("127.8.9.1:1", true), ("[::1]:6432", true), ("localhost:65535", true),
      ("/run/.s.PGSQL.6432", true), ("*:6432", false), ("0.0.0.0:1", false), ("[::]:1", false),
      ("[2001:db8::1]:1", false),
      ("/" + String(repeating: "x", count: 105), true),
    ])
  func reading(text: String, isLocal: Bool) throws {
    let address = try ListenAddress.parse(text)
    #expect(address.description == text)
    #expect(address.isLocal == isLocal)
  }

  @Test(
    "say what is wrong with them",
    arguments: [
      ("", #"is empty; did you mean "127.0.0.1:6432"?"#),
      ("6432", #"is a port without an address; did you mean "127.0.0.1:6432"?"#),
      (":6432", #"has no address; did you mean "*:6432"?"#),
      ("127.0.0.1", #"has no port; did you mean "127.0.0.1:6432"?"#),
      ("[::1]", #"has no port; did you mean "[::1]:6432"?"#),
      ("::1", #"needs brackets and a port; did you mean "[::1]:6432"?"#),
      ("127.0.0.1:0", "has no valid port; a port is a number from 1 to 65535"),
      ("127.0.0.1:65536", "has no valid port; a port is a number from 1 to 65535"),
      ("127.0.0.1:", "has no valid port; a port is a number from 1 to 65535"),
      ("127.0.0.1:+1", "has no valid port; a port is a number from 1 to 65535"),
      ("[zz]:1", "has no valid IPv6 address in its brackets"),
      ("300.0.0.1:1", #"has no valid address; write an IPv4 address, an IPv6 address in brackets, "localhost" or "*""#),
      ("db1:1", #"has no valid address; write an IPv4 address, an IPv6 address in brackets, "localhost" or "*""#),
      ("run/x", #"is no address; a path begins with "/""#),
      ("/run/", "is a directory; the socket itself needs a name"),
      ("/" + String(repeating: "x", count: 106), "is a path of 107 bytes; a Unix socket's path has at most 106"),
      ("/a\0b", "must not contain a NUL character"),
    ])
  func refusing(text: String, reason: String) {
    let error = #expect(throws: ListenAddressError.self) { try ListenAddress.parse(text) }
    #expect(error?.description == reason)
  }
}
