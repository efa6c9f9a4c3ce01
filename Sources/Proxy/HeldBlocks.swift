import Pooling
import PostgresWire

/// Transaction blocks that a client has opened and no server knows of yet, because the database has a `read_upstream` and
/// the client has not said what it wants to do (`RequestScanner.heldModes`).
extension Client {
  /// The request at the cursor needs a server connection: of its own pool, or of that for reads. Returns whether to go on.
  func checkout(_ bytes: Span<UInt8>, _ cursor: Int) -> Bool {
    guard pool?.reads != nil, let wanted else {
      worker.checkout(self)
      return true
    }
    guard let target = requests.route(bytes, cursor, knownStatements, wanted) else { return false }
    worker.checkout(self, reads: target == .standby)
    return true
  }

  /// Answers in the place of a server.
  func answerHeld(_ command: TransactionCommand) {
    let now = worker.loop.now
    if command.opening != nil { transactionSince = now }
    requestSince = now
    send {
      if command == .empty { $0.emptyQueryResponse() } else { $0.commandComplete(WireText(command.tag)) }
      $0.readyForQuery(requests.detachedStatus)
    }
  }

  /// A limit has ended the block. The client's next request hears of it.
  func loseHeldBlock(_ refusal: Refusal) {
    requests.loseBlock(isUnreported: true)
    heldError = refusal
  }
}

extension Worker {
  /// Opens the client's block on the connection that it has got. Its request waits for that: were BEGIN to fail (it may be
  /// cancelled), what follows would be committed at once.
  func openBlock(_ server: Server, _ client: Client) {
    guard let modes = client.requests.heldModes else { preconditionFailure("no block is held") }
    client.isApplying = true
    server.sendQuery(WireText(modes.begin), for: .opening, within: server.pool.settings.prePingTimeout)
  }

  /// The server has opened the block, or refused to.
  func blockOpened(_ server: Server, _ error: ErrorFields?) {
    server.work = .none
    guard let client = server.client else { preconditionFailure("a block is opened for a client") }
    client.isApplying = false
    client.lossesWhileApplying = 0
    if let limit = client.exceeded {
      client.refusal = .exceeded(limit, server.pool)
    } else if let error {
      client.refusal = Refusal(error)
    }
    if client.refusal == nil {
      client.requests.blockOpened()
    } else if server.status == .idle {
      giveBack(server, client)
    } else {
      takeBack(server, from: client)
    }
    resume(client)
  }
}
