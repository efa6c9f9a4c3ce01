/// Turns libpq's messages into one line for logs, clients and DETAIL, and finds the SQLSTATE in them.
enum LibpqText {
  /// Longest text that is handed on, in characters: a peer chooses the words, and they go to logs and clients.
  static let characterLimit = 1000

  /// What a failed connection says, with verbosity "verbose", which is the only way to learn the SQLSTATE from libpq:
  ///
  ///     connection to server at "::1", port 5432 failed: FATAL:  28P01: password authentication failed for user "x"
  ///     LOCATION:  auth_failed, auth.c:335
  ///
  /// The code goes to `sqlState`, LOCATION is dropped, and the lines are joined, so that `text` is what the default
  /// verbosity would have said. The first `:  CCCCC: ` is libpq's own (severities may be translated by the server).
  static func split(_ message: String) -> (text: String, sqlState: String?) {
    var bytes = Array(message.utf8)
    var sqlState: String?
    if let start = codeStart(in: bytes) {
      sqlState = String(decoding: bytes[start..<(start + 5)], as: UTF8.self)
      bytes.removeSubrange(start..<(start + 7))
    }
    return (oneLine(String(decoding: bytes, as: UTF8.self)), sqlState)
  }

  /// Joins the lines but LOCATION by spaces, drops control characters, and cuts what is too long.
  static func oneLine(_ message: String) -> String {
    var line = ""
    for part in message.split(whereSeparator: \.isNewline) where !part.hasPrefix("LOCATION:") {
      let words = part.unicodeScalars.drop { $0.properties.isWhitespace }
      if words.isEmpty { continue }
      if !line.isEmpty { line += " " }
      for scalar in words { line.unicodeScalars.append(scalar.properties.generalCategory == .control ? " " : scalar) }
    }
    while line.last == " " { line.removeLast() }
    return line.count <= characterLimit ? line : line.prefix(characterLimit) + "…"
  }

  /// Replaces what libpq repeats in double quotes, except single characters: it may be a piece of a password.
  static func maskingQuoted(_ message: String) -> String {
    let pieces = message.split(separator: "\"", omittingEmptySubsequences: false)
    guard pieces.count >= 3 else { return message }
    // A value may hold quotes itself, so all between the first and the last one goes, unless each piece is harmless.
    let quoted = stride(from: 1, to: pieces.count, by: 2).map { pieces[$0] }
    if pieces.count % 2 == 1, quoted.allSatisfy({ $0.count <= 1 }) { return message }
    return pieces.first! + "\"***\"" + pieces.last!
  }

  /// The message without what libpq repeats in double quotes: names of hosts and files, which may hold any word.
  static func droppingQuoted(_ message: String) -> String {
    let pieces = message.split(separator: "\"", omittingEmptySubsequences: false)
    return stride(from: 0, to: pieces.count, by: 2).map { pieces[$0] }.joined(separator: "\"\"")
  }

  /// The index of the five characters in the first `:  CCCCC: `.
  private static func codeStart(in bytes: [UInt8]) -> Int? {
    let (colon, space) = (UInt8(ascii: ":"), UInt8(ascii: " "))
    guard bytes.count >= 10 else { return nil }
    return (3...(bytes.count - 7)).first { start in
      bytes[start - 3] == colon && bytes[start - 2] == space && bytes[start - 1] == space
        && bytes[start + 5] == colon && bytes[start + 6] == space
        && bytes[start..<(start + 5)].allSatisfy(isCodeCharacter)
    }
  }

  private static func isCodeCharacter(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
  }
}
