extension LogRecord {
  /// As one line of text: time, level, message, then `name=value`.
  public var textLine: String { "\(time.iso8601) \(level.rawValue) \(text)" }

  /// Message and fields, on one line.
  var text: String {
    message.withoutControls + fields.map { " \($0.name)=\($0.value.asWord)" }.joined()
  }
}

extension String {
  /// As one word, in quotes where it would not be one.
  fileprivate var asWord: String {
    let isWord = !isEmpty && unicodeScalars.allSatisfy { $0 != " " && $0 != "\"" && !$0.isControl }
    if isWord { return self }
    var word = "\""
    for scalar in unicodeScalars {
      if scalar == "\"" || scalar == "\\" { word.append("\\") }
      word += scalar.visible
    }
    return word + "\""
  }

  /// The same with control characters written out.
  fileprivate var withoutControls: String {
    unicodeScalars.contains(where: \.isControl) ? unicodeScalars.map(\.visible).joined() : self
  }
}

extension Unicode.Scalar {
  /// It would break a line, or command a terminal or the direction of writing.
  fileprivate var isControl: Bool {
    if isASCII { return value < 0x20 || value == 0x7f }
    switch properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator: return true
    default: return false
    }
  }

  /// Itself, or as it is escaped in Swift.
  fileprivate var visible: String {
    guard isControl else { return String(Character(self)) }
    switch self {
    case "\n": return "\\n"
    case "\r": return "\\r"
    case "\t": return "\\t"
    default: return "\\u{\(String(value, radix: 16))}"
    }
  }
}
