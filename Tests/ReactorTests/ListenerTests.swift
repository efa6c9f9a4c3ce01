import CLinux
import Glibc
import Testing

@testable import Reactor

@Suite(.timeLimit(.minutes(1))) struct ListenerTests {
  /// A folder of one's own, removed with all that a test left in it.
  private final class Folder {
    let path: String

    init() {
      var template = Array("/tmp/lifeguard-listener-XXXXXX".utf8CString)
      let made = unsafe template.withUnsafeMutableBufferPointer { unsafe mkdtemp($0.baseAddress!) != nil }
      precondition(made, "mkdtemp: errno \(errno)")
      path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    var socketPath: String { path + "/socket" }
    var hasSocket: Bool { unsafe access(socketPath, F_OK) == 0 }

    deinit {
      unsafe unlink(socketPath)
      unsafe rmdir(path)
    }
  }

  private func connect(to path: String) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    let outcome = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { rebound in
        unsafe Glibc.connect(descriptor, rebound, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    #expect(outcome == 0)
    return descriptor
  }

  @Test(arguments: EventLoopDriver.usable) func clientsAreAcceptedWithTheirAddress(_ driver: EventLoopDriver) throws {
    let script = Script(driver)
    let listener = try #require(try Listener.open(.tcp(host: "127.0.0.1", port: 0)).first)
    script.loop.listen(on: listener)
    var clients: [Int32] = []
    script.then { for _ in 0..<3 { clients.append(speakingClient(of: listener)) } }
    script.when("all are accepted") {
      script.accepted.count == 3
    } then: {
      script.loop.stopListening()
    }
    script.run()
    for (descriptor, peer) in script.accepted {
      #expect(peer.host == "127.0.0.1" && peer.isLocal && peer.userID == nil)
      #expect(clients.contains { Int(port(of: $0)) == peer.port })
      #expect(fcntl(descriptor, F_GETFL) & O_NONBLOCK != 0)
      close(descriptor)
    }
    for client in clients { close(client) }
  }

  @Test(arguments: EventLoopDriver.usable) func aClientOfTCPIsShownWhenItHasSpokenAndASilentOneLater(
    _ driver: EventLoopDriver
  ) throws {
    let script = Script(driver)
    let listener = try #require(try Listener.open(.tcp(host: "127.0.0.1", port: 0)).first)
    script.loop.listen(on: listener)
    let silent = ReactorTests.connect(toPort: port(of: listener.descriptor))
    let speaking = speakingClient(of: listener)
    script.when("both are accepted") {
      script.accepted.count == 2
    } then: {
      script.loop.stopListening()
    }
    script.run()
    #expect(script.accepted.map(\.peer.port) == [Int(port(of: speaking)), Int(port(of: silent))])
    for descriptor in [silent, speaking] + script.accepted.map(\.descriptor) { close(descriptor) }
  }

  /// The clock of a loop is read once a turn.
  @Test(arguments: EventLoopDriver.usable, [1, 2]) func whatAClientOfTCPHasSentIsThereInTheTurnInWhichItIsAccepted(
    _ driver: EventLoopDriver, users: Int
  ) throws {
    let (script, recorder) = (Script(driver), Recorder())
    let listener = try #require(try Listener.open(.tcp(host: "127.0.0.1", port: 0), users: users).first)
    script.loop.listen(on: listener)
    var (acceptedAt, receivedAt): (Int64, Int64) = (0, 1)
    script.onAccepted = { descriptor in
      acceptedAt = script.loop.now
      script.loop.adopt(descriptor, for: recorder, owned: true)
    }
    recorder.onReceived = { if recorder.calls == 1 { receivedAt = script.loop.now } }
    let client = speakingClient(of: listener)
    script.when("it has been received from") {
      recorder.calls == 1
    } then: {
      write([1, 2], to: client)
    }
    script.when("what comes later is received, too") {
      recorder.bytes.count == 3
    } then: {
      close(client)
    }
    script.when("so is the end") {
      recorder.ends.count == 1
    } then: {
      script.loop.stopListening()
    }
    script.run()
    if users > 1 { listener.release() }
    #expect(receivedAt == acceptedAt)
  }

  @Test(arguments: EventLoopDriver.usable) func aLoopThatAcceptsLastTakesAllWhoWaitAndThenLeavesTheListenerToOthers(
    _ driver: EventLoopDriver
  ) throws {
    let script = Script(driver)
    let listener = try #require(try Listener.open(.tcp(host: "127.0.0.1", port: 0), users: 2).first)
    script.loop.listen(on: listener)
    script.loop.acceptsLast = true
    var clients = (0..<20).map { _ in speakingClient(of: listener) }
    var last: Int64 = 0
    script.when("all are accepted") {
      script.accepted.count == 20
    } then: {
      last = script.loop.now
      clients.append(speakingClient(of: listener))
    }
    script.when("so is one that comes later") {
      script.accepted.count == 21
    } then: {
      #expect(script.loop.now - last >= EventLoop.acceptPauseNanoseconds)
      script.loop.stopListening()
    }
    script.run()
    listener.release()
    for descriptor in clients + script.accepted.map(\.descriptor) { close(descriptor) }
  }

  @Test(arguments: EventLoopDriver.usable, [1, 2]) func clientsAreLeftToTheKernelWhereTheirDescriptorsAreUsedUp(
    _ driver: EventLoopDriver, users: Int
  ) throws {
    let script = Script(driver, descriptorLimit: 0)
    let listener = try #require(try Listener.open(.tcp(host: "127.0.0.1", port: 0), users: users).first)
    script.loop.listen(on: listener)
    var client: Int32 = -1
    script.then { client = speakingClient(of: listener) }
    script.when("it has been found twice that there is none left") {
      script.acceptFailures.count == 2
    } then: {
      #expect(!read(client).isAtEnd)
      script.loop.stopListening()
    }
    script.run()
    #expect(script.acceptFailures == [EMFILE, EMFILE])
    #expect(script.accepted.isEmpty)
    close(client)
    if users > 1 { listener.release() }
  }

  /// The limit is far away at first, and then no further than the backlog is long: the way of accepting changes.
  @Test(arguments: EventLoopDriver.usable) func nobodyIsLostWhenDescriptorsMayRunOut(_ driver: EventLoopDriver) throws {
    let listener = try #require(try Listener.open(.tcp(host: "127.0.0.1", port: 0)).first)
    let script = Script(driver, descriptorLimit: Listener.backlog + listener.descriptor + 1)
    script.loop.listen(on: listener)
    var clients: [Int32] = []
    for count in [1, 3, 5] {
      script.then { for _ in 0..<count { clients.append(speakingClient(of: listener)) } }
      script.when("all are accepted") { script.accepted.count == clients.count }
    }
    script.then { script.loop.stopListening() }
    script.run()
    #expect(script.accepted.count == 9)
    #expect(script.acceptFailures.isEmpty)
    for (descriptor, _) in script.accepted { close(descriptor) }
    for client in clients { close(client) }
  }

  @Test func aCopyHasANumberBelowTheLimitOrThereIsNone() throws {
    let copy = try #require(System.duplicate(STDERR_FILENO, below: .max))
    #expect(fcntl(copy, F_GETFD) == FD_CLOEXEC)
    close(copy)
    #expect(System.duplicate(STDERR_FILENO, below: STDERR_FILENO) == nil)
  }

  /// A client that has sent a byte.
  private func speakingClient(of listener: Listener) -> Int32 {
    let client = ReactorTests.connect(toPort: port(of: listener.descriptor))
    #expect(unsafe write(client, "x", 1) == 1)
    return client
  }

  @Test func aTakenPortIsNamed() throws {
    let first = try #require(try Listener.open(.tcp(host: "127.0.0.1", port: 0)).first)
    defer { first.release() }
    let taken = Int(port(of: first.descriptor))
    let error = #expect(throws: ListenError.self) { try Listener.open(.tcp(host: "127.0.0.1", port: taken)) }
    #expect(error?.description == "cannot listen on 127.0.0.1:\(taken): Address already in use")
  }

  @Test(arguments: EventLoopDriver.usable) func aUnixSocketTellsTheUserAndIsRemovedWithItsLastUser(
    _ driver: EventLoopDriver
  ) throws {
    let (script, folder) = (Script(driver), Folder())
    let listener = try #require(try Listener.open(.unix(path: folder.socketPath), users: 2).first)
    script.loop.listen(on: listener)
    var client: Int32 = -1
    script.then { client = connect(to: folder.socketPath) }
    script.when("it is accepted") {
      script.accepted.count == 1
    } then: {
      script.loop.stopListening()
    }
    script.run()
    #expect(script.accepted.first?.peer == PeerAddress(host: "unix", port: 0, isLocal: true, userID: getuid()))
    #expect(folder.hasSocket)
    listener.release()
    #expect(!folder.hasSocket)
    for accepted in script.accepted { close(accepted.descriptor) }
    close(client)
  }

  @Test func aStaleUnixSocketIsReplacedAndALiveOneIsInUse() throws {
    let folder = Folder()
    let endpoint = ListenEndpoint.unix(path: folder.socketPath)
    let stale = try #require(try Listener.open(endpoint).first)
    // What is left of a process that was killed: the file, and nobody who listens.
    close(stale.descriptor)
    #expect(folder.hasSocket)
    let live = try #require(try Listener.open(endpoint).first)
    let error = #expect(throws: ListenError.self) { try Listener.open(endpoint) }
    #expect(error?.reason == "Address already in use")
    #expect(folder.hasSocket)
    live.release()
  }

  @Test func aFileThatIsNoSocketIsLeftAlone() throws {
    let folder = Folder()
    let file = unsafe open(folder.socketPath, O_CREAT | O_WRONLY, 0o600)
    close(file)
    let error = #expect(throws: ListenError.self) { try Listener.open(.unix(path: folder.socketPath)) }
    #expect(error?.reason == "the file exists and is not a socket")
    #expect(folder.hasSocket)
  }

  @Test func aPathThatIsTooLongIsRefused() {
    let error = #expect(throws: ListenError.self) {
      try Listener.open(.unix(path: "/tmp/" + String(repeating: "x", count: 103)))
    }
    #expect(error?.reason == "a socket path has at most 107 bytes")
  }

  @Test func anUnknownHostIsAnError() {
    #expect(throws: ListenError.self) { try Listener.open(.tcp(host: "256.0.0.1", port: 0)) }
  }
}
