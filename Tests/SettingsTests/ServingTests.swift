import Settings
import Testing

@Suite("Settings without a file")
struct ServingTests {
  @Test("the database has the upstream's name, or any")
  func names() throws {
    let app = try Settings.serving(upstream: "host=db1 dbname=app", listen: [])
    #expect(Array(app.databases.keys) == ["app"])
    #expect(app.server.listen == [.tcp(host: "127.0.0.1", port: 6432)])
    #expect(app.auth.method == .trust)
    #expect(app.pool == PoolSettings())

    let any = try Settings.serving(upstream: "postgresql://db1", listen: ["/run/.s.PGSQL.1", "[::1]:1"])
    #expect(any.database(named: "whatever")?.upstream.text == "postgresql://db1")
    #expect(any.server.listen == [.unix(path: "/run/.s.PGSQL.1"), .tcp(host: "::1", port: 1)])
  }

  @Test("problems name the option, all of them at once")
  func problems() {
    let error = #expect(throws: SettingsError.self) {
      try Settings.serving(upstream: "gssencmode=prefer", listen: ["6432", "*:1", "127.0.0.1:1", "127.0.0.1:1"])
    }
    #expect(
      error?.problems.map(\.description) == [
        "--upstream: asks for gssencmode=prefer, but encrypted GSS connections cannot be pooled; leave it out",
        #"--listen: "6432" is a port without an address; did you mean "127.0.0.1:6432"?"#,
        "--listen: clients are trusted, and that would let anybody who reaches *:1 be any user; listen on loopback or a "
          + "Unix socket, or say by --auth how clients prove who they are",
        "--listen: 127.0.0.1:1 is given twice",
      ])
  }

  @Test("a password needs --auth", arguments: ["password=geheim", "postgresql://u:geheim@h"])
  func password(upstream: String) {
    let error = #expect(throws: SettingsError.self) { try Settings.serving(upstream: upstream, listen: []) }
    #expect(
      error?.description
        == "--upstream: contains a password, which would serve anybody who reaches the daemon; say by --auth how "
        + "clients prove who they are")
    #expect(throws: Never.self) {
      try Settings.serving(upstream: upstream, listen: ["*:1"], method: "scram-sha-256", file: "/u")
    }
  }

  @Test("--auth takes the methods that need no settings")
  func methods() throws {
    let settings = try Settings.serving(upstream: "dbname=a", listen: ["*:1"], method: "md5", file: "/u")
    #expect(settings.auth.method == .md5 && settings.auth.file == "/u")
    func problem(_ method: String) -> String? {
      do {
        _ = try Settings.serving(upstream: "dbname=a", listen: [], method: method)
        return nil
      } catch {
        return error.description
      }
    }
    #expect(problem("upstream") == nil)
    #expect(problem("md5") == "--auth: md5 needs --userlist: the users and their secrets")
    #expect(
      problem("scram")
        == "--auth: must be \"trust\", \"password\", \"md5\", \"scram-sha-256\" or \"upstream\", not \"scram\"")
    #expect(problem("cert")?.hasPrefix("--auth: must be \"trust\", ") == true)
  }

  @Test("passwords in clear on a network are warned about here too", arguments: ["password", "upstream"])
  func doubtful(method: String) throws {
    func warnings(_ listen: String) throws -> [String] {
      try Settings.serving(upstream: "dbname=a", listen: [listen], method: method, file: "/u").warnings.map(
        \.description)
    }
    #expect(
      try warnings("*:1") == [
        "--auth: \(method) lets passwords cross the network in clear (*:1); a settings file can set [server] tls_mode = "
          + "\"require\""
      ])
    #expect(try warnings("127.0.0.1:1").isEmpty)
    #expect(try warnings("/run/.s.PGSQL.1").isEmpty)
    let scram = try Settings.serving(upstream: "dbname=a", listen: ["*:1"], method: "scram-sha-256", file: "/u")
    #expect(scram.warnings.isEmpty)
  }

  @Test("the console's names are reserved here too")
  func reserved() {
    let error = #expect(throws: SettingsError.self) { try Settings.serving(upstream: "dbname=lifeguard", listen: []) }
    #expect(
      error?.description
        == "--upstream: names the database lifeguard, but clients reach the admin console by that name")
  }
}
