// libpq in C, with its pipeline mode.
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static PGconn *db;

static void check(int holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "%s; %s", what, PQerrorMessage(db));
  exit(1);
}

#define CHECK(condition) check(condition, #condition)

// Takes over the result; it must be rows, of which the first value is this.
static void expect(PGresult *result, const char *value) {
  check(PQresultStatus(result) == PGRES_TUPLES_OK, "not rows");
  check(PQntuples(result) > 0 && !strcmp(PQgetvalue(result, 0, 0), value), value);
  PQclear(result);
}

static void command(const char *sql) {
  PGresult *result = PQexec(db, sql);
  check(PQresultStatus(result) == PGRES_COMMAND_OK, sql);
  PQclear(result);
}

// Takes over the result; it must be an error with this SQLSTATE.
static void fails(PGresult *result, const char *code) {
  const char *found = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  check(found && !strcmp(found, code), code);
  PQclear(result);
}

static void drain(void) {
  for (PGresult *result; (result = PQgetResult(db));) PQclear(result);
}

static const char *query(void) {
  expect(PQexec(db, "select 1; select 2"), "2");
  return NULL;
}

static const char *parameters(void) {
  const char *values[] = {"1", "2"};
  expect(PQexecParams(db, "select $1::int + $2::int", 2, NULL, values, NULL, NULL, 0), "3");
  return NULL;
}

static int backend(const char *number) {
  PGresult *result = PQexecPrepared(db, "mine", 1, &number, NULL, NULL, 0);
  check(PQresultStatus(result) == PGRES_TUPLES_OK, "a prepared statement");
  check(atoi(PQgetvalue(result, 0, 1)) == atoi(number) + 1, "its value");
  int pid = atoi(PQgetvalue(result, 0, 0));
  PQclear(result);
  return pid;
}

static const char *prepared(void) {
  PQclear(PQprepare(db, "mine", "select pg_backend_pid(), $1::int + 1", 0, NULL));
  int first = backend("1");
  PGconn *holder = PQconnectdb("");
  PQclear(PQexec(holder, "begin; select 1"));
  CHECK(backend("2") != first);
  PQfinish(holder);
  for (int n = 0; n < 20; n++) backend("3");
  PGresult *described = PQdescribePrepared(db, "mine");
  CHECK(PQnparams(described) == 1 && PQnfields(described) == 2);
  PQclear(described);
  return NULL;
}

static const char *types(void) {
  const char *values[] = {"1152921504606846976", "\xc3\xa4\xe2\x98\x83", "\0\xff", NULL};
  const int lengths[] = {0, 0, 2, 0}, formats[] = {0, 0, 1, 0};
  PGresult *result = PQexecParams(
      db, "select $1::int8, $2::text, $3::bytea, $4::text", 4, NULL, values, lengths, formats, 1);
  CHECK(!memcmp(PQgetvalue(result, 0, 0), "\x10\0\0\0\0\0\0\0", 8));
  CHECK(!strcmp(PQgetvalue(result, 0, 1), values[1]));
  CHECK(PQgetlength(result, 0, 2) == 2 && !memcmp(PQgetvalue(result, 0, 2), values[2], 2));
  CHECK(PQgetisnull(result, 0, 3));
  PQclear(result);
  return NULL;
}

static const char *transaction(void) {
  command("begin");
  command("create table language (a int, b text)");
  command("insert into language values (1, 'kept')");
  command("commit");
  command("begin");
  CHECK(PQtransactionStatus(db) == PQTRANS_INTRANS);
  command("insert into language values (2, 'lost')");
  command("rollback");
  expect(PQexec(db, "select sum(a) from language"), "1");
  return NULL;
}

static const char *savepoint(void) {
  command("begin");
  command("savepoint point");
  fails(PQexec(db, "select 1/0"), "22012");
  CHECK(PQtransactionStatus(db) == PQTRANS_INERROR);
  command("rollback to point");
  command("insert into language values (4, 'kept')");
  command("commit");
  expect(PQexec(db, "select sum(a) from language"), "5");
  return NULL;
}

static const char *error(void) {
  fails(PQexec(db, "select 1/0"), "22012");
  fails(PQexecParams(db, "select * from no_such_table", 0, NULL, NULL, NULL, NULL, 0), "42P01");
  expect(PQexec(db, "select 1"), "1");
  return NULL;
}

static const char *copy_in(void) {
  PQclear(PQexec(db, "copy language from stdin"));
  for (int n = 0; n < 10000; n++) CHECK(PQputCopyData(db, "7\tcopied\n", 9) == 1);
  CHECK(PQputCopyEnd(db, NULL) == 1);
  drain();
  // The client's own failure.
  PQclear(PQexec(db, "copy language from stdin"));
  CHECK(PQputCopyEnd(db, "changed its mind") == 1);
  fails(PQgetResult(db), "57014");
  drain();
  return NULL;
}

static const char *copy_out(void) {
  PQclear(PQexec(db, "copy (select * from language where b = 'copied') to stdout"));
  int count = 0;
  for (char *line; PQgetCopyData(db, &line, 0) > 0; count++) PQfreemem(line);
  drain();
  CHECK(count == 10000);
  return NULL;
}

static const char *cursor(void) {
  CHECK(PQsendQueryParams(db, "select * from generate_series(1, 1000)", 0, NULL, NULL, NULL, NULL, 0));
  CHECK(PQsetSingleRowMode(db));
  int total = 0;
  for (PGresult *result; (result = PQgetResult(db)); PQclear(result)) {
    if (PQresultStatus(result) == PGRES_SINGLE_TUPLE) total += atoi(PQgetvalue(result, 0, 0));
  }
  CHECK(total == 500500);
  // libpq keeps the mode into a pipeline otherwise.
  expect(PQexec(db, "select 1"), "1");
  return NULL;
}

// Three segments with a Sync each; the second one fails at its first statement.
static const char *pipeline(void) {
  CHECK(PQenterPipelineMode(db));
  for (int segment = 0; segment < 3; segment++) {
    const char *sql = segment == 1 ? "select 1/0" : "select 5";
    for (int n = 0; n < 20; n++) CHECK(PQsendQueryParams(db, sql, 0, NULL, NULL, NULL, NULL, 0));
    CHECK(PQpipelineSync(db));
  }
  for (int segment = 0; segment < 3; segment++) {
    for (int n = 0; n < 20; n++) {
      PGresult *result = PQgetResult(db);
      if (segment != 1) {
        expect(result, "5");
      } else if (n == 0) {
        fails(result, "22012");
      } else {
        CHECK(PQresultStatus(result) == PGRES_PIPELINE_ABORTED);
        PQclear(result);
      }
      CHECK(PQgetResult(db) == NULL);
    }
    PGresult *sync = PQgetResult(db);
    CHECK(PQresultStatus(sync) == PGRES_PIPELINE_SYNC);
    PQclear(sync);
  }
  CHECK(PQexitPipelineMode(db));
  return NULL;
}

static const char *listen_(void) {
  command("listen news");
  PGconn *other = PQconnectdb("");
  PQclear(PQexec(other, "notify news, 'hello'"));
  PQfinish(other);
  PGnotify *notification;
  while (!(notification = PQnotifies(db))) {
    struct pollfd socket = {.fd = PQsocket(db), .events = POLLIN};
    CHECK(poll(&socket, 1, 10000) == 1);
    CHECK(PQconsumeInput(db));
  }
  CHECK(!strcmp(notification->extra, "hello"));
  PQfreemem(notification);
  command("unlisten news");
  return NULL;
}

static const char *cancel(void) {
  char text[256];
  CHECK(PQsendQuery(db, "select pg_sleep(30)"));
  usleep(200000);
  PGcancel *handle = PQgetCancel(db);
  CHECK(PQcancel(handle, text, sizeof text));
  PQfreeCancel(handle);
  fails(PQgetResult(db), "57014");
  drain();
  expect(PQexec(db, "select 1"), "1");
  return NULL;
}

static const char *lost(void) {
  fails(PQexec(db, "select pg_terminate_backend(pg_backend_pid())"), "40003");
  expect(PQexec(db, "select 1"), "1");
  return NULL;
}

int main(void) {
  struct {
    const char *name;
    const char *(*work)(void);
  } features[] = {
      {"query", query},         {"parameters", parameters}, {"prepared", prepared}, {"types", types},
      {"transaction", transaction}, {"savepoint", savepoint}, {"error", error},       {"copy_in", copy_in},
      {"copy_out", copy_out},   {"cursor", cursor},         {"pipeline", pipeline}, {"listen", listen_},
      {"cancel", cancel},       {"lost", lost},
  };
  db = PQconnectdb("");
  check(PQstatus(db) == CONNECTION_OK, "connected");
  for (unsigned n = 0; n < sizeof features / sizeof *features; n++) {
    const char *reason = features[n].work();
    printf(reason ? "%s: none: %s\n" : "%s: ok\n", features[n].name, reason);
    fflush(stdout);
  }
  PQfinish(db);
}
