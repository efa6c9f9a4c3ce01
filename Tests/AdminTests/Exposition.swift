/// Reads Prometheus' text format 0.0.4, strictly.
struct Exposition {
  struct Sample {
    var name: String
    var labels: [String: String]
    var value: Double
  }

  struct Family {
    var name: String
    var help: String
    var type: String
    var samples: [Sample] = []
  }

  struct Malformed: Error {
    let line: String
  }

  private(set) var families: [Family] = []

  init(parsing text: String) throws(Malformed) {
    guard text.hasSuffix("\n") else { throw Malformed(line: "the last one") }
    var help: (name: String, text: String)?
    for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init) {
      let words = line.split(separator: " ", maxSplits: 3).map(String.init)
      if line.hasPrefix("# HELP "), words.count == 4 {
        help = (words[2], words[3])
      } else if line.hasPrefix("# TYPE "), words.count == 4, let described = help, described.name == words[2] {
        families.append(Family(name: words[2], help: described.text, type: words[3]))
        help = nil
      } else {
        let sample = try Self.sample(line)
        guard let family = families.last, Self.belongs(sample, to: family) else { throw Malformed(line: line) }
        families[families.count - 1].samples.append(sample)
      }
    }
  }

  private static func belongs(_ sample: Sample, to family: Family) -> Bool {
    guard family.type == "histogram" else { return sample.name == family.name }
    if sample.name == family.name + "_bucket" { return sample.labels["le"] != nil }
    return [family.name + "_sum", family.name + "_count"].contains(sample.name)
  }

  private static func sample(_ line: String) throws(Malformed) -> Sample {
    var rest = line[...]
    let name = takeName(&rest)
    var labels: [String: String] = [:]
    if rest.first == "{" {
      repeat {
        rest.removeFirst()
        let label = takeName(&rest)
        guard !label.isEmpty, rest.hasPrefix("=\""), labels[label] == nil else { throw Malformed(line: line) }
        rest.removeFirst(2)
        guard let value = takeLabelValue(&rest) else { throw Malformed(line: line) }
        labels[label] = value
      } while rest.first == ","
      guard rest.popFirst() == "}" else { throw Malformed(line: line) }
    }
    guard !name.isEmpty, rest.popFirst() == " ", let value = Double(rest) else { throw Malformed(line: line) }
    return Sample(name: name, labels: labels, value: value)
  }

  private static func takeName(_ rest: inout Substring) -> String {
    let name = rest.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
    rest = rest[name.endIndex...]
    return String(name)
  }

  /// Up to and with the closing quote; nil where there is none.
  private static func takeLabelValue(_ rest: inout Substring) -> String? {
    var value = ""
    while let character = rest.popFirst() {
      if character == "\"" { return value }
      guard character == "\\" else {
        value.append(character)
        continue
      }
      switch rest.popFirst() {
      case "n": value.append("\n")
      case "\\": value.append("\\")
      case "\"": value.append("\"")
      default: return nil
      }
    }
    return nil
  }
}
