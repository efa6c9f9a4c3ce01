internal import Glibc

/// Descriptors that are left for the status server when everything else has used up its own.
///
/// The kernel gives out the lowest free number, and none from the soft limit on (RLIMIT_NOFILE). So the daemon runs with
/// a soft limit below the hard one, and the few numbers between the two are the reserve: it is opened for the moment of
/// one accept(2). What was accepted then can be used, and where it is closed, its number is out of everybody's reach
/// again. (Spare descriptors that are closed when they are needed would have to be opened anew afterwards, in a race with
/// all clients that wait for one.)
///
/// Another thread may be faster in that moment; then it is tried again.
final class DescriptorReserve {
  /// The limit to go back to; nil while the reserve is closed.
  private var closedLimit: rlim_t?

  /// Raises the soft limit. False where it is raised already or the hard limit has no room.
  func open() -> Bool {
    guard closedLimit == nil, var limit = Self.limit, limit.rlim_cur < limit.rlim_max else { return false }
    let closed = limit.rlim_cur
    limit.rlim_cur = min(limit.rlim_max, closed + StatusServer.reservedDescriptors)
    guard Self.set(limit) else { return false }
    closedLimit = closed
    return true
  }

  /// Takes the limit back.
  func close() {
    guard let closed = closedLimit, var limit = Self.limit else { return }
    closedLimit = nil
    limit.rlim_cur = min(closed, limit.rlim_max)
    _ = Self.set(limit)
  }

  private static var limit: rlimit? {
    var limit = rlimit()
    return unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 ? limit : nil
  }

  private static func set(_ limit: rlimit) -> Bool {
    unsafe withUnsafePointer(to: limit) { unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), $0) == 0 }
  }
}
