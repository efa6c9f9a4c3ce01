internal import Glibc
internal import PostgresWire

/// Users and their secrets, in the format of PgBouncer's `auth_file`: a line for each user, `"name" "secret"`, a double
/// quote within them written twice; what follows is ignored, and so are empty lines and lines that begin with `;`.
public struct Userlist: Sendable {
  /// By name. Names are told apart by their bytes, as PostgreSQL does: a string's equality would give one role's secret to
  /// another whose name Unicode holds for the same (a composed and a decomposed é, K and the Kelvin sign).
  let secrets: [WireText: Secret]
  /// What is doubtful, one line each, without secrets.
  public let warnings: [String]

  /// Without any user.
  public static let empty = Userlist(secrets: [:], warnings: [])

  /// The users, in no particular order.
  public var users: [String] { secrets.keys.map(\.text) }

  /// The password of a user, where it is known in plain text.
  public func plainPassword(of user: String) -> Password? {
    guard case .plain(let password) = secrets[WireText(user)], !password.text.isEmpty else { return nil }
    return password
  }

  /// Far beyond any list of users; keeps a wrong path (a log, a device) from filling the memory.
  private static let largestFile = 64 << 20

  /// Reads a file.
  public static func load(path: String) throws(UserlistError) -> Userlist {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw UserlistError(file: path, reason: "cannot be opened: \(lastError())") }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = unsafe chunk.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw UserlistError(file: path, reason: "cannot be read: \(lastError())") }
      if count == 0 { break }
      bytes += chunk.prefix(count)
      guard bytes.count <= largestFile else {
        throw UserlistError(file: path, reason: "is larger than \(largestFile >> 20) MB")
      }
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw UserlistError(file: path, reason: "is not UTF-8 text")
    }
    return try parse(text, file: path)
  }

  /// Reads a text; `file` is its name in errors.
  public static func parse(_ text: String, file: String) throws(UserlistError) -> Userlist {
    var secrets: [WireText: Secret] = [:]
    var warnings: [String] = []
    let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, bytes) in lines.enumerated() {
      do {
        var line = Line(bytes)
        guard let (name, secret) = try line.user() else { continue }
        if secrets.updateValue(try Secret(secret), forKey: WireText(name)) != nil {
          warnings.append("line \(index + 1): user \"\(name)\" is there twice, and the last one counts")
        }
        if secret.isEmpty { warnings.append("line \(index + 1): user \"\(name)\" has no password, so none is right") }
      } catch {
        throw UserlistError(file: file, line: index + 1, reason: error.reason)
      }
    }
    return Userlist(secrets: secrets, warnings: warnings)
  }

  private static func lastError() -> String { unsafe String(cString: strerror(errno)) }

  /// One line, from left to right.
  private struct Line {
    private var rest: Substring.UTF8View.SubSequence

    init(_ bytes: Substring.UTF8View) {
      rest = bytes
    }

    /// nil for a line without a user.
    mutating func user() throws(Secret.Malformed) -> (name: String, secret: String)? {
      skipBlanks()
      guard let first = rest.first, first != UInt8(ascii: ";") else { return nil }
      let name = try quoted("name")
      guard !name.isEmpty else { throw Secret.Malformed(reason: "the name is empty") }
      skipBlanks()
      let secret = try quoted("secret")
      guard secret.utf8.count <= Password.longest else {
        throw Secret.Malformed(
          reason: "the secret has \(secret.utf8.count) bytes; at most \(Password.longest) are taken")
      }
      return (name, secret)
    }

    private mutating func skipBlanks() {
      rest = rest.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: "\r") }
    }

    private mutating func quoted(_ field: String) throws(Secret.Malformed) -> String {
      let quote = UInt8(ascii: "\"")
      guard rest.popFirst() == quote else {
        throw Secret.Malformed(reason: "the \(field) must stand in double quotes: \"name\" \"secret\"")
      }
      var bytes: [UInt8] = []
      while let byte = rest.popFirst() {
        if byte == 0 { throw Secret.Malformed(reason: "the \(field) contains a NUL character") }
        if byte == quote {
          if rest.first != quote { return String(decoding: bytes, as: UTF8.self) }
          rest.removeFirst()
        }
        bytes.append(byte)
      }
      throw Secret.Malformed(reason: "the double quote of the \(field) is not closed")
    }
  }
}

/// A userlist that cannot be used.
public struct UserlistError: Error, Sendable {
  /// Its name.
  public let file: String
  /// Counted from 1; nil where the whole file is at fault.
  public let line: Int?
  /// Without secrets.
  public let reason: String

  init(file: String, line: Int? = nil, reason: String) {
    self.file = file
    self.line = line
    self.reason = reason
  }

  /// File, line and reason in one line.
  public var message: String { file + (line.map { ", line \($0): " } ?? ": ") + reason }
}

/// Printing and dumping shows no secret.
extension Userlist: CustomStringConvertible, CustomReflectable {
  public var description: String { "Userlist(\(secrets.count) users)" }
  public var customMirror: Mirror { Mirror(self, children: []) }
}
