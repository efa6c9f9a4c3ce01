/// One thing that is wrong, or doubtful, in a settings file or on the command line.
public struct Problem: Sendable, Equatable, CustomStringConvertible {
  /// The file's name as it was given, or the option (`--upstream`) where there is no file.
  public var file: String
  /// The line, counted from 1; nil where nothing was written down (an unreadable file, an option).
  public var line: Int?
  /// The column in Unicode code points, counted from 1.
  public var column: Int?
  /// The section as in its header, without the brackets: `pool`, `databases.app`; empty outside of any section.
  public var section: String
  /// The key within the section; empty where the problem is the section itself.
  public var key: String
  /// What is wrong, without place and suggestion.
  public var message: String
  /// What was probably meant.
  public var suggestion: String?

  /// `section.key`, or whichever of the two there is.
  public var keyPath: String {
    section.isEmpty || key.isEmpty ? section + key : "\(section).\(key)"
  }

  /// As one line: `lifeguard.toml:12:1: [pool] unknown key "pool_sise"; did you mean "pool_size"?`
  public var description: String {
    var text = file
    if let line {
      text += ":\(line)"
      if let column { text += ":\(column)" }
    }
    text += ": "
    if !section.isEmpty { text += "[\(section)] " }
    text += message
    if let suggestion { text += "; did you mean \(quoted(suggestion))?" }
    return text
  }
}

/// Settings that cannot be used: all the problems of a file, in the order in which they stand there.
public struct SettingsError: Error, Equatable, CustomStringConvertible {
  /// Never empty.
  public let problems: [Problem]

  init(_ problems: [Problem]) {
    precondition(!problems.isEmpty, "a settings error without a problem")
    self.problems = problems
  }

  /// One problem a line.
  public var description: String {
    problems.map(\.description).joined(separator: "\n")
  }
}
