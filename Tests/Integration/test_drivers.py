"""The drivers themselves: COPY, pipelines, large values, server errors."""

from __future__ import annotations

import asyncio
import io

import asyncpg
import psycopg
import psycopg2
import pytest

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL


@pytest.fixture
def table(postgres: PostgreSQL):
    postgres.psql("create table copied (a int, b text); grant all on copied to app")
    yield "copied"
    postgres.psql("drop table copied")


def test_copy_both_ways_with_psycopg(daemon: Lifeguard, table: str):
    with psycopg.connect(daemon.conninfo()) as connection:
        with connection.cursor() as cursor:
            with cursor.copy("copy copied from stdin") as copy:
                for number in range(50_000):
                    copy.write_row((number, f"row {number}"))
            with cursor.copy("copy (select * from copied order by a) to stdout") as copy:
                rows = list(copy.rows())
    assert len(rows) == 50_000
    assert rows[49_999] == ("49999", "row 49999")


def test_copy_both_ways_in_binary_with_psycopg(daemon: Lifeguard, table: str):
    with psycopg.connect(daemon.conninfo()) as connection, connection.cursor() as cursor:
        with cursor.copy("copy copied from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            for number in range(1000):
                copy.write_row((number, "x" * number))
        with cursor.copy("copy copied to stdout (format binary)") as copy:
            copy.set_types(["int4", "text"])
            assert sum(len(row[1]) for row in copy.rows()) == sum(range(1000))


def test_copy_both_ways_with_psycopg2(daemon: Lifeguard, table: str):
    connection = psycopg2.connect(daemon.conninfo())
    with connection, connection.cursor() as cursor:
        cursor.copy_expert("copy copied from stdin", io.StringIO("".join(f"{n}\tx\n" for n in range(10_000))))
        out = io.StringIO()
        cursor.copy_expert("copy copied to stdout", out)
    connection.close()
    assert out.getvalue().count("\n") == 10_000


def test_copy_both_ways_with_asyncpg(daemon: Lifeguard, table: str):
    async def work() -> None:
        connection = await asyncpg.connect(daemon.address(), statement_cache_size=0)
        await connection.copy_to_table(table, source=io.BytesIO(b"".join(b"%d\tx\n" % n for n in range(10_000))))
        out = io.BytesIO()
        await connection.copy_from_table(table, output=out)
        assert out.getvalue().count(b"\n") == 10_000
        await connection.close()

    asyncio.run(work())


def test_copy_both_ways_with_psql(daemon: Lifeguard, table: str, tmp_path):
    source = tmp_path / "in.tsv"
    source.write_text("".join(f"{number}\trow\n" for number in range(100_000)))
    target = tmp_path / "out.tsv"
    daemon.psql(f"\\copy copied from '{source}'")
    daemon.psql(f"\\copy (select * from copied order by a) to '{target}'")
    assert target.read_text() == source.read_text()


def test_a_failed_copy_leaves_the_connection_usable(daemon: Lifeguard, table: str):
    with psycopg.connect(daemon.conninfo(), autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            with connection.cursor().copy("copy copied from stdin") as copy:
                copy.write(b"1\tgood\n" + b"no number\tbad\n" * 10_000)
        with pytest.raises(ZeroDivisionError):
            with connection.cursor().copy("copy copied from stdin") as copy:
                copy.write(b"1\tgood\n")
                raise ZeroDivisionError
        assert connection.execute("select count(*) from copied").fetchone() == (0,)


def test_a_result_of_100_mb_arrives_whole(daemon: Lifeguard):
    with psycopg2.connect(daemon.conninfo()) as connection, connection.cursor() as cursor:
        cursor.execute("select repeat(md5(n::text), 320) from generate_series(1, 10240) n")
        total = sum(len(row[0]) for row in cursor)
    connection.close()
    assert total == 100 * 1024 * 1024


def test_one_value_of_100_mb_goes_there_and_back(daemon: Lifeguard):
    value = "0123456789abcdef" * (100 * 1024 * 1024 // 16)
    with psycopg.connect(daemon.conninfo(), prepare_threshold=None) as connection:
        assert connection.execute("select %s::text", [value]).fetchone()[0] == value


def test_a_pipeline_of_psycopg_with_an_error_in_the_middle(daemon: Lifeguard):
    with psycopg.connect(daemon.conninfo(), autocommit=True, prepare_threshold=None) as connection:
        with connection.pipeline() as pipeline:
            cursors = [connection.execute("select %s::int", [number]) for number in range(100)]
            pipeline.sync()
            assert [cursor.fetchone()[0] for cursor in cursors] == list(range(100))
            with pytest.raises(psycopg.errors.DivisionByZero):
                connection.execute("select 1/0")
                pipeline.sync()
            assert connection.execute("select 6").fetchone() == (6,)
        assert connection.execute("select 7").fetchone() == (7,)


def test_executemany_of_psycopg(daemon: Lifeguard, table: str):
    with psycopg.connect(daemon.conninfo(), prepare_threshold=None) as connection:
        connection.cursor().executemany("insert into copied values (%s, %s)", [(n, str(n)) for n in range(5000)])
        assert connection.execute("select count(*), sum(a) from copied").fetchone() == (5000, 12_497_500)


def test_prepared_statements_of_the_protocol_work_in_transaction_mode(daemon: Lifeguard):
    """Never does a statement reach a server connection that does not know it, or one that knows another of its name."""
    clients = [psycopg.connect(daemon.conninfo(), autocommit=True, prepare_threshold=0) for _ in range(30)]
    answers: list[tuple[int, int]] = []
    for repetition in range(3):
        for number, client in enumerate(clients):
            answers.append((number, client.execute(f"select {number} + %s::int", [0]).fetchone()[0]))
    for client in clients:
        client.close()
    assert all(expected == got for expected, got in answers)


def test_large_objects(daemon: Lifeguard):
    """libpq's large objects are what still uses function calls."""
    connection = psycopg2.connect(daemon.conninfo())
    big = connection.lobject(0, "wb")
    big.write(b"x" * 1_000_000)
    oid = big.oid
    connection.commit()
    assert len(connection.lobject(oid, "rb").read()) == 1_000_000
    connection.lobject(oid).unlink()
    connection.commit()
    connection.close()
