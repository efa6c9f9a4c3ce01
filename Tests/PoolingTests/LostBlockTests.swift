import Pooling
import PostgresWire
import Testing

/// A client whose transaction lost its server connection, seen through its scanner.
@Suite struct LostBlockTests {
  private var scanner = RequestScanner()

  /// All steps for what the client sends, up to where more is needed or a server connection is.
  private mutating func steps(
    sharing statements: ClientStatements? = nil, _ write: (inout MessageWriter) -> Void
  ) -> [RequestScanner.Step] {
    var writer = MessageWriter()
    write(&writer)
    var cursor = 0
    var steps: [RequestScanner.Step] = []
    while true {
      let step = scanner.next(writer.bytes.span, &cursor, shared: statements)
      if step == .needMore { return steps }
      steps.append(step)
      if step == .checkout { return steps }
    }
  }

  @Test mutating func queriesAreRefusedUntilRollback() {
    scanner.loseBlock(isUnreported: true)
    #expect(scanner.detachedStatus == .failed)
    #expect(
      steps {
        $0.query("select 1")
        $0.query("insert into t values (1)")
        $0.query("")
      } == [
        .answerInLostBlock(.refused(isFirst: true), isOver: true),
        .answerInLostBlock(.refused(isFirst: false), isOver: true), .answerInLostBlock(.empty, isOver: true),
      ])
    #expect(scanner.detachedStatus == .failed)
    #expect(
      steps {
        $0.query("rollback")
        $0.query("select 1")
      } == [.answerInLostBlock(.rolledBack, isOver: true), .checkout])
    #expect(scanner.detachedStatus == .idle)
  }

  @Test mutating func aCommitOfABlockWhoseLossIsNotKnownYetFails() {
    scanner.loseBlock(isUnreported: true)
    #expect(steps { $0.query("commit") } == [.answerInLostBlock(.notCommitted, isOver: true)])
    #expect(scanner.detachedStatus == .idle)
    #expect(!scanner.hasUnreportedLoss)
  }

  @Test mutating func aRollbackGetsWhatItAsksFor() {
    scanner.loseBlock(isUnreported: true)
    #expect(steps { $0.query("ROLLBACK;") } == [.answerInLostBlock(.rolledBack, isOver: true)])
    #expect(!scanner.hasUnreportedLoss)
  }

  @Test mutating func theBlockEndsByTheExtendedProtocolToo() {
    scanner.loseBlock(isUnreported: false)
    let cycle = steps {
      $0.parse(statement: "s", text: "ROLLBACK")
      $0.describe(.statement, "s")
      $0.bind(statement: "s")
      $0.describe(.portal)
      $0.execute()
      $0.sync()
    }
    #expect(
      cycle == [
        .answerInLostBlock(.parsed, isOver: false), .answerInLostBlock(.described(isStatement: true), isOver: false),
        .answerInLostBlock(.bound, isOver: false), .answerInLostBlock(.described(isStatement: false), isOver: false),
        .answerInLostBlock(.rolledBack, isOver: false), .answerSync,
      ])
    #expect(scanner.detachedStatus == .idle)
  }

  @Test mutating func aRefusedCycleIsSkippedToItsSync() {
    scanner.loseBlock(isUnreported: true)
    let cycle = steps {
      $0.parse(text: "select 1")
      $0.bind()
      $0.execute()
      $0.query("rollback")
      $0.sync()
    }
    #expect(cycle == [.answerInLostBlock(.refused(isFirst: true), isOver: false), .answerSync])
    #expect(scanner.detachedStatus == .failed)
  }

  @Test mutating func statementsThatWereNeverParsedHereAreRefused() {
    scanner.loseBlock(isUnreported: false)
    #expect(
      steps {
        $0.bind(statement: "other")
        $0.sync()
      } == [.answerInLostBlock(.refused(isFirst: false), isOver: false), .answerSync])
  }

  @Test mutating func aStatementThatTheClientHasPreparedBeforeEndsTheBlock() {
    let statements = ClientStatements()
    statements.define("r", statement("rollback"))
    statements.define("c", statement("commit"))
    statements.define("i", statement("insert into t values (1)"))
    scanner.loseBlock(isUnreported: true)
    func use(_ name: WireText) -> [RequestScanner.Step] {
      steps(sharing: statements) {
        $0.bind(statement: name)
        $0.execute()
        $0.sync()
      }
    }
    #expect(use("i") == [.answerInLostBlock(.refused(isFirst: true), isOver: false), .answerSync])
    #expect(
      use("c") == [
        .answerInLostBlock(.bound, isOver: false), .answerInLostBlock(.rolledBack, isOver: false), .answerSync,
      ])
    scanner.loseBlock(isUnreported: true)
    #expect(
      use("c") == [
        .answerInLostBlock(.bound, isOver: false), .answerInLostBlock(.notCommitted, isOver: false), .answerSync,
      ])
    #expect(scanner.detachedStatus == .idle)
    scanner.loseBlock(isUnreported: true)
    #expect(
      use("r") == [
        .answerInLostBlock(.bound, isOver: false), .answerInLostBlock(.rolledBack, isOver: false), .answerSync,
      ])
  }

  @Test mutating func aStatementThatIsClosedInTheBlockIsGone() {
    let statements = ClientStatements()
    statements.define("r", statement("rollback"))
    scanner.loseBlock(isUnreported: false)
    let cycle = steps(sharing: statements) {
      $0.close(.statement, "r")
      $0.bind(statement: "r")
      $0.sync()
    }
    #expect(
      cycle == [
        .answerInLostBlock(.closed, isOver: false), .answerInLostBlock(.refused(isFirst: false), isOver: false),
        .answerSync,
      ])
    #expect(statements.count == 0)
  }

  @Test mutating func onlyAStatementThatEndsTheBlockIsPreparedInIt() {
    let statements = ClientStatements()
    statements.define("taken", statement("rollback"))
    scanner.loseBlock(isUnreported: false)
    for (name, text) in [("taken", "rollback"), ("new", "select 1")] as [(WireText, WireText)] {
      let cycle = steps(sharing: statements) {
        $0.parse(statement: name, text: text)
        $0.sync()
      }
      #expect(cycle == [.answerInLostBlock(.refused(isFirst: false), isOver: false), .answerSync])
    }
    var writer = MessageWriter()
    writer.parse(statement: "new", text: "rollback")
    var cursor = 0
    guard case .parseStatement(let message) = scanner.next(writer.bytes.span, &cursor, shared: statements) else {
      Issue.record("it is not the client's to share")
      return
    }
    scanner.takeDetached(message, &cursor)
    #expect(cursor == writer.bytes.count)
    #expect(scanner.detachedStatus == .failed)
  }

  private func statement(_ text: WireText) -> SharedStatement {
    var writer = MessageWriter()
    writer.parse(text: text)
    var settings = SessionSettingsTable()
    return StatementTable().statement(Array(writer.bytes.dropFirst(6)), settings: settings.settings(reported: []))
  }

  @Test mutating func aRefusedBeginLosesItsBlock() {
    var writer = MessageWriter()
    writer.query("begin")
    writer.query("insert into t values (1)")
    var cursor = 0
    #expect(scanner.next(writer.bytes.span, &cursor) == .checkout)
    #expect(scanner.refuse(writer.bytes.span, &cursor))
    #expect(scanner.detachedStatus == .failed)
    #expect(
      scanner.next(writer.bytes.span, &cursor) == .answerInLostBlock(.refused(isFirst: false), isOver: true))
  }

  @Test mutating func aRefusedStatementOutsideOfABlockLosesNothing() {
    var writer = MessageWriter()
    writer.query("insert into t values (1)")
    var cursor = 0
    #expect(scanner.refuse(writer.bytes.span, &cursor))
    #expect(scanner.detachedStatus == .idle)
  }

  @Test mutating func whatFollowsACommitIsNoPartOfItsBlock() {
    var ledger = Ledger()
    var terms = RequestScanner.Terms()
    terms.isInBlock = true
    func send(_ write: (inout MessageWriter) -> Void) -> Bool? {
      var writer = MessageWriter()
      write(&writer)
      var cursor = 0
      _ = scanner.next(writer.bytes.span, &cursor, ledger: &ledger, on: terms)
      return scanner.leavesBlock
    }
    scanner.attached()
    #expect(send { $0.query("insert into t values (1)") } == nil)
    #expect(send { $0.query("commit; insert into t values (1)") } == nil)
    #expect(send { $0.query("commit and chain") } == nil)
    #expect(send { $0.query("rollback to s") } == nil)
    #expect(send { $0.query("commit") } == false)
    #expect(send { $0.query("insert into t values (1)") } == false)
    #expect(send { $0.query("begin") } == true)
    #expect(send { $0.parse(text: "end") } == true)
    #expect(send { $0.bind(portal: "p") } == true)
    #expect(send { $0.execute(portal: "p") } == true)
    #expect(send { $0.bind() } == true)
    #expect(send { $0.execute() } == false)
    #expect(send { $0.parse(text: "start transaction") } == false)
    #expect(send { $0.bind() } == false)
    #expect(send { $0.execute() } == true)
    scanner.answered()
    #expect(scanner.leavesBlock == nil)
  }

  @Test mutating func requestsThatMayCommitOrBeginAreRemembered() {
    var ledger = Ledger()
    func send(_ text: WireText, isInBlock: Bool) {
      var writer = MessageWriter()
      writer.query(text)
      var cursor = 0
      var terms = RequestScanner.Terms()
      terms.isInBlock = isInBlock
      _ = scanner.next(writer.bytes.span, &cursor, ledger: &ledger, on: terms)
    }
    scanner.attached()
    send("insert into t values (1)", isInBlock: true)
    #expect(!scanner.mayCommit)
    send("commit", isInBlock: true)
    #expect(scanner.mayCommit)
    scanner.answered()
    #expect(!scanner.mayCommit && !scanner.beginsBlock)
    send("begin", isInBlock: false)
    #expect(scanner.beginsBlock)
  }
}
