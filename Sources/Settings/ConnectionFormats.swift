// The formats of addresses, names and connection strings; the general ones are in ValueFormat.swift.

extension ValueFormat where Value == ListenAddress {
  static let address = ValueFormat(
    read: { value throws(Refusal) in
      guard case .string(let text) = value.content else {
        throw mismatch("an address", example: "\"127.0.0.1:6432\" or \"/run/lifeguard/.s.PGSQL.6432\"", found: value)
      }
      do throws(ListenAddressError) {
        return try ListenAddress.parse(text)
      } catch {
        throw Refusal(
          "names \(quoted(text, limit: 120)), which \(error.reason)", suggestion: error.suggestion,
          position: value.position)
      }
    },
    show: { .text($0.description) })
}

extension ValueFormat where Value == [ListenAddress] {
  /// A list of addresses, or a single one without the brackets.
  static let addresses = ValueFormat(
    read: { value throws(Refusal) in
      guard case .array(let items) = value.content else { return [try ValueFormat<ListenAddress>.address.read(value)] }
      var addresses: [ListenAddress] = []
      for item in items {
        let address = try ValueFormat<ListenAddress>.address.read(item)
        if addresses.contains(address) { throw Refusal("names \(address) twice", position: item.position) }
        addresses.append(address)
      }
      if addresses.isEmpty { throw Refusal("must name at least one address, such as \"127.0.0.1:6432\"") }
      return addresses
    },
    show: { .list($0.map(\.description)) })
}

extension ValueFormat where Value == [String] {
  /// A list of names.
  static let names = ValueFormat(
    read: { value throws(Refusal) in
      guard case .array(let items) = value.content else {
        throw mismatch("a list of names", example: "[\"postgres\"]", found: value)
      }
      var names: [String] = []
      for item in items {
        guard case .string(let name) = item.content else {
          throw mismatch("a list of names", example: "[\"postgres\"]", found: item)
        }
        if let reason = nameProblem(name) { throw Refusal(reason, position: item.position) }
        names.append(name)
      }
      return names
    },
    show: { .list($0) })
}

/// Why `name` can be no name of a database or user, if so. PostgreSQL cuts names off after 63 bytes (NAMEDATALEN).
func nameProblem(_ name: String) -> String? {
  if name.isEmpty { return "has an empty name" }
  if name.unicodeScalars.contains("\0") { return "has a name with a NUL character" }
  if name.utf8.count > 63 { return "has a name of \(name.utf8.count) bytes; PostgreSQL's names have at most 63" }
  return nil
}

extension ValueFormat where Value == Conninfo {
  /// A connection string that the daemon can serve. No message quotes it, for it may hold a password.
  static let upstream = ValueFormat(
    read: { value throws(Refusal) in
      guard case .string(let text) = value.content else {
        throw mismatch("a connection string", example: "\"host=db1 dbname=app\"", found: value)
      }
      let conninfo: Conninfo
      do throws(ConninfoError) {
        conninfo = try Conninfo.parse(text)
      } catch {
        throw Refusal("is no connection string: \(error)")
      }
      if conninfo.parameters.isEmpty { throw Refusal("is empty; write for example \"host=db1 dbname=app\"") }
      try checkServable(conninfo)
      return conninfo
    },
    show: { .text($0.masked) })
}

private func checkServable(_ conninfo: Conninfo) throws(Refusal) {
  if let mode = conninfo["gssencmode"], mode != "disable" {
    throw Refusal("asks for gssencmode=\(mode), but encrypted GSS connections cannot be pooled; leave it out")
  }
  for port in (conninfo["port"] ?? "").split(separator: ",") {
    guard let number = Int(port), (1...65535).contains(number) else {
      throw Refusal("has an invalid port; a port is a number from 1 to 65535")
    }
  }
}
