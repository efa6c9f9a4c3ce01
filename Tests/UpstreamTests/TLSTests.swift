import Foundation
import Testing

@testable import Upstream

/// TLS to a real PostgreSQL, as libpq negotiates it.
@Suite(.enabled(if: TestServer.secured != nil && TestServer.isAvailable, "no PostgreSQL with TLS"))
struct TLSTests {
  private let server: TestServer
  private let plain: TestServer
  private let files: TestCertificates

  init() throws {
    server = try #require(TestServer.secured)
    plain = try #require(TestServer.shared)
    files = try #require(TestCertificates.shared)
  }

  private var authority: String { "sslrootcert=\(files.certificate("authority"))" }

  private func on(_ server: TestServer, _ options: String, user: String = "app", host: String = "127.0.0.1") -> String {
    "host=\(host) port=\(server.port) user=\(user) dbname=app \(options)"
  }

  @Test(arguments: ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
  func everyModeIsHeeded(_ mode: String) throws {
    let isEncrypted = !["disable", "allow"].contains(mode)
    for host in ["127.0.0.1", "localhost"] {
      let link = try dial(on(server, "sslmode=\(mode) \(authority)", host: host)).get()
      defer { link.finish() }
      #expect(unsafe (link.tlsHandle != nil) == isEncrypted)
      #expect(link.tlsVersion == (isEncrypted ? "TLSv1.3" : nil))
      #expect((link.tlsCipher?.hasPrefix("TLS_AES_") == true) == isEncrypted)
    }
  }

  @Test func theDefaultIsToPreferTLS() throws {
    for (server, isEncrypted) in [(server, true), (plain, false)] {
      let link = try dial(on(server, "")).get()
      #expect(unsafe (link.tlsHandle != nil) == isEncrypted)
      link.finish()
    }
  }

  @Test func unixSocketsHaveNoTLS() throws {
    let link = try dial("\(server.overSocket) sslmode=prefer").get()
    #expect(unsafe link.tlsHandle == nil)
    link.finish()
  }

  @Test func limitsOfTheVersionAreHeeded() throws {
    let link = try dial(on(server, "sslmode=require ssl_max_protocol_version=TLSv1.2")).get()
    #expect(link.tlsVersion == "TLSv1.2")
    link.finish()
    let old = try failure(on(server, "sslmode=require ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.1"))
    #expect(old.kind == .tls, "\(old)")
  }

  // MARK: Not to be had

  @Test func tlsThatIsNotToBeHadIsToldAsSuch() throws {
    let misnamed = try #require(TestServer.misnamed)
    let foreign = "sslrootcert=\(files.certificate("foreign"))"
    let cases: [(String, String)] = [
      (on(server, "sslmode=verify-ca \(foreign)"), "certificate verify failed"),
      (on(server, "sslmode=verify-full \(foreign)"), "certificate verify failed"),
      (on(misnamed, "sslmode=verify-full \(authority)", host: "localhost"), "does not match host name"),
      (on(misnamed, "sslmode=verify-full \(authority)"), "does not match host name"),
      (on(plain, "sslmode=require"), "server does not support SSL, but SSL was required"),
      (on(server, "sslmode=verify-full sslrootcert=/nonexistent/ca.crt"), "root certificate file"),
      (on(server, "sslmode=require sslcert=\(files.certificate("alice")) sslkey=/nonexistent.key"), "private key file"),
      (on(server, "sslmode=require \(client("locked"))"), "could not load private key file"),
      (on(server, "sslmode=require \(client("locked")) sslpassword='wrong secret'"), "could not load private key file"),
      (on(plain, "channel_binding=require password=x", user: "guarded"), "channel binding"),
      (on(server, "channel_binding=require", user: "app"), "channel binding"),
    ]
    for (conninfo, words) in cases {
      let failure = try failure(conninfo)
      #expect(failure.kind == .tls && failure.text.contains(words), "\(conninfo): \(failure.kind) \(failure.text)")
      #expect(failure.attempts.count == 1 && !failure.text.contains("secret"))
    }
    try dial(on(misnamed, "sslmode=verify-ca \(authority)")).get().finish()
  }

  /// As libpq itself: it ends at the first host that answers and does not offer what is asked for.
  @Test func aHostWithoutTLSEndsTheDial() throws {
    let hosts = "host=127.0.0.1,127.0.0.1 port=\(plain.port),\(server.port) user=app dbname=app"
    let failure = try failure("\(hosts) sslmode=require")
    #expect(failure.kind == .tls && failure.attempts.map(\.host.port) == [plain.port])
    let link = try dial("\(hosts) sslmode=prefer").get()
    #expect(unsafe link.host.port == plain.port && link.tlsHandle == nil)
    link.finish()
  }

  @Test func hostsWithWordsOfTLSInTheirNamesAreOnlyUnreachable() throws {
    let port = ScriptedPeer.freePort()
    for name in ["certificate", "SSL"] {
      #expect(try failure("host=\(name).example hostaddr=127.0.0.1 port=\(port) user=app").kind == .unreachable)
    }
  }

  @Test func aServerThatEndsInTheHandshakeIsUnreachable() throws {
    let ending = ScriptedPeer { peer in
      _ = peer.readStartup()
      peer.send([UInt8(ascii: "S")])
    }
    defer { ending.stop() }
    let failure = try failure("host=127.0.0.1 port=\(ending.port) user=app sslmode=require")
    #expect(failure.kind == .unreachable, "\(failure)")
  }

  @Test func whatIsNoPostgreSQLIsNoMatterOfTLS() throws {
    let other = ScriptedPeer { peer in
      _ = peer.readStartup()
      peer.send(Array("HTTP/1.1 400 Bad Request\r\n".utf8))
      peer.waitForEnd()
    }
    defer { other.stop() }
    let failure = try failure("host=127.0.0.1 port=\(other.port) user=app sslmode=require")
    #expect(failure.kind == .other, "\(failure)")
  }

  // MARK: Two attempts

  @Test func theSecondAttemptOfAModeIsMadeOnAnotherSocket() throws {
    for (mode, user, isEncrypted) in [("allow", "tlsonly", true), ("prefer", "clearonly", false)] {
      let link = try dial(on(server, "sslmode=\(mode)", user: user)).get()
      #expect(unsafe (link.tlsHandle != nil) == isEncrypted)
      let socket = Connection(descriptor: link.descriptor)
      if !isEncrypted {
        socket.send("S")
        #expect(socket.readMessage()?.type == "Z")
      }
      link.finish()
    }
  }

  @Test(arguments: [("allow", "crowded"), ("prefer", "crowdedclear")])
  func ofTwoErrorsTheOneThatTellsSomethingCounts(_ mode: String, _ user: String) throws {
    let failure = try failure(on(server, "sslmode=\(mode)", user: user))
    #expect(failure.kind == .tooManyConnections && failure.sqlState == "53300", "\(failure)")
    #expect(failure.text.contains("too many connections") && failure.text.contains("pg_hba.conf"))
    #expect(!failure.text.contains("53300") && !failure.text.contains("28000") && !failure.text.contains("LOCATION"))
  }

  @Test func aWrongPasswordIsNoMatterOfTLS() throws {
    for mode in ["allow", "prefer", "require"] {
      let failure = try failure(on(server, "sslmode=\(mode) password='wrong one'", user: "guarded"))
      #expect(failure.kind == .authentication && failure.sqlState == "28P01", "\(failure)")
      #expect(!failure.text.contains("28P01") && !failure.text.contains("wrong one"))
    }
  }

  // MARK: Who is who

  private func client(_ name: String) -> String {
    "sslcert=\(files.certificate(name)) sslkey=\(files.key(name))"
  }

  @Test func aClientCertificateLetsItsUserIn() throws {
    for more in [client("alice"), client("locked") + " sslpassword='key secret'"] {
      let link = try dial(on(server, "sslmode=verify-full \(authority) \(more)", user: "alice")).get()
      #expect(link.user == "alice" && !link.usedPassword)
      link.finish()
    }
    let missing = try failure(on(server, "sslmode=require sslcert=/nonexistent", user: "alice"))
    #expect(missing.kind == .authentication && missing.text.contains("valid client certificate"), "\(missing)")
  }

  @Test func passwordsMayBeBoundToTheChannel() throws {
    let link = try dial(on(server, "channel_binding=require password='right one'", user: "guarded")).get()
    #expect(unsafe link.usedPassword && link.tlsHandle != nil)
    link.finish()
    let trusted = try dial(on(server, "password=unasked")).get()
    #expect(!trusted.usedPassword)
    trusted.finish()
  }

  @Test func onlyThePasswordGivenIsShownToTheServer() async throws {
    let port = server.port
    await #expect(processExitsWith: .success) { [port = port as UInt16] in
      let file = FileManager.default.temporaryDirectory.appendingPathComponent("pgpass-\(UUID())")
      defer { try? FileManager.default.removeItem(at: file) }
      let made = FileManager.default.createFile(
        atPath: file.path, contents: Data("*:*:*:guarded:right one\n".utf8), attributes: [.posixPermissions: 0o600])
      #expect(made)
      unsafe setenv("PGPASSFILE", file.path, 1)
      let conninfo = "host=127.0.0.1 port=\(port) user=guarded dbname=app"
      try dial(conninfo).get().finish()
      func dialOnly(_ password: String) throws -> DialResult {
        try dial(
          ConnectionTarget(
            conninfo: conninfo + " password='right one'", overrides: [("password", password)], isPasswordOnly: true))
      }
      let link = try dialOnly("right one").get()
      #expect(link.usedPassword)
      link.finish()
      guard case .failure(let failure) = try dialOnly("wrong one") else { throw UnexpectedSuccess() }
      #expect(failure.kind == .authentication)
    }
  }
}
