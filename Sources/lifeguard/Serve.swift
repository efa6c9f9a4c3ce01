import Admin
import ArgumentParser
import Logging
import Logs
import Proxy
import Reactor
import Settings
import StatusServer

/// `lifeguard serve`: the daemon, in the foreground.
struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run the daemon in the foreground.",
    discussion: """
      SIGHUP reloads the settings file. SIGTERM and SIGINT let nobody in and wait for running transactions, up to \
      shutdown_timeout; a second one stops at once.
      """)

  @OptionGroup var source: SettingsSource

  func run() async throws {
    let passed = PassedSockets.take()
    let settings: Settings
    do {
      settings = try source.load()
    } catch {
      for problem in error.problems { StandardError.write("\(problem)") }
      throw ExitCode.failure
    }
    let control = LogControl(settings.log)
    let output = LogOutput(settings.log.format)
    let logger = Logger(label: "lifeguard") { _ in RecordLogHandler(control: control, output: output) }
    for warning in settings.warnings { logger.warning("\(warning)") }
    let configuration: ServingConfiguration
    do {
      configuration = try ServingConfiguration(settings)
    } catch {
      for problem in error.problems { logger.error("\(problem)") }
      throw ExitCode.failure
    }
    for warning in configuration.warnings { logger.warning("\(warning)") }
    let driver: EventLoopDriver
    do {
      driver = try EventLoopDriver(settings.server.eventLoop, logger: logger)
    } catch {
      logger.critical("\(error)")
      throw ExitCode.failure
    }
    let descriptorLimit = Descriptors.raiseLimit()
    Descriptors.check(settings, limit: descriptorLimit, logger: logger)

    let signals = Signals()
    let serviceManager = ServiceManager()
    let events = EventLog()
    let daemon = Daemon(
      configuration: configuration, source: source, logger: logger, log: control, events: events,
      serviceManager: serviceManager)
    daemon.note("started", "version \(Lifeguard.version)")
    let log = LogWriter(logger: logger, control: control, events: events)
    let logging = Task { await log.run() }
    let dataPlane: DataPlane
    do {
      dataPlane = try DataPlane(
        configuration: configuration, driver: driver, descriptorLimit: Int32(clamping: descriptorLimit),
        version: "\(Lifeguard.version) (Lifeguard)", passed: passed,
        console: { command, reply in daemon.console(command, reply: reply) }, log: { log.take($0) })
    } catch {
      logger.critical("\(error) ([server] listen)")
      throw ExitCode.failure
    }
    for note in dataPlane.shardingNotes { logger.warning("\(note)") }
    daemon.started(dataPlane)
    var status: StatusServer?
    if let address = settings.http.listen {
      do {
        status = try await StatusServer.start(listen: address, source: daemon)
      } catch {
        logger.critical("\(error)")
        dataPlane.stop()
        await dataPlane.finish()
        throw ExitCode.failure
      }
    }
    let admin: AdminSocket?
    do {
      admin = try await daemon.openAdminSocket()
    } catch {
      logger.critical("\(error)")
      await status?.stop()
      dataPlane.stop()
      await dataPlane.finish()
      throw ExitCode.failure
    }
    logger.notice(
      "ready",
      metadata: [
        "version": "\(Lifeguard.version)", "event_loop": "\(driver.rawValue)",
        "workers": "\(DataPlane.workerCount(settings))",
        "listen": "\(settings.server.listen.map(\.description).joined(separator: ", "))",
        "http": "\(settings.http.listen?.description ?? "off")", "admin": "\(admin?.path ?? "off")",
      ])
    serviceManager.ready(await daemon.snapshot(.pools))

    await handle(signals, daemon, dataPlane, serviceManager, logger)
    await status?.stop()
    await admin?.stop()
    logger.notice("stopped")
    log.finish()
    await logging.value
  }

  /// Serves until the daemon has been told to stop and has done so.
  private func handle(
    _ signals: Signals, _ daemon: Daemon, _ dataPlane: DataPlane, _ serviceManager: ServiceManager, _ logger: Logger
  ) async {
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await serviceManager.reportStatus { await daemon.snapshot(.pools) } }
      group.addTask {
        await serviceManager.sayAlive({ dataPlane.heartbeat() }, isDraining: { daemon.isDraining })
      }
      group.addTask {
        while (try? await Task.sleep(for: StatsPeriods.length)) != nil { await daemon.recordStats() }
      }
      group.addTask {
        for await signal in signals.stream {
          switch signal {
          case .reload: daemon.reload()
          case .terminate where daemon.isDraining:
            logger.notice("second signal: stopping at once")
            dataPlane.stop()
          case .terminate:
            logger.notice("stopping: waiting for running transactions")
            daemon.beginDraining()
            dataPlane.drain()
            if let timeout = daemon.settings.server.shutdownTimeout {
              Task {
                try await Task.sleep(for: timeout)
                logger.warning("shutdown_timeout has passed: closing the remaining clients")
                dataPlane.stop()
              }
            }
          }
        }
      }
      await dataPlane.finish()
      group.cancelAll()
    }
  }
}
