import Settings
import Testing

@Suite("Keys that must fit together")
struct CrossCheckTests {
  @Test("min_size up to pool_size, in whichever section the clash arises")
  func minSize() {
    #expect(
      problems(behindMinimum: "[pool]\nmin_size = 6") == [
        "t.toml:6:1: [pool] min_size = 6 is above pool_size = 5"
      ])
    #expect(
      problems(behindMinimum: "pool_size = 2\n[pool]\nmin_size = 3") == [
        "t.toml:5:1: [databases.app] min_size = 3 is above pool_size = 2"
      ])
    #expect(
      problems(behindMinimum: "[users.a]\nmin_size = 9") == [
        "t.toml:6:1: [users.a] min_size = 9 is above pool_size = 5"
      ])
    #expect(problems(behindMinimum: "min_size = 9\npool_size = 9").isEmpty)
  }

  @Test("a clash that only a database and a user together make")
  func pair() {
    #expect(
      problems(behindMinimum: "min_size = 5\n[users.a]\npool_size = 4") == [
        "t.toml:7:1: [users.a] min_size = 5 is above pool_size = 4 (together with [databases.app])"
      ])
  }

  @Test("max_pinned stays below the bound")
  func maxPinned() throws {
    #expect(
      problems(behindMinimum: "[pool]\nmax_pinned = 15") == [
        "t.toml:6:1: [pool] max_pinned = 15 must be below pool_size + max_overflow = 15, or pins could use up the pool"
      ])
    #expect(try settings("[pool]\nmax_pinned = 14").pool.maxPinned == 14)
    #expect(try settings("[pool]\nmax_pinned = \"auto\"\npool_size = 7").pool.maxPinned == 16)
  }

  @Test("[auth] has no default where TCP listens")
  func authMissing() {
    let rest =
      "so it must say how they prove who they are: \"trust\", \"password\", \"md5\", \"scram-sha-256\", \"cert\" "
      + "or \"upstream\""
    let database = "[databases.app]\nupstream = \"dbname=app\"\n"
    #expect(
      problems(of: database + "[server]\nlisten = [\"/tmp/.s.PGSQL.1\", \"[::1]:1\"]") == [
        "t.toml:4:1: [auth] method is missing: clients connect over TCP ([::1]:1), \(rest)"
      ])
    #expect(
      problems(of: database + "[auth]\nfile = \"/u\"") == [
        "t.toml:3:2: [auth] method is missing: clients connect over TCP (127.0.0.1:6432), \(rest)"
      ])
  }

  @Test("methods by a userlist need the file", arguments: ["password", "md5", "scram-sha-256"])
  func userlistMethods(method: String) throws {
    let text = "[auth]\nmethod = \"\(method)\"\n"
    #expect(
      problems(of: text) == [
        "t.toml:2:1: [auth] method = \"\(method)\" needs file: the users and their secrets"
      ])
    let settings = try Settings.parse(text: text + "file = \"/u\"", file: "t.toml")
    #expect(settings.auth.method.rawValue == method && settings.auth.file == "/u")
  }

  @Test("upstream needs nothing else")
  func upstreamMethod() { #expect(problems(of: "[auth]\nmethod = \"upstream\"").isEmpty) }

  @Test("cert needs certificates of clients", arguments: ["disable", "prefer", "require"])
  func certMethod(mode: String) {
    let tls = "[server]\ntls_cert = \"/c\"\ntls_key = \"/k\"\ntls_ca = \"/a\"\ntls_mode = "
    let auth = "[auth]\nmethod = \"cert\"\n"
    #expect(
      problems(of: auth + tls + "\"\(mode)\"") == [
        "t.toml:2:1: [auth] method = \"cert\" needs [server] tls_mode = \"verify-ca\" or \"verify-full\""
      ])
    #expect(problems(of: auth + tls + "\"verify-ca\"").isEmpty)
  }

  @Test("TLS needs a certificate and its key", arguments: ["allow", "prefer", "require"])
  func certificateOfTLS(mode: String) throws {
    let text = "[server]\ntls_mode = \"\(mode)\"\n"
    #expect(
      problems(behindMinimum: text) == [
        "t.toml:6:1: [server] tls_mode = \"\(mode)\" needs tls_cert: the certificate shown to clients",
        "t.toml:6:1: [server] tls_mode = \"\(mode)\" needs tls_key: the certificate's private key",
      ])
    let server = try settings(text + "tls_cert = \"/c\"\ntls_key = \"/k\"").server
    #expect(server.tlsMode.offersTLS && server.tlsMode.requiresTLS == (mode == "require"))
    #expect(!server.tlsMode.requiresClientCertificate)
  }

  @Test("certificates of clients need who signs them", arguments: ["verify-ca", "verify-full"])
  func authorityOfTLS(mode: String) throws {
    let text = "[server]\ntls_mode = \"\(mode)\"\ntls_cert = \"/c\"\ntls_key = \"/k\"\n"
    #expect(
      problems(behindMinimum: text) == [
        "t.toml:6:1: [server] tls_mode = \"\(mode)\" needs tls_ca: who signs clients' certificates"
      ])
    let server = try settings(text + "tls_ca = \"/a\"").server
    #expect(server.tlsMode.requiresTLS && server.tlsMode.requiresClientCertificate)
  }

  @Test("passwords in clear on a network, and certificates without TLS, are warned about")
  func doubtful() throws {
    let remote = try Settings.parse(
      text: "[auth]\nmethod = \"upstream\"\n[databases.a]\nupstream = \"dbname=a\"\n[server]\nlisten = \"*:1\"",
      file: "t.toml")
    #expect(
      remote.warnings.map(\.description) == [
        "t.toml:2:1: [auth] method = \"upstream\" lets passwords cross the network in clear (*:1); set [server] "
          + "tls_mode = \"require\""
      ])
    #expect(
      try settings("[server]\ntls_cert = \"/c\"").warnings.map(\.description) == [
        "t.toml:6:1: [server] tls_cert has no effect: tls_mode is \"disable\""
      ])
  }

  @Test("methods that are known but cannot be served yet")
  func authMethods() {
    #expect(
      problems(of: "[auth]\nmethod = \"hba\"") == ["t.toml:2:10: [auth] method = \"hba\" is not supported yet"])
    #expect(
      problems(of: "[auth]\nmethod = \"scram\"").first?.hasPrefix("t.toml:2:10: [auth] method must be \"trust\", ")
        == true)
  }

  @Test("trust beyond loopback needs allow_remote_trust", arguments: ["*:6432", "10.0.0.1:6432", "[::]:6432"])
  func remoteTrust(address: String) {
    let server = "[server]\nlisten = [\"127.0.0.1:1\", \"\(address)\"]\n"
    #expect(
      problems(behindMinimum: server) == [
        "t.toml:2:1: [auth] method = \"trust\" lets anybody who reaches \(address) be any user; listen on loopback or a "
          + "Unix socket, or set allow_remote_trust = true"
      ])
    #expect(problems(of: minimum.replacing("[data", with: "allow_remote_trust = true\n[data") + server).isEmpty)
  }

  @Test("names of databases and users")
  func names() {
    #expect(
      problems(behindMinimum: "[databases.lifeguard]\nupstream = \"dbname=x\"") == [
        "t.toml:5:12: [databases.lifeguard] is a reserved name: clients reach the admin console by it"
      ])
    #expect(
      problems(behindMinimum: "[databases.pgbouncer]\nupstream = \"dbname=x\"") == [
        "t.toml:5:12: [databases.pgbouncer] is a reserved name: clients reach the admin console by it"
      ])
    #expect(
      problems(behindMinimum: "[users.\"*\"]") == [
        "t.toml:5:8: [users.\"*\"] is no user: what holds for all users stands in [pool]"
      ])
    #expect(problems(behindMinimum: "[users.\"\"]") == ["t.toml:5:8: [users.\"\"] has an empty name"])
    let long = String(repeating: "x", count: 64)
    #expect(
      problems(behindMinimum: "[users.\(long)]") == [
        "t.toml:5:8: [users.\(long)] has a name of 64 bytes; PostgreSQL's names have at most 63"
      ])
  }

  @Test("no two things listen on one address")
  func sameAddress() {
    #expect(
      problems(behindMinimum: "[http]\nlisten = \"127.0.0.1:6432\"") == [
        "t.toml:6:1: [http] listen names 127.0.0.1:6432, where clients connect"
      ])
    #expect(
      problems(behindMinimum: "[server]\nlisten = \"/run/.s.PGSQL.1\"\n[admin]\nsocket = \"/run/.s.PGSQL.1\"") == [
        "t.toml:8:1: [admin] socket names /run/.s.PGSQL.1, where clients connect"
      ])
  }

  @Test("doubtful settings are warned about")
  func warnings() throws {
    let text = "[server]\nlisten = \"/run/lifeguard.sock\"\n"
    #expect(
      try settings(text).warnings.map(\.description) == [
        "t.toml:6:1: [server] listen names /run/lifeguard.sock, but libpq's clients look for DIRECTORY/.s.PGSQL.PORT"
      ])
  }

  @Test("a read_upstream that can have no effect is warned about")
  func idleReads() throws {
    let reads = "read_upstream = \"host=db2\"\n"
    #expect(try settings(reads + "max_lag = 5\n").warnings == [])
    #expect(
      try settings(reads + "mode = \"session\"\n").warnings.map(\.description) == [
        "t.toml:5:1: [databases.app] read_upstream has no effect: mode is \"session\""
      ])
    #expect(
      try settings(reads + "max_lag = 5\n[health]\ninterval = \"off\"\n").warnings.map(\.description) == [
        "t.toml:5:1: [databases.app] read_upstream has no effect: max_lag is set, and [health] interval = \"off\" "
          + "measures no lag"
      ])
  }

  @Test("reads are the same user's, and their pools' names are nobody else's")
  func reads() throws {
    let reads = "[databases.b]\nupstream = \"dbname=b\"\nread_upstream = \"host=db2"
    #expect(
      problems(behindMinimum: reads + " user=other\"") == [
        "t.toml:7:1: [databases.b] read_upstream names another user than upstream"
      ])
    #expect(
      problems(behindMinimum: reads + "\"\n[databases.\"b:reads\"]\nupstream = \"dbname=c\"") == [
        "t.toml:9:1: [databases.\"b:reads\"] is what the pools for reads of [databases.b] are called"
      ])
    let any = try settings("[databases.\"*\"]\nupstream = \"host=db1\"\nread_upstream = \"host=db2\"\n")
    #expect(any.database(named: "c") != nil)
    #expect(any.database(named: "c:reads") == nil)
  }
}
