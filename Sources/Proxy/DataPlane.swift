import Authentication
import CLinux
import Dispatch
import Glibc
import Locking
import Pooling
import PostgresWire
public import Reactor
public import Settings
public import Telemetry
import Upstream

/// What other threads tell a worker.
enum WorkerMessage: Sendable {
  /// libpq has opened a connection, or failed to.
  case dialed(ServerToken, Result<ServerLink, DialFailure>)
  /// A cancel request has been sent, or could not be.
  case cancelSent(ServerToken, CancelOutcome)
  /// New settings, already validated.
  case apply(ServingConfiguration)
  /// A client that has logged in elsewhere, and belongs here.
  case clientMoved(ClientMove)
  case derived(ClientToken, DerivedKeys)
  case verified(ClientToken, PasswordVerdict, Password)
  /// A client's CancelRequest, on whichever worker it came in.
  case cancelRequested(CancelKey)
  /// The answer to a client's command with this number.
  case consoleReply(ClientToken, Int, ConsoleReply)
  case connections(@Sendable (ConnectionsSnapshot) -> Void)
  /// More, or something else, is known of hosts.
  case hostsChanged
  /// To be answered by the event loop's next turn.
  case heartbeat(@Sendable () -> Void)
  /// What has been ordered until now, as a whole.
  case orders(Orders)
  case operation(Operation)
  case wait(PoolWait)
  /// What one shard of a pool has to say to another.
  case shard(ShardGroup, ShardMail)
  /// Let nobody in, end when the last client is gone; idle clients stay if they are waited for.
  case drain(waitsForClients: Bool)
  /// End now.
  case stop
}

/// The answer to a console command.
public enum ConsoleReply: Sendable {
  /// A column: its name, and its PostgreSQL type as RowDescription gives it.
  public struct Column: Sendable {
    public var name: String
    public var typeID: UInt32
    public var typeSize: Int16

    public init(name: String, typeID: UInt32, typeSize: Int16) {
      self.name = name
      self.typeID = typeID
      self.typeSize = typeSize
    }
  }

  case rows(columns: [Column], rows: [[String?]], tag: String)
  /// A command without rows.
  case done(tag: String)
  /// Nothing but white space was sent.
  case empty
  /// SQLSTATE, message, hint.
  case failed(code: String, message: String, hint: String?)
}

/// What somebody asks of the admin console.
public struct ConsoleCommand: Sendable {
  public var text: String
  public var user: String
  /// The user has proven who it is, otherwise than by trust.
  public var isProven: Bool
}

/// Answers console commands for one daemon.
public typealias Console =
  @Sendable (_ command: ConsoleCommand, _ reply: @escaping @Sendable (ConsoleReply) -> Void) -> Void

/// What the workers of a daemon have in common. Everything in it may be used from any thread.
struct DataPlaneEnvironment: Sendable {
  /// This daemon's number among those that share cancel keys.
  let node: Int
  /// What all workers wait on.
  let driver: EventLoopDriver
  /// The lowest number of a descriptor that is not for clients and their servers.
  let descriptorLimit: Int32
  let dialers: Dialers
  let cancellers: Cancellers
  /// Log in at servers to try clients' passwords; apart from `dialers`, so that guesses keep no pool waiting.
  let verifiers: Dialers
  /// Where keys are derived from passwords. One at a time: guesses cost one core at most.
  let derivations = DispatchQueue(label: "lifeguard.derivations")
  let provenPasswords = ProvenPasswords()
  let homes: PoolHomes
  let acceptingWorkers: AcceptingWorkers
  let hosts: HostBoard
  let directory = PoolDirectory()
  let workerTelemetry: [WorkerTelemetry]
  let quota = ClientQuota()
  let clientNumbers = ConnectionNumbers()
  let serverNumbers = ConnectionNumbers()
  /// As `server_version` on the console.
  let consoleVersion: String
  let log: @Sendable (PoolEvent) -> Void
  let runConsole: Console
  let mailboxes: [Mailbox<WorkerMessage>]

  func console(
    _ command: ConsoleCommand, _ mailbox: Mailbox<WorkerMessage>, _ client: ClientToken, _ number: Int
  ) {
    runConsole(command) { reply in mailbox.post(.consoleReply(client, number, reply)) }
  }

  /// Passes a CancelRequest on to the worker that its key names.
  func cancel(_ key: CancelKey) {
    guard let worker = CancelKeyLayout.worker(of: key.processID), worker < mailboxes.count else { return }
    mailboxes[worker].post(.cancelRequested(key))
  }

  /// Sends a client to another worker; where that has ended, the client's connection ends too.
  func send(_ move: ClientMove, to worker: Int) {
    if !mailboxes[worker].post(.clientMoved(move)) { lose(move) }
  }

  /// The client will never arrive.
  func lose(_ move: ClientMove) {
    move.socket.close()
    homes.arrived(for: move.name)
    quota.leave()
  }
}

/// The data plane: the worker threads, and the threads on which libpq blocks. Everything here may be called from any
/// thread.
public final class DataPlane: Sendable {
  private let workers: [Mailbox<WorkerMessage>]
  private let dialers: Dialers
  private let cancellers: Cancellers
  private let verifiers: Dialers
  private let environment: DataPlaneEnvironment
  private let standing = Mutex(Orders())
  private let finished: Mutex<Finish>
  private let heartbeats: Mutex<Heartbeats>
  private let remotePassed: [ListenEndpoint]

  private struct Finish {
    var workersLeft: Int
    var waiting: [CheckedContinuation<Void, Never>] = []
  }

  /// Opens the listeners and starts the workers.
  ///
  /// - Parameters:
  ///   - driver: what the workers wait on; one that this machine has.
  ///   - descriptorLimit: the lowest number of a descriptor that is not for clients and server connections.
  ///   - passed: listening sockets that the service manager has opened.
  ///   - console: called on a worker thread; must return at once.
  ///   - log: called on any thread; must return at once.
  public init(
    configuration: ServingConfiguration, driver: EventLoopDriver, descriptorLimit: Int32, version: String,
    passed: [Int32] = [],
    console: @escaping Console,
    log: @escaping @Sendable (PoolEvent) -> Void
  ) throws(ListenError) {
    let settings = configuration.settings
    let workerCount = DataPlane.workerCount(settings)
    let opened = try ListenerSet(settings, passed: passed, users: workerCount, log: log)
    remotePassed = opened.remotePassed
    dialers = Dialers(descriptorLimit: descriptorLimit)
    cancellers = Cancellers()
    verifiers = Dialers(threadsPerUpstream: 2, maximumThreads: 8, descriptorLimit: descriptorLimit)
    let mailboxes = (0..<workerCount).map { _ in Mailbox<WorkerMessage>() }
    workers = mailboxes
    finished = Mutex(Finish(workersLeft: mailboxes.count))
    heartbeats = Mutex(Heartbeats(workers: mailboxes.count))
    let environment = DataPlaneEnvironment(
      node: 0, driver: driver, descriptorLimit: descriptorLimit, dialers: dialers,
      cancellers: cancellers, verifiers: verifiers,
      homes: PoolHomes(settings, workers: workerCount), acceptingWorkers: AcceptingWorkers(workerCount),
      hosts: HostBoard(changed: { for mailbox in mailboxes { mailbox.post(.hostsChanged) } }, log: log),
      workerTelemetry: mailboxes.map { _ in WorkerTelemetry() }, consoleVersion: version, log: log,
      runConsole: console, mailboxes: mailboxes)
    self.environment = environment
    let listeners = opened.listeners
    for (index, mailbox) in mailboxes.enumerated() {
      WorkerThread.start(name: "worker \(index)") { [self] in
        let worker = Worker(
          index: index, mailbox: mailbox, configuration: configuration, environment: environment)
        worker.run(listeners: listeners)
        for message in mailbox.close() {
          switch message {
          case .connections(let reply): reply(ConnectionsSnapshot())
          case .operation(.killClient(_, let reply)): reply(false)
          case .wait(let wait): wait.reply(.reached)
          case .clientMoved(let move): environment.lose(move)
          case .shard(let group, let mail): environment.returnToSender(mail, group, from: index)
          default: break
          }
        }
        workerFinished()
      }
    }
    environment.hosts.start(configuration)
  }

  /// Gives all workers new settings, which have been validated as a whole.
  ///
  /// - Returns: the limits that take effect only at the next start: with several workers, those that are new.
  @discardableResult
  public func apply(_ configuration: ServingConfiguration) -> [String] {
    environment.hosts.apply(configuration)
    for worker in workers { worker.post(.apply(configuration)) }
    return environment.homes.unkept(in: configuration.settings)
  }

  /// Where `pool_workers` of the settings it has started with cannot be followed, one line each.
  public var shardingNotes: [String] { environment.homes.shardingNotes }

  /// What speaks against new settings beside what the settings themselves do.
  public func objections(to settings: Settings) -> [String] {
    ListenerSet.trustProblem(settings, remotePassed).map { ["\($0)"] } ?? []
  }

  /// Whether all event loops have turned since the last call. They are asked again; called in even steps.
  public func heartbeat() -> Bool {
    let (isEveryoneTurning, question) = heartbeats.withLock { $0.nextRound() }
    for (index, worker) in workers.enumerated() {
      let isRunning = worker.post(
        .heartbeat { [self] in heartbeats.withLock { $0.answered(index, question) } })
      if !isRunning { heartbeats.withLock { $0.ended(index) } }
    }
    return isEveryoneTurning
  }

  /// Lets nobody in, and has the workers end when their last client is gone.
  ///
  /// - Parameter waitsForClients: idle clients stay until they leave; else they are closed.
  public func drain(waitsForClients: Bool = false) {
    for worker in workers { worker.post(.drain(waitsForClients: waitsForClients)) }
  }

  /// Has the workers end now.
  public func stop() {
    for worker in workers { worker.post(.stop) }
  }

  /// Waits until all workers have ended, then ends the threads of libpq.
  public func finish() async {
    await withCheckedContinuation { continuation in
      let isOver = finished.withLock { finish in
        if finish.workersLeft > 0 { finish.waiting.append(continuation) }
        return finish.workersLeft == 0
      }
      if isOver { continuation.resume() }
    }
    environment.hosts.stop()
    dialers.stop()
    cancellers.stop()
    verifiers.stop()
  }

  // MARK: What the control plane sees

  /// The threads that serve clients.
  public var workerCount: Int { workers.count }

  /// What they wait on.
  public var driver: EventLoopDriver { environment.driver }

  /// The pools now. No worker is asked.
  public func pools() -> [PoolSnapshot] {
    environment.directory.snapshots(atNanoseconds: EventLoop.monotonicNanoseconds())
  }

  /// The hosts of all upstreams now, by name. No worker is asked.
  public func hosts() -> [HostSnapshot] {
    environment.hosts.snapshots(SnapshotClock(now: EventLoop.monotonicNanoseconds()))
  }

  /// Connected clients, and those of them that are logging in. No worker is asked.
  public func clientCounts() -> (connected: Int, loggingIn: Int) {
    environment.workerTelemetry.reduce(into: (0, 0)) {
      $0.0 += $1.clients.current
      $0.1 += $1.loginClients.current
    }
  }

  /// All clients and server connections. Costs each worker time for each of its connections.
  public func connections() async -> ConnectionsSnapshot {
    var all = ConnectionsSnapshot()
    for part in await ask({ .connections($0) }, orElse: ConnectionsSnapshot()) { all += part }
    return all
  }

  // MARK: Orders

  /// What an administrator has ordered until now.
  public var orders: Orders { standing.withLock { $0 } }

  /// Changes the orders; workers follow in the order of the changes.
  public func order(_ change: (inout Orders) -> Void) {
    standing.withLock { orders in
      change(&orders)
      environment.hosts.follow(orders)
      for worker in workers { worker.post(.orders(orders)) }
    }
  }

  /// Has every server connection replaced: the idle ones now, the others when they come back.
  public func reconnect(_ scope: OrderScope) {
    for worker in workers { worker.post(.operation(.reconnect(scope))) }
  }

  /// Closes all clients and server connections at once.
  public func kill(_ scope: OrderScope) {
    for worker in workers { worker.post(.operation(.kill(scope))) }
  }

  /// Closes the client with this number in SHOW CLIENTS.
  ///
  /// - Returns: whether there was one.
  public func killClient(_ id: Int64) async -> Bool {
    await ask({ .operation(.killClient(id, $0)) }, orElse: false).contains(true)
  }

  /// Waits until a condition holds on every worker.
  public func wait(for condition: PoolCondition, in scope: OrderScope) async -> PoolWaitOutcome {
    let outcomes = await ask(
      { .wait(PoolWait(condition: condition, scope: scope, reply: $0)) }, orElse: .reached)
    return outcomes.contains(.revoked) ? .revoked : .reached
  }

  /// Sends each worker a message with a reply of its own, and collects the replies.
  private func ask<Reply: Sendable>(
    _ message: (@escaping @Sendable (Reply) -> Void) -> WorkerMessage, orElse absent: Reply
  ) async -> [Reply] {
    let collection = ReplyCollection<Reply>(of: workers.count)
    for worker in workers {
      if !worker.post(message { collection.add($0) }) { collection.add(absent) }
    }
    return await collection.wait()
  }

  private func workerFinished() {
    let waiting = finished.withLock { finish in
      finish.workersLeft -= 1
      return finish.workersLeft == 0 ? finish.waiting : []
    }
    for continuation in waiting { continuation.resume() }
  }
}

extension DataPlane {
  /// `[server] workers`; one for each processor where that is "auto", as far as the setting goes.
  public static func workerCount(_ settings: Settings) -> Int {
    settings.server.workers ?? min(Processors.count, ServerSettings.workerRange.upperBound)
  }
}
