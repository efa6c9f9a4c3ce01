<?php
// PHP's pgsql.
$db = pg_connect("");

function check(bool $holds, string $what = "it is not so"): void {
  if (!$holds) { throw new Exception($what); }
}

function rows(PgSql\Result|false $result): array {
  global $db;
  check($result !== false, pg_last_error($db));
  return pg_fetch_all($result, PGSQL_NUM);
}

// Sends a query with parameters; its error must have this SQLSTATE.
function fails(string $code, string $sql, array $values = []): void {
  global $db;
  pg_send_query_params($db, $sql, $values);
  $result = pg_get_result($db);
  $found = pg_result_error_field($result, PGSQL_DIAG_SQLSTATE);
  while (pg_get_result($db)) {}
  check($found === $code, "$found, not $code");
}

$features = [
  "query" => function () use ($db) {
    check(rows(pg_query($db, "select 1; select 2")) == [["2"]]);
  },
  "parameters" => function () use ($db) {
    check(rows(pg_query_params($db, 'select $1::int + $2::int', [1, 2])) == [["3"]]);
  },
  "prepared" => function () use ($db) {
    check(pg_prepare($db, "mine", 'select pg_backend_pid(), $1::int + 1') !== false);
    $backend = function (int $number) use ($db) {
      [[$pid, $value]] = rows(pg_execute($db, "mine", [$number]));
      check((int) $value === $number + 1);
      return $pid;
    };
    $first = $backend(1);
    $holder = pg_connect("", PGSQL_CONNECT_FORCE_NEW);
    pg_query($holder, "begin; select 1");
    check($backend(2) !== $first, "another connection");
    pg_close($holder);
    for ($number = 0; $number < 20; $number++) { $backend($number); }
  },
  "types" => function () use ($db) {
    $bytes = pg_escape_bytea($db, "\x00\xff");
    $row = rows(pg_query_params($db, 'select $1::int8, $2::float8, $3::numeric, $4::bool, $5::text, $6::bytea, $7::text',
      [PHP_INT_MAX, 1.5, "12345.678", "t", "ä☃", $bytes, null]))[0];
    check(pg_unescape_bytea($row[5]) === "\x00\xff");
    $row[5] = "";
    check($row === [(string) PHP_INT_MAX, "1.5", "12345.678", "t", "ä☃", "", null], json_encode($row));
  },
  "transaction" => function () use ($db) {
    foreach (["begin", "create table language (a int, b text)", "insert into language values (1, 'kept')", "commit",
              "begin", "insert into language values (2, 'lost')", "rollback"] as $sql) {
      check(pg_query($db, $sql) !== false, $sql);
    }
    check(rows(pg_query($db, "select a from language")) == [["1"]]);
  },
  "savepoint" => function () use ($db) {
    pg_query($db, "begin; savepoint point");
    fails("22012", "select 1/0");
    pg_query($db, "rollback to point; insert into language values (4, 'kept'); commit");
    check(rows(pg_query($db, "select a from language order by a")) == [["1"], ["4"]]);
  },
  "error" => function () use ($db) {
    fails("22012", "select 1/0");
    fails("42P01", 'select * from no_such_table where a = $1', [1]);
    check(rows(pg_query($db, "select 1")) == [["1"]]);
  },
  "copy_in" => function () use ($db) {
    $lines = array_map(fn ($number) => "$number\tcopied\n", range(1, 10000));
    check(pg_copy_from($db, "language", $lines));
  },
  "copy_out" => function () use ($db) {
    check(count(pg_copy_to($db, "(select * from language where b = 'copied')")) === 10000);
  },
  "cursor" => function () use ($db) {
    $total = 0;
    pg_query($db, "begin; declare portions cursor for select * from generate_series(1, 1000)");
    while ($part = rows(pg_query($db, "fetch 100 from portions"))) { $total += array_sum(array_column($part, 0)); }
    pg_query($db, "commit");
    check($total === 500500, "$total");
  },
  "pipeline" => fn () => "is too old for pipelines",
  "listen" => function () use ($db) {
    pg_query($db, "listen news");
    $other = pg_connect("", PGSQL_CONNECT_FORCE_NEW);
    pg_query($other, "notify news, 'hello'");
    pg_close($other);
    for ($tries = 0; $tries < 1000 && !($heard = pg_get_notify($db)); $tries++) { usleep(10000); }
    check($heard && $heard["payload"] === "hello", "a notification");
    pg_query($db, "unlisten news");
  },
  "cancel" => function () use ($db) {
    pg_send_query($db, "select pg_sleep(30)");
    usleep(200000);
    check(pg_cancel_query($db));
    check(rows(pg_query($db, "select 1")) == [["1"]]);
  },
  "lost" => function () use ($db) {
    fails("40003", "select pg_terminate_backend(pg_backend_pid())");
    check(rows(pg_query($db, "select 1")) == [["1"]]);
  },
];

foreach ($features as $name => $work) {
  $reason = $work();
  echo "$name: ", $reason === null ? "ok" : "none: $reason", "\n";
}
