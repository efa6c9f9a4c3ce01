import CUring
import Glibc

/// The two queues of io_uring(7), which are memory shared with the kernel. What is submitted is done, as far as it can be
/// at once, inside `submit` or `wait`; everything that comes later comes inside `wait`, on this thread
/// (IORING_SETUP_DEFER_TASKRUN). So nothing changes behind the loop's back.
@safe final class Ring {
  /// Requests that may be written before they must be submitted.
  static let submissions = 512
  /// Completions that have room; beyond these the kernel keeps them until there is room again.
  static let completions = 8192

  struct Completion {
    /// The name that the request was given.
    var name: UInt64
    /// What the system call would have returned, or a negative errno.
    var result: Int32
    private var flags: UInt32

    init(_ entry: lifeguard_completion) {
      name = entry.user_data
      result = entry.result
      flags = entry.flags
    }

    /// The request is over; nothing more of it will come.
    var isLast: Bool { flags & IORING_CQE_F_MORE == 0 }

    /// The provided buffer that was filled.
    var buffer: UInt16? { flags & IORING_CQE_F_BUFFER == 0 ? nil : UInt16(truncatingIfNeeded: flags >> 16) }
  }

  private var ring: lifeguard_ring
  /// Our ends of the two queues.
  private var submissionTail: UInt32
  private var completionHead: UInt32
  /// Requests written and not submitted.
  private(set) var unsubmitted: UInt32 = 0

  /// - Throws: an errno, where the kernel has no io_uring, or not for us, or an older one than Linux 6.1.
  init() throws(Errno) {
    let flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL
    unsafe ring = lifeguard_ring()
    let error = unsafe lifeguard_ring_open(&ring, UInt32(Ring.submissions), UInt32(Ring.completions), flags)
    guard error == 0 else { throw Errno(error) }
    unsafe submissionTail = lifeguard_load_acquire(ring.submission_tail)
    unsafe completionHead = lifeguard_load_acquire(ring.completion_head)
  }

  deinit { unsafe lifeguard_ring_close(&ring) }

  /// Has the kernel take buffers from a ring of `count` entries.
  func provide(_ buffers: UnsafeMutableRawPointer, count: Int, group: UInt16) throws(Errno) {
    let error = unsafe lifeguard_ring_provide(&ring, buffers, UInt32(count), group)
    guard error == 0 else { throw Errno(error) }
  }

  // MARK: Requests

  var isFull: Bool { unsafe unsubmitted == ring.submission_count }

  /// Writes a request, for which there must be room.
  func write(_ request: lifeguard_submission) {
    precondition(!isFull, "more requests than have room")
    unsafe lifeguard_ring_write(ring.submissions + Int(submissionTail & (ring.submission_count - 1)), request)
    submissionTail &+= 1
    unsubmitted += 1
  }

  /// Has the kernel begin with all requests that have been written.
  ///
  /// - Throws: where this process may not use the ring.
  func submit() throws(Errno) {
    publish()
    while unsubmitted > 0 {
      try check(unsafe lifeguard_ring_submit(&ring, unsubmitted))
      countSubmitted()
    }
  }

  /// Submits, and waits until `count` completions are there, the time-out (nanoseconds, nil for never) has come, or a
  /// signal.
  ///
  /// - Throws: where this process may not use the ring.
  func wait(for count: Int, timeout: Int64?) throws(Errno) {
    publish()
    repeat {
      try check(unsafe lifeguard_ring_wait(&ring, unsubmitted, UInt32(count), timeout ?? -1))
      // Where the kernel could not take all requests it has not waited either.
      countSubmitted()
    } while unsubmitted > 0
  }

  private func publish() { unsafe lifeguard_store_release(ring.submission_tail, submissionTail) }

  private func countSubmitted() {
    unsubmitted = unsafe submissionTail &- lifeguard_load_acquire(ring.submission_head)
  }

  /// Out of memory for a request, or of room for completions: both pass.
  private func check(_ error: Int32) throws(Errno) {
    switch error {
    case 0, ETIME, EINTR, EAGAIN, EBUSY: break
    default: throw Errno(error)
    }
  }

  // MARK: Completions

  /// Completions that have not been taken.
  var waiting: Int { Int(unsafe lifeguard_load_acquire(ring.completion_tail) &- completionHead) }

  /// The kernel keeps completions for want of room. It hands them over in `wait`.
  var hasOverflown: Bool { unsafe lifeguard_load_acquire(ring.submission_flags) & IORING_SQ_CQ_OVERFLOW != 0 }

  /// The completion at this position behind the oldest one that has not been taken.
  func completion(at position: Int) -> Completion { unsafe Completion(lifeguard_ring_read(entry(at: position))) }

  /// Gives the completion at this position another name.
  func rename(at position: Int, to name: UInt64) { unsafe lifeguard_ring_rename(entry(at: position), name) }

  /// Takes the oldest completion, if there is one.
  func next() -> Completion? {
    guard waiting > 0 else { return nil }
    let completion = completion(at: 0)
    completionHead &+= 1
    unsafe lifeguard_store_release(ring.completion_head, completionHead)
    return completion
  }

  private func entry(at position: Int) -> UnsafeMutablePointer<io_uring_cqe> {
    let index = unsafe (completionHead &+ UInt32(position)) & (ring.completion_count - 1)
    return unsafe ring.completions + Int(index)
  }
}

/// Why the kernel refused.
struct Errno: Error {
  var code: Int32

  init(_ code: Int32) { self.code = code }
}
