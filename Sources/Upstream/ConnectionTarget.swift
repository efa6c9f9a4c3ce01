/// What libpq is to connect to: its options, resolved once for a (database, user).
///
/// Options come from the connection string and the overrides; libpq completes them from the service file, the
/// environment and its defaults (PostgreSQL documentation, "Database Connection Control Functions"). Hosts, ports and
/// `target_session_attrs` are read out of that result at once, because dials go through the hosts one by one, each with
/// its share of the deadline. Passwords from `.pgpass` are looked up at each dial.
public struct ConnectionTarget: Sendable, Hashable {
  /// What libpq gets, without hosts, ports and session attributes, which each attempt adds. Holds secrets.
  private(set) var options: [ConnectionOption]
  /// In the order in which they are to be tried; never empty.
  public private(set) var hosts: [UpstreamHost]
  /// The name of the upstream in logs and labels, and its lane in dials and cancels: all hosts of the connection string
  /// as `host:port`, comma-separated. Holds no secrets. It stays the same when hosts are left out.
  public private(set) var upstream: String
  /// What the session on a host has to be like.
  public private(set) var sessionAttributes: SessionAttributes
  /// Whether hosts are to be shuffled (`load_balance_hosts=random` of libpq 16).
  let shufflesHosts: Bool
  /// `connect_timeout`, for each address; nil where there is none.
  let addressTimeoutNanoseconds: Int64?

  /// The values of `target_session_attrs`.
  public enum SessionAttributes: String, Sendable {
    case any
    case readWrite = "read-write"
    case readOnly = "read-only"
    case primary
    case standby
    case preferStandby = "prefer-standby"
  }

  /// Parses and resolves a connection string (`keyword=value` or URI). Reads files, makes no connection.
  ///
  /// - Parameter overrides: options that win over `conninfo`, such as `user`, `dbname`, `password`; an empty value
  ///   takes an option away. Values are taken literally, also a `dbname` that looks like a connection string.
  /// - Parameter isPasswordOnly: the server is shown the `password` of the overrides or none: `.pgpass`, `PGPASSWORD` and
  ///   the connection string's own are left alone. For trying a client's password. It must not be empty: libpq takes an
  ///   empty one for none and looks elsewhere, which would let everybody in.
  /// - Throws: what libpq (or this layer) refuses, in one line, without any piece of a password.
  public init(
    conninfo: String, overrides: [(keyword: String, value: String)] = [], isPasswordOnly: Bool = false
  ) throws(ConninfoError) {
    var overrides = overrides
    if isPasswordOnly {
      let password = overrides.last { $0.keyword == "password" }?.value ?? ""
      precondition(!password.isEmpty, "an empty password proves nothing")
      overrides.append(("passfile", "/dev/null"))
    }
    let given = try Self.givenOptions(conninfo, overrides)
    let resolved: [String: String]
    switch Libpq.resolve(given) {
    case .success(let value): resolved = value
    case .failure(let failure): throw ConninfoError(LibpqText.oneLine(failure.text))
    }

    let asked = given.first { $0.keyword == "gssencmode" }?.value ?? "disable"
    guard asked == "disable", resolved["gssencmode"] != "require" else {
      throw ConninfoError("gssencmode must be disable: a connection encrypted by GSSAPI cannot be pooled")
    }
    let attributes = resolved["target_session_attrs"] ?? SessionAttributes.any.rawValue
    guard let sessionAttributes = SessionAttributes(rawValue: attributes) else {
      throw ConninfoError("invalid target_session_attrs value: \"\(attributes)\"")
    }
    let timeout = resolved["connect_timeout"] ?? "0"
    guard let timeoutSeconds = Int32(timeout) else {
      throw ConninfoError("invalid integer value \"\(timeout)\" for connection option \"connect_timeout\"")
    }

    self.sessionAttributes = sessionAttributes
    self.addressTimeoutNanoseconds = timeoutSeconds > 0 ? Int64(timeoutSeconds) * 1_000_000_000 : nil
    self.shufflesHosts = resolved["load_balance_hosts"] == "random"
    self.hosts = try Self.hosts(of: resolved)
    self.upstream = hosts.map(\.label).joined(separator: ",")
    self.options = Self.settled(given + Self.keepAlive.filter { (resolved[$0.keyword] ?? "").isEmpty })
  }

  /// How a server that vanishes without a word is noticed while nothing is sent to it, where the connection string says
  /// nothing of that: as clients by default. The kernel's own times are hours.
  private static let keepAlive = [
    ConnectionOption(keyword: "keepalives_idle", value: "60"),
    ConnectionOption(keyword: "keepalives_interval", value: "10"),
    ConnectionOption(keyword: "keepalives_count", value: "6"),
  ]

  /// The same target with only some of its hosts, in this order; at least one. Those known to be down or in the wrong role
  /// are left out so.
  public func trying(_ hosts: [UpstreamHost]) -> ConnectionTarget {
    precondition(!hosts.isEmpty, "a dial goes somewhere")
    var copy = self
    copy.hosts = hosts
    return copy
  }

  /// One host of the target, whatever its role, for a prober: its sessions are called so in pg_stat_activity, and its
  /// dials are in a lane of their own.
  func probing(_ host: UpstreamHost) -> ConnectionTarget {
    var copy = trying([host])
    copy.sessionAttributes = .any
    copy.upstream = "prober of \(host.label)"
    copy.options.removeAll { $0.keyword == "application_name" }
    copy.options.append(ConnectionOption(keyword: "application_name", value: Prober.applicationName))
    return copy
  }

  private static func givenOptions(
    _ conninfo: String, _ overrides: [(keyword: String, value: String)]
  ) throws(ConninfoError) -> [ConnectionOption] {
    // A C string ends at NUL: what follows would silently be something else.
    guard !conninfo.utf8.contains(0), overrides.allSatisfy({ !$0.value.utf8.contains(0) }) else {
      throw ConninfoError("a connection option contains a NUL character")
    }
    let parsed: [(keyword: String, value: String?)]
    switch Libpq.parse(conninfo) {
    case .success(let value): parsed = value
    case .failure(let failure): throw ConninfoError(parseFailure(failure.text, conninfo))
    }
    let known = Set(parsed.map(\.keyword))
    for option in overrides where !known.contains(option.keyword) {
      throw ConninfoError("invalid connection option \"\(option.keyword)\"")
    }
    var given = parsed.compactMap { option in
      option.value.map { ConnectionOption(keyword: option.keyword, value: $0) }
    }
    for option in overrides {
      given.removeAll { $0.keyword == option.keyword }
      if !option.value.isEmpty { given.append(ConnectionOption(keyword: option.keyword, value: option.value)) }
    }
    return given
  }

  /// libpq repeats pieces of the connection string in double quotes: in a URI anything, else a word that it could not
  /// make sense of, such as the second half of a password with a space. Those pieces are shown only where no password
  /// can be among them.
  private static func parseFailure(_ text: String, _ conninfo: String) -> String {
    let lowercased = conninfo.lowercased()
    let mayHoldSecret = lowercased.contains("://") || ["pass", "secret", "key"].contains { lowercased.contains($0) }
    return LibpqText.oneLine(mayHoldSecret ? LibpqText.maskingQuoted(text) : text)
  }

  /// Pairs the comma-separated lists as libpq does: as many ports as hosts, or one or none for all. libpq has already
  /// refused lists of `host` and `hostaddr` that differ in length.
  private static func hosts(of resolved: [String: String]) throws(ConninfoError) -> [UpstreamHost] {
    let names = list(resolved["host"])
    let addresses = list(resolved["hostaddr"])
    let ports = list(resolved["port"])
    let count = max(names.count, addresses.count, 1)
    var hosts: [UpstreamHost] = []
    for index in 0..<count {
      let address = index < addresses.count && !addresses[index].isEmpty ? addresses[index] : nil
      var name = index < names.count ? names[index] : ""
      if name.isEmpty { name = address ?? Libpq.builtInHost }
      // `user:p@ss@host` and `user:password` without a host are typing errors whose pieces would end up in labels.
      guard !name.dropFirst().contains("@") else {
        throw ConninfoError("a host name contains \"@\" (in a URI, write %40 for the @ of a password)")
      }
      let portText = ports.isEmpty ? "" : ports[ports.count == 1 ? 0 : index]
      guard let port = UInt16(portText.isEmpty ? builtInPort : portText), port > 0 else {
        throw ConninfoError("invalid port number: not a whole number from 1 to 65535")
      }
      hosts.append(UpstreamHost(name: name, address: address, port: port))
    }
    return hosts
  }

  private static func list(_ value: String?) -> [String] {
    guard let value, !value.isEmpty else { return [] }
    return value.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
  }

  /// The options of every attempt.
  private static func settled(_ given: [ConnectionOption]) -> [ConnectionOption] {
    let decidedHere: Set = ["host", "hostaddr", "port", "target_session_attrs", "load_balance_hosts", "gssencmode"]
    return given.filter { !decidedHere.contains($0.keyword) }
      + [ConnectionOption(keyword: "gssencmode", value: "disable")]
  }
}

/// What libpq takes for an empty element of a list of ports (DEF_PGPORT; no packager changes it).
private let builtInPort = "5432"

/// Printing and dumping a target shows its hosts only: the options hold passwords.
extension ConnectionTarget: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  public var description: String { upstream }
  public var debugDescription: String { "ConnectionTarget(\(upstream))" }
  public var customMirror: Mirror { Mirror(self, children: ["upstream": upstream]) }
}

/// One host of an upstream.
public struct UpstreamHost: Sendable, Hashable, CustomStringConvertible {
  /// A host name, an address, or a directory of Unix sockets.
  public let name: String
  /// `hostaddr`, where it is given: the address to use instead of resolving the name.
  public let address: String?
  public let port: UInt16

  /// `host:port`, `[::1]:port` or `/directory:port`.
  public var label: String { name.contains(":") ? "[\(name)]:\(port)" : "\(name):\(port)" }
  public var description: String { label }

  /// Whether libpq takes the name for a Unix socket (a path, or an abstract name).
  var isUnixSocket: Bool { address == nil && (name.hasPrefix("/") || name.hasPrefix("@")) }
}

/// A connection string that libpq or this layer refuses.
public struct ConninfoError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The reason, in one line, without secrets.
  public let text: String
  public var description: String { text }

  init(_ text: String) { self.text = text }
}
