import CLinux
import Glibc
import Pooling
import PostgresWire
public import Reactor
public import Settings
import Synchronization
import Upstream

/// What other threads tell a worker.
enum WorkerMessage: Sendable {
  /// libpq has opened a connection, or failed to.
  case dialed(ServerToken, Result<ServerLink, DialFailure>)
  /// A cancel request has been sent, or could not be.
  case cancelSent(ServerToken, CancelOutcome)
  /// New settings, already validated.
  case apply(Settings)
  /// A client's CancelRequest, on whichever worker it came in.
  case cancelRequested(CancelKey)
  case consoleReply(ClientToken, ConsoleReply)
  case snapshot(SnapshotDetail, @Sendable (WorkerSnapshot) -> Void)
  /// Let nobody in, end when the last client is gone.
  case drain
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

/// Answers console commands for one daemon.
public typealias Console =
  @Sendable (_ command: String, _ user: String, _ reply: @escaping @Sendable (ConsoleReply) -> Void) -> Void

/// What the workers of a daemon have in common. Everything in it may be used from any thread.
struct DataPlaneEnvironment: Sendable {
  /// This daemon's number among those that share cancel keys.
  let node: Int
  let dialers: Dialers
  let cancellers: Cancellers
  /// As `server_version` on the console.
  let consoleVersion: String
  let log: @Sendable (PoolEvent) -> Void
  let runConsole: Console
  let cancel: @Sendable (CancelKey) -> Void

  func console(_ command: String, _ user: String, _ mailbox: Mailbox<WorkerMessage>, _ client: ClientToken) {
    runConsole(command, user) { reply in mailbox.post(.consoleReply(client, reply)) }
  }
}

/// The data plane: the worker threads, and the threads on which libpq blocks. Everything here may be called from any
/// thread.
public final class DataPlane: Sendable {
  private let workers: [Mailbox<WorkerMessage>]
  private let dialers: Dialers
  private let cancellers: Cancellers
  private let finished: Mutex<Finish>

  private struct Finish {
    var workersLeft: Int
    var waiting: [CheckedContinuation<Void, Never>] = []
  }

  /// Opens the listeners and starts the workers.
  ///
  /// - Parameters:
  ///   - console: called on a worker thread; must return at once.
  ///   - log: called on any thread; must return at once.
  public init(
    settings: Settings, version: String, console: @escaping Console, log: @escaping @Sendable (PoolEvent) -> Void
  ) throws(ListenError) {
    let workerCount = settings.server.workers ?? 1
    var opened: [Listener] = []
    do {
      for address in settings.server.listen {
        opened += try Listener.open(ListenEndpoint(address), users: workerCount)
      }
    } catch {
      for listener in opened { for _ in 0..<workerCount { listener.release() } }
      throw error
    }
    dialers = Dialers()
    cancellers = Cancellers()
    let mailboxes = (0..<workerCount).map { _ in Mailbox<WorkerMessage>() }
    workers = mailboxes
    finished = Mutex(Finish(workersLeft: mailboxes.count))
    let environment = DataPlaneEnvironment(
      node: 0, dialers: dialers, cancellers: cancellers, consoleVersion: version, log: log,
      runConsole: console,
      cancel: { key in
        if let worker = CancelKeyLayout.worker(of: key.processID), worker < mailboxes.count {
          mailboxes[worker].post(.cancelRequested(key))
        }
      })
    let listeners = opened
    for (index, mailbox) in mailboxes.enumerated() {
      WorkerThread.start(name: "worker \(index)") { [self] in
        let worker = Worker(index: index, mailbox: mailbox, settings: settings, environment: environment)
        worker.run(listeners: listeners)
        for message in mailbox.close() {
          if case .snapshot(_, let reply) = message { reply(WorkerSnapshot(worker: index)) }
        }
        workerFinished()
      }
    }
  }

  /// Gives all workers new settings, which have been validated as a whole.
  public func apply(_ settings: Settings) {
    for worker in workers { worker.post(.apply(settings)) }
  }

  /// Lets nobody in, and has the workers end when their last client is gone.
  public func drain() {
    for worker in workers { worker.post(.drain) }
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
    dialers.stop()
    cancellers.stop()
  }

  /// Collects what all workers know.
  public func snapshot(_ detail: SnapshotDetail) async -> [WorkerSnapshot] {
    await withTaskGroup(of: WorkerSnapshot.self) { group in
      for (index, worker) in workers.enumerated() {
        group.addTask {
          await withCheckedContinuation { continuation in
            let isTaken = worker.post(.snapshot(detail) { continuation.resume(returning: $0) })
            if !isTaken { continuation.resume(returning: WorkerSnapshot(worker: index)) }
          }
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
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
  /// Upstreams that libpq refuses, each with its reason: the part of validation that only libpq can do.
  public static func refusedUpstreams(_ settings: Settings) -> [(database: String, reason: String)] {
    var refused: [(database: String, reason: String)] = []
    for section in settings.databases.values.sorted(by: { $0.name < $1.name }) {
      do {
        _ = try Worker.target(section, database: section.name, user: section.upstream["user"] ?? "any")
      } catch {
        refused.append((section.name, error.text))
      }
    }
    return refused
  }
}
