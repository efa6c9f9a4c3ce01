import CLinux
import Glibc

/// Signals as values. A handler in C writes the signal's number to a pipe, and a thread reads it: no code of ours runs
/// inside the handler. (Neither `sigwait` nor a DispatchSource will do: Dispatch's main thread waits with all signals
/// unblocked, so a blocked signal is delivered to it, and an ignored one is now and then thrown away.)
struct Signals {
  enum Signal: Sendable {
    /// SIGHUP.
    case reload
    /// SIGTERM or SIGINT.
    case terminate
  }

  /// Has the daemon stop as it does for a SIGTERM of somebody else's.
  static func sendTerminate() { kill(getpid(), SIGTERM) }

  /// Signals from now on.
  let stream: AsyncStream<Signal>

  /// Takes the signals over. Their default action, which ends the process, no longer happens.
  init() {
    let (stream, continuation) = AsyncStream<Signal>.makeStream()
    self.stream = stream
    signal(SIGPIPE, SIG_IGN)
    let pipe = unsafe lifeguard_signal_pipe([SIGHUP, SIGTERM, SIGINT], 3)
    precondition(pipe >= 0, "signal pipe: errno \(errno)")
    let reader = unsafe Unmanaged.passRetained(Reader(pipe, continuation))
    var thread = pthread_t()
    let outcome = unsafe pthread_create(
      &thread, nil,
      { argument in
        unsafe Unmanaged<Reader>.fromOpaque(argument!).takeRetainedValue().run()
        return nil
      }, reader.toOpaque())
    precondition(outcome == 0, "pthread_create: error \(outcome)")
    pthread_detach(thread)
  }

  /// Reads the pipe as long as the process lives.
  private final class Reader {
    private let pipe: Int32
    private let continuation: AsyncStream<Signal>.Continuation

    init(_ pipe: Int32, _ continuation: AsyncStream<Signal>.Continuation) {
      self.pipe = pipe
      self.continuation = continuation
    }

    func run() {
      while true {
        var number: UInt8 = 0
        let count = unsafe read(pipe, &number, 1)
        if count == 1 { continuation.yield(Int32(number) == SIGHUP ? .reload : .terminate) }
      }
    }
  }
}
