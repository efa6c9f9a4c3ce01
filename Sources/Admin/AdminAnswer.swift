/// The answer to one command.
public enum AdminAnswer: Sendable, Equatable {
  /// Rows, and the tag of the CommandComplete that follows them.
  case table(AdminTable, tag: String)
  /// A command without rows.
  case done(tag: String)
  /// There was no command.
  case empty
  case failed(AdminError)

  /// For the admin socket: a table as psql shows it, the tag of a command without rows, or `ERROR:  …`. Ends with a
  /// newline.
  public var text: String {
    switch self {
    case .table(let table, _): table.alignedText
    case .done(let tag): "\(tag)\n"
    case .empty: "\n"
    case .failed(let error):
      "\(AdminAnswer.errorPrefix)\(error.message)\n" + (error.hint.map { "HINT:  \($0)\n" } ?? "")
    }
  }

  /// What an error begins with, and nothing else does.
  public static let errorPrefix = "ERROR:  "

  /// For the admin socket: an array with an object for each row, an object `{"command": …}`, or an object
  /// `{"error": {"sqlstate": …, "message": …, "hint": …}}`. Ends with a newline.
  public var json: String {
    switch self {
    case .table(let table, _): return table.json
    case .done(let tag): return JSONText.object([("command", JSONText.string(tag))]) + "\n"
    case .empty: return "{}\n"
    case .failed(let error):
      let fields = [
        ("sqlstate", JSONText.string(error.sqlState)), ("message", JSONText.string(error.message)),
        ("hint", JSONText.string(error.hint)),
      ]
      return AdminAnswer.jsonErrorPrefix + JSONText.object(fields) + "}\n"
    }
  }

  /// What an error begins with, and nothing else does.
  public static let jsonErrorPrefix = "{\"error\": "
}

/// One line that somebody has sent to the admin socket: a command, with `json` ahead of it for an answer in JSON.
public struct AdminRequest: Sendable, Equatable {
  /// The command, not yet read.
  public var command: String
  /// Whether the answer is to be JSON.
  public var wantsJSON: Bool

  /// Reads a line, without its end.
  public init(line: String) {
    let text = line.drop { $0.isWhitespace }
    let word = text.prefix { !$0.isWhitespace }
    wantsJSON = word.lowercased() == "json"
    command = String(wantsJSON ? text.dropFirst(word.count).drop { $0.isWhitespace } : text)
  }

  /// A request for one command.
  public init(command: String, wantsJSON: Bool) {
    self.command = command
    self.wantsJSON = wantsJSON
  }

  /// The line that means this request, with its end. Line ends within the command, which could only be blanks, become
  /// blanks.
  public var line: String {
    (wantsJSON ? "json " : "") + command.map { $0.isNewline ? " " : String($0) }.joined() + "\n"
  }
}
