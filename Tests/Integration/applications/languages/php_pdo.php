<?php
// PHP's PDO for PostgreSQL.
function connect(): PDO {
  return new PDO("pgsql:host=127.0.0.1;port=" . getenv("PGPORT") . ";dbname=app;sslmode=disable", "app");
}

$db = connect();

function check(bool $holds, string $what = "it is not so"): void {
  if (!$holds) { throw new Exception($what); }
}

function fails(string $code, callable $work): void {
  try {
    $work();
  } catch (PDOException $error) {
    check($error->errorInfo[0] === $code, $error->getMessage());
    return;
  }
  throw new Exception("no error $code");
}

function column(string $sql): array {
  global $db;
  return $db->query($sql)->fetchAll(PDO::FETCH_COLUMN);
}

$features = [
  "query" => function () use ($db) {
    check($db->exec("select 1; select 2") !== false);
  },
  "parameters" => function () use ($db) {
    $statement = $db->prepare("select ?::int + ?::int");
    $statement->execute([1, 2]);
    check($statement->fetchColumn() === 3);
  },
  "prepared" => function () use ($db) {
    $statement = $db->prepare("select pg_backend_pid(), ?::int + 1");
    $backend = function (int $number) use ($statement) {
      $statement->execute([$number]);
      [$pid, $value] = $statement->fetch(PDO::FETCH_NUM);
      check($value === $number + 1);
      return $pid;
    };
    $first = $backend(1);
    $holder = connect();
    $holder->beginTransaction();
    $holder->query("select 1")->fetch();
    check($backend(2) !== $first, "another connection");
    $holder->rollBack();
    for ($number = 0; $number < 20; $number++) { $backend($number); }
  },
  "types" => function () use ($db) {
    $statement = $db->prepare("select ?::int8, ?::float8, ?::numeric, ?::bool, ?::text, ?::bytea, ?::text");
    $values = [PHP_INT_MAX, 1.5, "12345.678", true, "ä☃", "\x00\xff", null];
    foreach ($values as $n => $value) {
      $statement->bindValue($n + 1, $value, [3 => PDO::PARAM_BOOL, 5 => PDO::PARAM_LOB][$n] ?? PDO::PARAM_STR);
    }
    $statement->execute();
    $row = $statement->fetch(PDO::FETCH_NUM);
    $row[5] = stream_get_contents($row[5]);
    check((int) $row[0] === PHP_INT_MAX && (float) $row[1] === 1.5);
    check(array_slice($row, 2) === array_slice($values, 2));
  },
  "transaction" => function () use ($db) {
    $db->beginTransaction();
    $db->exec("create table language (a int, b text)");
    $db->exec("insert into language values (1, 'kept')");
    $db->commit();
    $db->beginTransaction();
    $db->exec("insert into language values (2, 'lost')");
    $db->rollBack();
    check(column("select a from language") === [1]);
  },
  "savepoint" => function () use ($db) {
    $db->beginTransaction();
    $db->exec("savepoint point");
    fails("22012", fn () => $db->query("select 1/0"));
    $db->exec("rollback to point");
    $db->exec("insert into language values (4, 'kept')");
    $db->commit();
    check(column("select a from language order by a") === [1, 4]);
  },
  "error" => function () use ($db) {
    fails("22012", fn () => $db->query("select 1/0"));
    fails("42P01", fn () => $db->prepare("select * from no_such_table where a = ?")->execute([1]));
    check(column("select 1") === [1]);
  },
  "copy_in" => function () use ($db) {
    check($db->pgsqlCopyFromArray("language", array_map(fn ($number) => "$number\tcopied", range(1, 10000))));
  },
  "copy_out" => function () use ($db) {
    check(count($db->pgsqlCopyToArray("(select * from language where b = 'copied')")) === 10000);
  },
  "cursor" => function () use ($db) {
    $db->beginTransaction();
    $statement = $db->prepare("select * from generate_series(1, 1000)", [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
    $statement->execute();
    $total = 0;
    while (($number = $statement->fetchColumn()) !== false) { $total += $number; }
    $statement = null;
    $db->commit();
    check($total === 500500, "$total");
  },
  "pipeline" => fn () => "has no pipelines",
  "listen" => function () use ($db) {
    $db->exec("listen news");
    connect()->exec("notify news, 'hello'");
    $heard = $db->pgsqlGetNotify(PDO::FETCH_ASSOC, 10000);
    check($heard && $heard["payload"] === "hello", "a notification");
    $db->exec("unlisten news");
  },
  "cancel" => fn () => "has no interface for cancelling",
  "lost" => function () use ($db) {
    fails("40003", fn () => $db->query("select pg_terminate_backend(pg_backend_pid())"));
    check(column("select 1") === [1]);
  },
];

foreach ($features as $name => $work) {
  $reason = $work();
  echo "$name: ", $reason === null ? "ok" : "none: $reason", "\n";
}
