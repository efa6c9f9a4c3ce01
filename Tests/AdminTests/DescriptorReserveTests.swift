import Glibc
import Testing

@testable import Admin

@Suite struct DescriptorReserveTests {
  @Test(arguments: [
    (1 << 20, (1 << 20) - 32), (65, 33), (64, 64), (0, 0), (UInt64(Int32.max), Int(Int32.max) - 32),
  ]) func theReserveIsTheEndOfTheLimit(limit: UInt64, start: Int) {
    #expect(DescriptorReserve.start(limit: limit) == start)
  }

  @Test func withoutALimitThereIsNone() {
    #expect(DescriptorReserve.start(limit: .max) == nil)
  }

  @Test func theNumbersInUseAreCounted() throws {
    let start = try #require(DescriptorReserve.start)
    #expect(DescriptorReserve.used == 0)
    for (count, offset) in [0, 1, 5].enumerated() {
      #expect(dup2(STDERR_FILENO, Int32(start + offset)) >= 0)
      #expect(DescriptorReserve.used == count + 1)
    }
    for offset in [0, 1, 5] { close(Int32(start + offset)) }
    #expect(DescriptorReserve.used == 0)
  }
}
