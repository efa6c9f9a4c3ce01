/// A protocol version: 3.0, 3.2, ….
public struct ProtocolVersion: Hashable, Sendable, CustomStringConvertible {
  /// Versions with another major number are other protocols.
  public var major: UInt16
  /// A server may offer a lower minor version than asked for (NegotiateProtocolVersion).
  public var minor: UInt16

  /// Version `major`.`minor`.
  public init(major: UInt16, minor: UInt16) {
    self.major = major
    self.minor = minor
  }

  /// The version as it is on the wire: the major number in the upper half.
  public init(rawValue: UInt32) {
    self.init(major: UInt16(truncatingIfNeeded: rawValue >> 16), minor: UInt16(truncatingIfNeeded: rawValue))
  }

  /// The version as it is on the wire: the major number in the upper half.
  public var rawValue: UInt32 { UInt32(major) << 16 | UInt32(minor) }

  /// The version that every PostgreSQL since 7.4 speaks.
  public static let v3_0 = ProtocolVersion(major: 3, minor: 0)

  public var description: String { "\(major).\(minor)" }
}

/// What proves that a CancelRequest comes from the client whose query it cancels (BackendKeyData). Keys of protocol
/// 3.0 have a secret of four bytes.
public struct CancelKey: Hashable, Sendable {
  /// The process ID of the backend, or whatever finds the session.
  public var processID: UInt32
  /// The number that only this client was told.
  public var secret: UInt32

  /// A key of these two numbers.
  public init(processID: UInt32, secret: UInt32) {
    self.processID = processID
    self.secret = secret
  }
}

/// The first packet of a connection, and again after SSLRequest or GSSENCRequest. It has no type byte (PostgreSQL
/// documentation, "Start-up").
public enum InitialPacket: Equatable, Sendable {
  /// SSLRequest
  case ssl
  /// GSSENCRequest
  case gssEncryption
  /// CancelRequest
  case cancel(CancelKey)
  /// StartupMessage
  case startup(StartupMessage)

  /// Bytes a packet of the startup phase may have, its length field included.
  public static let lengthRange = 8...LengthLimit.startupPacket

  /// The length of the packet at the start of `bytes`, length field included: the gate before anything is buffered.
  ///
  /// - Returns: nil where fewer than four bytes are there.
  /// - Throws: `lengthOutOfRange` for a length outside of ``lengthRange``.
  public static func length(_ bytes: Span<UInt8>) throws(WireError) -> Int? {
    guard bytes.count >= 4 else { return nil }
    var reader = FieldReader("startup")
    let length = Int(try reader.uint32("length", in: bytes))
    guard lengthRange ~= length else {
      throw .lengthOutOfRange(length, lengthRange, reader.place("length", 0))
    }
    return length
  }

  /// Reads a packet from `body`, which begins after its length field.
  public init(body: Span<UInt8>) throws(WireError) {
    var reader = FieldReader("startup")
    let code = try reader.uint32("protocol version", in: body)
    switch code {
    case RequestCode.ssl:
      try reader.end(in: body)
      self = .ssl
    case RequestCode.gssEncryption:
      try reader.end(in: body)
      self = .gssEncryption
    case RequestCode.cancel:
      reader = FieldReader("CancelRequest")
      _ = try reader.uint32("code", in: body)
      let processID = try reader.uint32("process ID", in: body)
      let secret = try reader.uint32("secret key", in: body)
      try reader.end(in: body)
      self = .cancel(CancelKey(processID: processID, secret: secret))
    default:
      self = .startup(try StartupMessage(version: ProtocolVersion(rawValue: code), parametersOf: body, at: &reader))
    }
  }

  /// What stands in the place of the protocol version: numbers that no version will ever have.
  fileprivate enum RequestCode {
    static let cancel: UInt32 = 1234 << 16 | 5678
    static let ssl: UInt32 = 1234 << 16 | 5679
    static let gssEncryption: UInt32 = 1234 << 16 | 5680
  }
}

/// A name and a value of a StartupMessage.
public struct StartupParameter: Hashable, Sendable {
  /// The name as sent; PostgreSQL ignores case in names of settings.
  public var name: String
  /// The value in the client's encoding.
  public var value: WireText

  /// A parameter of this name and value.
  public init(name: String, value: WireText) {
    self.name = name
    self.value = value
  }
}

/// StartupMessage: who wants to connect to what, with which settings.
public struct StartupMessage: Hashable, Sendable {
  /// What the parameter `replication` asks for.
  public enum Replication: String, Hashable, Sendable {
    /// An ordinary connection.
    case off = "false"
    /// A walsender without a database.
    case physical = "true"
    /// A walsender that also takes SQL for one database.
    case logical = "database"
  }

  /// The version asked for; its major number is 3.
  public var version: ProtocolVersion
  /// The role; never empty.
  public var user: WireText
  /// The database; the user's name where the client names none.
  public var database: WireText
  /// The parameter `replication`.
  public var replication: Replication
  /// The parameter `options`, as sent; empty where there is none.
  public var options: WireText
  /// Settings for the session, in the order sent. Names may come twice; the later one counts.
  public var parameters: [StartupParameter]
  /// Protocol extensions (`_pq_.` names), in the order sent. Unknown ones are answered by NegotiateProtocolVersion.
  public var protocolOptions: [StartupParameter]

  /// A message of protocol 3.0 without options.
  public init(user: WireText, database: WireText? = nil, parameters: [StartupParameter] = []) {
    precondition(!user.isEmpty, "a startup message needs a user")
    version = .v3_0
    self.user = user
    self.database = database ?? user
    replication = .off
    options = WireText([])
    self.parameters = parameters
    protocolOptions = []
  }

  /// All settings that the client asks for, in PostgreSQL's order: those of ``options`` first, so that ``parameters``
  /// win.
  public func settings() throws(CommandLineOptions.Failure) -> [StartupParameter] {
    try CommandLineOptions.parse(options.bytes) + parameters
  }

  /// Reads name and value pairs up to the terminator, which must be the last byte. A parameter that comes twice counts
  /// as its last value, as in PostgreSQL (`ProcessStartupPacket`).
  fileprivate init(
    version: ProtocolVersion, parametersOf body: Span<UInt8>, at reader: inout FieldReader
  ) throws(WireError) {
    guard version.major == 3 else { throw .unsupportedProtocol(version) }
    var user = WireText([])
    var database = WireText([])
    var replication = Replication.off
    var options = WireText([])
    var parameters: [StartupParameter] = []
    var protocolOptions: [StartupParameter] = []

    while true {
      let start = reader.offset
      let nameRange = try reader.text("parameter name", in: body)
      if nameRange.isEmpty { break }
      guard let name = String(exactly: body.extracting(nameRange)) else {
        throw .invalidText(WireText(body, nameRange).text, reader.place("parameter name", start))
      }
      let valueStart = reader.offset
      let value = WireText(body, try reader.text("parameter value", in: body))
      switch name {
      case "user": user = value
      case "database": database = value
      case "options": options = value
      case "replication":
        guard let mode = Replication(value.text) else {
          throw .invalidText(value.text, reader.place("replication", valueStart))
        }
        replication = mode
      case _ where name.utf8.starts(with: "_pq_.".utf8):
        protocolOptions.append(StartupParameter(name: name, value: value))
      default: parameters.append(StartupParameter(name: name, value: value))
      }
    }
    try reader.end(in: body)

    guard !user.isEmpty else { throw .missingUser }
    self.init(user: user, database: database.isEmpty ? nil : database, parameters: parameters)
    self.version = version
    self.replication = replication
    self.options = options
    self.protocolOptions = protocolOptions
  }
}

extension StartupMessage.Replication {
  /// `database`, or what PostgreSQL takes for a truth value (`parse_bool`): a beginning of true, false, yes, no, on or
  /// off that is not just `o`, or 1 or 0, in any case.
  init?(_ text: String) {
    if text == "database" {
      self = .logical
      return
    }
    let word = text.lowercased()
    func isShort(for long: String, from least: Int = 1) -> Bool {
      word.utf8.count >= least && long.hasPrefix(word)
    }
    if isShort(for: "true") || isShort(for: "yes") || isShort(for: "on", from: 2) || word == "1" {
      self = .physical
    } else if isShort(for: "false") || isShort(for: "no") || isShort(for: "off", from: 2) || word == "0" {
      self = .off
    } else {
      return nil
    }
  }
}

extension MessageWriter {
  /// SSLRequest
  public mutating func sslRequest() {
    packet { $0.uint32(InitialPacket.RequestCode.ssl) }
  }

  /// GSSENCRequest
  public mutating func gssEncryptionRequest() {
    packet { $0.uint32(InitialPacket.RequestCode.gssEncryption) }
  }

  /// CancelRequest
  public mutating func cancelRequest(_ key: CancelKey) {
    packet {
      $0.uint32(InitialPacket.RequestCode.cancel)
      $0.uint32(key.processID)
      $0.uint32(key.secret)
    }
  }

  /// StartupMessage. Parameters without meaning (no replication, no options) are left out.
  public mutating func startup(_ message: StartupMessage) {
    packet {
      $0.uint32(message.version.rawValue)
      $0.startupParameter("user", message.user)
      $0.startupParameter("database", message.database)
      if message.replication != .off {
        $0.startupParameter("replication", WireText(message.replication.rawValue))
      }
      if !message.options.isEmpty { $0.startupParameter("options", message.options) }
      for parameter in message.parameters + message.protocolOptions {
        $0.startupParameter(parameter.name, parameter.value)
      }
      $0.uint8(0)
    }
  }

  private mutating func startupParameter(_ name: String, _ value: WireText) {
    precondition(!name.isEmpty, "an empty parameter name would end the list")
    text(WireText(name))
    text(value)
  }
}
