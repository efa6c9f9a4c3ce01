import Pooling
import PostgresWire
import Telemetry

/// What was under way on a server connection when it died, seen from the client that held it.
struct ConnectionLoss {
  /// The client has been sent half of a message.
  var isInsideReply: Bool
  /// The server has been sent half of a message.
  var isInsideRequest: Bool
  /// The session's state was on the connection: session mode, pinned, or not known yet.
  var hadSession: Bool
  /// In a transaction block, or a BEGIN was under way; and no COMMIT or ROLLBACK after it.
  var wasInBlock: Bool
  /// The transaction certainly did not commit: it was open at the last ReadyForQuery, and nothing sent since can commit.
  var isRolledBack: Bool
  /// Nothing of the client's had been sent yet: its settings were being confirmed.
  var wasApplying: Bool
  /// Something of the client's was unanswered.
  var wasOwedReplies: Bool
  /// Queries and Syncs whose ReadyForQuery is owed.
  var readiesOwed: Int
  /// The first of them has had its error.
  var isErrorTold: Bool
  /// Requests were sent, answered or not, whose Sync has not come from the client yet.
  var isInsideCycle: Bool
  /// The limit was reached by a block that had failed already, which the client knows.
  var wasFailed: Bool
  /// The time limit for which the connection was taken from the client.
  var limit: TimeLimit?
  /// The server's last words, or the socket's; nil where it lives.
  var detail: String?

  init(_ server: Server, _ client: Client, detail: String?) {
    isInsideReply = client.isInsideReply
    isInsideRequest = client.requests.isInsideForwardedMessage
    hadSession = !server.pool.sharesConnections || server.isPinned || client.isInspected
    wasInBlock = client.requests.leavesBlock ?? (server.status != .idle || client.requests.beginsBlock)
    isRolledBack = server.status != .idle && !client.requests.mayCommit
    wasApplying = client.isApplying && !server.isPinned
    wasOwedReplies = server.replies.ledger.owner != nil
    readiesOwed = server.replies.ledger.clientReadiesOwed
    isErrorTold = server.isErrorTold
    isInsideCycle = server.replies.ledger.isInsideCycle || client.requests.isInsideCycle
    limit = client.exceeded
    wasFailed = limit != nil && server.status == .failed
    self.detail = detail
  }

  /// The client cannot go on.
  var isFatal: Bool { isInsideReply || isInsideRequest || hadSession }

  /// What a client that cannot go on is told.
  func fatal(_ pool: Pool, to client: Client) -> ErrorFields {
    if limit != nil { return refusal(pool).fields(.fatal, to: client) }
    let lost = isInsideReply || isInsideRequest ? "in the middle of a message" : "and with it the session's state"
    let message = WireText("\(pool.quotedLabel) lost the server connection \(lost)")
    return ErrorFields(.fatal, .connectionFailure, message, detail: detail.map { WireText($0) })
      .naming(client: client.id)
  }

  /// What the client is told.
  func refusal(_ pool: Pool) -> Refusal {
    if let limit { return .exceeded(limit, pool, detail: detail) }
    return .connectionLost(
      pool, code: isRolledBack ? .serializationFailure : .statementCompletionUnknown, detail: detail ?? "")
  }
}

/// What a client is told when its server connection dies.
extension Client {
  /// The server connection is gone, and no longer this client's. Where nothing of the client's was under way it notices
  /// nothing, and its request goes to another connection.
  ///
  /// A statement is never run twice: whatever has been sent is answered with an error, 40001 where it certainly was not
  /// completed and 40003 where it may have been; one for each Query and Sync that has had none, and never before its Sync
  /// has come. A transaction block is lost (`LostBlock`). Only a client whose session lived on the connection, or that is
  /// in the middle of a message, is closed.
  func serverLost(_ loss: ConnectionLoss) {
    guard phase == .serving, !loss.wasApplying, let pool else { return checkoutAgain(loss) }
    if loss.isFatal {
      return close(withExactly: loss.fatal(pool, to: self), isInsideReply: loss.isInsideReply)
    }
    let refusal = loss.refusal(pool)
    let hadRequest = loss.wasOwedReplies || loss.isInsideCycle || loss.wasFailed
    if loss.wasInBlock { requests.loseBlock(isUnreported: !hadRequest) }
    if loss.readiesOwed > 0 {
      send {
        for number in 0..<loss.readiesOwed {
          if number > 0 || !loss.isErrorTold { $0.errorResponse(refusal.fields(to: self)) }
          $0.readyForQuery(requests.detachedStatus)
        }
      }
    }
    if loss.isInsideCycle { requests.skipUntilSync() }
    let owesError = loss.isInsideCycle && (loss.readiesOwed > 0 || !loss.isErrorTold)
    if loss.wasInBlock && !hadRequest || owesError { heldError = refusal }
    worker.resume(self)
  }

  /// Nothing of the client's has been sent: it takes another connection, but not without end.
  private func checkoutAgain(_ loss: ConnectionLoss) {
    lossesWhileApplying += 1
    if phase == .serving, loss.limit != nil, let pool {
      lossesWhileApplying = 0
      refusal = loss.refusal(pool)
    } else if let pool, lossesWhileApplying > Client.lossesWhileApplyingLimit {
      lossesWhileApplying = 0
      refusal = .unavailable(pool, code: .cannotConnectNow, detail: loss.detail ?? "")
      if phase == .login { return loginRefused() }
    }
    worker.resume(self)
  }

  private static let lossesWhileApplyingLimit = 3
}
