import Foundation
import Synchronization
import Testing

@testable import Upstream

/// Probes of scripted peers.
@Suite struct ProberTests {
  @Test func aServerThatAnswersTellsItsRoleAndIsAskedAgainOnTheSameConnection() throws {
    let logins = Atomic(0)
    let peer = ScriptedPeer { connection in
      guard login(connection) else { return }
      logins.add(1, ordering: .relaxed)
      while connection.readMessages(upTo: "Q") != nil { answer(connection, ["t", "t", "4096", "77"]) }
    }
    defer { peer.stop() }
    let outcomes = try outcomes(of: peer, count: 3)
    for outcome in outcomes {
      guard case .answered(let latency, let facts?) = outcome else {
        Issue.record("\(outcome)")
        continue
      }
      #expect(latency > 0)
      #expect(
        facts == ProbeFacts(isInRecovery: true, isReadOnly: true, walPosition: 4096, systemIdentifier: "77"))
    }
    #expect(logins.load(ordering: .relaxed) == 1)
  }

  @Test func itsSessionsHaveANameOfTheirOwn() throws {
    let startup = Delivery<[UInt8]>()
    let peer = ScriptedPeer { connection in
      if let packet = connection.readStartup() { startup.deliver(packet) }
    }
    defer { peer.stop() }
    _ = try outcomes(of: peer, count: 1, conninfo: peer.conninfo + " application_name=mine")
    let text = String(decoding: try startup.value(), as: UTF8.self)
    #expect(text.contains("application_name\u{0}lifeguard prober\u{0}") && !text.contains("mine"))
  }

  @Test func whatIsNoAnswerIsAFailureOrAnAnswerWithoutFacts() throws {
    let scripts: [(String, @Sendable (Connection) -> Void)] = [
      ("nothing and the end", { _ in }),
      ("bytes of no protocol", { $0.send(Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8)) }),
      ("a length that is too small", { $0.send([UInt8(ascii: "D"), 0, 0, 0, 1]) }),
      ("a row that nobody described", { $0.send("D", [0, 1, 0, 0, 0, 1, 65]) }),
      ("a row with too few columns", { answer($0, ["t"]) }),
      ("columns that are null", { answer($0, [nil, nil, nil, nil]) }),
      ("words for numbers", { answer($0, ["maybe", "", "far", ""]) }),
      (
        "an error of the query",
        { connection in
          connection.sendError("42883", "no such function")
          connection.send("Z", [UInt8(ascii: "I")])
        }
      ),
      (
        "no rows",
        { connection in
          connection.send("C", Array("SELECT 0\u{0}".utf8))
          connection.send("Z", [UInt8(ascii: "I")])
        }
      ),
      ("an end amid a row", { $0.send([UInt8(ascii: "D"), 0, 0, 1, 0, 65]) }),
    ]
    for (name, script) in scripts {
      let peer = ScriptedPeer { connection in
        guard login(connection), connection.readMessages(upTo: "Q") != nil else { return }
        script(connection)
        connection.finishOutput()
        connection.waitForEnd()
      }
      defer { peer.stop() }
      for outcome in try outcomes(of: peer, count: 3) {
        switch outcome {
        case .answered(_, let facts): #expect(facts?.isInRecovery != true, "\(name)")
        case .failed(let text): #expect(!text.isEmpty && !text.contains("\n"), "\(name)")
        case .refused: Issue.record("\(name): \(outcome)")
        }
      }
    }
  }

  @Test func rowsWithoutEndAreAFailure() throws {
    let peer = ScriptedPeer { connection in
      guard login(connection), connection.readMessages(upTo: "Q") != nil else { return }
      describe(connection)
      while row(connection, ["f", "f", "1", "1"]) {}
    }
    defer { peer.stop() }
    for outcome in try outcomes(of: peer, count: 2) {
      guard case .failed = outcome else {
        Issue.record("\(outcome)")
        continue
      }
    }
  }

  @Test func silenceIsAFailureAfterTheTimeout() throws {
    let peer = ScriptedPeer { connection in
      if login(connection) { connection.waitForEnd() }
    }
    defer { peer.stop() }
    let elapsed = try seconds {
      let outcome = try outcomes(of: peer, count: 1)[0]
      #expect(outcome == .failed("the server at 127.0.0.1:\(peer.port) did not answer in time"))
    }
    #expect(elapsed >= 0.3)
  }

  @Test(arguments: [("28P01", true), ("3D000", true), ("53300", true), ("57P03", false)])
  func aRefusedLoginIsNoFailureOfTheHost(sqlState: String, isAnswer: Bool) throws {
    let peer = ScriptedPeer { connection in
      guard connection.readStartup() != nil else { return }
      connection.sendError(sqlState, "go away")
    }
    defer { peer.stop() }
    let outcome = try outcomes(of: peer, count: 1)[0]
    switch outcome {
    case .refused(let text): #expect(isAnswer && text.contains("go away"))
    case .failed(let text): #expect(!isAnswer && text.contains("go away"))
    case .answered: Issue.record("\(outcome)")
    }
  }

  @Test func theEndOfTheSessionIsNoticedAtOnce() throws {
    let peer = ScriptedPeer { connection in
      guard login(connection), connection.readMessages(upTo: "Q") != nil else { return }
      answer(connection, ["f", "f", "1", "1"])
    }
    defer { peer.stop() }
    // The script ends the session after each answer; the interval alone would let the second probe wait for an hour.
    let elapsed = try seconds { _ = try outcomes(of: peer, count: 3, interval: 3600) }
    #expect(elapsed >= 0.2, "though not without a pause")
    #expect(elapsed < 20)
  }

  @Test func whoIsHurriedProbesOutOfTurn() throws {
    let peer = ScriptedPeer { connection in
      guard login(connection) else { return }
      while connection.readMessages(upTo: "Q") != nil { answer(connection, ["f", "f", "1", "1"]) }
    }
    defer { peer.stop() }
    let first = Delivery<ProbeOutcome>()
    let second = Delivery<ProbeOutcome>()
    let prober = Prober { _, outcome in (first.count == 0 ? first : second).deliver(outcome) }
    defer { prober.stop() }
    let target = try ConnectionTarget(conninfo: peer.conninfo)
    let plan = ProbePlan(
      target: target, intervalNanoseconds: 3_600_000_000_000, timeoutNanoseconds: 5_000_000_000)
    prober.watch([target.hosts[0]: plan])
    _ = try first.value()
    prober.probeNow(target.hosts[0])
    _ = try second.value()
    // A plan that is the same changes nothing, and a host that nobody watches is nobody's.
    prober.watch([target.hosts[0]: plan])
    prober.probeNow(UpstreamHost(name: "elsewhere", address: nil, port: 1))
    #expect(second.count == 1)
  }

  @Test func stoppingInterruptsAProbe() throws {
    let begun = Delivery<Bool>()
    let peer = ScriptedPeer { connection in
      guard login(connection), connection.readMessages(upTo: "Q") != nil else { return }
      begun.deliver(true)
      connection.waitForEnd()
    }
    defer { peer.stop() }
    let prober = Prober { _, outcome in Issue.record("\(outcome)") }
    let target = try ConnectionTarget(conninfo: peer.conninfo)
    prober.watch([
      target.hosts[0]: ProbePlan(
        target: target, intervalNanoseconds: 1_000_000_000, timeoutNanoseconds: 3_600_000_000_000)
    ])
    _ = try begun.value()
    #expect(seconds { prober.stop() } < 10)
  }

  /// What the first probes of a peer find.
  private func outcomes(
    of peer: ScriptedPeer, count: Int, conninfo: String? = nil, interval: Double = 0.001
  ) throws -> [ProbeOutcome] {
    let monitor = Monitor<[ProbeOutcome]>([])
    let prober = Prober { _, outcome in monitor.update { $0.append(outcome) } }
    defer { prober.stop() }
    let target = try ConnectionTarget(conninfo: conninfo ?? peer.conninfo)
    prober.watch([
      target.hosts[0]: ProbePlan(
        target: target, intervalNanoseconds: Int64(interval * 1e9), timeoutNanoseconds: 300_000_000)
    ])
    let found = monitor.await(until: deadline(in: 20)) { outcomes, _ in
      outcomes.count >= count ? Array(outcomes.prefix(count)) : nil
    }
    return try #require(found, "too few probes")
  }
}

/// Lets the prober in.
private func login(_ connection: Connection) -> Bool {
  guard connection.readStartup() != nil else { return false }
  connection.welcome()
  return true
}

/// The answer to the probe's query, with these values.
private func answer(_ connection: Connection, _ values: [String?]) {
  describe(connection, columns: values.count)
  row(connection, values)
  connection.send("C", Array("SELECT 1\u{0}".utf8))
  connection.send("Z", [UInt8(ascii: "I")])
}

private func describe(_ connection: Connection, columns: Int = 4) {
  let text = [0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0] as [UInt8]
  let column = Array("c\u{0}".utf8) + [0, 0, 0, 0, 0, 0] + text
  connection.send("T", [0, UInt8(columns)] + Array(repeating: column, count: columns).flatMap { $0 })
}

@discardableResult
private func row(_ connection: Connection, _ values: [String?]) -> Bool {
  let fields = values.map { value in
    value.map { Connection.int32(Int32($0.utf8.count)) + Array($0.utf8) } ?? Connection.int32(-1)
  }
  return connection.send("D", [0, UInt8(values.count)] + fields.flatMap { $0 })
}
