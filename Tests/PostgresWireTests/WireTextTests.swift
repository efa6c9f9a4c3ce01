import PostgresWire
import Testing

@Suite("Text")
struct WireTextTests {
  @Test("ends with its first zero byte, wherever that is, or with its range")
  func ends() {
    // 0x80 and 1 are what a search by words may take for a zero, and what it may miss behind one.
    for other: UInt8 in [0x01, 0x61, 0x80, 0xff] {
      for zero in 0...20 {
        var bytes = [UInt8](repeating: other, count: 24)
        bytes[zero] = 0
        bytes[zero + 1] = 1
        bytes[22] = 0
        for start in 0...24 {
          for end in start...24 {
            let expected = (start..<end).first { bytes[$0] == 0 } ?? end
            #expect(bytes.span.end(ofTextIn: start..<end) == expected)
          }
        }
      }
    }
  }
}
