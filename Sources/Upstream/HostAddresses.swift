import CLinux
import Glibc

/// Name resolution, the one step of a dial that blocks without a deadline of ours (resolv.conf has its own).
enum HostAddresses {
  /// The numeric addresses of a name in the resolver's order, or the resolver's words.
  static func resolve(_ name: String) -> Result<[String], ResolutionFailure> {
    var hints = unsafe addrinfo()
    unsafe hints.ai_family = AF_UNSPEC
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let error = unsafe getaddrinfo(name, nil, &hints, &list)
    guard error == 0 else { return .failure(ResolutionFailure(text: unsafe String(cString: gai_strerror(error)))) }
    defer { unsafe freeaddrinfo(list) }

    var addresses: [String] = []
    var next = unsafe list
    while let entry = unsafe next {
      if let address = unsafe numeric(entry.pointee.ai_addr, entry.pointee.ai_addrlen), !addresses.contains(address) {
        addresses.append(address)
      }
      unsafe next = entry.pointee.ai_next
    }
    return addresses.isEmpty ? .failure(ResolutionFailure(text: "no usable address")) : .success(addresses)
  }

  struct ResolutionFailure: Error {
    let text: String
  }

  private static func numeric(_ address: UnsafeMutablePointer<sockaddr>?, _ length: socklen_t) -> String? {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(NI_MAXHOST)) { buffer in
      let error = unsafe getnameinfo(
        address, length, buffer.baseAddress, socklen_t(buffer.count), nil, 0, NI_NUMERICHOST)
      return error == 0 ? unsafe String(cString: buffer.baseAddress!) : nil
    }
  }
}
