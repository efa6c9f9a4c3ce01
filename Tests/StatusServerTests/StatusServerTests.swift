import Glibc
import NIOCore
import NIOPosix
import Settings
import Synchronization
import Telemetry
import Testing

@testable import StatusServer

@Suite struct StatusServerTests {
  // What is served.

  @Test func livezAnswersOK() async throws {
    try await withServer { server in
      let answer = try await ask(server, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
      #expect(answer.contains("\r\nContent-Length: 3\r\n"))
      #expect(answer.contains("\r\nConnection: close\r\n"))
      #expect(answer.hasSuffix("\r\n\r\nok\n"))
    }
  }

  @Test func readyzSaysWhenTheDaemonDrainsWhileLivezStaysOK() async throws {
    let source = FixedSource()
    try await withServer(source) { server in
      let before = try await ask(server, get("/readyz"))
      #expect(before.hasPrefix("HTTP/1.1 200 "))
      source.draining.store(true, ordering: .relaxed)
      let answer = try await ask(server, get("/readyz"))
      #expect(answer.hasPrefix("HTTP/1.1 503 "))
      #expect(answer.hasSuffix("\r\n\r\ndraining\n"))
      let alive = try await ask(server, get("/livez"))
      #expect(alive.hasPrefix("HTTP/1.1 200 "))
    }
  }

  @Test func metricsAreServedAsPrometheusText() async throws {
    try await withServer { server in
      let answer = try await ask(server, get("/metrics?name=x"))
      #expect(answer.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"))
      #expect(answer.contains("\nlifeguard_max_client_connections 123\n"))
    }
  }

  @Test func headIsAnsweredWithoutABody() async throws {
    try await withServer { server in
      let answer = try await ask(server, "HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      #expect(answer.contains("\r\nContent-Length: 3\r\n"))
      #expect(answer.hasSuffix("\r\n\r\n"))
    }
  }

  @Test(arguments: [
    ("GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    ("GET /livez/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    ("DELETE /livez HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ("POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 405),
    ("GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 413),
    ("GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
    ("GET /livez HTTP/1.1\r\n\r\n", 400),
    ("no HTTP at all\r\n\r\n", 400),
    ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}", 400),
    ("GET /livez HTTP/1.0\r\n\r\n", 200),
    ("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
  ])
  func eachRequestGetsItsStatusAndTheConnectionEnds(request: String, status: Int) async throws {
    try await withServer { server in
      let answer = try await ask(server, request)
      #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
    }
  }

  @Test(arguments: [
    ("/health/app%2F%C3%A4", 200, "\"status\": \"healthy\""),
    ("/health/app%2f%c3%a4?x", 200, "\"status\": \"healthy\""),
    ("/health/new", 200, "\"reason\": \"nothing tried\""),
    ("/health/down", 503, "\"reason\": \"the server cannot be reached\""),
    ("/health/nobody", 404, "no such database"),
    ("/health/", 404, "no such database"),
    ("/health/%zz", 404, "not found"),
    ("/health/a%2", 404, "not found"),
    ("/health/%ff", 404, "not found"),
  ])
  func healthAnswersByStatusForThePercentEncodedName(path: String, status: Int, body: String) async throws {
    try await withServer { server in
      let answer = try await ask(server, get(path))
      #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
      #expect(answer.contains(body))
    }
  }

  @Test func thePageMayLoadNothingFromElsewhereAndAsksForItsStatus() async throws {
    try await withServer { server in
      let page = try await ask(server, get("/"))
      #expect(page.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"))
      #expect(page.contains("\r\nContent-Security-Policy: default-src 'none'; "))
      for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "src=", "https://"] {
        #expect(!page.contains(forbidden), "the page has \(forbidden)")
      }
      #expect(page.contains("<noscript>"))
      let status = try await ask(server, get("/api/status"))
      #expect(status.contains("\r\nContent-Type: application/json\r\n"))
      #expect(status.contains("\"max_clients\": 123"))
    }
  }

  // What peers may do.

  @Test func aConnectionServesOneRequestAfterAnother() async throws {
    try await withServer { server in
      let client = try await RawClient.connect(port: server.port!)
      defer { client.close() }
      for _ in 0..<3 {
        try await client.send(get("/livez", connection: "keep-alive"))
        #expect(try await client.receive(until: "\r\n\r\nok\n").contains("\r\nConnection: keep-alive\r\n"))
      }
    }
  }

  @Test func pipelinedRequestsGetOneAnswerAndTheEnd() async throws {
    try await withServer { server in
      let requests = String(repeating: get("/livez", connection: "keep-alive"), count: 40)
      let answer = try await ask(server, requests)
      #expect(answer.split(separator: "HTTP/1.1 200 OK").count == 1)
    }
  }

  @Test func aClientThatEndsItsInputStillGetsItsAnswer() async throws {
    try await withServer { server in
      let client = try await RawClient.connect(port: server.port!)
      defer { client.close() }
      try await client.send(get("/metrics", connection: "keep-alive"))
      client.endInput()
      #expect(try await client.receiveAll().hasPrefix("HTTP/1.1 200 "))
    }
  }

  @Test func aHeadThatNeverEndsIsRefused() async throws {
    try await withServer { server in
      let answer = try await ask(server, "GET /livez HTTP/1.1\r\nX: " + String(repeating: "x", count: 20_000))
      #expect(answer.hasPrefix("HTTP/1.1 431 "))
    }
  }

  @Test func aHeadThatNeverEndsIsNotReadForLong() async throws {
    try await withServer(limits: { $0.lingerTimeout = .seconds(120) }) { server in
      let client = try await RawClient.connect(port: server.port!)
      defer { client.close() }
      await #expect(throws: RawClient.Failed.self) {
        try await client.send("GET /livez HTTP/1.1\r\nX: ")
        while true { try await client.send(String(repeating: "x", count: 65_536)) }
      }
    }
  }

  @Test(arguments: ["", "GET /livez HT"])
  func aHeadThatTakesTooLongEndsTheConnection(begin: String) async throws {
    try await withServer(limits: { $0.headTimeout = .milliseconds(50) }) { server in
      let answer = try await ask(server, begin)
      #expect(answer == "")
    }
  }

  @Test func aConnectionThatIdlesTooLongIsClosed() async throws {
    try await withServer(limits: { $0.idleTimeout = .milliseconds(50) }) { server in
      let answer = try await ask(server, get("/livez", connection: "keep-alive"))
      #expect(answer.hasSuffix("\r\n\r\nok\n"))
    }
  }

  @Test func anAnswerThatTakesTooLongEndsTheConnection() async throws {
    let source = FixedSource(answers: false)
    try await withServer(source, limits: { $0.answerTimeout = .milliseconds(50) }) { server in
      let answer = try await ask(server, get("/metrics"))
      #expect(answer == "")
      source.release()
    }
  }

  @Test func aConnectionBeyondTheLimitIsServedAndTheOldestThatSaysNothingIsClosed() async throws {
    try await withServer(limits: { $0.maxConnections = 2 }) { server in
      let idle = try await RawClient.connect(port: server.port!)
      defer { idle.close() }
      try await idle.send(get("/livez", connection: "keep-alive"))
      _ = try await idle.receive(until: "\r\n\r\nok\n")
      let silent = try await RawClient.connect(port: server.port!)
      defer { silent.close() }
      try await silent.send("GET /liv")

      let third = try await ask(server, get("/livez"))
      #expect(third.hasSuffix("ok\n"))
      // The oldest made room for the third.
      #expect(try await idle.receiveAll() == "")
      // The second is still there: nobody else came meanwhile.
      try await silent.send("ez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      #expect(try await silent.receiveAll().hasSuffix("ok\n"))
    }
  }

  @Test func requestsThatAreBeingAnsweredMakeRoomLast() async throws {
    let source = FixedSource(answers: false)
    try await withServer(source, limits: { $0.maxConnections = 2 }) { server in
      let asking = try await RawClient.connect(port: server.port!)
      defer { asking.close() }
      try await asking.send(get("/metrics"))
      while source.requests.load(ordering: .relaxed) == 0 { await Task.yield() }
      let silent = try await RawClient.connect(port: server.port!)
      defer { silent.close() }
      try await silent.send("GET /liv")
      let third = try await ask(server, get("/livez"))
      #expect(third.hasSuffix("ok\n"))
      #expect(try await silent.receiveAll() == "")
      source.release()
      #expect(try await asking.receiveAll().hasPrefix("HTTP/1.1 200 "))
    }
  }

  // Listening.

  @Test func aTakenPortIsNamedTogetherWithTheSetting() async throws {
    try await withServer { server in
      let address = ListenAddress.tcp(host: "127.0.0.1", port: UInt16(server.port!))
      do throws(StatusServerError) {
        let second = try await StatusServer.start(listen: address, source: FixedSource())
        await second.stop()
        Issue.record("the port was taken twice")
      } catch {
        #expect("\(error)".contains("cannot serve HTTP on \(address): the address is already in use"))
        #expect("\(error)".contains("[http] listen"))
      }
    }
  }

  @Test func aUnixSocketIsReplacedOnlyWhenNobodyListensAndRemovedAtTheEnd() async throws {
    var template = Array("/tmp/status-XXXXXX".utf8CString)
    let directory = unsafe String(cString: mkdtemp(&template))
    defer { unsafe _ = rmdir(directory) }
    let path = directory + "/http.sock"
    let address = ListenAddress.unix(path: path)

    RawClient.leaveSocketFile(at: path)
    #expect(fileExists(path))

    let server = try await StatusServer.start(listen: address, source: FixedSource())
    await #expect(throws: StatusServerError.self) {
      _ = try await StatusServer.start(listen: address, source: FixedSource())
    }
    let client = try await RawClient.connect(path: path)
    try await client.send(get("/livez"))
    #expect(try await client.receiveAll().hasSuffix("ok\n"))
    client.close()
    await server.stop()
    #expect(!fileExists(path))
  }

  @Test func aListenerThatAnErrorClosedIsOpenedAgainOnTheSamePort() async throws {
    try await withServer(limits: { $0.acceptPause = .milliseconds(20) }) { server in
      try await server.listeningChannels[0].close()
      #expect(try await isServedSoon(server))
    }
  }

  @Test func withoutMemoryAcceptingPausesAndGoesOn() async throws {
    try await withServer(limits: { $0.acceptPause = .milliseconds(20) }) { server in
      let channel = server.listeningChannels[0]
      let autoReadAfterError = try await channel.eventLoop.submit {
        channel.pipeline.fireErrorCaught(IOError(errnoCode: ENOMEM, reason: "accept"))
        return try channel.syncOptions!.getOption(.autoRead)
      }.get()
      #expect(!autoReadAfterError)
      let answer = try await ask(server, get("/livez"))
      #expect(answer.hasPrefix("HTTP/1.1 200 "))
      #expect(try await channel.getOption(.autoRead).get())
    }
  }

  // The tools.

  private func withServer(
    _ source: FixedSource = FixedSource(), limits change: (inout StatusLimits) -> Void = { _ in },
    _ body: (StatusServer) async throws -> Void
  ) async throws {
    // Other tests compute for seconds on the threads that answers need, so a time-out ends nothing unless the test is
    // about it.
    var limits = StatusLimits()
    limits.headTimeout = .seconds(120)
    limits.answerTimeout = .seconds(120)
    limits.idleTimeout = .seconds(120)
    change(&limits)
    let server = try await StatusServer.start(
      listen: .tcp(host: "127.0.0.1", port: 0), source: source, limits: limits)
    do {
      try await body(server)
    } catch {
      // An answer that never comes would be waited for.
      source.release()
      await server.stop()
      throw error
    }
    await server.stop()
  }

  /// Everything that comes back on a new connection.
  private func ask(_ server: StatusServer, _ request: String) async throws -> String {
    let client = try await RawClient.connect(port: server.port!)
    defer { client.close() }
    try await client.send(request)
    return try await client.receiveAll()
  }

  private func get(_ path: String, connection: String = "close") -> String {
    "GET \(path) HTTP/1.1\r\nHost: x\r\nConnection: \(connection)\r\n\r\n"
  }

  private func fileExists(_ path: String) -> Bool {
    unsafe access(path, F_OK) == 0
  }

  /// Asks until the server answers; for what it does in its own time.
  private func isServedSoon(_ server: StatusServer) async throws -> Bool {
    let end = ContinuousClock.now + .seconds(20)
    while ContinuousClock.now < end {
      do {
        if try await ask(server, get("/livez")).hasSuffix("ok\n") { return true }
      } catch is RawClient.Failed {
        await Task.yield()
      }
    }
    return false
  }
}

/// A daemon that never changes but for draining.
private final class FixedSource: StatusSource {
  let draining = Atomic<Bool>(false)
  /// How often the snapshot was asked for.
  let requests = Atomic<Int>(0)
  private let gate: AsyncStream<Never>
  private let opener: AsyncStream<Never>.Continuation

  /// One that does not answer does so only after `release()`.
  init(answers: Bool = true) {
    (gate, opener) = AsyncStream.makeStream(of: Never.self)
    if answers { opener.finish() }
  }

  var isDraining: Bool { draining.load(ordering: .relaxed) }

  func snapshot() async -> DaemonSnapshot {
    requests.add(1, ordering: .relaxed)
    for await _ in gate {}
    return DaemonSnapshot(
      version: "0.1.0", startTime: UnixTime(microseconds: 0), time: UnixTime(microseconds: 1), workers: 1,
      eventLoop: "epoll", maxClients: 123)
  }

  func health(of database: String) async -> HealthSnapshot? {
    switch database {
    case "app/ä": HealthSnapshot(database: database, status: .healthy)
    case "new": HealthSnapshot(database: database, status: .unknown, reason: "nothing tried")
    case "down": HealthSnapshot(database: database, status: .unhealthy, reason: "the server cannot be reached")
    default: nil
    }
  }

  func release() {
    opener.finish()
  }
}
