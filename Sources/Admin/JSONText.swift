/// Makes JSON (RFC 8259) of values; pieces of text go in, one longer text comes out.
enum JSONText {
  /// A string, quoted and escaped.
  static func string(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case _ where scalar.properties.generalCategory == .control:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  /// A string, or null.
  static func string(_ text: String?) -> String { text.map(string) ?? "null" }

  /// A number, or null. JSON knows neither infinity nor NaN.
  static func number(_ value: Double?) -> String {
    guard let value, value.isFinite else { return "null" }
    return value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value)
  }

  /// An object of names and texts that are JSON already.
  static func object(_ members: [(name: String, value: String)]) -> String {
    "{" + members.map { "\(string($0.name)): \($0.value)" }.joined(separator: ", ") + "}"
  }

  /// An array of texts that are JSON already.
  static func array(_ elements: [String]) -> String { "[" + elements.joined(separator: ", ") + "]" }
}
