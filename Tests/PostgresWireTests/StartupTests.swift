import PostgresWire
import Testing

@Suite("Packets of the startup phase")
struct StartupTests {
  @Test("requests have the bytes of the documentation")
  func requests() throws {
    let ssl = written { $0.sslRequest() }
    #expect(ssl == [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])
    #expect(try decoded(ssl) == .ssl)

    let gss = written { $0.gssEncryptionRequest() }
    #expect(gss == [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30])
    #expect(try decoded(gss) == .gssEncryption)

    let cancel = written { $0.cancelRequest(CancelKey(processID: 0x8000_0001, secret: 0xffee_ddcc)) }
    #expect(cancel == [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0x80, 0, 0, 1, 0xff, 0xee, 0xdd, 0xcc])
    #expect(try decoded(cancel) == .cancel(CancelKey(processID: 0x8000_0001, secret: 0xffee_ddcc)))
  }

  @Test("a cancel key of another length than four bytes is refused")
  func longCancelKey() {
    let code: [UInt8] = [0x04, 0xd2, 0x16, 0x2e]
    for secretLength in [0, 3, 5, 32] {
      #expect(throws: WireError.self) {
        try InitialPacket(body: (code + [0, 0, 0, 1] + Array(repeating: 7, count: secretLength)).span)
      }
    }
  }

  @Test("what psql sends is understood")
  func psql() throws {
    let message = try startup(
      "user\0alice\0database\0app\0application_name\0psql\0client_encoding\0UTF8\0\0")
    #expect(message.version == .v3_0)
    #expect(message.user == "alice")
    #expect(message.database == "app")
    #expect(message.replication == .off)
    #expect(message.options.isEmpty)
    #expect(
      message.parameters == [
        StartupParameter(name: "application_name", value: "psql"),
        StartupParameter(name: "client_encoding", value: "UTF8"),
      ])
  }

  @Test("the database is the user's name by default")
  func defaultDatabase() throws {
    #expect(try startup("user\0alice\0\0").database == "alice")
    #expect(try startup("user\0alice\0database\0\0\0").database == "alice")
  }

  @Test("every part of a message survives writing and reading")
  func roundTrip() throws {
    var message = StartupMessage(
      user: "alice", database: "app", parameters: [StartupParameter(name: "DateStyle", value: "ISO, DMY")])
    message.version.minor = 2
    message.replication = .logical
    message.options = "-c work_mem=64MB"
    message.protocolOptions = [StartupParameter(name: "_pq_.compression", value: "zstd")]
    let packet = written { $0.startup(message) }
    #expect(try InitialPacket.length(packet.span) == packet.count)
    let decoded = try decodeStrictly(Array(packet.dropFirst(4))) { (body) throws(WireError) in
      try InitialPacket(body: body)
    }
    #expect(decoded == .startup(message))
  }

  @Test("the last of several values counts, and settings keep their order")
  func duplicates() throws {
    let message = try startup("user\0alice\0a.b\01\0user\0bob\0a.b\02\0\0")
    #expect(message.user == "bob")
    #expect(message.parameters.map(\.value) == ["1", "2"])
  }

  @Test("values in other encodings are kept byte for byte")
  func otherEncodings() throws {
    let latin1 = Array("user\0J".utf8) + [0xf6] + Array("rg\0application_name\0".utf8) + [0xff, 0xfe, 0, 0]
    guard case .startup(let message) = try InitialPacket(body: ([0, 3, 0, 0] + latin1).span) else {
      Issue.record("not a startup message")
      return
    }
    #expect(message.user.bytes == [0x4a, 0xf6, 0x72, 0x67])
    #expect(message.user.exactText == nil)
    #expect(message.user.text == "J\u{fffd}rg")
    #expect(message.parameters[0].value.bytes == [0xff, 0xfe])
  }

  @Test("settings of options come first, so that parameters win")
  func settingsOrder() throws {
    let message = try startup("user\0u\0work_mem\01MB\0options\0-c work_mem=2MB --geqo=off\0\0")
    let settings = try message.settings().map { "\($0.name)=\($0.value)" }
    #expect(settings == ["work_mem=2MB", "geqo=off", "work_mem=1MB"])
  }

  @Test(
    "replication takes what PostgreSQL takes for a truth value, and database",
    arguments: [
      ("database", .logical), ("true", .physical), ("T", .physical), ("on", .physical), ("yes", .physical),
      ("1", .physical), ("off", .off), ("OF", .off), ("f", .off), ("n", .off), ("0", .off),
      ("o", nil), ("", nil), ("Database", nil), ("trues", nil), ("2", nil),
    ] as [(String, StartupMessage.Replication?)])
  func replication(text: String, expected: StartupMessage.Replication?) throws {
    if let expected {
      #expect(try startup("user\0u\0replication\0\(text)\0\0").replication == expected)
    } else {
      let error = #expect(throws: WireError.self) { try startup("user\0u\0replication\0\(text)\0\0") }
      #expect(error?.sqlState == .invalidParameterValue)
    }
  }

  @Test("malformed messages are refused with PostgreSQL's SQLSTATE")
  func malformed() {
    let noUser = #expect(throws: WireError.self) { try startup("database\0app\0\0") }
    #expect(noUser == .missingUser)
    #expect(noUser?.sqlState == .invalidAuthorizationSpecification)
    #expect(#expect(throws: WireError.self) { try startup("user\0\0\0") } == .missingUser)

    let unfinished = #expect(throws: WireError.self) { try startup("user\0alice\0") }
    #expect(unfinished?.sqlState == .protocolViolation)
    let trailing = #expect(throws: WireError.self) { try startup("user\0alice\0\0x\0y\0\0") }
    #expect(trailing?.description == #"invalid startup message, field "end" at byte 16: 5 bytes too many"#)

    let version2 = #expect(throws: WireError.self) { try InitialPacket(body: ([0, 2, 0, 0] as [UInt8]).span) }
    #expect(version2 == .unsupportedProtocol(ProtocolVersion(major: 2, minor: 0)))
    #expect(version2?.sqlState == .featureNotSupported)
    #expect(version2?.description == "unsupported frontend protocol 2.0")
  }

  @Test("the length is checked before anything is buffered")
  func lengthGate() throws {
    #expect(try InitialPacket.length(([0, 0, 0] as [UInt8]).span) == nil)
    #expect(try InitialPacket.length(([0, 0, 0, 8] as [UInt8]).span) == 8)
    #expect(try InitialPacket.length(([0, 0, 0x27, 0x10] as [UInt8]).span) == 10_000)
    for refused: [UInt8] in [[0, 0, 0, 0], [0, 0, 0, 7], [0, 0, 0x27, 0x11], [0xff, 0xff, 0xff, 0xff]] {
      #expect(throws: WireError.self) { try InitialPacket.length(refused.span) }
    }
  }

  private func decoded(_ packet: [UInt8]) throws -> InitialPacket {
    #expect(try InitialPacket.length(packet.span) == packet.count)
    return try decodeStrictly(Array(packet.dropFirst(4))) { (body) throws(WireError) in
      try InitialPacket(body: body)
    }
  }

  /// Decodes a StartupMessage of protocol 3.0 with these parameter bytes.
  private func startup(_ parameters: String) throws -> StartupMessage {
    guard case .startup(let message) = try InitialPacket(body: ([0, 3, 0, 0] + Array(parameters.utf8)).span) else {
      Issue.record("not a startup message")
      return StartupMessage(user: "none")
    }
    return message
  }
}
