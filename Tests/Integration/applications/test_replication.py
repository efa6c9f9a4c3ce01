"""A primary and a standby as two databases of the daemon, and a service with a session factory for each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from models import Author, Base
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.standby import Standby


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PostgreSQL, PostgreSQL]]:
    """Primary and standby. Tests may write, and leave both running as they are."""
    primary = PostgreSQL()
    try:
        standby = Standby(primary)
        yield primary, standby
        standby.remove()
    finally:
        primary.remove()


@pytest.fixture
def daemon(lifeguard, servers: tuple[PostgreSQL, PostgreSQL]) -> Iterator[Lifeguard]:
    """Both under the names that libpq gives them: by hosts in turn, and what they must be."""
    primary, standby = servers
    hosts = f"host=127.0.0.1,127.0.0.1 port={standby.port},{primary.port} dbname=app"
    yield lifeguard(**{
        "databases.app": {"upstream": f"{hosts} target_session_attrs=read-write"},
        "databases.app_ro": {"upstream": f"{hosts} target_session_attrs=prefer-standby"}})
    primary.psql("drop owned by app")


IN_RECOVERY = text("select pg_is_in_recovery()")


def test_each_database_leads_to_its_server(daemon: Lifeguard):
    for driver in ("psycopg", "psycopg2", "pg8000"):
        for name, expected in (("app", False), ("app_ro", True)):
            engine = create_engine(daemon.url(driver, database=name))
            with engine.connect() as connection:
                assert connection.scalar(IN_RECOVERY) is expected
            engine.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_service_with_a_factory_for_reads_and_one_for_writes(
        daemon: Lifeguard, servers: tuple[PostgreSQL, PostgreSQL], driver: str):
    engines = [create_engine(daemon.url(driver, database=name)) for name in ("app", "app_ro")]
    write, read = (sessionmaker(engine) for engine in engines)
    Base.metadata.create_all(engines[0])
    for number in range(5):
        with write.begin() as session:
            session.add_all(Author(name=f"{number}.{n}") for n in range(10))
        servers[0].wait_for_replay(servers[1])
        with read() as session:
            assert session.scalar(select(func.count()).select_from(Author)) == 10 * (number + 1)
            assert session.scalar(IN_RECOVERY) is True
    with read() as session, pytest.raises(DBAPIError, match="read-only transaction"):
        session.add(Author(name="not here"))
        session.flush()
    for engine in engines:
        engine.dispose()


def test_a_session_that_routes_by_what_it_does(daemon: Lifeguard, servers: tuple[PostgreSQL, PostgreSQL]):
    """`get_bind` as SQLAlchemy's documentation has it: flushes go to the primary, queries to the standby."""
    engines = {name: create_engine(daemon.url("psycopg", database=name)) for name in ("app", "app_ro")}

    class Routing(Session):
        def get_bind(self, *_, **__):
            return engines["app" if self._flushing else "app_ro"]

    Base.metadata.create_all(engines["app"])
    with Routing() as session:
        session.add(Author(name="routed"))
        session.commit()
    servers[0].wait_for_replay(servers[1])
    with Routing() as session:
        assert session.scalars(select(Author.name)).all() == ["routed"]
        assert session.scalar(IN_RECOVERY) is True
    for engine in engines.values():
        engine.dispose()


def test_asynchronous_factories(daemon: Lifeguard, servers: tuple[PostgreSQL, PostgreSQL]):
    async def work() -> None:
        engines = [create_async_engine(daemon.url("asyncpg", database=name)) for name in ("app", "app_ro")]
        write, read = (async_sessionmaker(engine) for engine in engines)
        async with engines[0].begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

        async def store(number: int) -> None:
            async with write.begin() as session:
                session.add(Author(name=str(number)))

        async def count(_: int) -> int:
            async with read() as session:
                return await session.scalar(select(func.count()).select_from(Author))

        await asyncio.gather(*(store(number) for number in range(40)))
        await asyncio.to_thread(servers[0].wait_for_replay, servers[1])
        assert await asyncio.gather(*(count(number) for number in range(40))) == [40] * 40
        for engine in engines:
            await engine.dispose()

    asyncio.run(work())
