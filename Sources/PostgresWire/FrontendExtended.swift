/// Messages of the extended query protocol (PostgreSQL documentation, "Extended Query").
extension Frontend {
  /// Parse: makes a prepared statement of a text.
  public struct Parse: Equatable, Sendable {
    /// The statement's name; empty for the unnamed one.
    public let statement: Range<Int>
    /// The text of one statement.
    public let text: Range<Int>
    /// Object identifiers of the parameters' types, four bytes each; 0 leaves a type to the server.
    public let parameterTypes: Range<Int>

    /// The number of types given, 0 to 65,535. The statement may have more parameters.
    public var parameterTypeCount: Int { parameterTypes.count / 4 }

    /// All that follows the statement's name and its zero byte: text and types, what makes two statements equal.
    public var definition: Range<Int> { text.lowerBound..<parameterTypes.upperBound }

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("Parse")
      statement = try reader.text("statement name", in: body)
      text = try reader.text("query", in: body)
      parameterTypes = try reader.list("parameter types", of: 4, in: body)
      try reader.end(in: body)
    }
  }

  /// Bind: makes a portal of a prepared statement and values.
  public struct Bind: Equatable, Sendable {
    /// The portal's name; empty for the unnamed one.
    public let portal: Range<Int>
    /// The statement's name; empty for the unnamed one.
    public let statement: Range<Int>
    /// Format codes of the parameters, two bytes each: none, one for all, or one for each.
    public let parameterFormats: Range<Int>
    /// The number of parameters, 0 to 65,535.
    public let parameterCount: Int
    /// The values, each with its length in front.
    public let parameters: Range<Int>
    /// Format codes of the result columns, two bytes each: none, one for all, or one for each.
    public let resultFormats: Range<Int>

    /// All that follows the statement's name and its zero byte: formats and values, with their counts.
    public var arguments: Range<Int> { statement.upperBound + 1..<resultFormats.upperBound }

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("Bind")
      portal = try reader.text("portal name", in: body)
      statement = try reader.text("statement name", in: body)
      parameterFormats = try reader.list("parameter formats", of: 2, in: body)
      parameterCount = try reader.count("parameters", of: 4, in: body)
      parameters = try reader.values("parameters", count: parameterCount, in: body)
      resultFormats = try reader.list("result formats", of: 2, in: body)
      try reader.end(in: body)
    }
  }

  /// What Describe and Close are about.
  public enum Target: UInt8, Sendable {
    /// A prepared statement.
    case statement = 0x53  // S
    /// A portal.
    case portal = 0x50  // P
  }

  /// Describe: asks for the parameter and row descriptions of a statement, or the row description of a portal.
  public struct Describe: Equatable, Sendable {
    /// What it is about.
    public let target: Target
    /// The name; empty for the unnamed one.
    public let name: Range<Int>

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("Describe")
      (target, name) = try reader.targetAndName(in: body)
    }
  }

  /// Close: forgets a statement or portal. One that does not exist is no error.
  public struct Close: Equatable, Sendable {
    /// What it is about.
    public let target: Target
    /// The name; empty for the unnamed one.
    public let name: Range<Int>

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("Close")
      (target, name) = try reader.targetAndName(in: body)
    }
  }

  /// Execute: runs a portal.
  public struct Execute: Equatable, Sendable {
    /// The portal's name; empty for the unnamed one.
    public let portal: Range<Int>
    /// Rows to return before the portal is suspended; 0 or less for all.
    public let maximumRows: Int32

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("Execute")
      portal = try reader.text("portal name", in: body)
      maximumRows = try reader.int32("maximum rows", in: body)
      try reader.end(in: body)
    }
  }
}

extension FieldReader {
  /// The whole body of Describe and Close.
  fileprivate mutating func targetAndName(
    in bytes: Span<UInt8>
  ) throws(WireError) -> (Frontend.Target, Range<Int>) {
    let code = try uint8("kind", in: bytes)
    guard let target = Frontend.Target(rawValue: code) else { throw .undefinedValue(Int(code), place("kind", 0)) }
    let name = try text("name", in: bytes)
    try end(in: bytes)
    return (target, name)
  }
}

extension MessageWriter {
  /// Parse
  public mutating func parse(statement: WireText = "", text: WireText, parameterTypes: [UInt32] = []) {
    message(FrontendType.parse) {
      $0.text(statement)
      $0.text(text)
      $0.count(parameterTypes.count)
      for type in parameterTypes { $0.uint32(type) }
    }
  }

  /// The Parse of a `Frontend.Parse.definition`, for a statement of this name.
  public mutating func parse(definition: [UInt8], _ statement: WireText) {
    message(.parse) {
      $0.text(statement)
      $0.raw(definition)
    }
  }

  /// The Parse that was decoded from `body`, for a statement of another name.
  public mutating func parse(_ original: Frontend.Parse, of body: Span<UInt8>, statement: WireText) {
    message(FrontendType.parse) {
      $0.text(statement)
      $0.raw(body, original.definition)
    }
  }

  /// Bind
  public mutating func bind(
    portal: WireText = "", statement: WireText = "", parameterFormats: [Int16] = [], parameters: [[UInt8]?] = [],
    resultFormats: [Int16] = []
  ) {
    message(FrontendType.bind) {
      $0.text(portal)
      $0.text(statement)
      $0.list(parameterFormats)
      $0.count(parameters.count)
      for parameter in parameters { $0.value(parameter) }
      $0.list(resultFormats)
    }
  }

  /// The Bind that was decoded from `body`, to a statement of another name.
  public mutating func bind(_ original: Frontend.Bind, of body: Span<UInt8>, statement: WireText) {
    message(FrontendType.bind) {
      $0.raw(body, 0..<original.statement.lowerBound)
      $0.text(statement)
      $0.raw(body, original.arguments)
    }
  }

  /// Describe
  public mutating func describe(_ target: Frontend.Target, _ name: WireText = "") {
    message(FrontendType.describe) {
      $0.uint8(target.rawValue)
      $0.text(name)
    }
  }

  /// Close
  public mutating func close(_ target: Frontend.Target, _ name: WireText = "") {
    message(FrontendType.close) {
      $0.uint8(target.rawValue)
      $0.text(name)
    }
  }

  /// Execute; 0 rows are all rows.
  public mutating func execute(portal: WireText = "", maximumRows: Int32 = 0) {
    message(FrontendType.execute) {
      $0.text(portal)
      $0.int32(maximumRows)
    }
  }

  /// Sync
  public mutating func sync() {
    message(FrontendType.sync)
  }

  /// Flush
  public mutating func flush() {
    message(FrontendType.flush)
  }
}
