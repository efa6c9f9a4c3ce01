import Pooling
import Testing

@Suite struct TransactionStatementTests {
  private func kind(_ text: String) -> TransactionStatement {
    let bytes = Array(text.utf8)
    return TransactionStatement(bytes.span)
  }

  @Test(
    arguments: [
      ("", .empty), (" ;; -- nothing\n;", .empty), ("/* a /* nested */ comment */", .empty), ("\0", .empty),
      ("BEGIN", .begin), ("begin isolation level serializable", .begin), (" /* x */ Begin;", .begin),
      ("start transaction read only", .begin), ("START", .other), ("begin; select 1", .begin),
      ("ROLLBACK", .rollback), ("rollback work;\0", .rollback), ("ABORT transaction ; -- done", .rollback),
      ("rollback to savepoint a", .other), ("rollback prepared 'x'", .other), ("rollback and chain", .other),
      ("rollback; select 1", .other), ("--\rrollback", .rollback),
      ("COMMIT", .commit), ("end;", .commit), ("commit work", .commit), ("prepare transaction 'x'", .commit),
      ("commit prepared 'x'", .other), ("prepare p as select 1", .other), ("commit and chain", .other),
      ("select 1", .other), ("beginning", .other), ("commit_it", .other), ("-", .other), ("/", .other), ("/*", .empty),
      ("endé", .other),
    ] as [(String, TransactionStatement)])
  func theFirstWordsTell(text: String, expected: TransactionStatement) {
    #expect(kind(text) == expected)
  }

  @Test(arguments: [
    ("select 1", false), ("select 1;", false), ("select 1; -- more\n;", false), ("insert into t values (1)", false),
    ("commit", true), ("END", true), ("call p()", true), ("do $$ begin commit; end $$", true),
    ("prepare transaction 'x'", true), ("select 1; select 2", true), ("select ';'; commit", true),
    ("select 'a;b'", true), ("savepoint a", false), ("rollback to a", false),
  ])
  func whatMayCommitIsNeverMissed(text: String, expected: Bool) {
    let bytes = Array(text.utf8)
    #expect(TransactionStatement.mayCommit(bytes.span) == expected)
  }

  @Test func everyBeginningOfATextCanBeLookedAt() {
    let text = Array("  -- c\n/* a /* b */ */ ; rollback work ; start transaction; prepare transaction".utf8)
    for length in 0...text.count {
      _ = TransactionStatement(text.span.extracting(0..<length))
      _ = TransactionStatement.mayCommit(text.span.extracting(0..<length))
    }
  }
}
