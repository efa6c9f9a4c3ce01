/// A libpq connection string: `host=db1 dbname=app` or `postgresql://db1/app`.
///
/// Follows PostgreSQL's documentation, "Connection Strings" (libpq, 34.1.1): keywords and values, or a URI; of a
/// keyword given twice the last one counts. libpq itself remains the judge of keywords and values: this type is for
/// what must be known without it, and for showing the string without its secrets.
public struct Conninfo: Sendable, Equatable {
  /// One keyword and its value, unquoted and decoded.
  public struct Parameter: Sendable, Equatable {
    /// libpq's name of it, such as `host`.
    public var keyword: String
    /// The value; a list such as `db1,db2` is left as it is.
    public var value: String
    /// Where the value stands in the text, in UTF-8 bytes, with its quotes.
    var range: Range<Int>
  }

  /// The string as it was written, which is what libpq gets. Contains secrets.
  public let text: String
  /// In the order in which they were written; a URI's hosts and ports are one parameter each.
  public let parameters: [Parameter]

  /// Reads either form. The error names a place, never a piece of the text, which may be a password.
  public static func parse(_ text: String) throws(ConninfoError) -> Conninfo {
    if text.utf8.contains(0) { throw ConninfoError("it contains a NUL character", at: 0) }
    let bytes = Array(text.utf8)
    for prefix in ["postgresql://", "postgres://"] where text.hasPrefix(prefix) {
      var parser = ConninfoURIParser(bytes: bytes, start: prefix.utf8.count)
      return Conninfo(text: text, parameters: try parser.parse())
    }
    var parser = ConninfoKeywordParser(bytes: bytes)
    return Conninfo(text: text, parameters: try parser.parse())
  }

  /// The value that counts for a keyword; nil where it is absent or empty, which libpq treats alike.
  public subscript(keyword: String) -> String? {
    parameters.last { $0.keyword == keyword }.flatMap { $0.value.isEmpty ? nil : $0.value }
  }

  /// The text with every secret replaced by `***`. What is not known to be harmless counts as a secret, so that a
  /// misspelt `pasword=…` does not show either.
  public var masked: String {
    var bytes = Array(text.utf8)
    for parameter in parameters.reversed() where !Self.harmlessKeywords.contains(parameter.keyword) {
      bytes.replaceSubrange(parameter.range, with: "***".utf8)
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// libpq's keywords (documentation, 34.1.2, up to version 18) without those whose values are secrets.
  private static let harmlessKeywords: Set<String> = [
    "application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "fallback_application_name",
    "gssdelegation", "gssencmode", "gsslib", "host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle",
    "keepalives_interval", "krbsrvname", "load_balance_hosts", "max_protocol_version", "min_protocol_version",
    "oauth_client_id", "oauth_issuer", "oauth_scope", "options", "passfile", "port", "replication", "require_auth",
    "requirepeer", "requiressl", "service", "servicefile", "ssl_max_protocol_version", "ssl_min_protocol_version",
    "sslcert", "sslcertmode", "sslcompression", "sslcrl", "sslcrldir", "sslkey", "sslkeylogfile", "sslmode",
    "sslnegotiation", "sslrootcert", "sslsni", "target_session_attrs", "tcp_user_timeout", "user",
  ]
}

/// Why a text is no connection string.
public struct ConninfoError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A sentence without its full stop that quotes nothing of the text.
  public let reason: String
  /// Where in the text, in UTF-8 bytes from 0.
  public let offset: Int

  init(_ reason: String, at offset: Int) {
    self.reason = reason
    self.offset = offset
  }

  /// The reason and the place, counted from 1.
  public var description: String { "\(reason) (at byte \(offset + 1))" }
}

/// `keyword = value` pairs, as libpq's conninfo_parse() reads them.
private struct ConninfoKeywordParser {
  let bytes: [UInt8]
  var next = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func parse() throws(ConninfoError) -> [Conninfo.Parameter] {
    var parameters: [Conninfo.Parameter] = []
    skipSpace()
    while next < bytes.count {
      let start = next
      while next < bytes.count, bytes[next] != UInt8(ascii: "="), !isSpace(bytes[next]) { next += 1 }
      let keyword = String(decoding: bytes[start..<next], as: UTF8.self)
      skipSpace()
      guard next < bytes.count, bytes[next] == UInt8(ascii: "=") else {
        throw ConninfoError("a word without \"=\" after it", at: start)
      }
      if keyword.isEmpty { throw ConninfoError("a \"=\" without a keyword before it", at: start) }
      next += 1
      skipSpace()
      let valueStart = next
      let value = try value()
      parameters.append(.init(keyword: keyword, value: value, range: valueStart..<next))
      skipSpace()
    }
    return parameters
  }

  private mutating func value() throws(ConninfoError) -> String {
    var value: [UInt8] = []
    let start = next
    let isQuoted = next < bytes.count && bytes[next] == UInt8(ascii: "'")
    if isQuoted { next += 1 }
    while next < bytes.count {
      let byte = bytes[next]
      if isQuoted ? byte == UInt8(ascii: "'") : isSpace(byte) { break }
      next += 1
      if byte == UInt8(ascii: "\\") {
        guard next < bytes.count else { break }
        value.append(bytes[next])
        next += 1
      } else {
        value.append(byte)
      }
    }
    if isQuoted {
      guard next < bytes.count else { throw ConninfoError("a quoted value without its closing quote", at: start) }
      next += 1
    }
    return String(decoding: value, as: UTF8.self)
  }

  private mutating func skipSpace() {
    while next < bytes.count, isSpace(bytes[next]) { next += 1 }
  }

  /// isspace() of the C locale.
  private func isSpace(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || (9...13).contains(byte)
  }
}
