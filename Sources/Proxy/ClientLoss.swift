import Pooling
import PostgresWire

/// What was under way on a server connection when it died, seen from the client that held it.
struct ConnectionLoss {
  /// Half of a message has been relayed, in either direction.
  var isCut: Bool
  /// The session's state was on the connection: session mode, or pinned.
  var hadSession: Bool
  var wasInTransaction: Bool
  /// Nothing of the client's had been sent yet: its settings were being confirmed.
  var wasApplying: Bool
  /// Something of the client's was unanswered.
  var wasOwedReplies: Bool
  /// Queries and Syncs whose ReadyForQuery is owed.
  var readiesOwed: Int
  /// Requests were sent whose Sync has not come from the client yet.
  var isInsideCycle: Bool
  /// The server's last words, or the socket's.
  var detail: String

  init(_ server: Server, _ client: Client, detail: String) {
    isCut = server.replies.isInsideClientMessage || client.requests.isInsideForwardedMessage
    hadSession = !server.pool.sharesConnections || server.isPinned
    wasInTransaction = server.status != .idle
    wasApplying = client.isApplying
    wasOwedReplies = server.replies.ledger.owner != nil
    readiesOwed = server.replies.ledger.clientReadiesOwed
    isInsideCycle = server.replies.ledger.isInsideCycle
    self.detail = detail
  }
}

/// What a client is told when its server connection dies.
extension Client {
  /// The server connection is gone, and no longer this client's. Where nothing of the client's was under way it notices
  /// nothing, and its request goes to another connection.
  ///
  /// A statement is never run twice: whatever has been sent is answered with an error, 40003 where it may have been
  /// completed; one for each Query and Sync, and never before its Sync has come. A client whose session lived on the
  /// connection, that was in a transaction, or that has got half of a message, is closed.
  func serverLost(_ loss: ConnectionLoss) {
    guard phase == .serving, !loss.wasApplying, let pool else { return worker.resume(self) }
    if loss.isCut || loss.hadSession || loss.wasInTransaction {
      let lost =
        if loss.isCut {
          "in the middle of a message"
        } else if loss.hadSession {
          "and with it the session's state"
        } else {
          "in a transaction, which is rolled back"
        }
      return close(
        with: ErrorFields(
          .fatal, .connectionFailure, WireText("\(pool.quotedLabel) lost the server connection \(lost)"),
          detail: WireText(loss.detail)))
    }
    guard loss.wasOwedReplies else { return worker.resume(self) }
    let refusal = Refusal.connectionLost(pool, code: .statementCompletionUnknown, detail: loss.detail)
    if loss.readiesOwed > 0 {
      send {
        for _ in 0..<loss.readiesOwed {
          $0.errorResponse(refusal.fields(severity: .error))
          $0.readyForQuery(.idle)
        }
      }
    }
    if loss.isInsideCycle {
      requests.skipUntilSync()
      heldError = refusal
    }
    worker.resume(self)
  }
}
