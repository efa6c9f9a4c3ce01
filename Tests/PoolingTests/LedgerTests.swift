import Pooling
import PostgresWire
import Testing

/// The rules of the ledger one by one, each as PostgreSQL 15 behaves.
@Suite struct LedgerTests {
  /// A ledger with checks in its way.
  private struct Script {
    var ledger = Ledger()

    mutating func send(_ requests: Request..., by origin: Origin = .client) {
      for request in requests { ledger.sent(request, by: origin) }
    }

    mutating func reply(
      _ types: BackendType..., to origin: Origin = .client, sourceLocation: SourceLocation = #_sourceLocation
    ) {
      for type in types {
        #expect(ledger.owner == origin, "\(type)", sourceLocation: sourceLocation)
        #expect(ledger.replied(type) == .expected(origin), "\(type)", sourceLocation: sourceLocation)
      }
    }

    mutating func refuse(_ types: BackendType..., sourceLocation: SourceLocation = #_sourceLocation) {
      for type in types { #expect(ledger.replied(type) == .violation, "\(type)", sourceLocation: sourceLocation) }
    }
  }

  @Test func nothingIsOwedAtFirstAndEveryReplyIsAViolation() {
    var script = Script()
    #expect(script.ledger.isEmpty && script.ledger.owner == nil && !script.ledger.isInsideCycle)
    script.refuse(.readyForQuery, .commandComplete, .errorResponse, .dataRow, .copyInResponse, .authentication)
    #expect(script.ledger.isEmpty)
  }

  @Test func aQueryIsOverAtReadyForQueryOnly() {
    var script = Script()
    script.send(.query)
    script.reply(
      .rowDescription, .dataRow, .commandComplete, .emptyQueryResponse, .copyOutResponse, .copyData, .copyDone)
    #expect(!script.ledger.isEmpty && script.ledger.clientReadiesOwed == 1 && !script.ledger.isInsideCycle)
    script.reply(.readyForQuery)
    #expect(script.ledger.isEmpty && script.ledger.clientReadiesOwed == 0)
  }

  @Test func aFailedQueryStillOwesReadyForQuery() {
    var script = Script()
    script.send(.query)
    script.reply(.errorResponse)
    #expect(script.ledger.count == 1 && !script.ledger.isSkipping)
    script.reply(.readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func eachExtendedMessageHasItsOwnReplies() {
    var script = Script()
    script.send(.parse, .describeStatement, .bind, .describePortal, .execute, .close, .sync)
    script.refuse(.bindComplete, .readyForQuery, .rowDescription)
    script.reply(.parseComplete, .parameterDescription, .rowDescription, .bindComplete, .noData)
    script.refuse(.rowDescription, .closeComplete)
    script.reply(.dataRow, .dataRow, .portalSuspended, .closeComplete)
    script.refuse(.closeComplete)
    #expect(!script.ledger.isInsideCycle && script.ledger.clientReadiesOwed == 1)
    script.reply(.readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func aFunctionCallHasAResponseOrAnErrorThenReadyForQuery() {
    var script = Script()
    script.send(.functionCall, .functionCall)
    script.reply(.functionCallResponse, .readyForQuery, .errorResponse, .readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func anErrorDropsEverythingUpToASyncThatWasSent() {
    var script = Script()
    script.send(.parse, .bind, .execute, .query, .functionCall, .sync, .query)
    script.reply(.errorResponse)
    #expect(script.ledger.count == 2 && !script.ledger.isSkipping)
    script.refuse(.bindComplete, .commandComplete)
    script.reply(.readyForQuery, .commandComplete, .readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func anErrorBeforeTheSyncIsSentSkipsQueriesAndFunctionCallsToo() {
    var script = Script()
    script.send(.bind)
    script.reply(.errorResponse)
    #expect(script.ledger.isSkipping && script.ledger.isInsideCycle && !script.ledger.isEmpty)
    #expect(script.ledger.owner == .client)
    script.send(.parse, .query, .functionCall, .copyEnd)
    #expect(script.ledger.count == 0 && !script.ledger.mayCopyIn)
    script.refuse(.readyForQuery, .parseComplete, .errorResponse)
    script.send(.sync)
    #expect(!script.ledger.isSkipping)
    script.reply(.readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func anErrorInAPipelineSpoilsItsOwnCycleOnly() {
    var script = Script()
    script.send(.parse, .bind, .execute, .sync, .parse, .bind, .execute, .sync, .bind, .execute, .sync)
    script.reply(.parseComplete, .errorResponse, .readyForQuery)
    script.reply(.parseComplete, .bindComplete, .commandComplete, .readyForQuery)
    script.reply(.bindComplete, .errorResponse, .readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func aSyncCanFailAndIsAnsweredNonetheless() {
    var script = Script()
    script.send(.execute, .sync, .query)
    script.reply(.commandComplete, .errorResponse, .readyForQuery)
    #expect(script.ledger.count == 1)
    script.reply(.commandComplete, .readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func repliesBelongToWhoeverSentTheRequest() {
    var script = Script()
    script.send(.query, by: .daemon)
    script.send(.close, by: .daemon)
    script.send(.bind, .execute, .sync)
    #expect(script.ledger.clientReadiesOwed == 1)
    script.reply(.commandComplete, .readyForQuery, .closeComplete, to: .daemon)
    script.reply(.bindComplete, .commandComplete, .readyForQuery)
    script.send(.sync, by: .daemon)
    #expect(script.ledger.clientReadiesOwed == 0 && script.ledger.owner == .daemon)
    script.reply(.readyForQuery, to: .daemon)
    #expect(script.ledger.isEmpty && script.ledger.owner == nil)
  }

  @Test func whileTheServerSkipsTheFailedOneIsTheOwner() {
    var script = Script()
    script.send(.close, by: .daemon)
    script.reply(.errorResponse, to: .daemon)
    #expect(script.ledger.owner == .daemon)
    script.send(.sync)
    script.reply(.readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func aCycleIsOpenFromItsFirstMessageToItsSync() {
    var script = Script()
    script.send(.parse)
    #expect(script.ledger.isInsideCycle)
    script.reply(.parseComplete)
    #expect(!script.ledger.isInsideCycle && script.ledger.isEmpty)
    script.send(.bind, .query)
    #expect(!script.ledger.isInsideCycle)
    script.send(.copyEnd)
    #expect(!script.ledger.isInsideCycle)
  }
}

/// COPY FROM STDIN and what the ledger makes of it.
extension LedgerTests {
  @Test func copyInOfASimpleQuery() {
    var script = Script()
    script.send(.query)
    script.reply(.copyInResponse)
    #expect(script.ledger.isCopyIn && script.ledger.mayCopyIn)
    script.send(.copyEnd)
    #expect(!script.ledger.isCopyIn)
    script.reply(.commandComplete, .readyForQuery)
    #expect(script.ledger.isEmpty && !script.ledger.mayCopyIn)
  }

  @Test func severalCopiesInOneQuery() {
    var script = Script()
    script.send(.query)
    script.reply(.copyInResponse)
    script.send(.copyEnd, .copyEnd)
    script.reply(.commandComplete, .copyInResponse)
    #expect(!script.ledger.isCopyIn)
    script.reply(.commandComplete, .copyInResponse)
    #expect(script.ledger.isCopyIn)
    script.send(.copyEnd)
    script.reply(.commandComplete, .readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func syncsBeforeCopyDoneAreSwallowed() {
    var script = Script()
    script.send(.bind, .execute, .sync)
    #expect(!script.ledger.isInsideCycle)
    script.reply(.bindComplete, .copyInResponse)
    #expect(script.ledger.isInsideCycle && script.ledger.clientReadiesOwed == 0)
    script.send(.sync, .copyEnd, .sync)
    script.reply(.commandComplete, .readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func copyDoneSentWithoutWaitingEndsTheCopyAtOnce() {
    var script = Script()
    script.send(.execute, .sync, .copyEnd, .sync, .query)
    script.reply(.copyInResponse)
    #expect(!script.ledger.isCopyIn)
    script.reply(.commandComplete, .readyForQuery, .commandComplete, .readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func copyDoneForAStatementThatIsNoCopyExpectsNothing() {
    var script = Script()
    script.send(.query, .copyEnd)
    script.reply(.errorResponse, .readyForQuery)
    #expect(script.ledger.isEmpty)
    script.send(.execute, .copyEnd, .execute, .copyEnd, .sync, .copyEnd)
    script.reply(.commandComplete, .commandComplete, .readyForQuery)
    #expect(script.ledger.isEmpty)
    script.send(.copyEnd)
    #expect(script.ledger.isEmpty)
  }

  @Test func copyDoneAfterTheErrorButBeforeReadyForQueryExpectsNothing() {
    var script = Script()
    script.send(.query)
    script.reply(.copyInResponse, .errorResponse)
    script.send(.copyEnd)
    script.reply(.readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func aFailedCopyOfTheExtendedProtocolSkipsToSync() {
    var script = Script()
    script.send(.execute)
    script.reply(.copyInResponse)
    script.send(.copyEnd)
    script.reply(.errorResponse)
    #expect(script.ledger.isSkipping && !script.ledger.isCopyIn)
    script.send(.sync)
    script.reply(.readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  /// libpq sends Parse, Bind, Describe, Execute, Sync at once, and CopyDone with another Sync later. A view refuses the
  /// COPY after CopyInResponse, with the first Sync unread.
  @Test func aSyncThatAFailedCopyLeftUnreadIsAnswered() {
    var script = Script()
    script.send(.execute, .sync)
    script.reply(.copyInResponse, .errorResponse)
    #expect(script.ledger.isSkipping)
    script.reply(.readyForQuery)
    #expect(script.ledger.isEmpty)
    script.send(.copyEnd, .sync)
    script.reply(.readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func afterAFailedCopyTheConnectionIsInDoubtUntilAReplySettlesIt() {
    for isAnswered in [true, false] {
      var script = Script()
      script.send(.execute, .sync)
      script.reply(.copyInResponse)
      script.send(.copyEnd, .sync)
      script.reply(.errorResponse, .readyForQuery)
      #expect(script.ledger.isInDoubt && !script.ledger.isEmpty && script.ledger.owner == .client)
      if isAnswered { script.reply(.readyForQuery) }
      #expect(script.ledger.isEmpty == isAnswered)
      script.send(.query, by: .daemon)
      script.reply(.emptyQueryResponse, .readyForQuery, to: .daemon)
      #expect(script.ledger.isEmpty && !script.ledger.isInDoubt)
    }
  }

  @Test func aLateReadyForQueryIsNotTakenForThatOfTheNextRequest() {
    var script = Script()
    script.send(.execute, .sync)
    script.reply(.copyInResponse)
    script.send(.copyEnd, .sync, .query)
    script.reply(.errorResponse, .readyForQuery, .readyForQuery)
    #expect(script.ledger.count == 1)
    script.reply(.commandComplete, .readyForQuery)
    #expect(script.ledger.isEmpty)
  }

  @Test func aSyncOfTheDaemonNeverVouchesForAConnectionInDoubt() {
    var script = Script()
    script.send(.execute, .sync)
    script.reply(.copyInResponse)
    script.send(.copyEnd, .sync)
    script.reply(.errorResponse, .readyForQuery)
    script.send(.sync, by: .daemon)
    #expect(script.ledger.replied(.readyForQuery) == .expected(.client))
    #expect(!script.ledger.isEmpty)
    script.reply(.readyForQuery, to: .daemon)
    #expect(script.ledger.isEmpty)
  }
}
