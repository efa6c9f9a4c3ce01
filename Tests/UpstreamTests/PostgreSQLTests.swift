import Foundation
import Testing

@testable import Upstream

/// Against a real PostgreSQL.
@Suite(.enabled(if: TestServer.isAvailable, "\(TestServer.problem)"))
struct PostgreSQLTests {
  private let server: TestServer

  init() throws {
    server = try #require(TestServer.shared)
  }

  @Test func aLinkKnowsItsServer() throws {
    let link = try dial(server.overLoopback).get()
    defer { link.finish() }
    #expect(link.processID > 0)
    #expect(link.serverVersion >= 90_000)
    #expect(link.address == "127.0.0.1")
    #expect(link.host.label == "127.0.0.1:\(server.port)")
    #expect(link.user == "app" && link.database == "app")
    let parameters = Dictionary(uniqueKeysWithValues: link.parameters.map { ($0.name, $0.value) })
    #expect(parameters["application_name"] == "")
    #expect(parameters["server_encoding"] == "UTF8")
    #expect(parameters["session_authorization"] == "app")
    #expect(parameters["in_hot_standby"] == "off")
    #expect(parameters["TimeZone"] != nil)
    #expect(fcntl(link.descriptor, F_GETFL) & O_NONBLOCK != 0)
    #expect(fcntl(link.descriptor, F_GETFD) & FD_CLOEXEC != 0)
  }

  @Test func nothingPrecedesTheAnswerToABareSync() throws {
    let link = try dial(server.overSocket).get()
    defer { link.finish() }
    #expect(link.address.isEmpty)
    let socket = Connection(descriptor: link.descriptor)
    socket.send("S")
    let message = try #require(socket.readMessage())
    #expect(message.type == "Z" && message.body == [UInt8(ascii: "I")])
  }

  @Test func terminateThenEndThenFinish() throws {
    let link = try dial(server.overSocket).get()
    let socket = Connection(descriptor: link.descriptor)
    socket.send("X")
    #expect(socket.readMessage() == nil)
    link.finish()
    link.finish()
  }

  @Test func aRunningQueryIsCancelled() throws {
    let link = try dial(server.overLoopback).get()
    defer { link.finish() }
    let socket = Connection(descriptor: link.descriptor)
    socket.send("Q", Array("do $$ begin raise notice 'at work'; end $$; select pg_sleep(60)\u{0}".utf8))
    // A notice, unlike a result, is sent at once.
    _ = try #require(socket.readMessages(upTo: "N"))
    let cancellers = Cancellers()
    defer { cancellers.stop() }
    let outcome = Delivery<CancelOutcome>()
    cancellers.cancel(link.cancelHandle) { outcome.deliver($0) }
    #expect(try outcome.value() == .delivered)
    let error = try #require(socket.readMessages(upTo: "E")?.last)
    #expect(String(decoding: error.body, as: UTF8.self).contains("C57014\u{0}"))
    _ = try #require(socket.readMessages(upTo: "Z"))
  }

  @Test func aCancelHandleOutlivesItsLink() throws {
    let link = try dial(server.overLoopback).get()
    let handle = link.cancelHandle
    link.finish()
    #expect(handle.cancelBlocking() == .delivered)
  }

  @Test func refusalsAreToldApart() throws {
    let base = "host=127.0.0.1 port=\(server.port)"
    let cases: [(String, DialFailureKind, String)] = [
      ("user=app dbname=missing", .unknownDatabase, "3D000"),
      ("user=nobody dbname=app", .authentication, "28000"),
      ("user=crowded dbname=app", .tooManyConnections, "53300"),
      ("user=app dbname=closed", .insufficientPrivilege, "42501"),
      ("user=guarded dbname=app password='wrong one'", .authentication, "28P01"),
    ]
    for (options, kind, sqlState) in cases {
      let failure = try failure("\(base) \(options)")
      #expect(failure.kind == kind && failure.sqlState == sqlState, "\(options): \(failure)")
      #expect(!failure.text.contains(sqlState) && !failure.text.contains("LOCATION") && !failure.text.contains("\n"))
      #expect(!failure.text.contains("wrong one"))
    }
  }

  @Test func passwordsReachTheServerFromAllPlaces() throws {
    let base = "host=127.0.0.1 port=\(server.port) user=guarded dbname=app"
    try dial("\(base) password='right one'").get().finish()
    #expect(try failure("\(base) passfile=/nonexistent").kind == .authentication)

    let file = FileManager.default.temporaryDirectory.appendingPathComponent("pgpass-\(UUID())")
    defer { try? FileManager.default.removeItem(at: file) }
    let made = FileManager.default.createFile(
      atPath: file.path, contents: Data("127.0.0.1:\(server.port):app:guarded:right one\n".utf8),
      attributes: [.posixPermissions: 0o600])
    #expect(made)
    try dial("\(base) passfile=\(file.path)").get().finish()
  }

  @Test func sessionAttributesAreCheckedOnEachHost() throws {
    let base = "host=127.0.0.1,localhost port=\(server.port) dbname=app"
    let wrong = try failure("\(base) user=reader target_session_attrs=read-write")
    #expect(wrong.kind == .wrongRole)
    #expect(wrong.hostsTried.count == 2)
    try dial("\(base) user=app target_session_attrs=read-write").get().finish()
    #expect(try failure("\(base) user=app target_session_attrs=standby").kind == .wrongRole)
  }

  @Test func preferStandbyTakesThePrimaryWhereThereIsNoStandby() throws {
    let hole = ScriptedPeer()
    defer { hole.stop() }
    let options = "user=app dbname=app target_session_attrs=prefer-standby"
    try dial("host=127.0.0.1 port=\(server.port) \(options)").get().finish()
    // The primary answers first; the silent second host must leave time for coming back to it.
    let link = try dial("host=127.0.0.1,127.0.0.1 port=\(server.port),\(hole.port) \(options)", within: 2).get()
    #expect(link.host.port == server.port)
    link.finish()
  }

  @Test func theSecondHostAnswersWhereTheFirstIsDead() throws {
    let link = try dial("host=127.0.0.1,127.0.0.1 port=\(ScriptedPeer.freePort()),\(server.port) user=app dbname=app")
      .get()
    #expect(link.host.port == server.port)
    link.finish()
  }
}
