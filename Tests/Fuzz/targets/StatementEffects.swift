import Pooling

/// SQL text: the first byte says how it is read. No text traps, tokens follow each other, what is hidden has no effect,
/// and joined texts have the effects of both.
func fuzz(_ input: [UInt8]) {
  guard let mode = input.first else { return }
  let text = Array(input.dropFirst())
  let encodings: [TextEncoding] = [.asciiSafe, .shiftJIS, .twoByte, .gb18030, .johab]
  let reading = Reading(conforming: mode & 1 == 0, encoding: encodings[Int(mode >> 1) % encodings.count])

  var lexer = reading.lexer(text)
  var end = 0
  while true {
    let token = lexer.next()
    precondition(token.start >= end && token.end <= text.count)
    if token.kind == .end { break }
    precondition(token.end > token.start)
    end = token.end
  }
  let effects = reading.effects(text)
  // Of a text that does nothing either way it is not told that it is unterminated.
  precondition(effects.contains(.isUnclear) || effects.isEmpty || !lexer.isUnclear)
  if let command = reading.command(text) { check(command, effects) }

  let touched = reading.touched(text)
  precondition(touched.resets.allSatisfy(touched.names.contains) && Set(touched.names).count == touched.names.count)

  // The server sees nothing after a zero byte, nor a character that it ends.
  let continued = reading.effects(text + [0] + Array("commit".utf8))
  precondition(continued.subtracting(.isUnclear) == effects.subtracting(.isUnclear))

  let statement = Array("; commit".utf8)
  if !effects.contains(.isUnclear), !lexer.isUnclear, !text.contains(0), text.allSatisfy({ $0 < 0x80 }) {
    // A comment at the text's end may swallow what is appended, but not in another line.
    let joined = reading.effects(text + [0x0a] + statement)
    precondition(joined.subtracting(.hasSeveralStatements) == effects.union(.ends).subtracting(.hasSeveralStatements))
    let quoted =
      Array("select '".utf8)
      + text.flatMap { byte -> [UInt8] in
        switch byte {
        case UInt8(ascii: "'"): [byte, byte]
        case UInt8(ascii: "\\"): reading.conforming ? [byte] : [byte, byte]
        default: [byte]
        }
      } + [UInt8(ascii: "'")]
    precondition(reading.effects(quoted) == [])
    precondition(reading.effects(quoted + statement) == [.ends, .hasSeveralStatements])
  }
}

/// A command that was understood is one that the scan has seen.
private func check(_ command: SettingCommand, _ effects: StatementEffects) {
  precondition(!effects.contains(.hasSeveralStatements))
  let expected: StatementEffects
  switch command {
  case .set(_, _, let isLocal), .setDefault(_, let isLocal), .role(_, let isLocal),
    .sessionAuthorization(_, let isLocal), .characteristics(_, let isLocal), .timeZone(_, let isLocal),
    .names(_, let isLocal):
    expected = isLocal ? .setsLocal : .setsSession
  case .setConfig, .reset: expected = .setsSession
  case .resetAll: expected = .resetsAll
  case .transactionOnly:
    precondition(!effects.isDisjoint(with: [.setsLocal, .setsSession]))
    return
  case .savepoint: expected = .setsSavepoint
  case .rollbackTo: expected = .rollsBackToSavepoint
  case .release: expected = .releasesSavepoint
  case .listen: expected = .listens
  case .unlisten: expected = .unlistens
  case .deallocate: expected = .deallocates
  case .prepare: expected = .prepares
  case .execute: expected = .executes
  }
  precondition(effects.contains(expected))
}

private struct Reading {
  var conforming: Bool
  var encoding: TextEncoding

  @_lifetime(borrow text)
  func lexer(_ text: borrowing [UInt8]) -> SQLLexer {
    SQLLexer(text.span, reading: SQLReading(standardConformingStrings: conforming, encoding: encoding))
  }

  func effects(_ text: [UInt8]) -> StatementEffects {
    StatementEffects.scan(text.span, reading: SQLReading(standardConformingStrings: conforming, encoding: encoding))
  }

  func touched(_ text: [UInt8]) -> TouchedSettings {
    TouchedSettings(text.span, reading: SQLReading(standardConformingStrings: conforming, encoding: encoding))
  }

  func command(_ text: [UInt8]) -> SettingCommand? {
    SettingCommand(text.span, reading: SQLReading(standardConformingStrings: conforming, encoding: encoding))
  }
}
