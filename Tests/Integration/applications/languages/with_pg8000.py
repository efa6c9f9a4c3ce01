"""pg8000."""

import datetime
import decimal
import io

from conformance import PORT, fails, run
from pg8000.native import Connection


def connect():
    return Connection("app", host="127.0.0.1", port=PORT, database="app")


connection = connect()


def query():
    assert connection.run("select 1; select 2") == [[1], [2]]


def parameters():
    assert connection.run("select :a::int + :b", a=1, b=2) == [[3]]


def prepared():
    statement = connection.prepare("select pg_backend_pid(), :n::int + 1")

    def backend(number):
        ((pid, value),) = statement.run(n=number)
        assert value == number + 1
        return pid

    first = backend(1)
    holder = connect()
    holder.run("begin; select 1")
    assert backend(2) != first
    holder.close()
    for number in range(20):
        backend(number)
    statement.close()


def types():
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    values = [1, 2**60, 1.5, decimal.Decimal("12345.678"), True, "ä☃", b"\0\xff", at, None, [1, 2]]
    row = connection.run(
        "select :a::int4, :b::int8, :c::float8, :d::numeric, :e::bool, :f::text, :g::bytea, :h::timestamptz, :i::text, "
        ":j::int4[]", **dict(zip("abcdefghij", values)))[0]
    assert row == values
    assert connection.run("""select '{"a": [1]}'::jsonb""") == [[{"a": [1]}]]


def transaction():
    for sql in ("begin", "create table language (a int, b text)", "insert into language values (1, 'kept')", "commit",
                "begin", "insert into language values (2, 'lost')", "rollback"):
        connection.run(sql)
    assert connection.run("select a from language") == [[1]]


def savepoint():
    connection.run("begin")
    connection.run("savepoint point")
    fails("22012", connection.run, "select 1/0")
    connection.run("rollback to point")
    connection.run("insert into language values (4, 'kept')")
    connection.run("commit")
    assert connection.run("select a from language order by a") == [[1], [4]]


def error():
    fails("22012", connection.run, "select 1/0")
    assert connection.run("select 1") == [[1]]


def copy_in():
    connection.run("copy language from stdin", stream=io.StringIO("".join(f"{n}\tcopied\n" for n in range(10_000))))


def copy_out():
    out = io.StringIO()
    connection.run("copy (select * from language where b = 'copied') to stdout", stream=out)
    assert out.getvalue().count("\n") == 10_000


def cursor():
    connection.run("begin")
    connection.run("declare portions cursor for select * from generate_series(1, 1000)")
    total = 0
    while rows := connection.run("fetch 100 from portions"):
        total += sum(row[0] for row in rows)
    connection.run("commit")
    assert total == 500_500


def pipeline():
    return "has no pipelines"


def listen():
    connection.run("listen news")
    other = connect()
    other.run("notify news, 'hello'")
    other.close()
    # It looks for notifications when it has a query to send.
    for _ in range(100):
        connection.run("select pg_sleep(0.01)")
        if connection.notifications:
            break
    assert connection.notifications.popleft()[-1] == "hello"
    connection.run("unlisten news")


def cancel():
    return "has no interface for cancelling"


def lost():
    fails("40003", connection.run, "select pg_terminate_backend(pg_backend_pid())")
    assert connection.run("select 1") == [[1]]


run(globals())
connection.close()
