import PostgresWire
import Testing

@Suite("Messages of clients")
struct FrontendTests {
  @Test("Query has the bytes of the documentation")
  func query() throws {
    #expect(written { $0.query("SELECT 1") } == [0x51, 0, 0, 0, 13] + Array("SELECT 1\0".utf8))
    let bytes = body(FrontendType.query) { $0.query("SELECT 1") }
    let query = try decodeStrictly(bytes, Frontend.Query.init)
    #expect(text(bytes, query.text) == "SELECT 1")
  }

  @Test("a zero byte in a text cannot end it early")
  func zeroByteInText() throws {
    #expect(written { $0.query("a\0b") } == written { $0.query("ab") })
    #expect(throws: WireError.self) { try Frontend.Query(body: Array("a\0b\0".utf8).span) }
  }

  @Test("Parse gives name, text and types")
  func parse() throws {
    let bytes = body(FrontendType.parse) { $0.parse(statement: "s1", text: "SELECT $1", parameterTypes: [23, 0]) }
    #expect(bytes == Array("s1\0SELECT $1\0".utf8) + [0, 2, 0, 0, 0, 23, 0, 0, 0, 0])
    let parse = try decodeStrictly(bytes, Frontend.Parse.init)
    #expect(text(bytes, parse.statement) == "s1")
    #expect(text(bytes, parse.text) == "SELECT $1")
    #expect(parse.parameterTypeCount == 2)
    #expect(Array(bytes[parse.parameterTypes]) == [0, 0, 0, 23, 0, 0, 0, 0])

    let renamed = body(FrontendType.parse) { $0.parse(parse, of: bytes.span, statement: "lifeguard_7") }
    #expect(
      renamed
        == body(FrontendType.parse) {
          $0.parse(statement: "lifeguard_7", text: "SELECT $1", parameterTypes: [23, 0])
        })
  }

  @Test("Bind gives places of values and copies none")
  func bind() throws {
    func write(statement: WireText) -> [UInt8] {
      body(FrontendType.bind) {
        $0.bind(
          portal: "p", statement: statement, parameterFormats: [0, 1], parameters: [Array("abc".utf8), nil],
          resultFormats: [1])
      }
    }
    let bytes = write(statement: "s")
    #expect(
      bytes == Array("p\0s\0".utf8) + [0, 2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 3] + Array("abc".utf8)
        + [0xff, 0xff, 0xff, 0xff, 0, 1, 0, 1])
    let bind = try decodeStrictly(bytes, Frontend.Bind.init)
    #expect(text(bytes, bind.portal) == "p")
    #expect(text(bytes, bind.statement) == "s")
    #expect(Array(bytes[bind.parameterFormats]) == [0, 0, 0, 1])
    #expect(bind.parameterCount == 2)
    #expect(Array(bytes[bind.parameters]) == [0, 0, 0, 3] + Array("abc".utf8) + [0xff, 0xff, 0xff, 0xff])
    #expect(Array(bytes[bind.resultFormats]) == [0, 1])

    let renamed = body(FrontendType.bind) { $0.bind(bind, of: bytes.span, statement: "longer") }
    #expect(renamed == write(statement: "longer"))
  }

  @Test("65,535 parameters are legal")
  func manyParameters() throws {
    let values: [[UInt8]?] = Array(repeating: nil, count: 65_535)
    let bytes = body(FrontendType.bind) { $0.bind(parameters: values) }
    #expect(try Frontend.Bind(body: bytes.span).parameterCount == 65_535)
  }

  @Test("lengths and counts beyond the body name the field")
  func hostileBind() {
    let negative: [UInt8] = [0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe, 0, 0]
    let negativeError = #expect(throws: WireError.self) { try Frontend.Bind(body: negative.span) }
    #expect(
      negativeError?.description == #"invalid Bind message, field "parameters" at byte 6: invalid length -2"#)

    let huge: [UInt8] = [0, 0, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 0]
    #expect(throws: WireError.self) { try Frontend.Bind(body: huge.span) }

    let count: [UInt8] = [0, 0, 0xff, 0xff, 0, 0]
    let countError = #expect(throws: WireError.self) { try Frontend.Bind(body: count.span) }
    #expect(
      countError?.description
        == #"invalid Bind message, field "parameter formats" at byte 2: count 65535 does not fit the message"#)
    #expect(countError?.sqlState == .protocolViolation)
  }

  @Test("Describe and Close name a statement or a portal")
  func describeAndClose() throws {
    let describeBytes = body(FrontendType.describe) { $0.describe(.statement, "s1") }
    #expect(describeBytes == Array("Ss1\0".utf8))
    let describe = try decodeStrictly(describeBytes, Frontend.Describe.init)
    #expect(describe.target == .statement)
    #expect(text(describeBytes, describe.name) == "s1")

    let closeBytes = body(FrontendType.close) { $0.close(.portal) }
    #expect(closeBytes == Array("P\0".utf8))
    let close = try decodeStrictly(closeBytes, Frontend.Close.init)
    #expect(close.target == .portal)
    #expect(close.name.isEmpty)

    let other = #expect(throws: WireError.self) { try Frontend.Close(body: Array("Q\0".utf8).span) }
    #expect(other?.description == #"invalid Close message, field "kind" at byte 0: undefined value 81"#)
  }

  @Test("Execute gives portal and row limit")
  func execute() throws {
    let bytes = body(FrontendType.execute) { $0.execute(portal: "p", maximumRows: -2) }
    let execute = try decodeStrictly(bytes, Frontend.Execute.init)
    #expect(text(bytes, execute.portal) == "p")
    #expect(execute.maximumRows == -2)
  }

  @Test("FunctionCall gives function, arguments and formats")
  func functionCall() throws {
    let bytes = body(FrontendType.functionCall) {
      $0.functionCall(1598, argumentFormats: [1], arguments: [[9, 8], nil], resultFormat: 1)
    }
    let call = try decodeStrictly(bytes, Frontend.FunctionCall.init)
    #expect(call.functionID == 1598)
    #expect(Array(bytes[call.argumentFormats]) == [0, 1])
    #expect(call.argumentCount == 2)
    #expect(Array(bytes[call.arguments]) == [0, 0, 0, 2, 9, 8, 0xff, 0xff, 0xff, 0xff])
    #expect(call.resultFormat == 1)
  }

  @Test("COPY messages")
  func copy() throws {
    #expect(written { $0.frontendCopyData([1, 0, 2]) } == [0x64, 0, 0, 0, 7, 1, 0, 2])
    #expect(written { $0.frontendCopyDone() } == [0x63, 0, 0, 0, 4])
    let bytes = body(FrontendType.copyFail) { $0.copyFail("gave up") }
    #expect(text(bytes, try decodeStrictly(bytes, Frontend.CopyFail.init).reason) == "gave up")
  }

  @Test("passwords and SASL answers")
  func authentication() throws {
    let passwordBytes = body(FrontendType.password) { $0.password("secret") }
    let password = try decodeStrictly(passwordBytes, Frontend.Password.init)
    #expect(text(passwordBytes, password.password) == "secret")

    let initialBytes = body(FrontendType.password) {
      $0.saslInitialResponse(mechanism: "SCRAM-SHA-256", response: Array("n,,n=,r=abc".utf8))
    }
    let initial = try decodeStrictly(initialBytes, Frontend.SASLInitialResponse.init)
    #expect(text(initialBytes, initial.mechanism) == "SCRAM-SHA-256")
    #expect(initial.response.map { text(initialBytes, $0) } == "n,,n=,r=abc")

    let bareBytes = body(FrontendType.password) { $0.saslInitialResponse(mechanism: "EXTERNAL", response: nil) }
    #expect(try decodeStrictly(bareBytes, Frontend.SASLInitialResponse.init).response == nil)
    #expect(written { $0.saslResponse([1, 2]) } == [0x70, 0, 0, 0, 6, 1, 2])
  }

  @Test("messages without a body refuse one")
  func emptyBodies() throws {
    #expect(written { $0.sync() } == [0x53, 0, 0, 0, 4])
    #expect(written { $0.flush() } == [0x48, 0, 0, 0, 4])
    #expect(written { $0.terminate() } == [0x58, 0, 0, 0, 4])
    let nothing: [UInt8] = []
    let something: [UInt8] = [0]
    for type: FrontendType in [.sync, .flush, .terminate, .copyDone] {
      try type.checkEmpty(body: nothing.span)
      let error = #expect(throws: WireError.self) { try type.checkEmpty(body: something.span) }
      #expect(error?.description.contains("\(type.messageName)") == true)
    }
  }
}
