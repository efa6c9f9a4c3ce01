extension LogRecord {
  /// As one JSON object on one line (RFC 8259): `time`, `level`, `message`, then the fields, all of them strings.
  public var jsonLine: String {
    let members = [Field("time", time.iso8601), Field("level", level.rawValue), Field("message", message)] + fields
    return "{" + members.map { "\($0.name.asJSON):\($0.value.asJSON)" }.joined(separator: ",") + "}"
  }
}

extension String {
  /// In quotes. Everything that is not printable ASCII beyond the letters of Unicode is escaped where RFC 8259, section
  /// 7, asks for it, and so are the line ends that only Unicode knows.
  fileprivate var asJSON: String {
    var text = "\""
    for scalar in unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case "\0"..<" ", "\u{7f}"..."\u{9f}", "\u{2028}", "\u{2029}":
        let digits = String(scalar.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text + "\""
  }
}
