/// The startup parameter `options`: switches for the server process in one text.
public enum CommandLineOptions {
  /// Why an `options` text cannot be taken. The texts and SQLSTATEs are PostgreSQL's.
  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    /// A switch other than `-c` and `--name=value`, or a word that belongs to no switch.
    case invalidArgument(String)
    /// `-c name` without `=value`.
    case missingValue(argument: String)
    /// `--name` without `=value`.
    case missingLongValue(argument: String)
    /// Nothing in front of the `=`, or a name that is not UTF-8.
    case invalidName(String)

    /// The SQLSTATE that PostgreSQL gives in the same case.
    public var sqlState: SQLState {
      switch self {
      case .invalidArgument, .missingValue, .missingLongValue: .syntaxError
      case .invalidName: .undefinedObject
      }
    }

    public var description: String {
      switch self {
      case .invalidArgument(let word): "invalid command-line argument for server process: \(word)"
      case .missingValue(let argument): "-c \(argument) requires a value"
      case .missingLongValue(let argument): "--\(argument) requires a value"
      case .invalidName(let name): "unrecognized configuration parameter \"\(name)\""
      }
    }
  }

  /// The settings that `options` names, in order; where a name comes twice the later one counts.
  ///
  /// Understands `-c name=value`, `-cname=value` and `--name=value`, as `process_postgres_switches` of PostgreSQL does;
  /// dashes in names become underscores. PostgreSQL's other switches are short for settings or for the superuser's
  /// experiments; they are refused by name rather than ignored.
  public static func parse(_ options: [UInt8]) throws(Failure) -> [StartupParameter] {
    var settings: [StartupParameter] = []
    var words = split(options)[...]
    while let word = words.popFirst() {
      guard word.count >= 2, word[0] == dash else { throw .invalidArgument(shown(word)) }
      switch word[1] {
      case dash where word.count == 2:
        // A bare "--" ends the switches, and the server process takes no other arguments.
        guard let next = words.first else { return settings }
        throw .invalidArgument(shown(next))
      case dash:
        let argument = word[2...]
        guard let setting = try setting(argument) else { throw .missingLongValue(argument: shown(argument)) }
        settings.append(setting)
      case UInt8(ascii: "c"):
        let argument: ArraySlice<UInt8>
        if word.count > 2 {
          argument = word[2...]
        } else if let next = words.popFirst() {
          argument = next[...]
        } else {
          throw .invalidArgument(shown(word))
        }
        guard let setting = try setting(argument) else { throw .missingValue(argument: shown(argument)) }
        settings.append(setting)
      default:
        throw .invalidArgument(shown(word))
      }
    }
    return settings
  }

  /// Words between white space; a backslash takes the next byte as it is (`pg_split_opts`).
  static func split(_ options: [UInt8]) -> [[UInt8]] {
    var words: [[UInt8]] = []
    var word: [UInt8]?
    var isEscaped = false
    for byte in options {
      if isEscaped {
        word?.append(byte)
        isEscaped = false
      } else if byte == UInt8(ascii: "\\") {
        word = word ?? []
        isEscaped = true
      } else if byte == 0x20 || 0x09...0x0d ~= byte {
        if let complete = word { words.append(complete) }
        word = nil
      } else {
        word = word ?? []
        word?.append(byte)
      }
    }
    if let complete = word { words.append(complete) }
    return words
  }

  private static let dash = UInt8(ascii: "-")

  /// Splits `name=value` at the first equals sign; nil where there is none.
  private static func setting(_ argument: ArraySlice<UInt8>) throws(Failure) -> StartupParameter? {
    guard let equals = argument.firstIndex(of: UInt8(ascii: "=")) else { return nil }
    let name = WireText(argument[..<equals].map { $0 == dash ? UInt8(ascii: "_") : $0 })
    guard !name.isEmpty, let exactName = name.exactText else { throw .invalidName(name.text) }
    return StartupParameter(name: exactName, value: WireText(Array(argument[(equals + 1)...])))
  }

  private static func shown(_ word: some Collection<UInt8>) -> String {
    String(decoding: word, as: UTF8.self)
  }
}
