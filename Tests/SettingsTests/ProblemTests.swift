import Settings
import Testing

@Suite("Problems: text and position")
struct ProblemTests {
  @Test(
    "unknown keys are named, with what was probably meant",
    arguments: [
      ("[pool]\npool_sise = 5", #"t.toml:6:1: [pool] unknown key "pool_sise"; did you mean "pool_size"?"#),
      (
        "[pool]\n  default_pool_size = 5",
        #"t.toml:6:3: [pool] unknown key "default_pool_size"; did you mean "pool_size"?"#
      ),
      ("[pool]\ntimeout = 5", #"t.toml:6:1: [pool] unknown key "timeout"; did you mean "pool_timeout"?"#),
      ("[pool]\nrecycle = 5", #"t.toml:6:1: [pool] unknown key "recycle"; did you mean "pool_recycle"?"#),
      ("[pool]\npre_ping = true", #"t.toml:6:1: [pool] unknown key "pre_ping"; did you mean "pool_pre_ping"?"#),
      (
        "[pool]\nserver_lifetime = 5",
        #"t.toml:6:1: [pool] unknown key "server_lifetime"; did you mean "pool_recycle"?"#
      ),
      (
        "[pool]\nreserve_pool_size = 5",
        #"t.toml:6:1: [pool] unknown key "reserve_pool_size"; did you mean "max_overflow"?"#
      ),
      (
        "[pool]\nmax_client_conn = 5",
        #"t.toml:6:1: [pool] unknown key "max_client_conn"; did you mean "[server] max_clients"?"#
      ),
      (
        "[server]\nmax_client_conn = 5",
        #"t.toml:6:1: [server] unknown key "max_client_conn"; did you mean "max_clients"?"#
      ),
      ("[server]\nlisten_addr = 5", #"t.toml:6:1: [server] unknown key "listen_addr"; did you mean "listen"?"#),
      ("[server]\npool_size = 5", #"t.toml:6:1: [server] unknown key "pool_size"; did you mean "[pool] pool_size"?"#),
      (
        "[databases.b]\nupstream = \"dbname=b\"\npasword = \"geheim\"",
        #"t.toml:7:1: [databases.b] unknown key "pasword"; did you mean "password"?"#
      ),
      ("host = \"db1\"", #"t.toml:5:1: [databases.app] unknown key "host"; did you mean "upstream"?"#),
      ("[users.a]\nmode_ = \"session\"", #"t.toml:6:1: [users.a] unknown key "mode_"; did you mean "mode"?"#),
      ("[log]\nfrobnicate = 1", #"t.toml:6:1: [log] unknown key "frobnicate""#),
      (
        "[pool.app]\nmode = \"session\"",
        #"t.toml:5:7: [pool] unknown section [pool.app]; did you mean "[databases.app]"?"#
      ),
    ])
  func unknownKeys(text: String, problem: String) {
    #expect(problems(behindMinimum: text) == [problem])
  }

  @Test(
    "unknown sections and keys outside of any",
    arguments: [
      ("[databse.x]\n", #"t.toml:5:2: unknown section [databse]; did you mean "[databases]"?"#),
      ("[pgbouncer]\n", #"t.toml:5:2: unknown section [pgbouncer]; did you mean "[server]"?"#),
      ("[zebra]\n", "t.toml:5:2: unknown section [zebra]"),
      ("[[users]]\n", "t.toml:5:3: users must be a section: [users]"),
      (
        "[databases]\nb = \"host=x\"",
        #"t.toml:6:1: [databases] b must be a section of its own: [databases.b] with upstream = "…""#
      ),
      (
        "[databases]\npool_size = 5",
        #"t.toml:6:1: [databases] pool_size must be a section of its own: [databases.pool_size] with upstream = "…"; did you mean "[pool] pool_size"?"#
      ),
    ])
  func unknownSections(text: String, problem: String) {
    #expect(problems(behindMinimum: text) == [problem])
  }

  @Test("a key before any section is sent to its section")
  func outside() {
    #expect(
      problems(of: "pool_size = 5\n" + minimum) == [
        #"t.toml:1:1: "pool_size" stands outside of any section; did you mean "[pool] pool_size"?"#
      ])
  }

  @Test(
    "wrong types and values say what was found and what is wanted",
    arguments: [
      ("[pool]\npool_size = \"five\"", #"[pool] pool_size must be a whole number, such as 5, not the string "five""#),
      ("[pool]\npool_size = 5.0", "[pool] pool_size must be a whole number, such as 5, not 5.0"),
      ("[pool]\npool_size = [5]", "[pool] pool_size must be a whole number, such as 5, not a list"),
      ("[pool]\npool_size = 2026-01-01", "[pool] pool_size must be a whole number, such as 5, not a date or time"),
      (
        "[pool]\npool_size = 0",
        "[pool] pool_size must be at least 1, not 0: a pool without a bound does not exist here"
      ),
      ("[pool]\npool_size = 10001", "[pool] pool_size must be at most 10000, not 10001"),
      (
        "[pool]\nmax_overflow = -1",
        "[pool] max_overflow must be at least 0, not -1: a pool without a bound would use up the server's max_connections when load is highest"
      ),
      (
        "[pool]\npool_pre_ping = \"yes\"",
        #"[pool] pool_pre_ping must be true or false (without quotes), not the string "yes""#
      ),
      (
        "[pool]\nmode = \"transacton\"",
        #"[pool] mode must be "session", "transaction" or "statement", not "transacton"; did you mean "transaction"?"#
      ),
      ("[pool]\nmode = 3", #"[pool] mode must be "session", "transaction" or "statement", not 3"#),
      ("[pool]\nreset_query = false", #"[pool] reset_query must be a string, such as "DISCARD ALL", not false"#),
      (
        "[pool]\npool_timeout = true",
        #"[pool] pool_timeout must be a time, such as "30s" or a number of seconds, not true"#
      ),
      (
        "[pool]\npool_timeout = \"soon\"",
        #"[pool] pool_timeout must be a time, such as "30s" or a number of seconds, not the string "soon""#
      ),
      ("[pool]\npool_timeout = \"30\"", #"[pool] pool_timeout needs a unit within quotes; did you mean "30s"?"#),
      (
        "[pool]\npool_timeout = \"30 parsecs\"",
        #"[pool] pool_timeout has an unknown unit "parsecs"; there are us, ms, s, min, h and d"#
      ),
      ("[pool]\npool_timeout = -2", #"[pool] pool_timeout must not be negative, only -1 means "off""#),
      ("[pool]\npool_timeout = inf", "[pool] pool_timeout must be at most 3650d, not inf"),
      ("[pool]\npool_timeout = nan", "[pool] pool_timeout must be at most 3650d, not nan"),
      ("[pool]\npool_timeout = 1e-9", "[pool] pool_timeout must be at least 1us, not 1e-09"),
      ("[pool]\nconnect_timeout = 0", "[pool] connect_timeout must not be 0: no connection could be opened"),
      (
        "[pool]\nconnect_timeout = \"off\"",
        "[pool] connect_timeout cannot be switched off: a dial that hangs would keep its place in the pool for ever"
      ),
      (
        "[pool]\npre_ping_idle = -1",
        "[pool] pre_ping_idle cannot be switched off: pool_pre_ping = false switches pings off"
      ),
      (
        "[pool]\npool_recycle = 0",
        #"[pool] pool_recycle must not be 0: each connection would be replaced at once; "off" never replaces them"#
      ),
      (
        "[pool]\nquery_timeout = \"0ms\"",
        #"[pool] query_timeout must not be 0: nothing could run; "off" sets no limit"#
      ),
      (
        "[pool]\nmax_pinned = \"many\"",
        #"[pool] max_pinned must be a whole number or "auto", such as 10, not the string "many""#
      ),
      (
        "[admin]\nusers = \"postgres\"",
        #"[admin] users must be a list of names, such as ["postgres"], not the string "postgres""#
      ),
      (
        "[admin]\nsocket = \"admin.sock\"",
        #"[admin] socket must be an absolute path, such as "/run/lifeguard/admin.sock""#
      ),
      ("[server]\nmax_clients = 0", "[server] max_clients must be at least 1, not 0"),
      ("[server]\nlisten = []", #"[server] listen must name at least one address, such as "127.0.0.1:6432""#),
      (
        "[server]\nlisten = 6432",
        #"[server] listen must be an address, such as "127.0.0.1:6432" or "/run/lifeguard/.s.PGSQL.6432", not 6432"#
      ),
    ])
  func wrongValues(text: String, problem: String) {
    let column = text.split(separator: "\n")[1].firstRange(of: "= ")!.upperBound
    let position =
      text.split(separator: "\n")[1].distance(from: text.split(separator: "\n")[1].startIndex, to: column) + 1
    #expect(problems(behindMinimum: text) == ["t.toml:6:\(position): " + problem])
  }

  @Test("a wrong item of a list is pointed at")
  func listItem() {
    #expect(
      problems(behindMinimum: "[server]\nlisten = [\"127.0.0.1:6432\",\n  \"6433\"]") == [
        #"t.toml:7:3: [server] listen names "6433", which is a port without an address; did you mean "127.0.0.1:6433"?"#
      ])
    #expect(
      problems(behindMinimum: "[server]\nlisten = [\"*:1\", \"*:1\"]").first
        == "t.toml:6:18: [server] listen names *:1 twice")
    #expect(
      problems(behindMinimum: "[admin]\nusers = [\"a\", 5]") == [
        #"t.toml:6:15: [admin] users must be a list of names, such as ["postgres"], not 5"#
      ])
    #expect(problems(behindMinimum: "[admin]\nusers = [\"\"]") == ["t.toml:6:10: [admin] users has an empty name"])
  }

  @Test("all problems of a file come at once, in its order")
  func all() {
    let text = """
      [server]
      listen = "127.0.0.1"
      max_clients = "x"
      [pool]
      pool_sise = 1
      pool_size = 0
      [databases.app]
      mode = "sesion"
      [auth]
      method = "trust"
      """
    #expect(
      problems(of: text) == [
        #"t.toml:2:10: [server] listen names "127.0.0.1", which has no port; did you mean "127.0.0.1:6432"?"#,
        #"t.toml:3:15: [server] max_clients must be a whole number, such as 10000, not the string "x""#,
        #"t.toml:5:1: [pool] unknown key "pool_sise"; did you mean "pool_size"?"#,
        "t.toml:6:13: [pool] pool_size must be at least 1, not 0: a pool without a bound does not exist here",
        #"t.toml:7:12: [databases.app] upstream is missing: a connection string, such as "host=db1 dbname=app""#,
        #"t.toml:8:8: [databases.app] mode must be "session", "transaction" or "statement", not "sesion"; did you mean "session"?"#,
      ])
  }

  @Test("fields of a problem")
  func fields() {
    let error = #expect(throws: SettingsError.self) { try settings("[pool]\npool_sise = 5") }
    let problem = error?.problems.first
    #expect(problem?.file == "t.toml")
    #expect(problem?.line == 6)
    #expect(problem?.column == 1)
    #expect(problem?.keyPath == "pool.pool_sise")
    #expect(problem?.message == #"unknown key "pool_sise""#)
    #expect(problem?.suggestion == "pool_size")
  }
}

@Suite("Files that are no settings")
struct FileTests {
  @Test(
    "what is not TOML is pointed at",
    arguments: [
      ("[pool", "t.toml:1:6: not TOML: Error while parsing table header: encountered end-of-file"),
      ("pool_size 5", "t.toml:1:11: not TOML: Error while parsing key-value pair: expected '=', saw '5'"),
      ("[pool]\na = 1\na = [2, 3] # x\n", #"t.toml:3:1: "a" is set twice"#),
      ("[pool]\n[pool]\n", #"t.toml:2:1: "pool" is set twice"#),
      (
        "[pool]\npool_timeout = 30s",
        #"t.toml:2:18: not TOML: Error while parsing decimal integer: expected digit, saw 's' (a time with its unit is a string: "30s")"#
      ),
    ])
  func syntax(text: String, problem: String) {
    #expect(problems(of: text) == [problem])
  }

  @Test("texts on which toml++ itself would stumble are refused like others", arguments: ["[=a]", "[[.b]]", "a = 1 é"])
  func stumblingBlocks(text: String) {
    #expect(problems(of: text).first?.contains("not TOML: ") == true)
  }

  @Test("deep nesting is refused, not followed")
  func nesting() {
    let key = Array(repeating: "a", count: 100).joined(separator: ".")
    #expect(problems(of: "\(key) = 1") == ["t.toml:1:129: not TOML: values are nested too deeply"])
  }

  @Test("an empty file lacks only [auth]")
  func empty() {
    #expect(
      problems(of: "") == [
        "t.toml: [auth] method is missing: clients connect over TCP (127.0.0.1:6432), so it must say how they prove who "
          + #"they are: "trust", "password", "md5", "scram-sha-256", "cert" or "upstream""#
      ])
  }

  @Test("PgBouncer's format is refused by name")
  func ini() {
    let error = #expect(throws: SettingsError.self) {
      try Settings.parse(text: "[pgbouncer]", file: "/etc/pgbouncer.INI")
    }
    #expect(
      error?.description
        == "/etc/pgbouncer.INI: PgBouncer's format is not supported yet; write the settings as TOML in a "
        + "file named *.toml")
  }

  @Test("unreadable files say why")
  func unreadable() {
    #expect(throws: SettingsError.self) { try Settings.load(path: "/nonexistent/l.toml") }
    let error = #expect(throws: SettingsError.self) { try Settings.load(path: "/nonexistent/l.toml") }
    #expect(error?.description == "/nonexistent/l.toml: cannot be opened: No such file or directory")
    let directory = #expect(throws: SettingsError.self) { try Settings.load(path: "/") }
    #expect(directory?.description == "/: cannot be read: Is a directory")
    let endless = #expect(throws: SettingsError.self) { try Settings.load(path: "/dev/zero") }
    #expect(endless?.description == "/dev/zero: is larger than 16 MB")
  }
}
