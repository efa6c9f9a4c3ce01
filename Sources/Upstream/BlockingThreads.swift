import Glibc

/// Threads for calls that block: started on demand, kept a while for reuse.
///
/// Each job belongs to a lane (an upstream). A lane runs at most `laneLimit` jobs at once, so that a dead upstream,
/// whose jobs all hang, leaves the other threads to the others. Jobs start in the order of their submission, except that
/// one whose lane is full does not keep those behind it from starting.
///
/// A thread's life: it counts as idle from its creation on, takes a job (no longer idle), is idle again, and leaves when
/// it found nothing for `linger` or when all is stopped and nothing is queued. A submission starts a thread whenever
/// more jobs could run than threads are idle.
final class BlockingThreads: Sendable {
  /// Why a job was given back without having run.
  enum Abandonment: Sendable {
    case stopped
    /// The system refused to start a thread (errno of pthread_create), and there is none.
    case noThread(Int32)
  }

  struct Job: Sendable {
    /// Unique among all jobs of these threads; the submitter's choice.
    let identifier: UInt64
    let lane: String
    /// Exactly one of the two is called, once; `abandon` on whichever thread submits or stops.
    let run: @Sendable () -> Void
    let abandon: @Sendable (Abandonment) -> Void
  }

  private struct State {
    var queue: [Job] = []
    var runningInLane: [String: Int] = [:]
    var threads = 0
    var idle = 0
    var stopped = false

    var running: Int { threads - idle }

    /// How many queued jobs could start now, were there threads enough.
    func startableCount(laneLimit: Int) -> Int {
      var inLane = runningInLane
      var count = 0
      for job in queue where inLane[job.lane, default: 0] < laneLimit {
        inLane[job.lane, default: 0] += 1
        count += 1
      }
      return count
    }

    mutating func takeJob(laneLimit: Int) -> Job? {
      guard let index = queue.firstIndex(where: { runningInLane[$0.lane, default: 0] < laneLimit }) else { return nil }
      let job = queue.remove(at: index)
      runningInLane[job.lane, default: 0] += 1
      idle -= 1
      return job
    }

    mutating func finish(_ job: Job) {
      let left = runningInLane[job.lane, default: 0] - 1
      precondition(left >= 0, "a job ended that its lane does not know")
      runningInLane[job.lane] = left == 0 ? nil : left
      idle += 1
    }
  }

  private let monitor = Monitor(State())
  private let laneLimit: Int
  private let maximumThreads: Int
  private let lingerNanoseconds: Int64

  init(laneLimit: Int, maximumThreads: Int, lingerNanoseconds: Int64) {
    precondition(laneLimit >= 1 && maximumThreads >= 1 && lingerNanoseconds >= 0)
    self.laneLimit = laneLimit
    self.maximumThreads = maximumThreads
    self.lingerNanoseconds = lingerNanoseconds
  }

  /// Queues a job. Any thread.
  func submit(_ job: Job) {
    let refusal: Abandonment? = monitor.update { state in
      if state.stopped { return .stopped }
      state.queue.append(job)
      guard state.startableCount(laneLimit: laneLimit) > state.idle, state.threads < maximumThreads else { return nil }
      let error = startThread()
      if error == 0 {
        state.threads += 1
        state.idle += 1
      } else if state.threads == 0 {
        state.queue.removeLast()
        return .noThread(error)
      }
      return nil
    }
    if let refusal { job.abandon(refusal) }
  }

  /// Takes a queued job back; false where it is running, done or unknown. A job taken back is neither run nor abandoned.
  func withdraw(_ identifier: UInt64) -> Bool {
    monitor.update { state in
      guard let index = state.queue.firstIndex(where: { $0.identifier == identifier }) else { return false }
      state.queue.remove(at: index)
      return true
    }
  }

  /// Refuses new jobs and abandons the queued ones. Idle threads leave; running jobs go on.
  func close() {
    let queued = monitor.update { state in
      state.stopped = true
      defer { state.queue = [] }
      return state.queue
    }
    for job in queued { job.abandon(.stopped) }
  }

  /// After `close`: waits until no thread is left, or, without `includingRunning`, none but those still in a job.
  /// Not from inside a job: it would wait for itself.
  func join(includingRunning: Bool) {
    _ = monitor.await(until: nil) { state, _ in
      precondition(state.stopped, "join before close")
      return (includingRunning ? state.threads == 0 : state.idle == 0) ? () : nil
    }
  }

  /// Threads alive and jobs running or queued, for tests and displays.
  var load: (threads: Int, running: Int, queued: Int) {
    monitor.update { ($0.threads, $0.running, $0.queue.count) }
  }

  /// Starts a detached thread that ignores all signals (they are the main thread's business). Returns 0 or an errno.
  private func startThread() -> Int32 {
    var attributes = pthread_attr_t()
    unsafe pthread_attr_init(&attributes)
    defer { unsafe _ = pthread_attr_destroy(&attributes) }
    unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    unsafe pthread_attr_setstacksize(&attributes, stackBytes)

    var all = sigset_t()
    var previous = sigset_t()
    unsafe sigfillset(&all)
    unsafe pthread_sigmask(SIG_SETMASK, &all, &previous)
    defer { unsafe _ = pthread_sigmask(SIG_SETMASK, &previous, nil) }

    var thread = pthread_t()
    let context = unsafe Unmanaged.passRetained(self)
    let error = unsafe pthread_create(
      &thread, &attributes,
      { context in
        unsafe Unmanaged<BlockingThreads>.fromOpaque(context!).takeRetainedValue().work()
        return nil
      }, context.toOpaque())
    if error != 0 { unsafe context.release() }
    return error
  }

  private func work() {
    while let job = nextJob() {
      job.run()
      monitor.update { $0.finish(job) }
    }
  }

  /// nil: this thread is to leave, and no longer counts.
  private func nextJob() -> Job? {
    monitor.await(until: Clock.now() + lingerNanoseconds) { state, expired -> Job?? in
      if let job = state.takeJob(laneLimit: laneLimit) { return .some(job) }
      guard state.stopped || expired else { return nil }
      state.threads -= 1
      state.idle -= 1
      return .some(nil)
    }!
  }
}

/// Enough for the resolver and its plug-ins; the default of 8 MiB is only address space, but a container may count it.
private let stackBytes = 1 << 20
