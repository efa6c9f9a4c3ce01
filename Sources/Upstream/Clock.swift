import Glibc

/// CLOCK_MONOTONIC, in nanoseconds: the clock of all deadlines here.
enum Clock {
  static func now() -> Int64 {
    var time = timespec()
    unsafe _ = clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }
}
