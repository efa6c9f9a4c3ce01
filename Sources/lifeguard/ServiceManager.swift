import CSystemd
import Glibc
import Telemetry

/// What systemd, or whatever else has set NOTIFY_SOCKET, is told (sd_notify(3), docs/systemd.md). Without it nothing here
/// does anything.
struct ServiceManager: Sendable {
  /// How often the status is looked at.
  private static let statusInterval = Duration.seconds(2)

  private let isListening = unsafe getenv("NOTIFY_SOCKET") != nil

  /// The daemon serves.
  func ready(_ daemon: DaemonSnapshot) { tell("READY=1", "STATUS=\(daemon.statusLine)") }

  /// A reload begins; `reloaded` follows whatever comes of it. The time lets systemd tell that this answers its own
  /// request (Type=notify-reload, systemd 253).
  func reloading() { tell("RELOADING=1", "MONOTONIC_USEC=\(MonotonicClock.nanoseconds / 1000)") }

  /// The reload is over.
  func reloaded() { tell("READY=1") }

  /// The daemon lets nobody in any more.
  func stopping() { tell("STOPPING=1", "STATUS=stopping", ServiceManager.timeExtension()) }

  /// Keeps STATUS= as it is now; until the task is cancelled.
  func reportStatus(_ snapshot: () async -> DaemonSnapshot) async {
    guard isListening else { return }
    var last = ""
    while (try? await Task.sleep(for: ServiceManager.statusInterval)) != nil {
      let status = await snapshot().statusLine
      if status != last { tell("STATUS=\(status)") }
      last = status
    }
  }

  /// Says in even steps that the daemon is alive, as long as `isTurning` does so; until the task is cancelled: WATCHDOG=1
  /// twice in each period that systemd asks for, and that it wait longer while the daemon stops. So a worker that is
  /// stuck brings the daemon down in either state.
  func sayAlive(_ isTurning: () -> Bool, isDraining: () -> Bool) async {
    guard isListening else { return }
    var microseconds: UInt64 = 0
    let isWatched = unsafe sd_watchdog_enabled(0, &microseconds) > 0
    let step = isWatched ? Duration.microseconds(Int64(clamping: microseconds / 2)) : ServiceManager.statusInterval
    repeat {
      guard isTurning() else { continue }
      if isWatched { tell("WATCHDOG=1") }
      if isDraining() { tell(ServiceManager.timeExtension(step * 3)) }
    } while (try? await Task.sleep(for: step)) != nil
  }

  /// At least 15 s.
  private static func timeExtension(_ time: Duration = .zero) -> String {
    let seconds = max(15, time.components.seconds + 1)
    return "EXTEND_TIMEOUT_USEC=\(seconds)000000"
  }

  private func tell(_ lines: String...) {
    guard isListening else { return }
    unsafe sd_notify(0, lines.joined(separator: "\n"))
  }
}

extension DaemonSnapshot {
  /// As `systemctl status` shows it.
  fileprivate var statusLine: String {
    let used = pools.reduce(0) { $0 + $1.gauges.serversActive }
    let open = pools.reduce(0) { $0 + $1.gauges.serversTotal }
    return (isDraining ? "stopping: " : "")
      + "\(clientCount) \(clientCount == 1 ? "client" : "clients"), \(pools.count) \(pools.count == 1 ? "pool" : "pools"), "
      + "\(used) of \(open) server \(open == 1 ? "connection" : "connections") in use"
  }
}

/// Listening sockets that the service manager has opened (sd_listen_fds(3)).
enum PassedSockets {
  /// Their descriptors. The environment that announces them is taken away; so this comes before any thread.
  static func take() -> [Int32] {
    let first: Int32 = 3  // SD_LISTEN_FDS_START
    let count = sd_listen_fds(1)
    return count > 0 ? Array(first..<first + count) : []
  }
}
