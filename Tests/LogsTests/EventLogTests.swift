import Telemetry
import Testing

@testable import Logs

@Suite("The event list")
struct EventLogTests {
  private func note(_ log: EventLog, _ kind: String, _ pool: String? = nil, _ detail: String = "", at time: Int64 = 0) {
    log.note(kind: kind, pool: pool, detail: detail, at: UnixTime(microseconds: time))
  }

  @Test("keeps events in order, with rising numbers")
  func order() {
    let log = EventLog()
    note(log, "reload", nil, "settings reloaded", at: 5)
    note(log, "connect_failed", "app/app", "refused", at: 6)
    #expect(
      log.events == [
        EventSnapshot(
          id: 1, time: UnixTime(microseconds: 5), kind: "reload", pool: nil, detail: "settings reloaded"),
        EventSnapshot(
          id: 2, time: UnixTime(microseconds: 6), kind: "connect_failed", pool: "app/app", detail: "refused"),
      ])
  }

  @Test("counts what is the same as the last event of its pool, with the last time")
  func folds() {
    let log = EventLog()
    for time in 1...3 {
      note(log, "connect_failed", "app/a", "refused", at: Int64(time))
      note(log, "connect_failed", "app/b", "refused", at: Int64(time))
    }
    #expect(log.events.map(\.count) == [3, 3])
    #expect(log.events.map(\.time.microseconds) == [3, 3])
    note(log, "server_opened", "app/a", "db1")
    note(log, "connect_failed", "app/a", "refused")
    #expect(log.events.map(\.kind) == ["connect_failed", "connect_failed", "server_opened", "connect_failed"])
    #expect(log.events.map(\.id) == [1, 2, 3, 4])
  }

  @Test("forgets the oldest beyond its capacity")
  func capacity() {
    let log = EventLog(capacity: 3)
    for number in 1...7 { note(log, "reload", nil, "\(number)") }
    #expect(log.events.map(\.detail) == ["5", "6", "7"])
    #expect(log.events.map(\.id) == [5, 6, 7])
    note(log, "reload", nil, "7")
    #expect(log.events.map(\.count) == [1, 1, 2])
  }
}
