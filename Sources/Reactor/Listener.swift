import CLinux
import Glibc
import Synchronization

/// Where a listening socket is bound.
public enum ListenEndpoint: Hashable, Sendable, CustomStringConvertible {
  /// A host name or address ("127.0.0.1", "::1", "localhost", "*" for all) and a port.
  case tcp(host: String, port: Int)
  /// The path of a Unix socket.
  case unix(path: String)

  public var description: String {
    switch self {
    case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    case .unix(let path): path
    }
  }
}

extension ListenEndpoint {
  /// Only processes of this machine can connect, as far as a numeric address tells.
  public var isLocal: Bool {
    switch self {
    case .unix: true
    case .tcp(let host, _): host.hasPrefix("127.") || host == "::1" || host.hasPrefix("::ffff:127.")
    }
  }
}

/// Who is on the other end of an accepted socket.
public struct PeerAddress: Sendable, Equatable {
  /// The numeric address, or "unix".
  public var host: String
  /// The peer's port; 0 for a Unix socket.
  public var port: Int
  /// The peer is on this machine: a loopback address or a Unix socket.
  public var isLocal: Bool
  /// The peer's user id, known on Unix sockets only.
  public var userID: UInt32?
}

/// A listening socket could not be opened.
public struct ListenError: Error, CustomStringConvertible {
  public var endpoint: ListenEndpoint
  public var reason: String

  public init(endpoint: ListenEndpoint, reason: String) {
    self.endpoint = endpoint
    self.reason = reason
  }

  public var description: String { "cannot listen on \(endpoint): \(reason)" }
}

/// A listening socket that several event loops may share. It is closed when each of them has stopped listening; the file
/// of a Unix socket that was opened here is removed then.
public final class Listener: Sendable {
  /// The address it was asked for; of a passed one, the address it is bound to.
  public let endpoint: ListenEndpoint
  /// The listening descriptor, non-blocking.
  public let descriptor: Int32

  /// Several event loops wait on it.
  let isShared: Bool

  /// Clients are accepted once they have sent something (TCP_DEFER_ACCEPT), nearly always.
  let clientsSpeakFirst: Bool

  /// Somebody else has opened it, and has its file.
  private let isPassed: Bool
  private let users: Atomic<Int>

  private init(endpoint: ListenEndpoint, descriptor: Int32, users: Int, isPassed: Bool = false) {
    self.endpoint = endpoint
    self.descriptor = descriptor
    self.isPassed = isPassed
    self.users = Atomic(users)
    isShared = users > 1
    if case .tcp = endpoint { clientsSpeakFirst = !isPassed } else { clientsSpeakFirst = false }
  }

  /// Opens one socket for each address the endpoint resolves to (`localhost` may be two), for `users` event loops.
  ///
  /// - Parameter passed: where one of these is bound to such an address, it stands for it (perhaps for two).
  public static func open(
    _ endpoint: ListenEndpoint, users: Int = 1, passed: [Listener] = []
  ) throws(ListenError) -> [Listener] {
    switch endpoint {
    case .tcp(let host, let port):
      return try openTCP(host: host, port: port, endpoint: endpoint, users: users, passed: passed)
    case .unix(let path):
      if let open = passed.first(where: { $0.endpoint == endpoint }) { return [open] }
      let descriptor = try openUnix(path: path, endpoint: endpoint)
      return [Listener(endpoint: endpoint, descriptor: descriptor, users: users)]
    }
  }

  /// Takes over a listening stream socket that somebody else has opened, as a service manager does.
  public static func passed(_ descriptor: Int32, users: Int = 1) throws(ListenError) -> Listener {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let isSocket = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      unsafe getsockname(
        descriptor, UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), &length) == 0
    }
    let endpoint = isSocket ? ListenEndpoint(storage, length: length) : nil
    guard let endpoint, option(SO_TYPE, of: descriptor) == Int32(SOCK_STREAM.rawValue),
      option(SO_ACCEPTCONN, of: descriptor) == 1
    else {
      System.closeDescriptor(descriptor)
      throw ListenError(
        endpoint: endpoint ?? .unix(path: "descriptor \(descriptor)"),
        reason: "what was passed as descriptor \(descriptor) is not a listening stream socket")
    }
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    if case .tcp = endpoint { prepareClients(descriptor) }
    return Listener(endpoint: endpoint, descriptor: descriptor, users: users, isPassed: true)
  }

  private static func option(_ option: Int32, of descriptor: Int32) -> Int32? {
    var value: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    return unsafe getsockopt(descriptor, SOL_SOCKET, option, &value, &length) == 0 ? value : nil
  }

  /// It is bound to that address, or to the same port of all addresses of both families ("[::]" without IPV6_V6ONLY, as
  /// systemd binds a bare port).
  private func accepts(_ address: ListenEndpoint) -> Bool {
    if endpoint == address { return true }
    guard case .tcp(let host, let port) = endpoint, host == "::", address == .tcp(host: "0.0.0.0", port: port) else {
      return false
    }
    var isIPv6Only: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    return unsafe getsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &isIPv6Only, &length) == 0 && isIPv6Only == 0
  }

  /// One of the users has stopped listening.
  public func release() {
    guard users.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 else { return }
    System.closeDescriptor(descriptor)
    if case .unix(let path) = endpoint, !isPassed { unsafe unlink(path) }
  }

  private static func openTCP(
    host: String, port: Int, endpoint: ListenEndpoint, users: Int, passed: [Listener]
  ) throws(ListenError) -> [Listener] {
    var hints = unsafe addrinfo()
    unsafe hints.ai_family = AF_UNSPEC
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    unsafe hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
    var found: UnsafeMutablePointer<addrinfo>?
    let status = unsafe getaddrinfo(host == "*" ? nil : host, String(port), &hints, &found)
    guard status == 0 else {
      throw ListenError(endpoint: endpoint, reason: unsafe String(cString: gai_strerror(status)))
    }
    defer { unsafe freeaddrinfo(found) }
    var open: [Listener] = []
    var next = unsafe found
    while let address = unsafe next {
      let numeric = unsafe ListenEndpoint(address.pointee)
      if let numeric, let listener = passed.first(where: { $0.accepts(numeric) }) {
        open.append(listener)
      } else {
        do {
          let descriptor = unsafe try bind(
            family: address.pointee.ai_family, address: address.pointee.ai_addr, length: address.pointee.ai_addrlen,
            endpoint: endpoint)
          open.append(Listener(endpoint: endpoint, descriptor: descriptor, users: users))
        } catch {
          for listener in open where !listener.isPassed { System.closeDescriptor(listener.descriptor) }
          throw error
        }
      }
      unsafe next = address.pointee.ai_next
    }
    return open
  }

  private static func openUnix(
    path: String, endpoint: ListenEndpoint
  ) throws(ListenError) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    guard path.utf8.count < room else {
      throw ListenError(endpoint: endpoint, reason: "a socket path has at most \(room - 1) bytes")
    }
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { field in
      for (index, byte) in path.utf8.enumerated() { unsafe field[index] = byte }
    }
    return unsafe try withAddress(of: address, family: AF_UNIX) { (pointer, length) throws(ListenError) in
      unsafe try removeStale(path: path, address: pointer, length: length, endpoint: endpoint)
      let descriptor = unsafe try bind(
        family: AF_UNIX, address: pointer, length: length, endpoint: endpoint)
      unsafe chmod(path, 0o777)
      return descriptor
    }
  }

  /// A socket file whose process is gone is removed; one that still answers is in use. Anything but a socket is left
  /// alone, although connecting to it is refused as well.
  private static func removeStale(
    path: String, address: UnsafePointer<sockaddr>, length: socklen_t, endpoint: ListenEndpoint
  ) throws(ListenError) {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFSOCK else {
      throw ListenError(endpoint: endpoint, reason: "the file exists and is not a socket")
    }
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let probe = socket(AF_UNIX, kind, 0)
    guard probe >= 0 else { throw ListenError(endpoint: endpoint, reason: System.describe(errno)) }
    defer { System.closeDescriptor(probe) }
    if unsafe connect(probe, address, length) == 0 {
      throw ListenError(endpoint: endpoint, reason: System.describe(EADDRINUSE))
    }
    if errno == ECONNREFUSED { unsafe unlink(path) }
  }

  /// Clients that the kernel holds until they are accepted; it cuts this at `net.core.somaxconn`.
  static let backlog: Int32 = 4096

  private static func bind(
    family: Int32, address: UnsafePointer<sockaddr>?, length: socklen_t, endpoint: ListenEndpoint
  ) throws(ListenError) -> Int32 {
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let descriptor = socket(family, kind, 0)
    guard descriptor >= 0 else { throw ListenError(endpoint: endpoint, reason: System.describe(errno)) }
    if family != AF_UNIX {
      System.setOption(descriptor, level: SOL_SOCKET, option: SO_REUSEADDR)
      prepareClients(descriptor)
    }
    if family == AF_INET6 { System.setOption(descriptor, level: Int32(IPPROTO_IPV6), option: IPV6_V6ONLY) }
    guard unsafe Glibc.bind(descriptor, address, length) == 0, listen(descriptor, backlog) == 0 else {
      let reason = System.describe(errno)
      System.closeDescriptor(descriptor)
      throw ListenError(endpoint: endpoint, reason: reason)
    }
    return descriptor
  }

  /// Small replies leave at once. Accepted sockets take over this option, and those of `watchOver`, from the listening one
  /// (tcp(7) and `inet_csk_clone_lock`), so that they cost nothing for each client.
  ///
  /// PostgreSQL's clients speak first, so the kernel shows them when they have: accepting them and their first bytes is
  /// then one turn. One that says nothing is shown after this time, in seconds.
  private static func prepareClients(_ descriptor: Int32) {
    System.setOption(descriptor, level: Int32(IPPROTO_TCP), option: TCP_NODELAY)
    System.setOption(descriptor, level: Int32(IPPROTO_TCP), option: TCP_DEFER_ACCEPT, value: 1)
  }

  /// How peers that vanish without a word are noticed.
  public func watchOver(_ clients: SilentPeers) {
    guard case .tcp = endpoint else { return }
    let level = Int32(IPPROTO_TCP)
    if let idle = clients.idleSeconds {
      System.setOption(descriptor, level: SOL_SOCKET, option: SO_KEEPALIVE)
      System.setOption(descriptor, level: level, option: TCP_KEEPIDLE, value: idle)
      System.setOption(descriptor, level: level, option: TCP_KEEPINTVL, value: clients.intervalSeconds)
      System.setOption(descriptor, level: level, option: TCP_KEEPCNT, value: clients.count)
    }
    if let timeout = clients.unacknowledgedMilliseconds {
      System.setOption(descriptor, level: level, option: TCP_USER_TIMEOUT, value: timeout)
    }
  }

  private static func withAddress<Address, Result, Failure: Error>(
    of address: Address, family: Int32,
    _ body: (UnsafePointer<sockaddr>, socklen_t) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try unsafe withUnsafePointer(to: address) { (pointer) throws(Failure) in
      try unsafe body(
        UnsafeRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), socklen_t(MemoryLayout<Address>.size))
    }
  }

  /// Accepts one client; nil when nobody waits.
  func accept() -> Result<(Int32, PeerAddress), AcceptFailure>? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let flags = Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    let accepted = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      unsafe lifeguard_accept4(
        descriptor, UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), &length, flags)
    }
    guard accepted >= 0 else {
      switch errno {
      case EAGAIN: return nil
      case EINTR, ECONNABORTED: return .failure(AcceptFailure(error: errno, isPassing: true))
      default: return .failure(AcceptFailure(error: errno, isPassing: false))
      }
    }
    return .success((accepted, PeerAddress.of(storage, descriptor: accepted)))
  }

  struct AcceptFailure: Error {
    var error: Int32
    /// Only this one client failed; the next may be accepted at once.
    var isPassing: Bool
  }
}

extension ListenEndpoint {
  /// What `getsockname` says; nil for families that nobody listens on here.
  fileprivate init?(_ storage: sockaddr_storage, length: socklen_t) {
    switch Int32(storage.ss_family) {
    case AF_INET, AF_INET6:
      let address = PeerAddress.of(storage, descriptor: -1)
      self = .tcp(host: address.host, port: address.port)
    case AF_UNIX:
      let path = unsafe withUnsafeBytes(of: storage) { bytes in
        unsafe Array(bytes[..<Int(length)].dropFirst(MemoryLayout<sa_family_t>.size))
      }
      // An abstract name begins with a zero byte, and is written with an "@".
      let isAbstract = path.first == 0
      let name = isAbstract ? path.dropFirst() : path.prefix { $0 != 0 }
      self = .unix(path: (isAbstract ? "@" : "") + String(decoding: name, as: UTF8.self))
    default: return nil
    }
  }

  /// One address that a name stands for.
  fileprivate init?(_ info: addrinfo) {
    var storage = sockaddr_storage()
    unsafe withUnsafeMutableBytes(of: &storage) { bytes in
      unsafe bytes.copyMemory(from: UnsafeRawBufferPointer(start: info.ai_addr, count: Int(info.ai_addrlen)))
    }
    self.init(storage, length: unsafe info.ai_addrlen)
  }
}

extension PeerAddress {
  /// Our end of a socket.
  static func local(of descriptor: Int32) -> PeerAddress? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let outcome = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      unsafe getsockname(
        descriptor, UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), &length)
    }
    return outcome == 0 ? of(storage, descriptor: descriptor) : nil
  }

  /// The other end of a socket; nil where it has left already.
  static func remote(of descriptor: Int32) -> PeerAddress? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let outcome = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      unsafe getpeername(
        descriptor, UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), &length)
    }
    return outcome == 0 ? of(storage, descriptor: descriptor) : nil
  }

  fileprivate static func of(_ storage: sockaddr_storage, descriptor: Int32) -> PeerAddress {
    switch Int32(storage.ss_family) {
    case AF_INET:
      let address = unsafe withUnsafeBytes(of: storage) { unsafe $0.loadUnaligned(as: sockaddr_in.self) }
      let bits = UInt32(bigEndian: address.sin_addr.s_addr)
      return PeerAddress(
        host: text(bits), port: Int(UInt16(bigEndian: address.sin_port)),
        isLocal: bits >> 24 == 127, userID: nil)
    case AF_INET6:
      let address = unsafe withUnsafeBytes(of: storage) { unsafe $0.loadUnaligned(as: sockaddr_in6.self) }
      let host = text(address.sin6_addr)
      return PeerAddress(
        host: host, port: Int(UInt16(bigEndian: address.sin6_port)),
        isLocal: host == "::1" || host.hasPrefix("::ffff:127."), userID: nil)
    default:
      var uid: uid_t = 0
      let known = unsafe lifeguard_peer_uid(descriptor, &uid) == 0
      return PeerAddress(host: "unix", port: 0, isLocal: true, userID: known ? uid : nil)
    }
  }

  /// An IPv4 address, as `inet_ntop` writes it, at a tenth of its cost: each client has one.
  private static func text(_ bits: UInt32) -> String {
    unsafe String(unsafeUninitializedCapacity: 15) { text in
      var count = 0
      for shift: UInt32 in [24, 16, 8, 0] {
        let number = UInt8(truncatingIfNeeded: bits >> shift)
        if count > 0 {
          unsafe text[count] = UInt8(ascii: ".")
          count += 1
        }
        for unit: UInt8 in [100, 10, 1] where number >= unit || unit == 1 {
          unsafe text[count] = UInt8(ascii: "0") + number / unit % 10
          count += 1
        }
      }
      return count
    }
  }

  private static func text(_ address: in6_addr) -> String {
    var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    let written = unsafe withUnsafePointer(to: address) { pointer in
      unsafe inet_ntop(AF_INET6, pointer, &buffer, socklen_t(buffer.count)) != nil
    }
    return written ? String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) : "?"
  }
}
