import Settings
import Testing

@Suite struct ChangedSettingTests {
  private let settings: Settings

  init() throws {
    settings = try Settings.parse(
      text: """
        [pool]
        pool_size = 5
        [databases.app]
        upstream = "host=db1 dbname=app password=secret"
        [databases."my app"]
        upstream = "host=db2"
        max_connections = 20
        [users.alice]
        pool_size = 3
        [auth]
        method = "trust"
        [admin]
        users = ["postgres"]
        """, file: "test.toml")
  }

  @Test(arguments: [
    ("pool.pool_size", "7"), ("pool_size", "7"), ("databases.app.pool_size", "9"),
    ("databases.my app.max_connections", "30"),
    ("users.alice.mode", "session"), ("log.level", "debug"), ("pool_timeout", "1.5"), ("pool.pool_timeout", "250ms"),
    ("pool.pool_recycle", "off"), ("admin.stats_users", "[\"eye\"]"), ("pool.reset_query", "DISCARD ALL"),
    ("pool.pool_pre_ping", "false"), ("server.max_clients", "200"), ("databases.app.upstream", "host=db3 dbname=app"),
  ])
  func oneKeyChangesAndNothingElse(path: String, value: String) throws {
    let changed = try settings.setting(path, to: value)
    let changes = changed.differences(from: settings)
    #expect(changes.count <= 1)
    let back = settings.differences(from: changed)
    #expect(back.count == changes.count)
    #expect(changed != settings || changes.isEmpty)
    if let change = changes.first { #expect(path.hasSuffix(change.key)) }
  }

  @Test func aTextThatLooksLikeANumberIsATextWhereTheKeyWantsOne() throws {
    #expect(
      try settings.setting("databases.app.reset_query", to: "1").pool(database: "app", user: "x").resetQuery == "1")
  }

  @Test(arguments: [
    ("pool.pool_size", "0", "pool_size must be at least 1"), ("pool_sise", "3", "unknown key \"pool_sise\""),
    ("pool.pool_sise", "3", "unknown key"), ("listen", "x", "server.listen, http.listen"),
    ("server.listen", "127.0.0.1:1", "listen takes effect only at a start"),
    ("databases.none.pool_size", "3", "no such section"),
    ("nothing.pool_size", "3", "no such section"), ("databases.pool_size", "3", "no such section"),
    ("pool.min_size", "6", "min_size = 6 is above"), ("pool.mode", "sessions", "mode"),
    ("pool.pool_size", "3\nmin_size = 2", "pool_size"), ("auth.method", "hba", "not supported"),
    ("auth.method", "scram-sha-256", "needs file"), ("", "", "unknown key"), ("pool.", "1", "unknown key"),
  ])
  func whatIsWrongIsSaidAndNothingChanges(path: String, value: String, words: String) {
    do {
      _ = try settings.setting(path, to: value)
      Issue.record("\(path) = \(value) was taken")
    } catch {
      #expect(error.description.contains(words), "\(error)")
      #expect(error.description.hasPrefix("SET: "))
    }
  }

  @Test func settingsWithoutAFileCanBeChangedToo() throws {
    let served = try Settings.serving(upstream: "host=db1 dbname=app", listen: ["127.0.0.1:7000"])
    #expect(try served.setting("pool_size", to: "8").pool.poolSize == 8)
  }

  @Test func whatTheFileSaysStaysWhereItStands() throws {
    let changed = try settings.setting("log.level", to: "debug")
    let lines = { (settings: Settings) in settings.effective().map(\.line) }
    #expect(lines(changed) == lines(settings))
  }
}
