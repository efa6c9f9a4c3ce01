internal import CTOML

/// A place in a settings text. Both count from 1; a column is a Unicode code point.
struct SourcePosition: Sendable, Equatable {
  var line: Int
  var column: Int

  /// Of what has been set, but not in a file.
  static let nowhere = SourcePosition(line: 0, column: 0)
}

/// One value of a TOML text and where it stands.
struct TOMLValue: Sendable, Equatable {
  indirect enum Content: Sendable, Equatable {
    case string(String)
    case integer(Int64)
    case real(Double)
    case boolean(Bool)
    case dateOrTime
    case array([TOMLValue])
    case table([TOMLEntry])
  }

  var content: Content
  /// Nil for what was not written in a file but on the command line.
  var position: SourcePosition?

  /// What a person who wrote this value would call it, for "must be …, not FOUND". Long strings are cut.
  var description: String {
    switch content {
    case .string(let string): "the string \(quoted(string, limit: 40))"
    case .integer(let number): "\(number)"
    case .real(let number): "\(number)"
    case .boolean(let boolean): "\(boolean)"
    case .dateOrTime: "a date or time"
    case .array: "a list"
    case .table: "a section"
    }
  }
}

/// One `key = value` of a table, or a table with its header's name.
struct TOMLEntry: Sendable, Equatable {
  var key: String
  var position: SourcePosition?
  var value: TOMLValue
}

/// A text that is not TOML.
struct TOMLSyntaxError: Error, Equatable {
  var message: String
  var position: SourcePosition
}

/// Reads TOML with toml++. The only file that knows of it.
enum TOMLDocument {
  /// The members of the document's own table, sorted by key.
  static func parse(_ text: String) throws(TOMLSyntaxError) -> [TOMLEntry] {
    var text = text
    let document = text.withUTF8 { bytes in
      // An empty buffer may have no address, and toml++ wants one.
      unsafe bytes.withMemoryRebound(to: CChar.self) { characters in
        unsafe ctoml_parse(characters.baseAddress ?? UnsafePointer(bitPattern: 1)!, characters.count)
      }
    }
    guard let document = unsafe document else { preconditionFailure("out of memory while reading TOML") }
    defer { unsafe ctoml_free(document) }

    var line: UInt32 = 0
    var column: UInt32 = 0
    if let message = unsafe ctoml_error(document, &line, &column) {
      throw TOMLSyntaxError(
        message: unsafe String(cString: message),
        position: SourcePosition(line: Int(line), column: Int(column)))
    }
    var next = 0
    return unsafe members(of: document, depth: 0, from: &next)
  }

  /// The entries at `depth` from index `next` on; afterwards `next` is the first index that is shallower.
  private static func members(
    of document: OpaquePointer, depth: UInt32, from next: inout Int
  ) -> [TOMLEntry] {
    var entries: [TOMLEntry] = []
    let count = unsafe ctoml_count(document)
    while next < count {
      let entry = unsafe ctoml_entry_at(document, next).pointee
      guard unsafe entry.depth == depth else { break }
      next += 1
      let content: TOMLValue.Content
      switch unsafe entry.kind {
      case CTOML_TABLE:
        content = .table(unsafe members(of: document, depth: depth + 1, from: &next))
      case CTOML_ARRAY:
        content = .array(unsafe members(of: document, depth: depth + 1, from: &next).map(\.value))
      case CTOML_STRING: content = .string(unsafe string(entry.string, entry.string_length))
      case CTOML_INTEGER: content = .integer(unsafe entry.integer)
      case CTOML_REAL: content = .real(unsafe entry.real)
      case CTOML_BOOLEAN: content = .boolean(unsafe entry.boolean)
      default: content = .dateOrTime
      }
      entries.append(
        TOMLEntry(
          key: unsafe string(entry.key, entry.key_length),
          position: unsafe SourcePosition(line: Int(entry.key_line), column: Int(entry.key_column)),
          value: TOMLValue(
            content: content,
            position: unsafe SourcePosition(line: Int(entry.line), column: Int(entry.column)))))
    }
    return entries
  }

  private static func string(_ start: UnsafePointer<CChar>?, _ length: Int) -> String {
    unsafe String(decoding: UnsafeRawBufferPointer(start: start, count: length), as: UTF8.self)
  }
}
