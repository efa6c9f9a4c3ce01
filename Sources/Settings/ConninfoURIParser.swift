/// `postgresql://[user[:password]@][host[:port][,…]][/dbname][?keyword=value[&…]]`, as libpq's
/// conninfo_uri_parse_options() reads it (PostgreSQL documentation, 34.1.1.2).
struct ConninfoURIParser {
  private let bytes: [UInt8]
  private var next: Int
  private var parameters: [Conninfo.Parameter] = []

  /// `start` is the offset behind `postgresql://`.
  init(bytes: [UInt8], start: Int) {
    self.bytes = bytes
    next = start
  }

  mutating func parse() throws(ConninfoError) -> [Conninfo.Parameter] {
    try parseUser()
    try parseHosts()
    if take("/") {
      let range = skip(until: "?")
      if !range.isEmpty { try append("dbname", range) }
    }
    if take("?") { try parseQuery() }
    return parameters
  }

  /// There is a user only where an `@` comes before any `/`.
  private mutating func parseUser() throws(ConninfoError) {
    let end = bytes[next...].firstIndex { $0 == UInt8(ascii: "@") || $0 == UInt8(ascii: "/") }
    guard let end, bytes[end] == UInt8(ascii: "@") else { return }
    let user = skip(until: ":@")
    if !user.isEmpty { try append("user", user) }
    if take(":") {
      let password = skip(until: "@")
      if !password.isEmpty { try append("password", password) }
    }
    next += 1
  }

  /// Hosts and ports become one comma-separated value each; a host without a port leaves an empty place.
  private mutating func parseHosts() throws(ConninfoError) {
    let start = next
    var hosts: [String] = []
    var ports: [String] = []
    repeat {
      if take("[") {
        let host = skip(until: "]")
        guard take("]") else { throw ConninfoError("an IPv6 address without its closing bracket", at: host.lowerBound) }
        if host.isEmpty { throw ConninfoError("an empty IPv6 address", at: host.lowerBound) }
        guard next == bytes.count || ":/?,".utf8.contains(bytes[next]) else {
          throw ConninfoError("an unexpected character behind an IPv6 address", at: next)
        }
        hosts.append(try decoded(host))
      } else {
        hosts.append(try decoded(skip(until: ":/?,")))
      }
      // libpq would take the rest of a password for a host; refusing keeps it from being shown as one.
      if let at = bytes[start..<next].firstIndex(of: UInt8(ascii: "@")) {
        throw ConninfoError("a second \"@\" (write it as %40 within user and password)", at: at)
      }
      ports.append(take(":") ? try decoded(skip(until: "/?,")) : "")
    } while take(",")
    let range = start..<next
    let host = hosts.joined(separator: ",")
    let port = ports.joined(separator: ",")
    if !host.isEmpty { parameters.append(.init(keyword: "host", value: host, range: range)) }
    if !port.isEmpty { parameters.append(.init(keyword: "port", value: port, range: range)) }
  }

  private mutating func parseQuery() throws(ConninfoError) {
    while next < bytes.count {
      let keywordRange = skip(until: "=&")
      guard take("=") else { throw ConninfoError("a URI parameter without \"=\"", at: keywordRange.lowerBound) }
      let valueRange = skip(until: "=&")
      if next < bytes.count, bytes[next] == UInt8(ascii: "=") {
        throw ConninfoError("a URI parameter with a second \"=\" (write it as %3D)", at: next)
      }
      let keyword = try decoded(keywordRange)
      // JDBC's spelling, which libpq accepts too.
      if keyword == "ssl", try decoded(valueRange) == "true" {
        parameters.append(.init(keyword: "sslmode", value: "require", range: valueRange))
      } else {
        parameters.append(.init(keyword: keyword, value: try decoded(valueRange), range: valueRange))
      }
      _ = take("&")
    }
  }

  private mutating func append(_ keyword: String, _ range: Range<Int>) throws(ConninfoError) {
    parameters.append(.init(keyword: keyword, value: try decoded(range), range: range))
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard next < bytes.count, bytes[next] == UInt8(ascii: character) else { return false }
    next += 1
    return true
  }

  /// Moves to the first byte that is one of `stops`, or to the end.
  private mutating func skip(until stops: String) -> Range<Int> {
    let start = next
    while next < bytes.count, !stops.utf8.contains(bytes[next]) { next += 1 }
    return start..<next
  }

  /// Percent-decoding (RFC 3986, 2.1); `%00` cannot be meant, since libpq's strings end there.
  private func decoded(_ range: Range<Int>) throws(ConninfoError) -> String {
    var result: [UInt8] = []
    var index = range.lowerBound
    while index < range.upperBound {
      guard bytes[index] == UInt8(ascii: "%") else {
        result.append(bytes[index])
        index += 1
        continue
      }
      guard index + 2 < range.upperBound, let high = hexDigit(bytes[index + 1]), let low = hexDigit(bytes[index + 2])
      else {
        throw ConninfoError("a \"%\" that two hexadecimal digits do not follow (write it as %25)", at: index)
      }
      if high == 0, low == 0 { throw ConninfoError("a forbidden %00", at: index) }
      result.append(high << 4 | low)
      index += 3
    }
    return String(decoding: result, as: UTF8.self)
  }

  private func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
