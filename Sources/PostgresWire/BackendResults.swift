/// Messages that carry the results of statements.
extension Backend {
  /// What RowDescription says about a column besides its name.
  public struct ColumnAttributes: Hashable, Sendable {
    /// The table's object identifier; 0 where the column is none of a table.
    public var tableID: UInt32
    /// The column's number in that table; 0 where it is none of a table.
    public var attributeNumber: Int16
    /// The type's object identifier.
    public var typeID: UInt32
    /// The type's size in bytes; negative for variable sizes.
    public var typeSize: Int16
    /// The type's modifier, such as a numeric's precision; -1 for none.
    public var typeModifier: Int32
    /// The format code of the values: 0 is text, 1 binary.
    public var format: Int16

    /// Attributes of a column that belongs to no table, its values as text.
    public init(typeID: UInt32, typeSize: Int16) {
      tableID = 0
      attributeNumber = 0
      self.typeID = typeID
      self.typeSize = typeSize
      typeModifier = -1
      format = 0
    }

    /// `text`, of type 25.
    public static let text = ColumnAttributes(typeID: 25, typeSize: -1)
    /// `bigint`, of type 20.
    public static let bigint = ColumnAttributes(typeID: 20, typeSize: 8)

    fileprivate init(from reader: inout FieldReader, in body: Span<UInt8>) throws(WireError) {
      tableID = try reader.uint32("column table", in: body)
      attributeNumber = try reader.int16("column number", in: body)
      typeID = try reader.uint32("column type", in: body)
      typeSize = try reader.int16("column type size", in: body)
      typeModifier = try reader.int32("column type modifier", in: body)
      format = try reader.int16("column format", in: body)
    }

    /// Bytes of all attributes on the wire.
    fileprivate static let size = 18
  }

  /// RowDescription: the columns of the rows that follow. The list is copied.
  public struct RowDescription: Equatable, Sendable {
    /// A column.
    public struct Column: Equatable, Sendable {
      /// The column's name.
      public let name: Range<Int>
      /// What else is said about it.
      public let attributes: ColumnAttributes
    }

    /// The columns in order.
    public let columns: [Column]

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("RowDescription")
      let count = try reader.count("columns", of: 1 + ColumnAttributes.size, in: body)
      var columns: [Column] = []
      columns.reserveCapacity(count)
      for _ in 0..<count {
        let name = try reader.text("column name", in: body)
        columns.append(Column(name: name, attributes: try ColumnAttributes(from: &reader, in: body)))
      }
      try reader.end(in: body)
      self.columns = columns
    }
  }

  /// DataRow: one row. The list is copied, the values are not.
  public struct DataRow: Equatable, Sendable {
    /// The values in the order of the columns; nil is null.
    public let values: [Range<Int>?]

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("DataRow")
      let count = try reader.count("columns", of: 4, in: body)
      var values: [Range<Int>?] = []
      values.reserveCapacity(count)
      for _ in 0..<count { values.append(try reader.value("column value", in: body)) }
      try reader.end(in: body)
      self.values = values
    }
  }

  /// CommandComplete: a statement is done.
  public struct CommandComplete: Equatable, Sendable {
    /// The command tag, such as `INSERT 0 1`.
    public let tag: Range<Int>

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("CommandComplete")
      tag = try reader.text("tag", in: body)
      try reader.end(in: body)
    }
  }

  /// ParameterDescription: the parameters that a statement needs.
  public struct ParameterDescription: Equatable, Sendable {
    /// Object identifiers of the types, four bytes each.
    public let types: Range<Int>

    /// The number of parameters, 0 to 65,535.
    public var count: Int { types.count / 4 }

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("ParameterDescription")
      types = try reader.list("parameter types", of: 4, in: body)
      try reader.end(in: body)
    }
  }

  /// CopyInResponse, CopyOutResponse and CopyBothResponse, which differ in their type bytes only: a COPY begins.
  public struct CopyResponse: Equatable, Sendable {
    /// Whether the whole COPY is binary.
    public let isBinary: Bool
    /// Format codes of the columns, two bytes each.
    public let columnFormats: Range<Int>

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("CopyResponse")
      let format = try reader.uint8("format", in: body)
      guard format <= 1 else { throw .undefinedValue(Int(format), reader.place("format", 0)) }
      isBinary = format == 1
      columnFormats = try reader.list("column formats", of: 2, in: body)
      try reader.end(in: body)
    }
  }

  /// FunctionCallResponse: the result of a FunctionCall.
  public struct FunctionCallResponse: Equatable, Sendable {
    /// The result; nil is null.
    public let value: Range<Int>?

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("FunctionCallResponse")
      value = try reader.value("value", in: body)
      try reader.end(in: body)
    }
  }
}

extension MessageWriter {
  /// RowDescription
  public mutating func rowDescription(_ columns: [(name: WireText, attributes: Backend.ColumnAttributes)]) {
    message(BackendType.rowDescription) {
      $0.count(columns.count)
      for column in columns {
        $0.text(column.name)
        $0.uint32(column.attributes.tableID)
        $0.int16(column.attributes.attributeNumber)
        $0.uint32(column.attributes.typeID)
        $0.int16(column.attributes.typeSize)
        $0.int32(column.attributes.typeModifier)
        $0.int16(column.attributes.format)
      }
    }
  }

  /// DataRow; nil is null.
  public mutating func dataRow(_ values: [[UInt8]?]) {
    message(BackendType.dataRow) {
      $0.count(values.count)
      for value in values { $0.value(value) }
    }
  }

  /// CommandComplete
  public mutating func commandComplete(_ tag: WireText) {
    message(BackendType.commandComplete) { $0.text(tag) }
  }

  /// EmptyQueryResponse
  public mutating func emptyQueryResponse() {
    message(BackendType.emptyQueryResponse)
  }

  /// ParseComplete
  public mutating func parseComplete() {
    message(BackendType.parseComplete)
  }

  /// BindComplete
  public mutating func bindComplete() {
    message(BackendType.bindComplete)
  }

  /// CloseComplete
  public mutating func closeComplete() {
    message(BackendType.closeComplete)
  }

  /// NoData
  public mutating func noData() {
    message(BackendType.noData)
  }

  /// PortalSuspended
  public mutating func portalSuspended() {
    message(BackendType.portalSuspended)
  }

  /// ParameterDescription
  public mutating func parameterDescription(_ types: [UInt32]) {
    message(BackendType.parameterDescription) {
      $0.count(types.count)
      for type in types { $0.uint32(type) }
    }
  }

  /// CopyInResponse
  public mutating func copyInResponse(isBinary: Bool, columnFormats: [Int16]) {
    copyResponse(.copyInResponse, isBinary: isBinary, columnFormats: columnFormats)
  }

  /// CopyOutResponse
  public mutating func copyOutResponse(isBinary: Bool, columnFormats: [Int16]) {
    copyResponse(.copyOutResponse, isBinary: isBinary, columnFormats: columnFormats)
  }

  /// CopyBothResponse
  public mutating func copyBothResponse(isBinary: Bool, columnFormats: [Int16]) {
    copyResponse(.copyBothResponse, isBinary: isBinary, columnFormats: columnFormats)
  }

  private mutating func copyResponse(_ type: BackendType, isBinary: Bool, columnFormats: [Int16]) {
    message(type) {
      $0.uint8(isBinary ? 1 : 0)
      $0.list(columnFormats)
    }
  }

  /// CopyData of a server.
  public mutating func backendCopyData(_ data: [UInt8]) {
    message(BackendType.copyData) { $0.raw(data) }
  }

  /// CopyDone of a server.
  public mutating func backendCopyDone() {
    message(BackendType.copyDone)
  }

  /// FunctionCallResponse
  public mutating func functionCallResponse(_ value: [UInt8]?) {
    message(BackendType.functionCallResponse) { $0.value(value) }
  }
}
