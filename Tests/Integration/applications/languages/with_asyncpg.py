"""asyncpg."""

import asyncio
import datetime
import decimal
import io
from functools import partial

import asyncpg
from conformance import fails, run

loop = asyncio.new_event_loop()
wait = loop.run_until_complete
connection = wait(asyncpg.connect(ssl=False))


def call(method, *arguments):
    return wait(getattr(connection, method)(*arguments))


def query():
    assert call("execute", "select 1; select 2") == "SELECT 1"


def parameters():
    assert call("fetchval", "select $1::int + $2", 1, 2) == 3


def prepared():
    statement = call("prepare", "select pg_backend_pid(), $1::int + 1")

    def backend(number):
        pid, value = wait(statement.fetchrow(number))
        assert value == number + 1
        return pid

    first = backend(1)
    holder = wait(asyncpg.connect(ssl=False))
    wait(holder.execute("begin; select 1"))
    assert backend(2) != first
    wait(holder.close())
    for number in range(20):
        backend(number)


def types():
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    values = (1, 2**60, 1.5, decimal.Decimal("12345.678"), True, "ä☃", b"\0\xff", at, None, [1, 2], '{"a": [1]}')
    row = call("fetchrow", "select $1::int4, $2::int8, $3::float8, $4::numeric, $5::bool, $6::text, $7::bytea, "
               "$8::timestamptz, $9::text, $10::int4[], $11::jsonb", *values)
    assert tuple(row) == values


def transaction():
    async def work():
        async with connection.transaction():
            await connection.execute("create table language (a int, b text)")
            await connection.execute("insert into language values (1, 'kept')")
        try:
            async with connection.transaction():
                await connection.execute("insert into language values (2, 'lost')")
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass

    wait(work())
    assert [row[0] for row in call("fetch", "select a from language")] == [1]


def savepoint():
    async def work():
        async with connection.transaction():
            try:
                async with connection.transaction():
                    await connection.fetch("select 1/0")
            except asyncpg.DivisionByZeroError:
                await connection.execute("insert into language values (4, 'kept')")

    wait(work())
    assert [row[0] for row in call("fetch", "select a from language order by a")] == [1, 4]


def error():
    fails("22012", call, "fetch", "select 1/0")
    fails("42P01", call, "fetch", "select * from no_such_table where a = $1", 1)
    assert call("fetchval", "select 1") == 1


def copy_in():
    records = [(number, "copied") for number in range(10_000)]
    wait(connection.copy_records_to_table("language", records=records))


def copy_out():
    out = io.BytesIO()
    wait(connection.copy_from_query("select * from language where b = $1", "copied", output=out))
    assert out.getvalue().count(b"\n") == 10_000


def cursor():
    async def work():
        async with connection.transaction():
            return sum([row[0] async for row in connection.cursor("select * from generate_series(1, 1000)", prefetch=100)])

    assert wait(work()) == 500_500


def pipeline():
    values = [(number,) for number in range(500)]
    call("executemany", "insert into language values ($1, 'many')", values)
    assert call("fetchval", "select count(*) from language where b = 'many'") == 500


def listen():
    async def work():
        heard = asyncio.Queue()

        def hear(*message):
            heard.put_nowait(message[-1])

        await connection.add_listener("news", hear)
        other = await asyncpg.connect(ssl=False)
        await other.execute("notify news, 'hello'")
        await other.close()
        assert await asyncio.wait_for(heard.get(), 10) == "hello"
        await connection.remove_listener("news", hear)

    wait(work())


def cancel():
    try:
        wait(connection.fetch("select pg_sleep(30)", timeout=0.2))
    except TimeoutError:
        assert call("fetchval", "select 1") == 1
        return None
    raise AssertionError("no time-out")


def lost():
    fails("40003", partial(call, "fetch"), "select pg_terminate_backend(pg_backend_pid())")
    assert call("fetchval", "select 1") == 1


run(globals())
wait(connection.close())
