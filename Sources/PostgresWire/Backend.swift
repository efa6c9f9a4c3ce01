/// Messages that a server sends, as places in their bodies. A decoder copies nothing unless it says so: its ranges
/// count bytes from the start of the body, texts without their zero bytes. Trailing bytes are an error.
///
/// Bodies of ParseComplete, BindComplete, CloseComplete, EmptyQueryResponse, NoData, PortalSuspended and CopyDone are
/// empty (``BackendType/checkEmpty(body:)``), and that of CopyData is data from end to end. ErrorResponse and
/// NoticeResponse are ``ErrorFields``. What writes a message is a method of ``MessageWriter``, next to its decoder.
public enum Backend {
  /// BackendKeyData: what a client needs for a CancelRequest. Secrets of protocol 3.2, which may be longer than four
  /// bytes, are an error here.
  public struct KeyData: Equatable, Sendable {
    /// The key.
    public let key: CancelKey

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("BackendKeyData")
      let processID = try reader.uint32("process ID", in: body)
      let secret = try reader.uint32("secret key", in: body)
      try reader.end(in: body)
      key = CancelKey(processID: processID, secret: secret)
    }
  }

  /// ParameterStatus: the present value of a setting that the server reports.
  public struct ParameterStatus: Equatable, Sendable {
    /// The setting's name.
    public let name: Range<Int>
    /// Its value.
    public let value: Range<Int>

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("ParameterStatus")
      name = try reader.text("name", in: body)
      value = try reader.text("value", in: body)
      try reader.end(in: body)
    }
  }

  /// What ReadyForQuery says about the session.
  public enum TransactionStatus: UInt8, Sendable {
    /// Not in a transaction block.
    case idle = 0x49  // I
    /// In a transaction block.
    case inBlock = 0x54  // T
    /// In a failed transaction block: everything but its end is refused.
    case failed = 0x45  // E
  }

  /// ReadyForQuery: a request cycle is over.
  public struct ReadyForQuery: Equatable, Sendable {
    /// The state of the session now.
    public let status: TransactionStatus

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("ReadyForQuery")
      let code = try reader.uint8("status", in: body)
      guard let status = TransactionStatus(rawValue: code) else {
        throw .undefinedValue(Int(code), reader.place("status", 0))
      }
      try reader.end(in: body)
      self.status = status
    }
  }

  /// NotificationResponse: somebody has used NOTIFY on a channel that this session listens on.
  public struct Notification: Equatable, Sendable {
    /// The notifying backend.
    public let processID: UInt32
    /// The channel.
    public let channel: Range<Int>
    /// The text given to NOTIFY; empty where there was none.
    public let payload: Range<Int>

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("NotificationResponse")
      processID = try reader.uint32("process ID", in: body)
      channel = try reader.text("channel", in: body)
      payload = try reader.text("payload", in: body)
      try reader.end(in: body)
    }
  }

  /// NegotiateProtocolVersion: the server goes on with an older minor version, or without some protocol options.
  public struct NegotiateProtocolVersion: Equatable, Sendable {
    /// The newest version that the server speaks. On the wire it is the whole number, such as 196608 for 3.0, which is
    /// what PostgreSQL sends and libpq expects, although the documentation names only the minor version; a bare minor
    /// version is read as one of 3.
    public let newest: ProtocolVersion
    /// The `_pq_.` options that the server does not know. The list is copied.
    public let unknownOptions: [Range<Int>]

    /// Reads a body.
    public init(body: Span<UInt8>) throws(WireError) {
      var reader = FieldReader("NegotiateProtocolVersion")
      let version = ProtocolVersion(rawValue: try reader.uint32("version", in: body))
      newest = version.major == 0 ? ProtocolVersion(major: 3, minor: version.minor) : version
      let countOffset = reader.offset
      let count = Int(try reader.int32("options", in: body))
      guard 0...(body.count - reader.offset) ~= count else {
        throw .impossibleCount(count, reader.place("options", countOffset))
      }
      var options: [Range<Int>] = []
      options.reserveCapacity(count)
      for _ in 0..<count { options.append(try reader.text("options", in: body)) }
      try reader.end(in: body)
      unknownOptions = options
    }
  }
}

extension MessageWriter {
  /// BackendKeyData
  public mutating func backendKeyData(_ key: CancelKey) {
    message(BackendType.backendKeyData) {
      $0.uint32(key.processID)
      $0.uint32(key.secret)
    }
  }

  /// ParameterStatus
  public mutating func parameterStatus(name: WireText, value: WireText) {
    message(BackendType.parameterStatus) {
      $0.text(name)
      $0.text(value)
    }
  }

  /// ReadyForQuery
  public mutating func readyForQuery(_ status: Backend.TransactionStatus) {
    message(BackendType.readyForQuery) { $0.uint8(status.rawValue) }
  }

  /// NotificationResponse
  public mutating func notification(processID: UInt32, channel: WireText, payload: WireText) {
    message(BackendType.notificationResponse) {
      $0.uint32(processID)
      $0.text(channel)
      $0.text(payload)
    }
  }

  /// NegotiateProtocolVersion
  public mutating func negotiateProtocolVersion(newest: ProtocolVersion, unknownOptions: [WireText]) {
    message(BackendType.negotiateProtocolVersion) {
      $0.uint32(newest.rawValue)
      $0.uint32(UInt32(unknownOptions.count))
      for option in unknownOptions { $0.text(option) }
    }
  }
}
