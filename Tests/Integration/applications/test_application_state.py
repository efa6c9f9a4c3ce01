"""What applications leave in their sessions, in transaction mode: it follows them or pins them, and no other sees it.

Each application runs beside others on the same few connections, so that what leaks is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest
from models import Account, Author, Base
from sqlalchemy import create_engine, event, func, insert, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from test_django import django

from kit.admin import command
from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.waiting import wait_until

DRIVERS = pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])


@pytest.fixture
def one(lifeguard, empty: None) -> Lifeguard:
    """A daemon with a single server connection."""
    return lifeguard(pool={"pool_size": 1, "max_overflow": 0})


@pytest.fixture
def few(lifeguard, empty: None) -> Lifeguard:
    """A daemon with three server connections, of which two may be pinned."""
    return lifeguard(pool={"pool_size": 3, "max_overflow": 0})


@pytest.fixture
def other(one: Lifeguard) -> Iterator[psycopg.Connection]:
    """Another client."""
    with psycopg.connect(one.conninfo(), autocommit=True) as connection:
        yield connection


def shown(connection: psycopg.Connection, name: str) -> str | None:
    return connection.execute("select current_setting(%s, true)", [name]).fetchone()[0]


@DRIVERS
def test_settings_in_a_connect_event_stay_with_their_engine(one: Lifeguard, driver: str):
    """What SQLAlchemy's documentation gives for a search path: `SET SESSION` whenever its pool connects."""
    engines = []
    for number in range(3):
        engine = create_engine(one.url(driver))

        @event.listens_for(engine, "connect")
        def configure(connection, _, number=number) -> None:
            cursor = connection.cursor()
            cursor.execute(f"set session search_path = tenant_{number}, public")
            cursor.execute(f"set session statement_timeout = {1001 + number}")
            cursor.execute(f"set app.tenant = '{number}'")
            cursor.close()
            connection.commit()

        engines.append(engine)
    for _ in range(3):
        for number, engine in enumerate(engines):
            with engine.connect() as connection:
                assert connection.execute(text(
                    "select current_setting('search_path'), current_setting('statement_timeout'), "
                    "current_setting('app.tenant')")).one() == (
                        f"tenant_{number}, public", f"{1001 + number}ms", str(number))
    for engine in engines:
        engine.dispose()


def test_a_tenant_set_for_row_security_is_seen_by_nobody_else(one: Lifeguard, postgres: PostgreSQL):
    postgres.psql("create table secret (tenant int, what text); alter table secret enable row level security; "
                  "create policy own on secret using (tenant = current_setting('app.tenant')::int); "
                  "grant all on secret to app; insert into secret select n % 2, n::text from generate_series(1, 10) n")
    engine = create_engine(one.url("psycopg"), poolclass=NullPool)
    try:
        with engine.connect() as first, engine.connect() as second:
            for number, connection in enumerate((first, second)):
                connection.execute(text(f"set app.tenant = '{number}'"))
                connection.commit()
            for _ in range(3):
                for number, connection in enumerate((first, second)):
                    assert set(connection.scalars(text("select tenant from secret"))) == {number}
                    connection.commit()
    finally:
        engine.dispose()
        postgres.psql("drop table secret")


def test_set_config_of_a_session_stays_with_it(one: Lifeguard, other: psycopg.Connection):
    """As Supabase, PostgREST and many frameworks for tenants do it, with is_local false."""
    with psycopg.connect(one.conninfo(), autocommit=True) as connection:
        connection.execute("select set_config('app.user', 'ann', false)")
        assert shown(other, "app.user") in (None, "")
        assert shown(connection, "app.user") == "ann"


def test_a_role_that_a_session_takes_stays_with_it(one: Lifeguard, other: psycopg.Connection, postgres: PostgreSQL):
    postgres.psql("grant alice to app")
    try:
        with psycopg.connect(one.conninfo(), autocommit=True) as connection:
            connection.execute("set role alice")
            assert other.execute("select current_user").fetchone() == ("app",)
            assert connection.execute("select current_user").fetchone() == ("alice",)
    finally:
        postgres.psql("revoke alice from app")


@DRIVERS
def test_session_characteristics_stay_with_their_session(one: Lifeguard, driver: str):
    """pg8000 has its isolation level set this way by SQLAlchemy; others can."""
    strict = create_engine(one.url(driver), isolation_level="SERIALIZABLE" if driver == "pg8000" else None)
    plain = create_engine(one.url("psycopg"))
    if driver != "pg8000":
        @event.listens_for(strict, "connect")
        def configure(connection, _) -> None:
            connection.cursor().execute("set session characteristics as transaction isolation level serializable")
            connection.commit()

    query = text("show transaction_isolation")
    for _ in range(3):
        for engine, level in ((strict, "serializable"), (plain, "read committed")):
            with engine.connect() as connection:
                assert connection.scalar(query) == level
    for engine in (strict, plain):
        engine.dispose()


def test_read_only_sessions_stay_apart(one: Lifeguard):
    """`postgresql_readonly` of psycopg2 and asyncpg is a BEGIN with words; by a connect event it is a setting."""
    reader = create_engine(one.url("psycopg"))
    writer = create_engine(one.url("psycopg"))

    @event.listens_for(reader, "connect")
    def configure(connection, _) -> None:
        connection.execute("set default_transaction_read_only = on")
        connection.commit()

    Base.metadata.create_all(writer)
    with reader.connect() as connection:
        assert connection.scalar(text("show transaction_read_only")) == "on"
    with writer.begin() as connection:
        connection.execute(insert(Author).values(name="written"))
    with reader.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Author)) == 1
    for engine in (reader, writer):
        engine.dispose()


def test_a_rolled_back_setting_is_not_kept(one: Lifeguard, other: psycopg.Connection):
    with psycopg.connect(one.conninfo()) as connection:
        connection.execute("set app.tenant = 'kept'")
        connection.commit()
        connection.execute("set app.tenant = 'rolled back'")
        connection.rollback()
        assert shown(other, "app.tenant") in (None, "")
        assert shown(connection, "app.tenant") == "kept"


# MARK: what pins


@DRIVERS
def test_temporary_tables_stay_with_their_session(few: Lifeguard, driver: str):
    engine = create_engine(few.url(driver))
    with engine.connect() as first, engine.connect() as second:
        first.execute(text("create temporary table basket (item text)"))
        first.commit()
        for number in range(3):
            first.execute(text("insert into basket values ('x')"))
            first.commit()
            assert second.scalar(text("select to_regclass('basket') is null")) is True
            second.commit()
            assert first.scalar(text("select count(*) from basket")) == number + 1
            first.commit()
        first.execute(text("drop table basket"))
        first.commit()
    engine.dispose()
    assert few.pool()["sv_pinned"] == "0"


def test_session_advisory_locks_exclude_others(few: Lifeguard):
    """How many schedulers make sure that they run once."""
    with (psycopg.connect(few.conninfo(), autocommit=True) as first,
          psycopg.connect(few.conninfo(), autocommit=True) as second):
        assert first.execute("select pg_try_advisory_lock(7)").fetchone() == (True,)
        for _ in range(3):
            assert second.execute("select pg_try_advisory_lock(7)").fetchone() == (False,)
        assert first.execute("select pg_advisory_unlock(7)").fetchone() == (True,)
        assert second.execute("select pg_try_advisory_lock(7)").fetchone() == (True,)
        assert second.execute("select pg_advisory_unlock(7)").fetchone() == (True,)


def test_a_lock_of_a_client_that_is_gone_is_gone_too(few: Lifeguard):
    connection = psycopg.connect(few.conninfo(), autocommit=True)
    connection.execute("select pg_advisory_lock(8)")
    connection.close()
    with psycopg.connect(few.conninfo(), autocommit=True) as other:
        wait_until(lambda: other.execute("select pg_try_advisory_xact_lock(8)").fetchone() == (True,), "it is gone")


def test_asyncpg_listens(few: Lifeguard):
    async def work() -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        listener, sender = await asyncpg.connect(few.address()), await asyncpg.connect(few.address())
        await listener.add_listener("news", lambda *message: heard.put_nowait(message[-1]))
        for number in range(5):
            await sender.execute(f"notify news, '{number}'")
            assert await asyncio.wait_for(heard.get(), 10) == str(number)
        await listener.close()
        await sender.close()

    asyncio.run(work())


def test_psycopg_listens(few: Lifeguard):
    with (psycopg.connect(few.conninfo(), autocommit=True) as listener,
          psycopg.connect(few.conninfo(), autocommit=True) as sender):
        listener.execute("listen news")
        sender.execute("notify news, 'hello'")
        assert [notice.payload for notice in listener.notifies(timeout=10, stop_after=1)] == ["hello"]


def test_django_streams_with_cursors_with_hold(lifeguard, empty: None):
    """`iterator()` outside of a transaction, without DISABLE_SERVER_SIDE_CURSORS."""
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    with psycopg.connect(daemon.conninfo(), autocommit=True) as beside:
        beside.execute("select 1")
        django(daemon, "streams", {})


def test_sql_prepare_stays_with_its_client(few: Lifeguard):
    with (psycopg.connect(few.conninfo(), autocommit=True) as first,
          psycopg.connect(few.conninfo(), autocommit=True) as second):
        first.execute("prepare answer as select 'first'")
        second.execute("prepare answer as select 'second'")
        for connection, expected in ((first, "first"), (second, "second")) * 2:
            assert connection.execute("execute answer").fetchone() == (expected,)


# MARK: statements and changes of their tables


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_new_connections_prepare_anew_after_a_change_of_the_table(one: Lifeguard, driver: str):
    """A client that parses a statement after ALTER TABLE gets no "cached plan must not change result type", which is
    for those who parsed it before; without a pool in the application every session parses anew."""
    async def work() -> None:
        engine = create_async_engine(one.url(driver), poolclass=NullPool)

        async def totals() -> list[int]:
            async with engine.begin() as connection:
                await connection.execute(insert(Account).values(balance=1, version=1))
                return [await connection.scalar(select(func.sum(Account.balance))) for _ in range(10)]

        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        assert await totals() == [1] * 10
        async with engine.begin() as connection:
            await connection.execute(text("alter table account alter balance type bigint"))
        assert await totals() == [2] * 10
        await engine.dispose()

    asyncio.run(work())


def test_a_client_that_prepares_again_after_a_change_of_the_table_can_go_on(one: Lifeguard):
    """As on a direct connection: one error for who has the old statement; closed and made again, it works."""
    async def work() -> None:
        connection = await asyncpg.connect(one.address())
        await connection.execute("create table changing (a int); insert into changing values (1)")
        assert await connection.fetchval("select a from changing") == 1
        await connection.execute("alter table changing alter a type text")
        with pytest.raises(asyncpg.InvalidCachedStatementError):
            async with connection.transaction():
                await connection.fetchval("select a from changing")
        assert await connection.fetchval("select a from changing") == "1"
        await connection.close()

    asyncio.run(work())


def test_a_change_past_the_daemon_is_an_error_in_a_block_only_and_reconnect_spares_it(
        one: Lifeguard, postgres: PostgreSQL):
    """What docs/applications.md says of migrations, for sessions that prepare the same statement after it."""
    def value(*, autocommit: bool) -> object:
        with psycopg.connect(one.conninfo(), autocommit=autocommit, prepare_threshold=0) as connection:
            return connection.execute("select a from changing").fetchone()[0]

    with psycopg.connect(postgres.conninfo(), autocommit=True) as migration:
        def change(kind: str) -> None:
            migration.execute(f"alter table changing alter a type {kind} using a::{kind}")

        migration.execute("create table changing (a int)")
        migration.execute("insert into changing values (1)")
        assert value(autocommit=True) == 1
        change("text")
        assert [value(autocommit=True) for _ in range(2)] == ["1", "1"]
        change("int")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            value(autocommit=False)
        assert value(autocommit=False) == 1
        change("text")
        command(one, "RECONNECT app")
        assert value(autocommit=False) == "1"
