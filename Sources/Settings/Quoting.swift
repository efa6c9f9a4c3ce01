/// `text` as a TOML basic string, with its quotes; at most `limit` characters of it.
func quoted(_ text: String, limit: Int = .max) -> String {
  var result = "\""
  for character in text.unicodeScalars.prefix(limit) {
    switch character {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case "\t": result += "\\t"
    case "\r": result += "\\r"
    case "\0"..<" ", "\u{7F}"..<"\u{A0}":
      let digits = String(character.value, radix: 16, uppercase: true)
      result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    default: result.unicodeScalars.append(character)
    }
  }
  return result + (text.unicodeScalars.count > limit ? "…\"" : "\"")
}

/// `name` as one part of a TOML key: bare where TOML allows it, else quoted.
func keyPart(_ name: String) -> String {
  let isBare =
    !name.isEmpty
    && name.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
        true
      default: false
      }
    }
  return isBare ? name : quoted(name)
}
