import Telemetry
import Testing

@Suite struct UnixTimeTests {
  @Test(arguments: [
    (0, "1970-01-01 00:00:00 UTC"),
    (-1, "1969-12-31 23:59:59 UTC"),
    (951_782_400, "2000-02-29 00:00:00 UTC"),
    (1_772_323_199, "2026-02-28 23:59:59 UTC"),
    (1_772_323_200, "2026-03-01 00:00:00 UTC"),
    (1_795_630_327, "2026-11-25 18:12:07 UTC"),
    (4_107_542_400, "2100-03-01 00:00:00 UTC"),
  ])
  func isShownToTheSecond(second: Int64, text: String) {
    #expect(UnixTime(microseconds: second * 1_000_000 + 999_999).description == text)
  }
}
