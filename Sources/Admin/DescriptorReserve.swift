internal import Glibc

/// The highest numbers of descriptors that the process may have. Clients and server connections leave them to everybody
/// else: the status server and the admin socket, which must answer when clients have taken all other numbers, and
/// whoever opens something for a moment. That must never fail: libdispatch, on which the control plane's tasks run, reads a
/// file of each of its threads once a second, and ends the process where it cannot open one.
///
/// The kernel gives out the lowest free number. So a client that gets one of these is the proof that no other is free; it is
/// given back (`EventLoop.descriptorLimit`). The limit itself (RLIMIT_NOFILE) cannot do that, as it is the same for all
/// threads.
public enum DescriptorReserve {
  /// How many they are. Half is for what is open for a moment.
  public static let size = 32
  /// How many of them connections to the admin socket may bring into use.
  public static let adminShare = 8
  /// How many of them connections to the status server may bring into use, those to the admin socket counted.
  public static let statusShare = 16

  /// The first of these numbers; nil where descriptors are not limited. A limit that leaves no room for them has none.
  public static var start: Int? {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
    return start(limit: UInt64(limit.rlim_cur))
  }

  static func start(limit: UInt64) -> Int? {
    guard limit <= UInt64(Int32.max) else { return nil }
    return limit > 2 * UInt64(size) ? Int(limit) - size : Int(limit)
  }

  /// How many of these numbers are in use; 0 where the first is free, as nobody is short of others then.
  public static var used: Int {
    guard let start else { return 0 }
    let numbers = start..<start + size
    return isUsed(numbers.lowerBound) ? numbers.count { isUsed($0) } : 0
  }

  private static func isUsed(_ number: Int) -> Bool { fcntl(Int32(number), F_GETFD) >= 0 }
}
