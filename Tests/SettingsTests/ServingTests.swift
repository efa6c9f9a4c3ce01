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
      try Settings.serving(upstream: "sslmode=require", listen: ["6432", "*:1", "127.0.0.1:1", "127.0.0.1:1"])
    }
    #expect(
      error?.problems.map(\.description) == [
        "--upstream: asks for sslmode=require, but TLS to the upstream is not supported yet",
        #"--listen: "6432" is a port without an address; did you mean "127.0.0.1:6432"?"#,
        "--listen: without a settings file clients are trusted, and that would let anybody who reaches *:1 be any user; "
          + "listen on loopback or a Unix socket",
        "--listen: 127.0.0.1:1 is given twice",
      ])
  }

  @Test("a password needs --auth", arguments: ["password=geheim", "postgresql://u:geheim@h"])
  func password(upstream: String) {
    let error = #expect(throws: SettingsError.self) { try Settings.serving(upstream: upstream, listen: []) }
    #expect(
      error?.description
        == "--upstream: contains a password, which under trust would serve anybody who reaches the daemon; that needs "
        + "--auth, which is not supported yet (a settings file, .pgpass or a service file may hold the password)")
  }

  @Test("the console's names are reserved here too")
  func reserved() {
    let error = #expect(throws: SettingsError.self) { try Settings.serving(upstream: "dbname=lifeguard", listen: []) }
    #expect(
      error?.description
        == "--upstream: names the database lifeguard, but clients reach the admin console by that name")
  }
}
