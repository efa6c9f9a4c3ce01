internal import Glibc

/// Where a password for the server comes from.
public enum PasswordSource: Sendable, Equatable {
  /// The settings themselves.
  case literal(String)
  /// A variable of the daemon's environment.
  case environment(String)
  /// A file, by its absolute path.
  case file(String)
  /// A credential of systemd's: a file in `$CREDENTIALS_DIRECTORY` (systemd.exec(5), "Credentials").
  case credential(String)

  /// Reads the password.
  ///
  /// One line end after it is not part of it, as with `.pgpass` and what editors and `echo` leave in files.
  ///
  /// - Parameter environment: the value of an environment variable.
  /// - Throws: what is missing, without any piece of what is there.
  public func resolve(environment: (String) -> String?) throws(PasswordSourceError) -> String {
    switch self {
    case .literal(let text): return text
    case .environment(let name):
      guard let text = environment(name) else {
        throw PasswordSourceError(message: "the environment variable \(quoted(name)) is not set")
      }
      guard !text.isEmpty else {
        throw PasswordSourceError(message: "the environment variable \(quoted(name)) is empty")
      }
      return text
    case .file(let path): return try PasswordSource.read(path)
    case .credential(let name):
      guard let directory = environment("CREDENTIALS_DIRECTORY") else {
        throw PasswordSourceError(
          message: "the credential \(quoted(name)) needs $CREDENTIALS_DIRECTORY, which systemd sets for a unit with "
            + "LoadCredential=")
      }
      return try PasswordSource.read("\(directory)/\(name)")
    }
  }

  /// Far beyond any password.
  private static let largestFile = 65_536

  private static func read(_ path: String) throws(PasswordSourceError) -> String {
    func failure(_ reason: String) -> PasswordSourceError {
      PasswordSourceError(message: "the file \(quoted(path)) \(reason)")
    }
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure("cannot be opened: \(unsafe String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while bytes.count <= largestFile {
      let count = unsafe chunk.withUnsafeMutableBytes { unsafe Glibc.read(descriptor, $0.baseAddress, $0.count) }
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw failure("cannot be read: \(unsafe String(cString: strerror(errno)))") }
      if count == 0 { break }
      bytes += chunk.prefix(count)
    }
    guard bytes.count <= largestFile else { throw failure("is too large for a password") }
    if bytes.last == UInt8(ascii: "\n") {
      bytes.removeLast()
      // A carriage return without a line feed behind it ends no line, so it may be the password's own.
      if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
    }
    guard !bytes.isEmpty else { throw failure("is empty") }
    guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
      throw failure("is no text")
    }
    return text
  }
}

/// A password that is not where the settings say.
public struct PasswordSourceError: Error, Sendable, Equatable {
  /// One line, without secrets.
  public let message: String
}

/// What the settings say, but never a password.
extension PasswordSource: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  public var description: String {
    switch self {
    case .literal: "********"
    case .environment(let name): "{ env = \(quoted(name)) }"
    case .file(let path): "{ file = \(quoted(path)) }"
    case .credential(let name): "{ credential = \(quoted(name)) }"
    }
  }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: []) }
}

extension ValueFormat where Value == PasswordSource {
  /// A string, or a table with one key.
  static let password = ValueFormat(
    read: { value throws(Refusal) in
      switch value.content {
      case .string(let text):
        if text.utf8.contains(0) { throw Refusal("must not contain a NUL character") }
        return .literal(text)
      case .table(let entries):
        guard let entry = entries.first, entries.count == 1 else {
          throw Refusal("must name one place: \(places)", position: value.position)
        }
        return try source(entry)
      default: throw mismatch("a table with one key", example: "{ env = \"APP_PASSWORD\" }", found: value)
      }
    },
    show: { source in
      if case .literal = source { .text(source.description) } else { .table(source.description) }
    })

  private static let places = "{ env = \"…\" }, { file = \"…\" } or { credential = \"…\" }"

  private static func source(_ entry: TOMLEntry) throws(Refusal) -> PasswordSource {
    guard case .string(let text) = entry.value.content, !text.isEmpty, !text.utf8.contains(0) else {
      throw Refusal("\(keyPart(entry.key)) must be a string with text in it", position: entry.position)
    }
    switch entry.key {
    case "env":
      if text.utf8.contains(UInt8(ascii: "=")) {
        throw Refusal("env must be the name of a variable, without \"=\"", position: entry.position)
      }
      return .environment(text)
    case "file":
      if text.first != "/" { throw Refusal("file must be an absolute path", position: entry.position) }
      return .file(text)
    case "credential":
      if text.contains("/") || text == ".." || text == "." {
        throw Refusal("credential must be a name, not a path", position: entry.position)
      }
      return .credential(text)
    default:
      throw Refusal(
        "cannot come from \(quoted(entry.key, limit: 40)), only from \(places)",
        suggestion: Suggestions.nearest(to: entry.key, among: ["env", "file", "credential"]), position: entry.position)
    }
  }
}
