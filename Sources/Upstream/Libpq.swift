import CLibpq
import Glibc

/// One keyword of a connection string with its value.
struct ConnectionOption: Sendable, Hashable {
  var keyword: String
  var value: String
}

/// Calls of libpq that take or give lists of options, in Swift's types. No connection is made here.
enum Libpq {
  /// All keywords that this libpq knows, with the values that `conninfo` itself gives (nil where it gives none).
  /// Fails with libpq's own words, which may repeat pieces of `conninfo`.
  static func parse(_ conninfo: String) -> Result<[(keyword: String, value: String?)], ParseFailure> {
    var message: UnsafeMutablePointer<CChar>?
    guard let list = unsafe PQconninfoParse(conninfo, &message) else {
      defer { unsafe PQfreemem(message) }
      return .failure(ParseFailure(text: unsafe message.map { unsafe String(cString: $0) } ?? "out of memory"))
    }
    defer { unsafe PQconninfoFree(list) }
    return .success(unsafe options(in: list))
  }

  struct ParseFailure: Error {
    let text: String
  }

  /// What libpq would connect to: the options given, completed by service file, environment and built-in defaults. The
  /// value of `ssl_min_protocol_version` is missing.
  static func resolve(_ given: [ConnectionOption]) -> Result<[String: String], ParseFailure> {
    guard let connection = unsafe completeOnly(given) else { return .failure(ParseFailure(text: "out of memory")) }
    defer { unsafe PQfinish(connection) }
    let message = unsafe String(cString: PQerrorMessage(connection))
    guard message.contains("\"\(refusedValue)\"") else { return .failure(ParseFailure(text: message)) }
    guard let list = unsafe PQconninfo(connection) else { return .failure(ParseFailure(text: "out of memory")) }
    defer { unsafe PQconninfoFree(list) }
    var values: [String: String] = [:]
    for (keyword, value) in unsafe options(in: list) { values[keyword] = value }
    return .success(values)
  }

  /// What libpq takes for an empty host: its built-in directory of sockets.
  static let builtInHost: String = {
    guard let connection = unsafe completeOnly([ConnectionOption(keyword: "host", value: ",")]) else { return "/tmp" }
    defer { unsafe PQfinish(connection) }
    return unsafe PQhost(connection).map { unsafe String(cString: $0) } ?? "/tmp"
  }()

  /// A `PGconn` with its options completed that never touches the network.
  ///
  /// libpq completes options only on a `PGconn`, and gives one out only once it has begun to connect. So one option gets
  /// a value that libpq refuses, after it has completed the options and before it connects.
  private static func completeOnly(_ given: [ConnectionOption]) -> OpaquePointer? {
    let refused = ConnectionOption(keyword: "ssl_min_protocol_version", value: refusedValue)
    return unsafe startConnecting(given.filter { $0.keyword != refused.keyword } + [refused])
  }

  private static let refusedValue = "complete-only"

  /// `PQconnectStartParams`, with `dbname` taken literally. nil only without memory.
  static func startConnecting(_ options: [ConnectionOption]) -> OpaquePointer? {
    let count = options.count
    let keywords = UnsafeMutablePointer<UnsafePointer<CChar>?>.allocate(capacity: count + 1)
    let values = UnsafeMutablePointer<UnsafePointer<CChar>?>.allocate(capacity: count + 1)
    defer {
      for index in 0..<count {
        unsafe free(UnsafeMutablePointer(mutating: keywords[index]))
        unsafe free(UnsafeMutablePointer(mutating: values[index]))
      }
      unsafe keywords.deallocate()
      unsafe values.deallocate()
    }
    for (index, option) in options.enumerated() {
      unsafe (keywords + index).initialize(to: UnsafePointer(strdup(option.keyword)))
      unsafe (values + index).initialize(to: UnsafePointer(strdup(option.value)))
    }
    unsafe (keywords + count).initialize(to: nil)
    unsafe (values + count).initialize(to: nil)
    return unsafe PQconnectStartParams(keywords, values, 0)
  }

  private static func options(
    in list: UnsafeMutablePointer<PQconninfoOption>
  ) -> [(keyword: String, value: String?)] {
    var found: [(keyword: String, value: String?)] = []
    var next = unsafe list
    while let keyword = unsafe next.pointee.keyword {
      unsafe found.append((String(cString: keyword), next.pointee.val.map { unsafe String(cString: $0) }))
      unsafe next += 1
    }
    return found
  }
}
