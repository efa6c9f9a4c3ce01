"""Fixtures for applications: engines of SQLAlchemy on a daemon in transaction mode, and a database left empty."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from models import Base
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.waiting import wait_until

#: The pool in the application: as it comes (5 + 10 connections), or none.
POOLS = {"its own pool": {}, "NullPool": {"poolclass": NullPool}}


@pytest.fixture
def empty(postgres: PostgreSQL) -> Iterator[None]:
    """What the test makes in database `app` is dropped afterwards."""
    yield
    postgres.psql("drop owned by app")


@pytest.fixture
def service(lifeguard: Callable[..., Lifeguard], empty: None) -> Iterator[Lifeguard]:
    """A daemon in transaction mode, with fewer connections than the applications' pools have. When the test is over, no
    client may hold a server connection, in a transaction or otherwise."""
    daemon = lifeguard(pool={"pool_size": 3, "max_overflow": 2})
    yield daemon
    assert_all_given_back(daemon)


def assert_all_given_back(daemon: Lifeguard) -> None:
    """Waits until no client holds a server connection."""
    wait_until(lambda: all(row["sv_active"] == "0" for row in daemon.admin("SHOW POOLS")), "all is given back")


@pytest.fixture(params=[(driver, pool) for driver in ("psycopg", "psycopg2", "pg8000") for pool in POOLS],
                ids=lambda param: f"{param[0]}, {param[1]}")
def engine(service: Lifeguard, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine of each synchronous driver with all of its defaults, and the tables."""
    driver, pool = request.param
    engine = create_engine(service.url(driver), **POOLS[pool])
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture(params=[(driver, pool) for driver in ("asyncpg", "psycopg") for pool in POOLS],
                ids=lambda param: f"{param[0]}, {param[1]}")
def on_async_engine(service: Lifeguard, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs a coroutine function with an engine of each asynchronous driver with all of its defaults, and the tables."""
    driver, pool = request.param

    async def scenario(work: Callable[[AsyncEngine], Coroutine[Any, Any, None]]) -> None:
        engine = create_async_engine(service.url(driver), **POOLS[pool])
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            await work(engine)
        finally:
            await engine.dispose()

    return lambda work: asyncio.run(scenario(work))
