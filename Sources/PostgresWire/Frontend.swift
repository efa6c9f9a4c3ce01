/// Messages that a client sends, as places in their bodies. A decoder copies nothing: its ranges count bytes from the
/// start of the body, texts without their zero bytes. Trailing bytes are an error, as in PostgreSQL (`pq_getmsgend`).
///
/// The bodies of Sync, Flush, Terminate and CopyDone are empty (``FrontendType/checkEmpty(body:)``), and that of
/// CopyData is data from end to end. What writes a message is a method of ``MessageWriter``, next to its decoder.
public enum Frontend {
  /// Query: a text of any number of statements.
  public struct Query: Equatable, Sendable {
    /// The statements.
    public let text: Range<Int>

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("Query")
      text = try reader.text("query", in: body)
      try reader.end(in: body)
    }
  }

  /// FunctionCall: the fast-path call of one function.
  public struct FunctionCall: Equatable, Sendable {
    /// The function's object identifier.
    public let functionID: UInt32
    /// Format codes of the arguments, two bytes each: none, one for all, or one for each.
    public let argumentFormats: Range<Int>
    /// The number of arguments, 0 to 65,535.
    public let argumentCount: Int
    /// The arguments, each with its length in front.
    public let arguments: Range<Int>
    /// The format code of the result.
    public let resultFormat: Int16

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("FunctionCall")
      functionID = try reader.uint32("function", in: body)
      argumentFormats = try reader.list("argument formats", of: 2, in: body)
      argumentCount = try reader.count("arguments", of: 4, in: body)
      arguments = try reader.values("arguments", count: argumentCount, in: body)
      resultFormat = try reader.int16("result format", in: body)
      try reader.end(in: body)
    }
  }

  /// CopyFail: the client gives up a COPY FROM STDIN.
  public struct CopyFail: Equatable, Sendable {
    /// Why; the server puts it into its error message.
    public let reason: Range<Int>

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("CopyFail")
      reason = try reader.text("reason", in: body)
      try reader.end(in: body)
    }
  }
}

extension FieldReader {
  /// Steps over `count` values and gives the range of them all.
  mutating func values(
    _ field: StaticString, count: Int, in bytes: Span<UInt8>
  ) throws(WireError) -> Range<Int> {
    let start = offset
    for _ in 0..<count { _ = try value(field, in: bytes) }
    return start..<offset
  }
}

extension MessageWriter {
  /// Query
  public mutating func query(_ text: WireText) {
    message(FrontendType.query) { $0.text(text) }
  }

  /// FunctionCall
  public mutating func functionCall(
    _ functionID: UInt32, argumentFormats: [Int16] = [], arguments: [[UInt8]?], resultFormat: Int16 = 0
  ) {
    message(FrontendType.functionCall) {
      $0.uint32(functionID)
      $0.list(argumentFormats)
      $0.count(arguments.count)
      for argument in arguments { $0.value(argument) }
      $0.int16(resultFormat)
    }
  }

  /// CopyData of a client.
  public mutating func frontendCopyData(_ data: [UInt8]) {
    message(FrontendType.copyData) { $0.raw(data) }
  }

  /// CopyDone of a client.
  public mutating func frontendCopyDone() {
    message(FrontendType.copyDone)
  }

  /// CopyFail
  public mutating func copyFail(_ reason: WireText) {
    message(FrontendType.copyFail) { $0.text(reason) }
  }

  /// Terminate
  public mutating func terminate() {
    message(FrontendType.terminate)
  }
}
