import PostgresWire
import Testing

@Suite("Message headers")
struct HeaderTests {
  @Test("a header is five bytes, at any offset")
  func reading() {
    let bytes: [UInt8] = [0xaa, 0x51, 0, 0, 1, 4]
    #expect(header(bytes, at: 1) == MessageHeader(type: 0x51, bodyLength: 256))
    #expect(header(bytes, at: 1)?.totalLength == 261)
    for offset in 2...7 { #expect(header(bytes, at: offset) == nil) }
  }

  @Test("a length below four is none, the largest is beyond every limit")
  func extremes() {
    for length: UInt8 in 0...3 { #expect(header([0x51, 0, 0, 0, length], at: 0) == nil) }
    let largest = header([0x51, 0xff, 0xff, 0xff, 0xff], at: 0)
    #expect((largest?.bodyLength).map { $0 > FrontendType.query.bodyLimit } == true)
  }

  @Test("lengths of written messages are right, one after another")
  func stream() {
    let bytes = written {
      $0.query("SELECT 1")
      $0.sync()
      $0.frontendCopyData(Array(repeating: 7, count: 70_000))
    }
    var offset = 0
    var types: [UInt8] = []
    while let next = header(bytes, at: offset) {
      types.append(next.type)
      offset += next.totalLength
    }
    #expect(offset == bytes.count)
    #expect(types == [0x51, 0x53, 0x64])
  }

  private func header(_ bytes: [UInt8], at offset: Int) -> MessageHeader? {
    MessageHeader(bytes.span, at: offset)
  }
}
