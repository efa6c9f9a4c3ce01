internal import Glibc

/// Where the daemon listens: a TCP address and port, or the path of a Unix socket.
public enum ListenAddress: Sendable, Hashable, CustomStringConvertible {
  /// `host` is an IPv4 address, an IPv6 address without brackets, `localhost` (both loopbacks), or `*` (all
  /// addresses of both families).
  case tcp(host: String, port: UInt16)
  /// An absolute path.
  case unix(path: String)

  /// The longest path of a Unix socket in bytes: `sun_path` has 108 and ends with a NUL, and one is kept in reserve,
  /// as libpq does for the socket paths it builds.
  public static let longestPath = 106

  /// Reads `127.0.0.1:6432`, `[::1]:6432`, `localhost:6432`, `*:6432` or `/run/lifeguard/.s.PGSQL.6432`.
  public static func parse(_ text: String) throws(ListenAddressError) -> ListenAddress {
    if text.utf8.contains(0) { throw ListenAddressError("must not contain a NUL character") }
    if text.first == "/" {
      guard text.utf8.count <= longestPath else {
        throw ListenAddressError(
          "is a path of \(text.utf8.count) bytes; a Unix socket's path has at most \(longestPath)")
      }
      guard text.last != "/" else { throw ListenAddressError("is a directory; the socket itself needs a name") }
      return .unix(path: text)
    }
    if text.isEmpty { throw ListenAddressError("is empty", suggestion: "127.0.0.1:6432") }
    if text.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }) {
      throw ListenAddressError("is a port without an address", suggestion: "127.0.0.1:\(text)")
    }
    if isIPv6(text) { throw ListenAddressError("needs brackets and a port", suggestion: "[\(text)]:6432") }
    guard let colon = text.lastIndex(of: ":"), text.last != "]" else {
      if text.contains("/") { throw ListenAddressError("is no address; a path begins with \"/\"") }
      throw ListenAddressError("has no port", suggestion: "\(text):6432")
    }
    var host = String(text[..<colon])
    let portText = text[text.index(after: colon)...]
    guard portText.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }),
      let port = UInt16(portText), port > 0
    else {
      throw ListenAddressError("has no valid port; a port is a number from 1 to 65535")
    }
    if host.isEmpty { throw ListenAddressError("has no address", suggestion: "*:\(port)") }
    if host.first == "[", host.last == "]" {
      host = String(host.dropFirst().dropLast())
      guard isIPv6(host) else { throw ListenAddressError("has no valid IPv6 address in its brackets") }
    } else if host != "localhost", host != "*", !isIPv4(host) {
      throw ListenAddressError(
        "has no valid address; write an IPv4 address, an IPv6 address in brackets, \"localhost\" or \"*\"")
    }
    return .tcp(host: host, port: port)
  }

  /// Whether only processes of this machine can connect: a Unix socket, 127.0.0.0/8, ::1 or `localhost`.
  public var isLocal: Bool {
    switch self {
    case .unix: true
    case .tcp(let host, _):
      host == "localhost" || (Self.isIPv4(host) && host.hasPrefix("127.")) || Self.isIPv6Loopback(host)
    }
  }

  /// Whether it is a TCP address.
  public var isTCP: Bool {
    if case .tcp = self { true } else { false }
  }

  /// As it is written in settings.
  public var description: String {
    switch self {
    case .unix(let path): path
    case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
  }

  private static func isIPv4(_ text: String) -> Bool {
    var address = in_addr()
    return unsafe inet_pton(AF_INET, text, &address) == 1
  }

  private static func isIPv6(_ text: String) -> Bool {
    var address = in6_addr()
    return unsafe inet_pton(AF_INET6, text, &address) == 1
  }

  private static func isIPv6Loopback(_ text: String) -> Bool {
    var address = in6_addr()
    guard unsafe inet_pton(AF_INET6, text, &address) == 1 else { return false }
    return unsafe withUnsafeBytes(of: &address) { bytes in
      unsafe bytes.dropLast().allSatisfy { $0 == 0 } && bytes.last == 1
    }
  }
}

/// Why a text is no listen address; the reason continues a sentence that begins with the text.
public struct ListenAddressError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Such as "has no port".
  public let reason: String
  /// What was probably meant.
  public let suggestion: String?

  init(_ reason: String, suggestion: String? = nil) {
    self.reason = reason
    self.suggestion = suggestion
  }

  /// Reason and suggestion.
  public var description: String {
    suggestion.map { "\(reason); did you mean \(quoted($0))?" } ?? reason
  }
}
