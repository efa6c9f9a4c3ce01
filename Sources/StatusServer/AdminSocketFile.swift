internal import Glibc
internal import NIOCore

/// A listening Unix socket that only its owner can connect to, and its file.
struct AdminSocketFile: Sendable {
  let path: String
  /// Listening; whoever takes it over closes it.
  let descriptor: Int32

  static func open(_ path: String) throws(AdminSocketError) -> AdminSocketFile {
    guard let address = UnixAddress(path) else { throw AdminSocketError(path: path, reason: "the path is too long") }
    makeDirectory(of: path)
    let descriptor = newSocket()
    // The mode of a socket becomes that of its file, so that there is no moment at which others could connect.
    var error = descriptor < 0 || fchmod(descriptor, 0o600) != 0 ? errno : address.bind(descriptor)
    if error == EADDRINUSE && isAbandoned(address) {
      unsafe _ = unlink(path)
      error = address.bind(descriptor)
    }
    if error == 0 && listen(descriptor, 16) != 0 { error = errno }
    guard error == 0 else {
      if descriptor >= 0 { close(descriptor) }
      throw AdminSocketError(path: path, reason: reason(error))
    }
    return AdminSocketFile(path: path, descriptor: descriptor)
  }

  /// Removes the file.
  func remove() { unsafe _ = unlink(path) }

  private static func newSocket() -> Int32 {
    socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  }

  private static func makeDirectory(of path: String) {
    guard let slash = path.lastIndex(of: "/"), slash > path.startIndex else { return }
    unsafe _ = mkdir(String(path[..<slash]), 0o755)
  }

  /// Whether nobody listens on the socket any more.
  private static func isAbandoned(_ address: UnixAddress) -> Bool {
    let probe = newSocket()
    guard probe >= 0 else { return false }
    defer { close(probe) }
    return address.connect(probe) == ECONNREFUSED
  }

  private static func reason(_ error: Int32) -> String {
    switch error {
    case EADDRINUSE: "somebody listens on it already, or it is another kind of file"
    default: unsafe String(cString: strerror(error))
    }
  }
}

/// The address of a Unix socket.
private struct UnixAddress {
  private var address = sockaddr_un()

  /// nil where the path is too long for an address.
  init?(_ path: String) {
    let bytes = Array(path.utf8)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    guard bytes.count < room, !bytes.contains(0) else { return nil }
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
  }

  /// Returns 0 or errno.
  func bind(_ descriptor: Int32) -> Int32 {
    unsafe with { unsafe Glibc.bind(descriptor, $0, $1) == 0 ? 0 : errno }
  }

  /// Returns 0 or errno.
  func connect(_ descriptor: Int32) -> Int32 {
    unsafe with { unsafe Glibc.connect(descriptor, $0, $1) == 0 ? 0 : errno }
  }

  private func with(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    unsafe withUnsafePointer(to: address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
  }
}

/// Who is at the other end of a Unix socket: `struct ucred` of unix(7), which glibc shows only to GNU programs.
struct PeerCredentials {
  var processID: Int32 = 0
  var userID: UInt32 = 0
  var groupID: UInt32 = 0

  /// The user of the process that has connected; nil where the kernel does not say.
  static func userID(of channel: any Channel) -> UInt32? {
    guard let options = channel as? any SocketOptionProvider else { return nil }
    let credentials: EventLoopFuture<PeerCredentials> = options.unsafeGetSocketOption(
      level: .socket, name: NIOBSDSocket.Option(rawValue: SO_PEERCRED))
    var userID: UInt32?
    // On the channel's own loop the answer is there at once.
    credentials.assumeIsolated().whenSuccess { userID = $0.userID }
    return userID
  }
}
