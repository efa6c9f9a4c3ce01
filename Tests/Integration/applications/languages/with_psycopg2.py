"""psycopg2."""

import datetime
import decimal
import io
import select
import threading

import psycopg2
from conformance import fails, run

connection = psycopg2.connect("")
connection.autocommit = True
any_cursor = connection.cursor()


def rows(sql, values=None):
    any_cursor.execute(sql, values)
    return any_cursor.fetchall()


def query():
    assert rows("select 1; select 2") == [(2,)]


def parameters():
    return "puts values into the text"


def prepared():
    return "has no prepared statements"


def types():
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    values = (1, 2**60, 1.5, decimal.Decimal("12345.678"), True, "ä☃", at, None, [1, 2])
    assert rows("select %s::int4, %s::int8, %s::float8, %s::numeric, %s::bool, %s::text, %s::timestamptz, %s::text, "
                "%s::int4[]", values) == [values]
    assert bytes(rows("select %s::bytea", [b"\0\xff"])[0][0]) == b"\0\xff"
    assert rows("""select '{"a": [1]}'::jsonb""") == [({"a": [1]},)]


def transaction():
    connection.autocommit = False
    any_cursor.execute("create table language (a int, b text)")
    any_cursor.execute("insert into language values (1, 'kept')")
    connection.commit()
    any_cursor.execute("insert into language values (2, 'lost')")
    connection.rollback()
    assert rows("select a from language") == [(1,)]
    connection.commit()


def savepoint():
    any_cursor.execute("savepoint point")
    fails("22012", any_cursor.execute, "select 1/0")
    any_cursor.execute("rollback to point; insert into language values (4, 'kept')")
    connection.commit()
    assert rows("select a from language order by a") == [(1,), (4,)]
    connection.commit()
    connection.autocommit = True


def error():
    fails("22012", any_cursor.execute, "select 1/0")
    assert rows("select 1") == [(1,)]


def copy_in():
    any_cursor.copy_expert("copy language from stdin", io.StringIO("".join(f"{n}\tcopied\n" for n in range(10_000))))


def copy_out():
    out = io.StringIO()
    any_cursor.copy_expert("copy (select * from language where b = 'copied') to stdout", out)
    assert out.getvalue().count("\n") == 10_000


def cursor():
    connection.autocommit = False
    with connection.cursor("portions") as portions:
        portions.itersize = 100
        portions.execute("select * from generate_series(1, 1000)")
        assert sum(row[0] for row in portions) == 500_500
    connection.commit()
    connection.autocommit = True


def pipeline():
    return "has no pipelines"


def listen():
    any_cursor.execute("listen news")
    other = psycopg2.connect("")
    other.autocommit = True
    other.cursor().execute("notify news, 'hello'")
    other.close()
    while not connection.notifies:
        assert select.select([connection], [], [], 10)[0]
        connection.poll()
    assert connection.notifies.pop().payload == "hello"
    any_cursor.execute("unlisten news")


def cancel():
    threading.Timer(0.2, connection.cancel).start()
    fails("57014", any_cursor.execute, "select pg_sleep(30)")
    assert rows("select 1") == [(1,)]


def lost():
    fails("40003", any_cursor.execute, "select pg_terminate_backend(pg_backend_pid())")
    assert rows("select 1") == [(1,)]


run(globals())
connection.close()
