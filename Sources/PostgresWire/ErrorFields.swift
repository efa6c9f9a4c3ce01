/// The body of ErrorResponse and NoticeResponse: fields in the order sent (PostgreSQL documentation, "Error and Notice
/// Message Fields"). Reading it copies, so it is for the rare messages that have to be understood.
public struct ErrorFields: Hashable, Sendable {
  /// What a field means. Kinds that are not known are kept.
  public struct Kind: RawRepresentable, Hashable, Sendable {
    /// The byte in front of the field; never 0, which ends the list.
    public let rawValue: UInt8

    /// - Returns: nil for 0.
    public init?(rawValue: UInt8) {
      guard rawValue != 0 else { return nil }
      self.rawValue = rawValue
    }

    private init(_ letter: Unicode.Scalar) {
      rawValue = UInt8(ascii: letter)
    }

    /// `S`: ERROR, FATAL, …, perhaps translated.
    public static let localizedSeverity = Kind("S")
    /// `V`: ERROR, FATAL, …, never translated; since PostgreSQL 9.6.
    public static let severity = Kind("V")
    /// `C`: the SQLSTATE.
    public static let code = Kind("C")
    /// `M`: the primary text.
    public static let message = Kind("M")
    /// `D`: more about it.
    public static let detail = Kind("D")
    /// `H`: what to do about it.
    public static let hint = Kind("H")
    /// `P`: the position in the query text, in characters from 1.
    public static let position = Kind("P")
    /// `p`: the position in the text of `internalQuery`.
    public static let internalPosition = Kind("p")
    /// `q`: the text of a query that the server made itself.
    public static let internalQuery = Kind("q")
    /// `W`: the call stack of functions.
    public static let context = Kind("W")
    /// `s`: the schema concerned.
    public static let schema = Kind("s")
    /// `t`: the table concerned.
    public static let table = Kind("t")
    /// `c`: the column concerned.
    public static let column = Kind("c")
    /// `d`: the data type concerned.
    public static let dataType = Kind("d")
    /// `n`: the constraint concerned.
    public static let constraint = Kind("n")
    /// `F`: the server's source file.
    public static let file = Kind("F")
    /// `L`: the line in that file.
    public static let line = Kind("L")
    /// `R`: the routine in that file.
    public static let routine = Kind("R")
  }

  /// A field.
  public struct Field: Hashable, Sendable {
    /// What it means.
    public var kind: Kind
    /// Its text, in the encoding of the session.
    public var text: WireText

    /// A field of this kind and text.
    public init(_ kind: Kind, _ text: WireText) {
      self.kind = kind
      self.text = text
    }
  }

  /// How bad it is. FATAL and PANIC end the session.
  public enum Severity: String, Sendable {
    case error = "ERROR"
    case fatal = "FATAL"
    case panic = "PANIC"
    case warning = "WARNING"
    case notice = "NOTICE"
    case debug = "DEBUG"
    case info = "INFO"
    case log = "LOG"
  }

  /// The fields in the order sent.
  public var fields: [Field]

  /// An error or notice of one's own: the fields S, V, C and M, then D and H where given.
  public init(
    _ severity: Severity, _ code: SQLState, _ message: WireText, detail: WireText? = nil, hint: WireText? = nil
  ) {
    fields = [
      Field(.localizedSeverity, WireText(severity.rawValue)),
      Field(.severity, WireText(severity.rawValue)),
      Field(.code, WireText(code.code)),
      Field(.message, message),
    ]
    if let detail { fields.append(Field(.detail, detail)) }
    if let hint { fields.append(Field(.hint, hint)) }
  }

  /// Reads a body of ErrorResponse or NoticeResponse.
  public init(body: Span<UInt8>) throws(WireError) {
    fields = []
    var reader = FieldReader("ErrorResponse")
    while let (kind, range) = try reader.errorField(in: body) {
      fields.append(Field(kind, WireText(body, range)))
    }
  }

  /// The text of the first field of this kind in a body, found without copying.
  ///
  /// - Returns: nil where no field of this kind is there.
  public static func range(of kind: Kind, in body: Span<UInt8>) throws(WireError) -> Range<Int>? {
    var reader = FieldReader("ErrorResponse")
    while let (found, range) = try reader.errorField(in: body) {
      if found == kind { return range }
    }
    return nil
  }

  /// The text of the first field of this kind.
  public subscript(kind: Kind) -> WireText? {
    fields.first { $0.kind == kind }?.text
  }

  /// The severity; nil where a server before 9.6 has translated it, or it is none that is known.
  public var severity: Severity? {
    (self[.severity] ?? self[.localizedSeverity]).flatMap { Severity(rawValue: $0.text) }
  }

  /// The SQLSTATE; nil where it is missing or malformed.
  public var code: SQLState? { self[.code].flatMap { SQLState($0.text) } }

  /// The primary text; empty where it is missing.
  public var message: WireText { self[.message] ?? "" }
}

extension FieldReader {
  /// The next field; nil at the terminator, which must be the last byte.
  fileprivate mutating func errorField(
    in bytes: Span<UInt8>
  ) throws(WireError) -> (kind: ErrorFields.Kind, text: Range<Int>)? {
    guard offset < bytes.count else { throw .missingTerminator(place("fields", offset)) }
    guard let kind = ErrorFields.Kind(rawValue: try uint8("field type", in: bytes)) else {
      try end(in: bytes)
      return nil
    }
    return (kind, try text("field value", in: bytes))
  }
}

extension MessageWriter {
  /// ErrorResponse
  public mutating func errorResponse(_ error: ErrorFields) {
    message(BackendType.errorResponse) { $0.errorFields(error) }
  }

  /// NoticeResponse
  public mutating func noticeResponse(_ notice: ErrorFields) {
    message(BackendType.noticeResponse) { $0.errorFields(notice) }
  }

  private mutating func errorFields(_ error: ErrorFields) {
    for field in error.fields {
      uint8(field.kind.rawValue)
      text(field.text)
    }
    uint8(0)
  }
}
