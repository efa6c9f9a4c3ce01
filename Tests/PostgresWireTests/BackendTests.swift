import PostgresWire
import Testing

@Suite("Messages of servers")
struct BackendTests {
  @Test("authentication requests have the bytes of the documentation")
  func authentication() throws {
    typealias Authentication = Backend.Authentication
    #expect(written { $0.authenticationOk() } == [0x52, 0, 0, 0, 8, 0, 0, 0, 0])

    let ok = body(BackendType.authentication) { $0.authenticationOk() }
    #expect(try decodeStrictly(ok, Authentication.init) == .ok)
    let clear = body(BackendType.authentication) { $0.authenticationCleartextPassword() }
    #expect(try decodeStrictly(clear, Authentication.init) == .cleartextPassword)
    let md5 = body(BackendType.authentication) { $0.authenticationMD5Password(salt: 0xdead_beef) }
    #expect(md5 == [0, 0, 0, 5, 0xde, 0xad, 0xbe, 0xef])
    #expect(try decodeStrictly(md5, Authentication.init) == .md5Password(salt: 0xdead_beef))

    let sasl = body(BackendType.authentication) {
      $0.authenticationSASL(mechanisms: ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])
    }
    #expect(sasl == [0, 0, 0, 10] + Array("SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0".utf8))
    guard case .sasl(let mechanisms) = try decodeStrictly(sasl, Authentication.init) else {
      Issue.record("not SASL")
      return
    }
    #expect(mechanisms.map { text(sasl, $0) } == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])

    let more = body(BackendType.authentication) { $0.authenticationSASLContinue([1, 0, 2]) }
    #expect(try Authentication(body: more.span) == .saslContinue(4..<7))
    let final = body(BackendType.authentication) { $0.authenticationSASLFinal([3]) }
    #expect(try Authentication(body: final.span) == .saslFinal(4..<5))
    #expect(try Authentication(body: ([0, 0, 0, 2] as [UInt8]).span) == .kerberosV5)
    #expect(try Authentication(body: ([0, 0, 0, 7] as [UInt8]).span) == .gss)
    #expect(try Authentication(body: ([0, 0, 0, 8, 1] as [UInt8]).span) == .gssContinue(4..<5))
    #expect(try Authentication(body: ([0, 0, 0, 9] as [UInt8]).span) == .sspi)
    #expect(try Authentication(body: ([0, 0, 0, 99, 1] as [UInt8]).span) == .other(code: 99))
  }

  @Test("session messages")
  func session() throws {
    let key = CancelKey(processID: 4711, secret: 0xffff_fffe)
    let keyBytes = body(BackendType.backendKeyData) { $0.backendKeyData(key) }
    #expect(try decodeStrictly(keyBytes, Backend.KeyData.init).key == key)

    let statusBytes = body(BackendType.parameterStatus) { $0.parameterStatus(name: "TimeZone", value: "Etc/UTC") }
    #expect(statusBytes == Array("TimeZone\0Etc/UTC\0".utf8))
    let status = try decodeStrictly(statusBytes, Backend.ParameterStatus.init)
    #expect(text(statusBytes, status.name) == "TimeZone")
    #expect(text(statusBytes, status.value) == "Etc/UTC")

    let noteBytes = body(BackendType.notificationResponse) {
      $0.notification(processID: 7, channel: "jobs", payload: "")
    }
    let note = try decodeStrictly(noteBytes, Backend.Notification.init)
    #expect(note.processID == 7)
    #expect(text(noteBytes, note.channel) == "jobs")
    #expect(note.payload.isEmpty)
  }

  @Test("ReadyForQuery carries one of three states")
  func readyForQuery() throws {
    #expect(written { $0.readyForQuery(.idle) } == [0x5a, 0, 0, 0, 5, 0x49])
    for status: Backend.TransactionStatus in [.idle, .inBlock, .failed] {
      let bytes = body(BackendType.readyForQuery) { $0.readyForQuery(status) }
      #expect(try decodeStrictly(bytes, Backend.ReadyForQuery.init).status == status)
    }
    #expect(throws: WireError.self) { try Backend.ReadyForQuery(body: ([0x58] as [UInt8]).span) }
  }

  @Test("NegotiateProtocolVersion carries the whole version, as libpq expects")
  func negotiateProtocolVersion() throws {
    let bytes = body(BackendType.negotiateProtocolVersion) {
      $0.negotiateProtocolVersion(newest: .v3_0, unknownOptions: ["_pq_.a", "_pq_.b"])
    }
    #expect(bytes == [0, 3, 0, 0, 0, 0, 0, 2] + Array("_pq_.a\0_pq_.b\0".utf8))
    let answer = try decodeStrictly(bytes, Backend.NegotiateProtocolVersion.init)
    #expect(answer.newest == .v3_0)
    #expect(answer.unknownOptions.map { text(bytes, $0) } == ["_pq_.a", "_pq_.b"])

    let bare: [UInt8] = [0, 0, 0, 2, 0, 0, 0, 0]
    #expect(
      try Backend.NegotiateProtocolVersion(body: bare.span).newest == ProtocolVersion(major: 3, minor: 2))
    for count: [UInt8] in [[0xff, 0xff, 0xff, 0xff], [0x7f, 0xff, 0xff, 0xff], [0, 0, 0, 1]] {
      #expect(throws: WireError.self) {
        try Backend.NegotiateProtocolVersion(body: ([0, 3, 0, 0] + count).span)
      }
    }
  }

  @Test("RowDescription and DataRow")
  func rows() throws {
    var attributes = Backend.ColumnAttributes.bigint
    attributes.tableID = 16_384
    attributes.attributeNumber = 3
    attributes.format = 1
    let columnBytes = body(BackendType.rowDescription) {
      $0.rowDescription([("name", .text), ("id", attributes)])
    }
    #expect(
      Array(columnBytes.prefix(25))
        == [0, 2] + Array("name\0".utf8) + [
          0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0,
        ])
    let description = try decodeStrictly(columnBytes, Backend.RowDescription.init)
    #expect(description.columns.map { text(columnBytes, $0.name) } == ["name", "id"])
    #expect(description.columns.map(\.attributes) == [.text, attributes])

    let rowBytes = body(BackendType.dataRow) { $0.dataRow([Array("1".utf8), nil, []]) }
    #expect(rowBytes == [0, 3, 0, 0, 0, 1, 0x31, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])
    let row = try decodeStrictly(rowBytes, Backend.DataRow.init)
    #expect(row.values.map { $0.map { text(rowBytes, $0) } } == ["1", nil, ""])
  }

  @Test("results of commands")
  func commands() throws {
    let tagBytes = body(BackendType.commandComplete) { $0.commandComplete("INSERT 0 1") }
    #expect(text(tagBytes, try decodeStrictly(tagBytes, Backend.CommandComplete.init).tag) == "INSERT 0 1")

    let typeBytes = body(BackendType.parameterDescription) { $0.parameterDescription([23, 25]) }
    let parameters = try decodeStrictly(typeBytes, Backend.ParameterDescription.init)
    #expect(parameters.count == 2)
    #expect(Array(typeBytes[parameters.types]) == [0, 0, 0, 23, 0, 0, 0, 25])

    for value: [UInt8]? in [nil, [], [1, 2, 3]] {
      let bytes = body(BackendType.functionCallResponse) { $0.functionCallResponse(value) }
      let response = try decodeStrictly(bytes, Backend.FunctionCallResponse.init)
      #expect(response.value.map { Array(bytes[$0]) } == value)
    }
  }

  @Test("COPY responses")
  func copy() throws {
    let inBytes = body(BackendType.copyInResponse) { $0.copyInResponse(isBinary: false, columnFormats: [0, 0]) }
    let copyIn = try decodeStrictly(inBytes, Backend.CopyResponse.init)
    #expect(!copyIn.isBinary)
    #expect(Array(inBytes[copyIn.columnFormats]) == [0, 0, 0, 0])
    let outBytes = body(BackendType.copyOutResponse) { $0.copyOutResponse(isBinary: true, columnFormats: [1]) }
    #expect(try decodeStrictly(outBytes, Backend.CopyResponse.init).isBinary)
    let bothBytes = body(BackendType.copyBothResponse) { $0.copyBothResponse(isBinary: false, columnFormats: []) }
    #expect(try decodeStrictly(bothBytes, Backend.CopyResponse.init).columnFormats.isEmpty)
    #expect(throws: WireError.self) { try Backend.CopyResponse(body: ([2, 0, 0] as [UInt8]).span) }
    #expect(written { $0.backendCopyData([1]) } == [0x64, 0, 0, 0, 5, 1])
    #expect(written { $0.backendCopyDone() } == [0x63, 0, 0, 0, 4])
  }

  @Test("messages without a body refuse one")
  func emptyBodies() throws {
    let bytes = written {
      $0.parseComplete()
      $0.bindComplete()
      $0.closeComplete()
      $0.emptyQueryResponse()
      $0.noData()
      $0.portalSuspended()
    }
    #expect(bytes == Array("123Ins".utf8).flatMap { [$0, 0, 0, 0, 4] })
    let nothing: [UInt8] = []
    let something: [UInt8] = [0]
    for type: BackendType in [.parseComplete, .bindComplete, .closeComplete, .emptyQueryResponse, .noData] {
      try type.checkEmpty(body: nothing.span)
      #expect(throws: WireError.self) { try type.checkEmpty(body: something.span) }
    }
  }
}

@Suite("ErrorResponse and NoticeResponse")
struct ErrorFieldsTests {
  @Test("an error of one's own has the fields S, V, C, M, D, H")
  func building() throws {
    let error = ErrorFields(.error, .tooManyConnections, "no room", detail: "all 5 are busy", hint: "wait")
    let bytes = body(BackendType.errorResponse) { $0.errorResponse(error) }
    #expect(
      bytes == Array("SERROR\0VERROR\0C53300\0Mno room\0Dall 5 are busy\0Hwait\0\0".utf8))
    let decoded = try decodeStrictly(bytes) { (body) throws(WireError) in try ErrorFields(body: body) }
    #expect(decoded == error)
    #expect(decoded.severity == .error)
    #expect(decoded.code == .tooManyConnections)
    #expect(decoded.message == "no room")
    #expect(decoded[.detail] == "all 5 are busy")
    #expect(decoded[.context] == nil)
    let notice = body(BackendType.noticeResponse) { $0.noticeResponse(ErrorFields(.notice, .warning, "careful")) }
    #expect(try ErrorFields(body: notice.span).severity == .notice)
  }

  @Test("an error of PostgreSQL keeps its order, unknown fields included")
  func serverError() throws {
    let bytes = Array("SFEHLER\0VFATAL\0C57P01\0Mende\0zneu\0Fpostgres.c\0L3235\0\0".utf8)
    let error = try ErrorFields(body: bytes.span)
    #expect(error.fields.map(\.kind.rawValue) == Array("SVCMzFL".utf8))
    #expect(error.severity == .fatal)
    #expect(error.code == .adminShutdown)
    #expect(body(BackendType.errorResponse) { $0.errorResponse(error) } == bytes)
    let code = try ErrorFields.range(of: .code, in: bytes.span)
    #expect(code.map { text(bytes, $0) } == "57P01")
    #expect(try ErrorFields.range(of: .hint, in: bytes.span) == nil)
  }

  @Test("missing and malformed fields are no reason to fail")
  func sparse() throws {
    let empty = try ErrorFields(body: ([0] as [UInt8]).span)
    #expect(empty.severity == nil && empty.code == nil && empty.message.isEmpty)
    #expect(try ErrorFields(body: Array("C57p1\0\0".utf8).span).code == nil)
    let nothing: [UInt8] = []
    #expect(throws: WireError.self) { try ErrorFields(body: nothing.span) }
  }

  @Test("an SQLSTATE is five digits or upper-case letters")
  func sqlState() {
    #expect(SQLState("57P01") == .adminShutdown)
    #expect(SQLState.adminShutdown.classCode == "57")
    for malformed in ["", "57P0", "57P011", "57p01", "57 01", "57P0É"] {
      #expect(SQLState(malformed) == nil)
    }
  }
}
