public import PostgresWire

/// What the bytes of SQL mean, as far as that depends on the session's settings when the server parses them.
public struct SQLReading: Hashable, Sendable {
  /// `standard_conforming_strings`: a backslash in a plain string constant is nothing but a backslash.
  public var standardConformingStrings: Bool
  /// `client_encoding`.
  public var encoding: TextEncoding

  /// As a new session does.
  public init(standardConformingStrings: Bool = true, encoding: TextEncoding = .asciiSafe) {
    self.standardConformingStrings = standardConformingStrings
    self.encoding = encoding
  }
}

/// How the bytes of a text fall into characters, as far as finding ASCII in it depends on that.
///
/// The server converts a whole query from `client_encoding` before it parses it, and refuses what is not valid. Its own
/// encodings never use bytes below 0x80 inside a character; those that only clients may have do. The rules are the
/// server's own (`pg_encoding_mblen` in its src/common/wchar.c).
public enum TextEncoding: Hashable, Sendable {
  /// Bytes below 0x80 are always ASCII: single-byte encodings, UTF-8, the EUC ones, MULE_INTERNAL, SQL_ASCII.
  case asciiSafe
  /// SJIS and SHIFT_JIS_2004: a byte from 0x80 takes one more, but for the half-width kana.
  case shiftJIS
  /// BIG5, GBK, UHC: a byte from 0x80 takes one more.
  case twoByte
  /// GB18030: a byte from 0x80 takes one more, or three more where a digit follows.
  case gb18030
  /// JOHAB: as the EUC encodings are, but with trailing bytes that look like ASCII.
  case johab

  /// The encoding that a value of `client_encoding` names, in any spelling that the server takes; nil where it knows
  /// none of that name.
  public init?(clientEncoding name: WireText) {
    // Only letters and digits count (`pg_char_to_encoding` in src/common/encnames.c).
    var letters = ""
    for byte in name.bytes {
      switch byte {
      case 0x30...0x39, 0x61...0x7a: letters.unicodeScalars.append(Unicode.Scalar(byte))
      case 0x41...0x5a: letters.unicodeScalars.append(Unicode.Scalar(byte | 0x20))
      default: break
      }
    }
    switch letters {
    case "sjis", "shiftjis", "mskanji", "win932", "windows932", "shiftjis2004": self = .shiftJIS
    case "big5", "win950", "windows950", "gbk", "win936", "windows936", "uhc", "win949", "windows949": self = .twoByte
    case "gb18030": self = .gb18030
    case "johab": self = .johab
    case "sqlascii", "utf8", "unicode", "muleinternal", "eucjp", "eucjis2004", "euccn", "euckr", "euctw", "koi8",
      "koi8r", "koi8u", "alt", "abc", "tcvn", "tcvn5712", "vscii", "win", "win866", "win874", "windows866",
      "windows874":
      self = .asciiSafe
    default:
      func isNumbered(_ prefix: String, _ range: ClosedRange<Int>) -> Bool {
        guard letters.hasPrefix(prefix), let number = Int(letters.dropFirst(prefix.count)) else { return false }
        return range.contains(number) && letters == "\(prefix)\(number)"
      }
      guard
        isNumbered("latin", 1...10) || isNumbered("iso8859", 1...10) || isNumbered("iso8859", 13...16)
          || isNumbered("win", 1250...1258) || isNumbered("windows", 1250...1258)
      else { return nil }
      self = .asciiSafe
    }
  }

  /// The bytes of the character at `offset`, as many of them as there are before the text's end. A zero byte ends a
  /// text wherever it is.
  func length(_ text: Span<UInt8>, at offset: Int) -> Int {
    let lead = text[offset]
    if lead < 0x80 || self == .asciiSafe { return 1 }
    func byte(_ distance: Int) -> UInt8 { offset + distance < text.count ? text[offset + distance] : 0 }
    var length = 2
    switch self {
    case .asciiSafe: length = 1
    case .shiftJIS: if (0xa1...0xdf).contains(lead) { length = 1 }
    case .twoByte: break
    case .gb18030: if (0x30...0x39).contains(byte(1)) { length = 4 }
    case .johab: if lead == 0x8f && byte(1) >= 0xa1 && byte(2) >= 0xa1 { length = 3 }
    }
    for distance in 1..<max(length, 2) where distance < length && byte(distance) == 0 { return distance }
    return length
  }
}
