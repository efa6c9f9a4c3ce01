import Dispatch
import Glibc

/// Signals as values, by way of Dispatch, which turns them into events; no code of ours runs inside a signal handler.
/// (Blocking them and calling `sigwait` is not enough here: Dispatch's main thread unblocks all signals for itself.)
struct Signals {
  enum Signal: Sendable {
    /// SIGHUP.
    case reload
    /// SIGTERM or SIGINT.
    case terminate
  }

  /// Signals from now on.
  let stream: AsyncStream<Signal>

  /// Takes the signals over. Their default action, which ends the process, no longer happens.
  init() {
    let (stream, continuation) = AsyncStream<Signal>.makeStream()
    self.stream = stream
    signal(SIGPIPE, SIG_IGN)
    for number in [SIGHUP, SIGTERM, SIGINT] {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number)
      source.setEventHandler {
        // Holding itself, the source lives as long as the process.
        withExtendedLifetime(source) { _ = continuation.yield(number == SIGHUP ? .reload : .terminate) }
      }
      source.activate()
    }
  }
}
