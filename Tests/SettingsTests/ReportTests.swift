import Settings
import Testing

@Suite("What is shown of settings")
struct ReportTests {
  @Test("rows have the line that sets them, and never a secret")
  func rows() throws {
    let rows = try settings("pool_size = 7\n[databases.\"*\"]\nupstream = \"postgresql://u:geheim@h/x\"").effective()
    let size = rows.first { $0.section == "databases.app" && $0.key == "pool_size" }
    #expect(size?.value == "7")
    #expect(size?.defaultValue == "5")
    #expect(size?.line == 5)
    #expect(size?.needsRestart == false)
    let upstream = rows.first { $0.section == "databases.\"*\"" }
    #expect(upstream?.value == "postgresql://u:***@h/x")
    #expect(upstream?.line == 7)
    #expect(rows.first { $0.key == "pool_timeout" }?.line == nil)
    #expect(rows.first { $0.section == "server" && $0.key == "listen" }?.literal == "[\"127.0.0.1:6432\"]")
    #expect(!rows.contains { "\($0)".contains("geheim") })
  }

  @Test("the printed settings are TOML again, whatever the names are")
  func printed() throws {
    let settings = try settings(
      "[databases.\"a \\\" ]\\n é\"]\nupstream = \"dbname='\\\\\\\\ \\\"'\"\n[users.\"x.y\"]\nmode = \"session\"")
    let again = try Settings.parse(text: settings.effectiveText(), file: "t.toml")
    #expect(again.databases == settings.databases)
    #expect(again.users == settings.users)
    #expect(again.effectiveText() == settings.effectiveText())
  }

  @Test("differences name each key that changed")
  func differences() throws {
    let old = try settings("pool_size = 7\n[users.a]\nmode = \"session\"\n[admin]\nusers = [\"x\"]")
    let new = try settings(
      "[pool]\npool_size = 9\npool_timeout = 0\n[http]\nlisten = \"off\"\n[users.b]\npool_workers = 1")
    let changes = new.differences(from: old)
    #expect(
      changes.map(\.description) == [
        "pool.pool_size 5 -> 9", "pool.pool_timeout 30s -> 0s", "users.b.pool_workers (not set) -> 1",
        "admin.users x -> \"\"", "http.listen 127.0.0.1:9127 -> off", "databases.app.pool_size 7 -> (not set)",
        "users.a.mode session -> (not set)",
      ])
    #expect(changes.filter(\.needsRestart).map(\.key) == ["pool_workers", "listen"])
    #expect(new.differences(from: new).isEmpty)
  }

  @Test("a changed password is a change that shows no password")
  func hidden() throws {
    let old = try settings("[databases.b]\nupstream = \"dbname=b password=geheim\"")
    let new = try settings("[databases.b]\nupstream = \"dbname=b password=geheimer\"")
    #expect(old != new)
    #expect(
      new.differences(from: old).map(\.description) == [
        "databases.b.upstream dbname=b password=*** (a hidden part changed)"
      ])
  }

  @Test("where a key stands does not count for equality")
  func equality() throws {
    #expect(try settings("[pool]\npool_size = 5") == settings("# a comment\n[pool]\npool_size = 5"))
    #expect(try settings("") != settings("[log]\nconnections = false"))
  }
}
