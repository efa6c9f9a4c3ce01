import Pooling
import PostgresWire
import Testing

@Suite struct ReadRoutingTests {
  private func isRead(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    return ReadRouting.isRead(bytes.span, reading: SQLReading())
  }

  @Test(arguments: [
    "select * from transactions where kind = 'transaction_fee'", "SELECT count(*) FROM t",
    "with a as (select 1) table a",
    "values (1)", "(select 1)", "; select 1", "show all", "explain analyze select 1", "declare c cursor for select 1",
    "copy t to stdout", "copy (select 1) to stdout with csv", "set local work_mem = 1", "reset work_mem", "savepoint a",
    "select set_config('a.b', 'c', true)", "select my_function(1)", "select pg_is_in_recovery(), pg_sleep(1)",
    "set default_transaction_read_only = off", "select now(), to_json(a) from a",
  ])
  func readsGoToTheStandby(text: String) { #expect(isRead(text)) }

  @Test(arguments: [
    "", "insert into t values (1)", "update t set a = 1", "delete from t", "truncate t", "create table t ()",
    "drop table t",
    "listen a", "unlisten *", "notify a", "load 'a'", "call p()", "do $$ $$", "lock table t", "vacuum", "begin",
    "commit",
    "select pg_advisory_lock(1)", "select pg_catalog.pg_advisory_xact_lock_shared(1)", "select \"txid_current\"()",
    "select pg_current_xact_id()", "select nextval('s')", "select setval('s', 1)", "select lastval()",
    "select currval('s')",
    "select pg_notify('a', 'b')", "select pg_terminate_backend(1)", "select pg_switch_wal()", "select lo_creat(-1)",
    "select * from pg_temp.t", "create temp table t ()", "select 1 into temp t",
    "declare c cursor with hold for select 1",
    "prepare a as select 1", "execute a", "deallocate a", "discard all", "discard plans", "copy t from stdin",
    "copy t to '/file'", "select 1; select 2", "select 'a", "set transaction snapshot '1'", "set transaction read only",
    "set local transaction_read_only = off", "set default_transaction_isolation = serializable",
    "set session characteristics as transaction isolation level serializable", "fetch 1 from c",
  ])
  func whatOnlyThePrimaryCanDoDoesNot(text: String) { #expect(!isRead(text)) }

  @Test func modesDecideBeforeDefaults() {
    let reads = TransactionDefaults(isReadOnly: true)
    let serializable = TransactionDefaults(isReadOnly: true, isSerializable: true)
    #expect(ReadRouting.isRead(TransactionModes(), reads))
    #expect(!ReadRouting.isRead(TransactionModes(), TransactionDefaults()))
    #expect(!ReadRouting.isRead(TransactionModes(isReadOnly: false), reads))
    #expect(ReadRouting.isRead(TransactionModes(isReadOnly: true), TransactionDefaults()))
    #expect(!ReadRouting.isRead(TransactionModes(), serializable))
    #expect(ReadRouting.isRead(TransactionModes(isolation: .readCommitted), serializable))
    #expect(!ReadRouting.isRead(TransactionModes(isolation: .serializable), reads))
  }

  @Test(arguments: [
    ("on", true), ("TRUE", true), ("yes", true), ("1", true), ("off", false), ("0", false), ("no", false),
  ])
  func defaultsAreThoseOfTheSession(value: String, isReadOnly: Bool) {
    var table = SessionSettingsTable()
    let settings = table.settings(
      reported: [SessionSetting(name: "default_transaction_read_only", value: WireText(value))],
      unreported: [SessionSetting(name: "Default_Transaction_Isolation", value: "Serializable")])
    #expect(settings.transactionDefaults == TransactionDefaults(isReadOnly: isReadOnly, isSerializable: true))
    #expect(table.settings(reported: []).transactionDefaults == TransactionDefaults())
  }

  // MARK: What the scanner makes of it

  private func settings(_ values: [(String, WireText)] = []) -> SessionSettings {
    var table = SessionSettingsTable()
    return table.settings(reported: values.map { SessionSetting(name: $0.0, value: $0.1) })
  }

  private func messages(_ write: (inout MessageWriter) -> Void) -> [UInt8] {
    var writer = MessageWriter()
    write(&writer)
    return writer.bytes
  }

  /// The step for a query, and the status after it.
  private func ask(_ scanner: inout RequestScanner, _ text: WireText, routed: SessionSettings?) -> RequestScanner.Step {
    let bytes = messages { $0.query(text) }
    var cursor = 0
    let step = scanner.next(bytes.span, &cursor, routed: routed)
    #expect(cursor == (step == .checkout ? 0 : bytes.count))
    return step
  }

  @Test func aBeginIsHeldUntilAServerIsNeeded() {
    let session = settings()
    var scanner = RequestScanner()
    #expect(ask(&scanner, "begin", routed: session) == .answerHeld(.begin(TransactionModes())))
    #expect(scanner.detachedStatus == .inBlock)
    let modes = TransactionModes(isReadOnly: true)
    #expect(ask(&scanner, "set transaction read only", routed: session) == .answerHeld(.setModes(modes)))
    #expect(scanner.heldModes == modes)
    #expect(ask(&scanner, ";", routed: session) == .answerHeld(.empty))
    #expect(ask(&scanner, "begin", routed: session) == .checkout)
    #expect(ask(&scanner, "select 1", routed: session) == .checkout)
    #expect(scanner.detachedStatus == .inBlock)
    scanner.blockOpened()
    #expect(scanner.heldModes == nil)
  }

  @Test func theEndOfAHeldBlockIsAnsweredToo() {
    let session = settings()
    for (text, command) in [("commit", TransactionCommand.commit), ("rollback", .rollback)] {
      var scanner = RequestScanner()
      #expect(ask(&scanner, "start transaction", routed: session) == .answerHeld(.start(TransactionModes())))
      #expect(ask(&scanner, WireText(text), routed: session) == .answerHeld(command))
      #expect(scanner.detachedStatus == .idle)
      #expect(ask(&scanner, WireText(text), routed: session) == .checkout)
    }
  }

  @Test func whatIsThePrimarysAnyhowIsNotHeld() {
    var scanner = RequestScanner()
    let serializable = settings([("default_transaction_isolation", "serializable")])
    #expect(ask(&scanner, "begin read write", routed: settings()) == .checkout)
    #expect(ask(&scanner, "begin isolation level serializable read only", routed: settings()) == .checkout)
    #expect(ask(&scanner, "begin read only", routed: serializable) == .checkout)
    #expect(ask(&scanner, "set transaction read only", routed: settings()) == .checkout)
    #expect(ask(&scanner, "begin", routed: nil) == .checkout)
    #expect(scanner.detachedStatus == .idle)
  }

  @Test func aHeldBlockWhoseRequestIsRefusedIsLost() {
    var scanner = RequestScanner()
    _ = ask(&scanner, "begin", routed: settings())
    let bytes = messages { $0.query("select 1") }
    var cursor = 0
    #expect(scanner.refuse(bytes.span, &cursor))
    #expect(scanner.heldModes == nil)
    #expect(scanner.detachedStatus == .failed)
    #expect(ask(&scanner, "rollback", routed: settings()) == .answerInLostBlock(.rolledBack, isOver: true))
  }

  private func cycle(_ texts: [WireText], sync: Bool = true) -> [UInt8] {
    messages {
      for text in texts {
        $0.parse(definition: text.bytes + [0, 0, 0], "")
        $0.bind(statement: "")
        $0.message(FrontendType.execute) { $0.raw([0, 0, 0, 0, 0]) }
      }
      if sync { $0.sync() }
    }
  }

  @Test(
    arguments: [
      (["begin read only", "select 1"], .standby), (["begin", "select 1"], .primary),
      (["begin", "set transaction read only", "select 1"], .standby), (["begin read only"], .standby),
      (["begin"], .primary), (["begin read only", "listen a"], .primary), (["select 1"], .primary),
      (["begin read only", "select 1", "commit"], .primary), (["begin read only", "begin"], .primary),
      (["begin read only", "select 1", "set transaction read write"], .primary),
    ] as [([WireText], ReadRouting.Target)])
  func aCycleIsLookedAtAsFarAsItHasCome(texts: [WireText], expected: ReadRouting.Target) {
    let scanner = RequestScanner()
    let bytes = cycle(texts)
    #expect(scanner.route(bytes.span, 0, ClientStatements(), settings()) == expected)
    // What comes piece by piece, from its first message on, is decided no other way, once it is.
    let first = messages { $0.parse(definition: texts[0].bytes + [0, 0, 0], "") }
    for count in first.count..<bytes.count {
      let early = scanner.route(bytes.span.extracting(0..<count), 0, ClientStatements(), settings())
      if texts.count < 3 { #expect(early == nil || early == expected, "\(count) bytes") }
    }
  }

  @Test func aCycleThatGoesOnIsWaitedForUpToALimit() {
    let scanner = RequestScanner()
    let begin = cycle(["begin read only"], sync: false)
    #expect(scanner.route(begin.span, 0, ClientStatements(), settings()) == nil)
    let long =
      begin
      + messages { writer in for _ in 0..<9000 { writer.close(.portal, "a") } }
    #expect(scanner.route(long.span, 0, ClientStatements(), settings()) == .primary)
  }

  @Test func statementsThatWereParsedBeforeAreKnownByTheirNames() {
    let reads = settings([("default_transaction_read_only", "on")])
    let table = StatementTable()
    let statements = ClientStatements()
    statements.define("b", table.statement(Array("begin read only\0\0\0".utf8), settings: reads))
    statements.define("s", table.statement(Array("select 1\0\0\0".utf8), settings: reads))
    statements.define("l", table.statement(Array("listen a\0\0\0".utf8), settings: reads))
    func route(_ names: [WireText], _ settings: SessionSettings) -> ReadRouting.Target? {
      let bytes = messages {
        for name in names { $0.bind(statement: name) }
        $0.sync()
      }
      return RequestScanner().route(bytes.span, 0, statements, settings)
    }
    #expect(route(["s"], reads) == .standby)
    #expect(route(["s"], settings()) == .primary)
    #expect(route(["b", "s"], settings()) == .standby)
    #expect(route(["b", "l"], settings()) == .primary)
    #expect(route(["unknown"], reads) == .primary)
    #expect(route([""], reads) == .primary)
  }
}
