import Foundation
import Synchronization
import Testing

@testable import Upstream

/// Dials to scripted peers: what can go wrong before there is a PostgreSQL.
@Suite struct DialTests {
  @Test func refusedIsUnreachable() throws {
    let port = ScriptedPeer.freePort()
    let failure = try failure("host=127.0.0.1 port=\(port) user=app password=hidden")
    #expect(failure.kind == .unreachable)
    #expect(failure.sqlState == nil)
    #expect(failure.text.contains("Connection refused"))
    #expect(failure.hostsTried.map(\.label) == ["127.0.0.1:\(port)"])
    #expect(!failure.text.contains("hidden"))
  }

  @Test func missingSocketsAndNamesAreUnreachable() throws {
    let socket = try failure("host=/nonexistent user=app")
    #expect(socket.kind == .unreachable)
    #expect(socket.text.contains("/nonexistent/.s.PGSQL.5432"))
    let name = try failure("host=no-such-host.invalid user=app")
    #expect(name.kind == .unreachable)
    #expect(name.text.contains("could not translate host name \"no-such-host.invalid\""))
  }

  @Test func aBlackHoleTimesOutAtTheDeadline() throws {
    let peer = ScriptedPeer()
    defer { peer.stop() }
    let elapsed = try seconds {
      let failure = try failure(peer.conninfo, within: 0.3)
      #expect(failure.kind == .timeout)
      #expect(failure.text.contains("timeout expired"))
      #expect(failure.attempts.map(\.address) == ["127.0.0.1"])
    }
    #expect(elapsed >= 0.3 && elapsed < 5)
  }

  @Test func aBlackHoleLeavesTheDialersOfOthersAlone() throws {
    let hole = ScriptedPeer()
    let server = ScriptedPeer { connection in
      _ = connection.readStartup()
      connection.welcome()
      connection.waitForEnd()
    }
    defer { hole.stop(); server.stop() }
    let dialers = Dialers(threadsPerUpstream: 2, maximumThreads: 3)
    let (dead, alive) = (Delivery<DialResult>(), Delivery<DialResult>())
    let deadTarget = try ConnectionTarget(conninfo: hole.conninfo)
    for _ in 0..<8 { dialers.dial(deadTarget, deadline: deadline(in: 60)) { dead.deliver($0) } }
    dialers.dial(try ConnectionTarget(conninfo: server.conninfo), deadline: deadline(in: 60)) { alive.deliver($0) }
    try alive.value().get().finish()
    #expect(dead.count == 0)
    #expect(dialers.load.dialing >= 2 && dialers.load.waiting == 6)
    // Stopping ends those under way and those in the queue, each with one completion.
    let elapsed = seconds { dialers.stop() }
    #expect(elapsed < 5)
    #expect(dead.count == 8)
    #expect(dialers.load == (0, 0, 0))
  }

  @Test func cancellingEndsADialWithOneCompletion() throws {
    let accepted = Delivery<Int>()
    let peer = ScriptedPeer { connection in
      _ = connection.readStartup()
      accepted.deliver(1)
      connection.waitForEnd()
    }
    defer { peer.stop() }
    let dialers = Dialers()
    defer { dialers.stop() }
    let result = Delivery<DialResult>()
    let ticket = dialers.dial(try ConnectionTarget(conninfo: peer.conninfo), deadline: deadline(in: 60)) {
      result.deliver($0)
    }
    _ = try accepted.value()
    ticket.cancel()
    ticket.cancel()
    guard case .failure(let failure) = try result.value() else { throw UnexpectedSuccess() }
    #expect(failure.kind == .cancelled)
    dialers.stop()
    ticket.cancel()
    #expect(result.count == 1)
  }

  @Test func dialsAfterStopFailAtOnce() throws {
    let dialers = Dialers()
    dialers.stop()
    let result = Delivery<DialResult>()
    dialers.dial(try ConnectionTarget(conninfo: "host=127.0.0.1"), deadline: deadline(in: 60)) { result.deliver($0) }
    #expect(result.count == 1)
  }

  @Test func anEndBeforeAuthenticationIsUnreachable() throws {
    let closing = ScriptedPeer { connection in _ = connection.readStartup() }
    let resetting = ScriptedPeer { _ in }
    defer { closing.stop(); resetting.stop() }
    #expect(try failure(closing.conninfo).kind == .unreachable)
    #expect(try failure(resetting.conninfo).kind == .unreachable)
  }

  @Test func anEndAfterAuthenticationIsNot() throws {
    let peer = ScriptedPeer { connection in
      _ = connection.readStartup()
      connection.send("R", Connection.int32(0))
    }
    defer { peer.stop() }
    #expect(try failure(peer.conninfo).kind == .other)
  }

  @Test func garbageIsNotTakenForAServer() throws {
    let peer = ScriptedPeer { connection in
      _ = connection.readStartup()
      connection.send(Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8))
      connection.waitForEnd()
    }
    defer { peer.stop() }
    let failure = try failure(peer.conninfo)
    #expect(failure.kind == .other)
    #expect(!failure.text.isEmpty && !failure.text.contains("\n"))
  }

  @Test(arguments: [
    ("57P03", DialFailureKind.startingUp), ("53300", .tooManyConnections), ("28000", .authentication),
    ("28P01", .authentication), ("3D000", .unknownDatabase), ("42501", .insufficientPrivilege), ("XX000", .other),
  ])
  func theSQLStateDecidesTheKind(_ sqlState: String, _ kind: DialFailureKind) throws {
    let peer = ScriptedPeer { connection in
      _ = connection.readStartup()
      connection.sendError(sqlState, "no: because")
    }
    defer { peer.stop() }
    let failure = try failure(peer.conninfo)
    #expect(failure.kind == kind)
    #expect(failure.sqlState == sqlState)
    #expect(failure.text.hasSuffix("failed: FATAL:  no: because"))
  }

  @Test func aServerThatAsksForAPasswordWeDoNotHave() throws {
    let peer = ScriptedPeer { connection in
      _ = connection.readStartup()
      connection.send("R", Connection.int32(3))
      connection.waitForEnd()
    }
    defer { peer.stop() }
    #expect(try failure(peer.conninfo + " passfile=/nonexistent").kind == .authentication)
  }

  @Test func theNextHostIsTriedWithinTheDeadline() throws {
    let hole = ScriptedPeer()
    let starting = ScriptedPeer { connection in
      _ = connection.readStartup()
      connection.sendError("57P03", "the database system is starting up")
    }
    let server = ScriptedPeer { connection in
      _ = connection.readStartup()
      connection.welcome(processID: 99, notice: "hello")
      connection.waitForEnd()
    }
    defer { hole.stop(); starting.stop(); server.stop() }
    let ports = "\(ScriptedPeer.freePort()),\(hole.port),\(starting.port),\(server.port)"
    let hosts = "host=127.0.0.1,127.0.0.1,localhost,127.0.0.1 port=\(ports) user=app sslmode=disable"
    // The black hole gets a third of what is left, not all of it.
    let link = try dial(hosts, within: 3).get()
    #expect(link.host.port == server.port)
    #expect(link.processID == 99)
    #expect(link.notices == ["NOTICE:  hello"])
    #expect(link.parameters.map { "\($0.name)=\($0.value)" } == ["server_version=15.4"])
    link.finish()
    // An explicit connect_timeout bounds an address further, whatever the deadline is.
    let elapsed = try seconds {
      try dial(hosts + " connect_timeout=1", within: 60).get().finish()
    }
    #expect(elapsed < 10)
  }

  @Test func theHostThatGotFurthestGivesTheKind() throws {
    let starting = ScriptedPeer { connection in
      _ = connection.readStartup()
      connection.sendError("57P03", "the database system is starting up")
    }
    defer { starting.stop() }
    let ports = "\(starting.port),\(ScriptedPeer.freePort())"
    let failure = try failure("host=127.0.0.1,127.0.0.1 port=\(ports) user=app sslmode=disable")
    #expect(failure.kind == .startingUp)
    #expect(failure.sqlState == "57P03")
    #expect(failure.attempts.map(\.kind) == [.startingUp, .unreachable])
    #expect(failure.text.contains("starting up; connection to server"))
  }

  @Test func aHostThatRefusesTheUserEndsTheDial() throws {
    let refusing = ScriptedPeer { connection in
      _ = connection.readStartup()
      connection.sendError("28P01", "no")
    }
    defer { refusing.stop() }
    let failure = try failure(
      "host=127.0.0.1,127.0.0.1 port=\(refusing.port),\(ScriptedPeer.freePort()) user=app sslmode=disable")
    #expect(failure.kind == .authentication)
    #expect(failure.attempts.count == 1)
  }

  @Test func aDialWhoseDeadlineHasPassedTouchesNobody() throws {
    let failure = try failure("host=127.0.0.1 user=app", within: -1)
    #expect(failure.kind == .timeout)
    #expect(failure.attempts.isEmpty)
  }

  @Test func cancelRequestsToASilentServerLeaveOthersAlone() throws {
    let silent = ScriptedPeer { connection in
      guard let startup = connection.readStartup(), startup.count > 12 else { return connection.waitForEnd() }
      connection.welcome()
      connection.waitForEnd()
    }
    let prompt = ScriptedPeer { connection in
      guard let startup = connection.readStartup(), startup.count > 12 else { return }
      connection.welcome()
      connection.waitForEnd()
    }
    defer { silent.stop(); prompt.stop() }
    let (stuck, quick) = (try dial(silent.conninfo).get(), try dial(prompt.conninfo).get())
    let cancellers = Cancellers(threadsPerUpstream: 2, maximumThreads: 3)
    let (never, soon) = (Delivery<CancelOutcome>(), Delivery<CancelOutcome>())
    for _ in 0..<4 { cancellers.cancel(stuck.cancelHandle) { never.deliver($0) } }
    cancellers.cancel(quick.cancelHandle) { soon.deliver($0) }
    #expect(try soon.value() == .delivered)
    #expect(never.count == 0)
    // Does not wait for the two under way.
    cancellers.stop()
    #expect(never.count == 2)
    #expect(try never.value() == .stopped)
    stuck.finish()
    quick.finish()
  }
}
