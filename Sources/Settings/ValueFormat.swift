/// A setting's value in the form in which it is shown.
enum SettingValue: Sendable, Equatable {
  case text(String)
  case integer(Int)
  case boolean(Bool)
  case list([String])
  /// An inline table, as TOML.
  case table(String)

  /// Without quotes, as in a table.
  var plain: String {
    switch self {
    case .text(let text): text
    case .integer(let number): "\(number)"
    case .boolean(let boolean): "\(boolean)"
    case .list(let items): items.joined(separator: ", ")
    case .table(let text): text
    }
  }

  /// As TOML.
  var literal: String {
    switch self {
    case .text(let text): quoted(text)
    case .integer, .boolean, .table: plain
    case .list(let items): "[\(items.map { quoted($0) }.joined(separator: ", "))]"
    }
  }
}

/// Why a value cannot be taken. The message continues a sentence that begins with the key.
struct Refusal: Error {
  var message: String
  var suggestion: String?
  /// Where in a list the trouble is, if the value is one.
  var position: SourcePosition?

  init(_ message: String, suggestion: String? = nil, position: SourcePosition? = nil) {
    self.message = message
    self.suggestion = suggestion
    self.position = position
  }
}

/// How one kind of value is read and shown.
struct ValueFormat<Value>: Sendable {
  var read: @Sendable (TOMLValue) throws(Refusal) -> Value
  var show: @Sendable (Value) -> SettingValue

  init(
    read: @escaping @Sendable (TOMLValue) throws(Refusal) -> Value,
    show: @escaping @Sendable (Value) -> SettingValue
  ) {
    self.read = read
    self.show = show
  }

  /// The same format, which also refuses values for which `reason` says why.
  func refusing(_ reason: @escaping @Sendable (Value) -> String?) -> ValueFormat {
    let read = self.read
    return ValueFormat(
      read: { value throws(Refusal) in
        let result = try read(value)
        if let reason = reason(result) { throw Refusal(reason) }
        return result
      },
      show: show)
  }

  /// The same format with one more `word`, which stands for nil.
  func or(_ word: String) -> ValueFormat<Value?> {
    let read = self.read
    let show = self.show
    return ValueFormat<Value?>(
      read: { value throws(Refusal) in value.content == .string(word) ? nil : try read(value) },
      show: { value in value.map(show) ?? .text(word) })
  }

  /// The same format for a value that may be absent; an empty string means so too.
  var optional: ValueFormat<Value?> { or("") }
}

/// "must be WANTED, such as EXAMPLE, not FOUND".
func mismatch(_ wanted: String, example: String, found: TOMLValue) -> Refusal {
  Refusal("must be \(wanted), such as \(example), not \(found.description)", position: found.position)
}

extension ValueFormat where Value == Bool {
  static let boolean = ValueFormat(
    read: { value throws(Refusal) in
      guard case .boolean(let boolean) = value.content else {
        throw Refusal("must be true or false (without quotes), not \(value.description)")
      }
      return boolean
    },
    show: { .boolean($0) })
}

extension ValueFormat where Value == Int {
  /// A whole number within `range`; `floor` says why there is nothing below, where that is not obvious. `words` are
  /// the strings that the key takes besides, for the message.
  static func integer(
    _ range: ClosedRange<Int>, example: Int, floor: String? = nil, words: String? = nil
  ) -> ValueFormat {
    ValueFormat(
      read: { value throws(Refusal) in
        guard case .integer(let wide) = value.content else {
          let wanted = words.map { "a whole number or \(quoted($0))" } ?? "a whole number"
          throw mismatch(wanted, example: "\(example)", found: value)
        }
        let number = Int(wide)
        if number < range.lowerBound {
          let reason = floor.map { ": \($0)" } ?? ""
          throw Refusal("must be at least \(range.lowerBound), not \(number)\(reason)")
        }
        if number > range.upperBound { throw Refusal("must be at most \(range.upperBound), not \(number)") }
        return number
      },
      show: { .integer($0) })
  }
}

extension ValueFormat where Value == String {
  /// Any text without a NUL.
  static func string(example: String) -> ValueFormat {
    ValueFormat(
      read: { value throws(Refusal) in
        guard case .string(let string) = value.content else {
          throw mismatch("a string", example: quoted(example), found: value)
        }
        if string.unicodeScalars.contains("\0") { throw Refusal("must not contain a NUL character") }
        return string
      },
      show: { .text($0) })
  }

  /// The path of a file, or of a Unix socket.
  static func path(example: String, longest: Int = 4095) -> ValueFormat {
    string(example: example).refusing { path in
      if path.isEmpty { return nil }
      if path.first != "/" { return "must be an absolute path, such as \(quoted(example))" }
      if path.utf8.count > longest { return "must be a path of at most \(longest) bytes, not \(path.utf8.count)" }
      return nil
    }
  }
}

extension ValueFormat where Value: RawRepresentable & CaseIterable & Sendable, Value.RawValue == String {
  /// One of the type's words.
  static var choice: ValueFormat {
    ValueFormat(
      read: { value throws(Refusal) in
        let words = Value.allCases.map(\.rawValue)
        if case .string(let word) = value.content {
          if let choice = Value(rawValue: word) { return choice }
          throw Refusal(
            "must be \(alternatives(words)), not \(quoted(word, limit: 40))",
            suggestion: Suggestions.nearest(to: word, among: words))
        }
        throw Refusal("must be \(alternatives(words)), not \(value.description)")
      },
      show: { .text($0.rawValue) })
  }
}

/// `"a", "b" or "c"`.
func alternatives(_ words: [String]) -> String {
  let words = words.map { quoted($0) }
  guard let last = words.last, words.count > 1 else { return words.joined() }
  return words.dropLast().joined(separator: ", ") + " or " + last
}

extension ValueFormat where Value == Duration {
  /// A time. `zero` says why it cannot be 0, `off` why it cannot be switched off; with nil there, zero is a time like
  /// any other. To make "off" legal use `timeOrOff`.
  static func time(example: String, zero: String? = nil, off: String) -> ValueFormat {
    ValueFormat(
      read: { value throws(Refusal) in
        guard let time = try readTime(value, example: example, zero: zero) else {
          throw Refusal("cannot be switched off: \(off)")
        }
        return time
      },
      show: { .text(DurationText.write($0)) })
  }
}

extension ValueFormat where Value == Duration? {
  /// A time, or "off", or -1 for the same.
  static func timeOrOff(example: String, zero: String?) -> ValueFormat {
    ValueFormat(
      read: { value throws(Refusal) in try readTime(value, example: example, zero: zero) },
      show: { .text($0.map(DurationText.write) ?? "off") })
  }
}

private func readTime(_ value: TOMLValue, example: String, zero: String?) throws(Refusal) -> Duration? {
  let reading: DurationText.Reading
  switch value.content {
  case .integer(let seconds): reading = DurationText.read(seconds: Double(seconds))
  case .real(let seconds): reading = DurationText.read(seconds: seconds)
  case .string(let text): reading = DurationText.read(text)
  default: reading = .notATime
  }
  switch reading {
  case .off: return nil
  case .time(.zero):
    if let zero { throw Refusal("must not be 0: \(zero)") }
    return .zero
  case .time(let time): return time
  case .negative: throw Refusal("must not be negative, only -1 means \"off\"")
  case .tooLong: throw Refusal("must be at most \(DurationText.write(DurationText.longest)), not \(value.description)")
  case .tooShort: throw Refusal("must be at least 1us, not \(value.description)")
  case .noUnit:
    guard case .string(let text) = value.content else { preconditionFailure("a number needs no unit") }
    throw Refusal("needs a unit within quotes", suggestion: text.trimmingSpaces + "s")
  case .unknownUnit(let unit):
    throw Refusal("has an unknown unit \(quoted(unit, limit: 20)); there are us, ms, s, min, h and d")
  case .notATime:
    throw mismatch("a time", example: "\(quoted(example)) or a number of seconds", found: value)
  }
}

extension String {
  fileprivate var trimmingSpaces: String { String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()) }
}
