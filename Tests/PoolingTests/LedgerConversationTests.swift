import Pooling
import PostgresWire
import Testing

@Suite struct LedgerConversationTests {
  /// Whatever a legal client sends, and however its messages and the server's replies overtake each other on the way,
  /// each reply finds its request and nothing is owed at the end.
  @Test func neverTakesALegalReplyForAViolation() {
    for seed in 0..<20_000 as Range<UInt64> {
      if let failure = run(seed: seed) {
        Issue.record("seed \(seed): \(failure)")
        return
      }
    }
  }

  /// One conversation. Returns what went wrong, with all that happened before it.
  private func run(seed: UInt64) -> String? {
    var maker = ConversationMaker(random: SimulationRandom(seed: seed))
    var unsent = maker.conversation(cycles: 1 + maker.random.below(8))[...]
    var random = maker.random
    var server = ModelServer()
    var ledger = Ledger()
    var unread: [ModelServer.Message] = []
    var replies: [ModelServer.Reply] = []
    var history = ""
    while !unsent.isEmpty || !unread.isEmpty || !replies.isEmpty {
      switch random.below(3) {
      case 0:
        guard let message = unsent.popFirst() else { continue }
        if let request = message.request { ledger.sent(request, by: message.origin) }
        history += " >\(message.request.map { "\($0)" } ?? "copyData")(\(message.fate))"
        unread.append(message)
      case 1:
        guard !unread.isEmpty else { continue }
        replies += server.read(unread.removeFirst())
        history += " ."
      default:
        guard !replies.isEmpty else { continue }
        let reply = replies.removeFirst()
        history += " <\(reply.type)"
        let verdict = ledger.replied(reply.type)
        guard verdict == .expected(reply.origin) else { return "\(verdict) after\(history)" }
      }
    }
    guard ledger.count == 0 && ledger.clientReadiesOwed == 0 else { return "something is owed after\(history)" }
    guard !ledger.isSkipping && !ledger.isCopyIn else { return "not at rest after\(history)" }
    guard ledger.isEmpty || ledger.isInDoubt else { return "neither empty nor in doubt after\(history)" }
    if ledger.isInDoubt {
      ledger.sent(.query, by: .daemon)
      guard ledger.replied(.emptyQueryResponse) == .expected(.daemon),
        ledger.replied(.readyForQuery) == .expected(.daemon)
      else { return "the doubt cannot be settled after\(history)" }
    }
    return ledger.isEmpty ? nil : "not empty after\(history)"
  }
}
