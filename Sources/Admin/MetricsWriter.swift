/// Writes Prometheus' text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats): each metric is one
/// family with HELP and TYPE ahead of its samples.
struct MetricsWriter {
  /// The name and value of a label.
  typealias Label = (name: String, value: String)

  /// Everything written so far.
  private(set) var text = ""

  /// What a family's values are.
  enum Kind: String {
    case counter, gauge, histogram
  }

  /// A family of numbers: one sample for each set of labels. A family without samples is left out.
  mutating func family(
    _ name: String, _ kind: Kind, _ help: String, _ samples: [(labels: String, value: String)]
  ) {
    if samples.isEmpty { return }
    begin(name, kind, help)
    for sample in samples { line(name, sample.labels, sample.value) }
  }

  /// A family with one number and no labels.
  mutating func single(_ name: String, _ kind: Kind, _ help: String, _ value: String) {
    family(name, kind, help, [("", value)])
  }

  /// Begins a family whose samples follow by ``line(_:_:_:)``.
  mutating func begin(_ name: String, _ kind: Kind, _ help: String) {
    text += "# HELP \(name) \(Self.escaped(help, quotes: false))\n# TYPE \(name) \(kind.rawValue)\n"
  }

  /// One sample. The labels are text already (``labels(_:)``): many samples have the same.
  mutating func line(_ name: String, _ labels: String, _ value: String) {
    text += name
    if !labels.isEmpty {
      text += "{"
      text += labels
      text += "}"
    }
    text += " "
    text += value
    text += "\n"
  }

  /// Labels as they stand between the braces.
  static func labels(_ labels: [Label]) -> String {
    labels.map { "\($0.name)=\"\(escaped($0.value, quotes: true))\"" }.joined(separator: ",")
  }

  /// Microseconds as seconds, exactly, without superfluous zeros.
  static func seconds(microseconds: UInt64) -> String {
    let (whole, fraction) = microseconds.quotientAndRemainder(dividingBy: 1_000_000)
    if fraction == 0 { return String(whole) }
    var digits = String(fraction)
    digits = String(repeating: "0", count: 6 - digits.count) + digits
    while digits.last == "0" { digits.removeLast() }
    return "\(whole).\(digits)"
  }

  /// Backslash and line feed are escaped in help texts and label values, quotes in label values.
  private static func escaped(_ text: String, quotes: Bool) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\"" where quotes: result += "\\\""
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
