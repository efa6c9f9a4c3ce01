import Pooling
import Testing

@Suite struct TransactionCommandTests {
  private func command(_ text: String) -> TransactionCommand? {
    let bytes = Array(text.utf8)
    return TransactionCommand(bytes.span, reading: SQLReading())
  }

  @Test(
    arguments: [
      ("BEGIN", .begin(TransactionModes())), ("begin work;\0", .begin(TransactionModes())),
      ("begin transaction read only", .begin(TransactionModes(isReadOnly: true))),
      ("/* a */ Begin Read Write ; -- b", .begin(TransactionModes(isReadOnly: false))),
      ("begin isolation level repeatable read, read only", .begin(.init(isolation: .repeatableRead, isReadOnly: true))),
      ("begin read only isolation level serializable", .begin(.init(isolation: .serializable, isReadOnly: true))),
      ("begin read only read write", .begin(TransactionModes(isReadOnly: false))),
      ("begin not deferrable", .begin(TransactionModes(isDeferrable: false))),
      ("start transaction", .start(TransactionModes())),
      ("START TRANSACTION ISOLATION LEVEL READ COMMITTED", .start(TransactionModes(isolation: .readCommitted))),
      ("set transaction read only", .setModes(TransactionModes(isReadOnly: true))),
      ("set local transaction deferrable", .setModes(TransactionModes(isDeferrable: true))),
      (
        "set transaction isolation level read uncommitted, read only",
        .setModes(.init(isolation: .readUncommitted, isReadOnly: true))
      ),
      ("commit", .commit), ("END work", .commit), ("rollback transaction;", .rollback), ("abort", .rollback),
      ("", .empty), (" ;; -- nothing", .empty),
    ] as [(String, TransactionCommand)])
  func whatIsUnderstoodAsAWhole(text: String, expected: TransactionCommand) {
    #expect(command(text) == expected)
  }

  @Test(arguments: [
    "begin read", "begin read only,", "begin, read only", "begin isolation read committed",
    "begin isolation level read",
    "begin not", "begin read only; select 1", "begin 'x'", "start", "set transaction", "set transaction snapshot '1'",
    "set session characteristics as transaction read only", "set work_mem = 1", "commit and chain", "rollback to a",
    "prepare transaction 'x'", "select 1", "beginning", "begin /*", "begin reading only",
  ])
  func whatIsNotGoesToAServer(text: String) { #expect(command(text) == nil) }

  @Test func modesThatComeLaterTakeThePlaceOfEarlierOnes() {
    var modes = TransactionModes(isolation: .readCommitted, isReadOnly: false)
    modes.formUnion(TransactionModes(isReadOnly: true, isDeferrable: true))
    #expect(modes.begin == "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY DEFERRABLE")
    #expect(TransactionModes().begin == "BEGIN")
    modes.formUnion(TransactionModes(isolation: .serializable, isReadOnly: false, isDeferrable: false))
    #expect(modes.begin == "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE NOT DEFERRABLE")
    #expect(command(modes.begin) == .begin(modes))
  }

  @Test func everyBeginningOfATextCanBeLookedAt() {
    let text = Array("/* a */ begin transaction isolation level repeatable read, read only, not deferrable;".utf8)
    for length in 0...text.count {
      _ = TransactionCommand(text.span.extracting(0..<length), reading: SQLReading())
    }
  }
}
