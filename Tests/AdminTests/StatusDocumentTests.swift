import Admin
import Foundation
import Telemetry
import Testing

@Suite struct StatusDocumentTests {
  @Test func itIsJSONWithNumbersAsNumbersAndUnknownAsNull() throws {
    var daemon = exampleDaemon()
    daemon.pools[1].latencyMicroseconds = 120
    let document = try parse(StatusDocument.json(of: daemon))
    #expect(document["max_clients"] as? Int == 100)
    #expect(document["draining"] as? Bool == false)
    #expect(document["time_us"] as? Int == 1_795_630_400_000_000)
    let pools = try #require(document["pools"] as? [[String: Any]])
    #expect(pools.map { $0["user"] as? String } == ["alice", "zoe"])
    #expect(pools[0]["checked_out"] as? Int == 5)
    #expect(pools[0]["waiting"] as? Int == 2)
    #expect(pools[0]["overflow"] as? Int == 2)
    #expect(pools[0]["latency_us"] as? Int == 120)
    #expect(pools[1]["latency_us"] is NSNull)
    #expect(pools[0]["standing"] as? String == "open")
  }

  @Test func hostsComeWithWhatIsKnownOfThem() throws {
    let document = try parse(StatusDocument.json(of: exampleDaemon()))
    let hosts = try #require(document["hosts"] as? [[String: Any]])
    #expect(hosts.map { $0["host"] as? String } == ["db1:5432", "db2:5432"])
    #expect(hosts[0]["breaker"] as? String == "half_open")
    #expect(hosts[0]["role"] is NSNull && hosts[0]["lag_us"] is NSNull)
    #expect(hosts[0]["last_error"] as? String == "Connection refused")
    #expect(hosts[1]["databases"] as? [String] == ["app"])
    #expect(hosts[1]["lag_us"] as? Int == 2_500_000)
    #expect(hosts[1]["history"] as? String == "-+")
  }

  @Test func waitsComeAsBucketsThatTheBoundsExplain() throws {
    let document = try parse(StatusDocument.json(of: exampleDaemon()))
    let bounds = try #require(document["bucket_bounds_us"] as? [Int])
    let pools = try #require(document["pools"] as? [[String: Any]])
    let wait = try #require(pools[0]["wait"] as? [[Int]])
    // One wait of 30 µs.
    #expect(wait.count == 1 && wait[0][1] == 1)
    #expect(bounds[wait[0][0]] == 30)
    #expect(bounds.count == HistogramScale.bucketCount - 1)
  }

  @Test func hostileNamesAndTextsStayStrings() throws {
    var daemon = exampleDaemon()
    let hostile = "</script>\"}],\\\u{0}\u{1F}\u{2028}é\n"
    daemon.pools[0].database = hostile
    daemon.pools[0].lastError = hostile
    daemon.hosts[0].host = hostile
    daemon.hosts[0].databases = [hostile]
    daemon.hosts[0].lastError = hostile
    daemon.events = [
      EventSnapshot(id: 3, time: UnixTime(microseconds: 5), kind: "connect_failed", pool: hostile, detail: hostile)
    ]
    let document = try parse(StatusDocument.json(of: daemon))
    let pools = try #require(document["pools"] as? [[String: Any]])
    #expect(pools.contains { $0["database"] as? String == hostile && $0["last_error"] as? String == hostile })
    let hosts = try #require(document["hosts"] as? [[String: Any]])
    #expect(hosts[0]["host"] as? String == hostile && hosts[0]["last_error"] as? String == hostile)
    #expect(hosts[0]["databases"] as? [String] == [hostile])
    let events = try #require(document["events"] as? [[String: Any]])
    #expect(events[0]["detail"] as? String == hostile)
  }

  @Test func onlyTheLatestEventsAreShownOldestFirst() throws {
    var daemon = exampleDaemon()
    daemon.events = (1...150).map {
      EventSnapshot(id: $0, time: UnixTime(microseconds: $0), kind: "outage", pool: nil, detail: "down", count: 2)
    }
    let document = try parse(StatusDocument.json(of: daemon))
    let events = try #require(document["events"] as? [[String: Any]])
    #expect(events.compactMap { $0["id"] as? Int } == Array(51...150))
    #expect(events[0]["pool"] is NSNull)
    #expect(events[0]["count"] as? Int == 2)
  }

  private func parse(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }
}
