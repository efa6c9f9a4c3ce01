"""psycopg 3."""

import datetime
import decimal
import threading

import psycopg
from conformance import fails, run
from psycopg.types.json import Jsonb

connection = psycopg.connect(autocommit=True)


def query():
    cursor = connection.execute("select 1; select 2")
    assert cursor.fetchone() == (1,) and cursor.nextset() and cursor.fetchone() == (2,)


def parameters():
    assert connection.execute("select %s::int + %s", [1, 2]).fetchone() == (3,)


def prepared():
    def backend(number):
        pid, value = connection.execute("select pg_backend_pid(), %s::int + 1", [number], prepare=True).fetchone()
        assert value == number + 1
        return pid

    first = backend(1)
    with psycopg.connect() as holder:
        holder.execute("select 1")
        assert backend(2) != first
    for number in range(20):
        backend(number)


def types():
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    values = (1, 2**60, 1.5, decimal.Decimal("12345.678"), True, "ä☃", b"\0\xff", at, None, [1, 2])
    sql = ("select %s::int4, %s::int8, %s::float8, %s::numeric, %s::bool, %s::text, %s::bytea, %s::timestamptz, "
           "%s::text, %s::int4[]")
    for binary in (False, True):
        assert connection.execute(sql, values, binary=binary).fetchone() == values
    assert connection.execute("select %s", [Jsonb({"a": [1]})]).fetchone() == ({"a": [1]},)


def transaction():
    with connection.transaction():
        connection.execute("create table language (a int, b text)")
        connection.execute("insert into language values (1, 'kept')")
    with connection.transaction(force_rollback=True):
        connection.execute("insert into language values (2, 'lost')")
    assert connection.execute("select a from language").fetchall() == [(1,)]


def savepoint():
    with connection.transaction():
        try:
            with connection.transaction():
                connection.execute("insert into language values (3, 'lost')")
                connection.execute("select 1/0")
        except psycopg.errors.DivisionByZero:
            connection.execute("insert into language values (4, 'kept')")
    assert connection.execute("select a from language order by a").fetchall() == [(1,), (4,)]


def error():
    fails("22012", connection.execute, "select 1/0")
    fails("42P01", connection.execute, "select * from no_such_table where a = %s", [1])
    assert connection.execute("select 1").fetchone() == (1,)


def copy_in():
    with connection.cursor().copy("copy language from stdin") as copy:
        for number in range(10_000):
            copy.write_row((number, "copied"))


def copy_out():
    with connection.cursor().copy("copy (select * from language where b = 'copied') to stdout") as copy:
        assert sum(1 for _ in copy.rows()) == 10_000


def cursor():
    with connection.transaction(), connection.cursor("portions") as portions:
        portions.itersize = 100
        portions.execute("select * from generate_series(1, 1000)")
        assert sum(row[0] for row in portions) == 500_500


def pipeline():
    with connection.pipeline():
        cursors = [connection.execute("select %s::int", [number]) for number in range(50)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(50))


def listen():
    connection.execute("listen news")
    with psycopg.connect(autocommit=True) as other:
        other.execute("notify news, 'hello'")
    assert [notice.payload for notice in connection.notifies(timeout=10, stop_after=1)] == ["hello"]
    connection.execute("unlisten news")


def cancel():
    threading.Timer(0.2, connection.cancel_safe).start()
    fails("57014", connection.execute, "select pg_sleep(30)")
    assert connection.execute("select 1").fetchone() == (1,)


def lost():
    fails("40003", connection.execute, "select pg_terminate_backend(pg_backend_pid())")
    assert connection.execute("select 1").fetchone() == (1,)


run(globals())
connection.close()
