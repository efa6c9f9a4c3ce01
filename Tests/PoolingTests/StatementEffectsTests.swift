import Pooling
import Testing

@Suite struct StatementEffectsTests {
  private func effects(
    _ text: String, conforming: Bool = true, encoding: TextEncoding = .asciiSafe
  ) -> StatementEffects {
    effects(Array(text.utf8), conforming: conforming, encoding: encoding)
  }

  private func effects(
    _ bytes: [UInt8], conforming: Bool = true, encoding: TextEncoding = .asciiSafe
  ) -> StatementEffects {
    StatementEffects.scan(bytes.span, reading: SQLReading(standardConformingStrings: conforming, encoding: encoding))
  }

  // MARK: Statements

  /// Statements and what they do, also the material of the properties below.
  static let statements: [(String, StatementEffects)] = [
    ("", []), (" ;; -- nothing\n;", []), ("select 1", []), ("(select 1)", []), ("begin", .begins),
    ("START TRANSACTION READ ONLY", .begins), ("start", []), ("commit", .ends), ("END WORK", .ends),
    ("commit and chain", [.ends, .begins]), ("commit and no chain", .ends), ("rollback", .ends), ("abort work", .ends),
    ("rollback and chain", [.ends, .begins]), ("rollback work and chain", [.ends, .begins]),
    ("commit prepared 'x'", .ends), ("rollback prepared 'x'", .ends), ("prepare transaction 'x'", .ends),
    ("prepare transaction $a$x$a$", .ends), ("savepoint a", .setsSavepoint), ("rollback to a", .rollsBackToSavepoint),
    ("ROLLBACK WORK TO SAVEPOINT a", .rollsBackToSavepoint), ("abort; rollback to a", [.ends, .rollsBackToSavepoint]),
    ("release savepoint a", .releasesSavepoint), ("set a = 1", .setsSession), ("SET SESSION a TO 1", .setsSession),
    ("set local a = 1", .setsLocal), ("set local.a = 1", [.setsLocal, .setsSession]),
    ("set session characteristics as transaction read only", .setsSession), ("set role x", .setsSession),
    ("set local role x", .setsLocal), ("set time zone 'UTC'", .setsSession), ("set names 'utf8'", .setsSession),
    ("set session authorization x", .setsSession), ("set transaction read only", .setsLocal),
    ("set constraints all deferred", .setsLocal), ("SET \"a\" = 1", .setsSession), ("reset a", .setsSession),
    ("reset \"all\"", .setsSession), ("RESET ALL", .resetsAll), ("select set_config('a', 'b', false)", .setsSession),
    ("select pg_catalog.set_config('a', 'b', true)", .setsSession),
    ("select \"set_config\" ('a', 'b', false)", .setsSession),
    ("select Set_Config /* x */ ('a', 'b', false)", .setsSession),
    ("select \"pg_catalog\" . \"set_config\"('a', 'b', false)", .setsSession), ("select set_config", []),
    ("select U&\"set_config\"('a', 'b', false)", .setsSession), ("update pg_settings set setting = 'x'", .setsSession),
    ("select * from pg_settings", []),
    ("with a as (update pg_catalog.pg_settings set setting = 'x') select 1", .setsSession),
    ("(with a as (update \"pg_settings\" set setting = 'x') select 1)", .setsSession),
    ("discard all", [.discardsAll, .resetsAll]), ("DISCARD PLANS", .discardsPlans),
    ("discard temp", .discardsTemporary), ("discard temporary", .discardsTemporary),
    ("discard sequences", .discardsSequences), ("create temp table a as select 1", .createsTemporary),
    ("CREATE LOCAL TEMPORARY VIEW a AS SELECT 1", .createsTemporary),
    ("create or replace temp view a as select 1", .createsTemporary),
    ("create temporary sequence a", .createsTemporary), ("create table pg_temp.a as select 1", .createsTemporary),
    ("create table \"pg_temp_3\".a as select 1", .createsTemporary), ("select 1 into temp a", .createsTemporary),
    ("select 1 into local temporary a", .createsTemporary), ("select 1 into a", []),
    ("select insert into temp a from b", .createsTemporary),
    ("explain analyze create temp table a as select 1", .createsTemporary),
    ("create schema a create temp table b as select 1", .createsTemporary),
    ("with a as (select 1) select * into temp b from a", .createsTemporary), ("create table a as select 1", []),
    ("set search_path = pg_temp", [.setsSession, .createsTemporary]), ("drop table a", .drops),
    ("alter table a drop column b", []), ("declare a cursor with hold for select 1", .declaresHoldCursor),
    ("declare a cursor for select 1", []), ("declare a cursor without hold for select 1", []),
    ("close a", .closesCursor), ("close all", .closesCursor), ("listen a", .listens), ("unlisten *", .unlistens),
    ("notify a, 'b'", .notifies), ("select pg_notify('a', 'b')", .notifies),
    ("select pg_advisory_lock(1)", .locksAdvisory), ("select pg_advisory_lock_shared(1, 2)", .locksAdvisory),
    ("select pg_try_advisory_lock(1)", .locksAdvisory), ("select pg_try_advisory_lock_shared(1)", .locksAdvisory),
    ("select PG_CATALOG.PG_ADVISORY_LOCK(1)", .locksAdvisory), ("select \"pg_advisory_lock\"(1)", .locksAdvisory),
    ("select * from a where pg_try_advisory_lock(id)", .locksAdvisory), ("select pg_advisory_xact_lock(1)", []),
    ("select pg_try_advisory_xact_lock_shared(1)", []), ("select pg_advisory_unlock(1)", .unlocksAdvisory),
    ("select pg_advisory_unlock_shared(1)", .unlocksAdvisory), ("select pg_advisory_unlock_all()", .unlocksAdvisory),
    ("load 'x'", .loads), ("prepare a as select 1", .prepares), ("prepare a (int) as select $1", .prepares),
    ("prepare transaction as select 1", .prepares), ("prepare transaction (int) as select $1", .prepares),
    ("execute a", .executes), ("execute a (1, 2)", .executes), ("explain analyze execute a", .executes),
    ("create table a as execute b", .executes), ("deallocate a", .deallocates), ("DEALLOCATE ALL", .deallocates),
    ("select currval('a'), nextval('b')", .usesSequenceState), ("select lastval()", .usesSequenceState),
    ("copy a from stdin", .copiesIn), ("copy a (b, c) from stdin with (format csv)", .copiesIn),
    ("COPY a.b (c) FROM STDOUT", .copiesIn), ("copy a to stdout", .copiesOut), ("copy (select 1) to stdin", .copiesOut),
    ("copy a from 'x'", []), ("call a", .callsProcedure), ("do $$ begin commit; end $$", .callsProcedure),
    ("do language plpgsql 'x'", .callsProcedure),
  ]

  @Test(arguments: statements)
  func statementsTellWhatTheyDo(text: String, expected: StatementEffects) {
    #expect(effects(text).subtracting(.hasSeveralStatements) == expected)
    #expect(effects(text + "\0commit").subtracting(.hasSeveralStatements) == expected)
    #expect(effects("/* x */ " + text + " ;").subtracting(.hasSeveralStatements) == expected)
  }

  @Test func statementsAreCounted() {
    for text in ["", ";;", "select 1", "select 1;;", "; select 1 -- ;\n", "select ';', $$;$$, \";\""] {
      #expect(!effects(text).contains(.hasSeveralStatements))
    }
    for text in ["select 1; select 2", "begin; ; commit;", "select 1;(select 2)", "(select 1);select 2", "a;'"] {
      #expect(effects(text).contains(.hasSeveralStatements))
    }
  }

  // MARK: Calls

  @Test(arguments: [
    "select f(1)", "select a.count(1)", "select \"COUNT\"(1)", "select \"exists\"(1)", "select é(1)",
    "select f /* x */ (1)",
    "select * from f(1) as a (b int)", "insert into t select f(1)", "insert into t (a) values (f(1))",
    "insert into t values (f (1))", "select setseed(0.5)", "select over(1)", "select join(1)", "select by(1)",
    "select * from a join b on conflict(1)", "select distinct on (a) over(1) from b",
    "select a operator(pg_catalog.=) over(1) from b", "select filter(1)", "select recursive(1)", "execute p (f(1))",
    "copy (select f(1)) to stdout", "explain (analyze) select f(1)", "create table a as select f(1)",
    "prepare a as select f(1)", "select query_to_xml('select 1', true, true, '')", "select U&\"f\"(1)",
    "select f($1)", "update a set b = f(1)", "select public.coalesce(1)", "select pg_temp.f(1)",
    "with a as (select 1) select f(1)",
    "select pg_catalog.f(1)", "select (f(1))", "select [f(1)", "select f(f(1))", "merge into t using f(1) on true",
  ])
  func callsOfWhatIsNotKnownAreSeen(text: String) {
    #expect(effects(text).contains(.callsUnknownFunction))
  }

  @Test(arguments: [
    // pgbench
    "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
    "UPDATE pgbench_accounts SET abalance = abalance + -17 WHERE aid = 12345;",
    "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, -4, CURRENT_TIMESTAMP);",
    "insert into pgbench_history(tid,bid,aid,delta,mtime) values (1,2,3,4,now())",
    "select count(*) from pgbench_branches",
    // Django
    #"SELECT COUNT(*) AS "__count" FROM "shop_order" WHERE "shop_order"."status" IN ('a', 'b')"#,
    #"INSERT INTO "shop_order" ("name", "at") VALUES ('x', '2024-01-01'::timestamptz) RETURNING "shop_order"."id""#,
    #"INSERT INTO "a" ("id", "b") VALUES (1, 'x') ON CONFLICT("id") DO UPDATE SET "b" = EXCLUDED."b""#,
    #"SELECT "a"."b", COALESCE(SUM("a"."c"), (0)) AS "d" FROM "a" INNER JOIN "b" ON ("a"."id" = "b"."id") GROUP BY 1"#,
    #"SELECT EXISTS(SELECT 1 AS "a" FROM "b" LIMIT 1)"#,
    #"SELECT (1) AS "a" FROM "b" WHERE UPPER("c"::text) LIKE UPPER('x')"#,
    #"SELECT setval(pg_get_serial_sequence('"a"','id'), coalesce(max("id"), 1), max("id") IS NOT null) FROM "a""#,
    #"SELECT ROW_NUMBER() OVER (PARTITION BY "a" ORDER BY "b") FROM "c""#,
    #"SELECT DATE_TRUNC('day', "a" AT TIME ZONE 'UTC'), EXTRACT('year' FROM "a") FROM "b""#, "SELECT VERSION()",
    // SQLAlchemy
    "INSERT INTO app.orders AS o (id, name) VALUES (%(id)s, %(name)s) ON CONFLICT (id) DO NOTHING RETURNING id",
    "SELECT anon_1.a FROM (SELECT b.a AS a FROM b) AS anon_1 JOIN (SELECT 1 AS x) AS c ON c.x = anon_1.a",
    "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 100) SELECT sum(n) FROM t",
    "SELECT CAST(a AS VARCHAR(10)), CAST(b AS NUMERIC(10, 2)), c::character varying(3), d::vector(3) FROM e",
    "select pg_catalog.version()", "select current_schema()", "SELECT count(*) FILTER (WHERE a > 1) FROM b",
    "SELECT * FROM (VALUES (1, 2), (3, 4)) AS t (a, b) WHERE a = ANY (ARRAY[1, 2]) AND NOT (b = 3)",
    "SELECT a FROM b LEFT OUTER JOIN (c JOIN d ON true) ON true ORDER BY (a) LIMIT (5)",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM b GROUP BY GROUPING SETS ((a), ())",
    // psycopg, asyncpg
    "SELECT typname AS name, oid, typarray AS array_oid, oid::regtype::text AS regtype FROM pg_type t WHERE t.oid = "
      + "to_regtype($1) ORDER BY t.oid",
    "SELECT generate_series(1, $1), unnest($2::int[]), to_json($3), jsonb_build_object('a', $4)",
    "SELECT ns.nspname, format_type(t.oid, NULL), array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_type t",
    "SELECT n.nspname OPERATOR(pg_catalog.~) '^(a)$' COLLATE pg_catalog.default FROM pg_catalog.pg_namespace n",
  ])
  func ordinaryStatementsCallNothingUnknown(text: String) {
    #expect(effects(text) == [])
  }

  @Test func thePoolsOwnResetStatementsAreUnderstood() {
    #expect(
      effects("SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;")
        == [.unlocksAdvisory, .closesCursor, .unlistens, .resetsAll, .hasSeveralStatements])
  }

  // MARK: Where words do not count

  @Test func namesWithUnicodeEscapesAreUnclear() {
    #expect(effects(#"select U&"pg\005fadvisory_lock"(1)"#) == [.callsUnknownFunction, .isUnclear])
    #expect(effects(#"select * from U&"pg!005ftemp" UESCAPE '!'"#).contains(.isUnclear))
    #expect(!effects(#"select U&"a" from b"#).contains(.isUnclear))
  }

  @Test func stringsAreReadAsTheSettingSays() {
    let text = #"select '\'; commit; select '"#
    #expect(effects(text).contains(.ends))
    #expect(!effects(text, conforming: false).contains(.ends))
    #expect(effects(#"select '\''; commit"#, conforming: false) == [.ends, .hasSeveralStatements])
  }

  @Test func trailingBytesAreNoQuotes() {
    let text = Array("select E'".utf8) + [0x83, 0x5c] + Array("'; commit --'".utf8)
    #expect(effects(text, encoding: .shiftJIS) == [.ends, .hasSeveralStatements])
    #expect(effects(text) == [])
  }

  // MARK: Properties

  /// What hides a text: what comes before, what is done to it, and what comes after.
  private static let wrappers: [(String, String, @Sendable (String) -> String)] = [
    ("/*", "*/", { $0 }), ("/* /* ", " */ */", { $0 }), ("--", "\n", { $0.filter { $0 != "\n" && $0 != "\r" } }),
    ("'", "'", { $0.replacing("'", with: "''") }), ("$x$", "$x$", { $0 }),
    ("$$", "$$", { $0.replacing("$", with: "") }),
    ("E'", "'", { $0.replacing("\\", with: "\\\\").replacing("'", with: "\\'") }),
    ("N'", "'", { $0.replacing("'", with: "''") }), ("B'", "'", { $0.replacing("'", with: "") }),
    ("'a'\n'", "'", { $0.replacing("'", with: "''") }),
    ("\"a ", "\"", { $0.replacing("\"", with: "\"\"") }),
  ]

  @Test func whatIsWrappedHasNoEffect() {
    for (text, _) in Self.statements {
      for (before, after, change) in Self.wrappers {
        for beginning in ["select ", "", "select 1 where x = "] {
          let wrapped = beginning + before + change(text) + after
          #expect(effects(wrapped) == [], "\(wrapped)")
          #expect(effects(wrapped + "; commit").subtracting(.hasSeveralStatements) == .ends, "\(wrapped)")
        }
      }
    }
  }

  @Test func joinedStatementsHaveTheEffectsOfAll() {
    for (one, first) in Self.statements {
      for (other, second) in Self.statements {
        let both = effects(one + "\n;" + other).subtracting(.hasSeveralStatements)
        #expect(both == first.union(second), "\(one); \(other)")
      }
    }
  }

  @Test func everyBeginningOfATextCanBeLookedAt() {
    let special = "select U&\"a\\\"\"\" E'\\ $x$ $é$ 0x 1e+ /* /* */ '' \n '-- U&' x'' :: := .. +-/* \0"
    for (text, _) in Self.statements + [(special, StatementEffects())] {
      let bytes = Array(text.utf8)
      for start in 0...bytes.count {
        for end in start...bytes.count {
          for encoding in [TextEncoding.asciiSafe, .shiftJIS, .gb18030] {
            _ = effects(Array(bytes[start..<end]), conforming: false, encoding: encoding)
          }
        }
      }
    }
  }
}
