/// What is wrong with bytes that a peer has sent. Decoders throw it for whatever they meet; they never trap.
public enum WireError: Error, Equatable, Sendable {
  /// Where a decoder stopped.
  public struct Place: Equatable, Sendable {
    /// The message by its name in the PostgreSQL documentation.
    public let message: String
    /// The field of that message.
    public let field: String
    /// Bytes from the start of the body to the start of the field.
    public let offset: Int
  }

  /// The body ends before the field is complete.
  case truncated(Place)
  /// No NUL ends the text, or no terminator ends the list.
  case missingTerminator(Place)
  /// The length of a value is negative and not -1 (null).
  case negativeLength(Int, Place)
  /// A count is negative, or announces more entries than the rest of the body can hold.
  case impossibleCount(Int, Place)
  /// So many bytes follow the end of the message.
  case trailingBytes(Int, Place)
  /// The field holds a number that the protocol does not define.
  case undefinedValue(Int, Place)
  /// The text is none of those that the field allows.
  case invalidText(String, Place)
  /// A length field is outside of what its kind of packet or message may have.
  case lengthOutOfRange(Int, ClosedRange<Int>, Place)
  /// The client asks for a protocol whose major version is not 3.
  case unsupportedProtocol(ProtocolVersion)
  /// The startup packet names no user.
  case missingUser

  /// The SQLSTATE that PostgreSQL gives in the same case.
  public var sqlState: SQLState {
    switch self {
    case .unsupportedProtocol: .featureNotSupported
    case .missingUser: .invalidAuthorizationSpecification
    case .invalidText: .invalidParameterValue
    case .truncated, .missingTerminator, .negativeLength, .impossibleCount, .trailingBytes, .undefinedValue,
      .lengthOutOfRange:
      .protocolViolation
    }
  }
}

extension WireError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .truncated(let place): "\(place): the message ends early"
    case .missingTerminator(let place): "\(place): the terminating zero byte is missing"
    case .negativeLength(let length, let place): "\(place): invalid length \(length)"
    case .impossibleCount(let count, let place): "\(place): count \(count) does not fit the message"
    case .trailingBytes(let count, let place): "\(place): \(count) bytes too many"
    case .undefinedValue(let value, let place): "\(place): undefined value \(value)"
    case .invalidText(let text, let place): "\(place): invalid value \"\(text)\""
    case .lengthOutOfRange(let length, let range, let place):
      "\(place): length \(length) is not between \(range.lowerBound) and \(range.upperBound)"
    case .unsupportedProtocol(let version): "unsupported frontend protocol \(version)"
    case .missingUser: "no PostgreSQL user name specified in startup packet"
    }
  }
}

extension WireError.Place: CustomStringConvertible {
  public var description: String { "invalid \(message) message, field \"\(field)\" at byte \(offset)" }
}
