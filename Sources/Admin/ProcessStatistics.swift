internal import Glibc

/// What the process uses, as the kernel sees it.
public struct ProcessStatistics: Sendable, Equatable {
  /// CPU time in user and kernel mode, of all threads.
  public var cpuMicroseconds: UInt64
  /// Resident memory; nil where /proc cannot be read.
  public var residentBytes: UInt64?
  /// Virtual memory; nil where /proc cannot be read.
  public var virtualBytes: UInt64?
  /// Open descriptors; nil where /proc cannot be read.
  public var openDescriptors: UInt64?
  /// The descriptors that clients and server connections may use up; nil where there is no limit.
  public var maxDescriptors: UInt64?

  /// Asks the kernel. Takes some ten microseconds, and more with thousands of open descriptors.
  public static func read() -> ProcessStatistics {
    var usage = rusage()
    let status = unsafe getrusage(RUSAGE_SELF.rawValue, &usage)
    precondition(status == 0, "getrusage(RUSAGE_SELF) cannot fail")
    let memory = readMemory()
    let limit = DescriptorReserve.start.map { UInt64($0) }
    return ProcessStatistics(
      cpuMicroseconds: microseconds(usage.ru_utime) + microseconds(usage.ru_stime),
      residentBytes: memory?.resident, virtualBytes: memory?.virtual,
      openDescriptors: countDescriptors(limit: limit), maxDescriptors: limit)
  }

  private static func microseconds(_ time: timeval) -> UInt64 {
    UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_usec)
  }

  /// The first two fields of /proc/self/statm (proc(5)), which are in pages.
  private static func readMemory() -> (virtual: UInt64, resident: UInt64)? {
    let descriptor = unsafe open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 256)
    let count = unsafe bytes.withUnsafeMutableBytes { unsafe Glibc.read(descriptor, $0.baseAddress, $0.count) }
    guard count > 0 else { return nil }
    let fields = String(decoding: bytes[..<count], as: UTF8.self).split(separator: " ").prefix(2).compactMap {
      UInt64($0)
    }
    guard fields.count == 2 else { return nil }
    let pageSize = UInt64(sysconf(Int32(_SC_PAGESIZE)))
    return (fields[0] * pageSize, fields[1] * pageSize)
  }

  /// The entries of /proc/self/fd, without the one that the count itself opens. Where none is left for that, all that
  /// the limit grants are open: this is the moment when somebody wants to know it.
  private static func countDescriptors(limit: UInt64?) -> UInt64? {
    guard let directory = unsafe opendir("/proc/self/fd") else { return errno == EMFILE ? limit : nil }
    defer { unsafe _ = closedir(directory) }
    var count: UInt64 = 0
    while let entry = unsafe readdir(directory) {
      // Each name but "." and ".." is a number.
      if unsafe entry.pointee.d_name.0 != CChar(UInt8(ascii: ".")) { count += 1 }
    }
    return count > 0 ? count - 1 : nil
  }
}
