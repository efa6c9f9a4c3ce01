"""What applications pass when they connect reaches PostgreSQL, and follows the client from connection to connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from kit.daemon import Lifeguard

#: The same settings in the words of each driver; two services that differ in all of them.
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "psycopg": [{"connect_timeout": 3, "application_name": name, "options": f"-c statement_timeout={milliseconds} "
                 f"-c search_path={schema}"} for name, milliseconds, schema in
                (("orders", 1234, "pg_catalog"), ("invoices", 4321, "information_schema"))],
    "asyncpg": [{"timeout": 3, "server_settings": {"application_name": name, "statement_timeout": str(milliseconds),
                                                   "search_path": schema}} for name, milliseconds, schema in
                (("orders", 1234, "pg_catalog"), ("invoices", 4321, "information_schema"))],
}
ARGUMENTS["psycopg2"] = ARGUMENTS["psycopg"]
EXPECTED = [("orders", "1234ms", "pg_catalog"), ("invoices", "4321ms", "information_schema")]
QUERY = text("select current_setting('application_name'), current_setting('statement_timeout'), "
             "current_setting('search_path')")


@pytest.fixture
def one(lifeguard) -> Lifeguard:
    """A daemon with a single server connection, which the services share."""
    return lifeguard(pool={"pool_size": 1, "max_overflow": 0})


def settings(engine: Engine) -> tuple[str, str, str]:
    with engine.connect() as connection:
        return tuple(connection.execute(QUERY).one())


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_arguments_of_two_services_stay_apart(one: Lifeguard, driver: str):
    engines = [create_engine(one.url(driver), connect_args=arguments) for arguments in ARGUMENTS[driver]]
    for _ in range(5):
        assert [settings(engine) for engine in engines] == EXPECTED
    for engine in engines:
        engine.dispose()


def test_server_settings_of_asyncpg_stay_apart(one: Lifeguard):
    async def work() -> None:
        engines = [create_async_engine(one.url("asyncpg"), connect_args=arguments)
                   for arguments in ARGUMENTS["asyncpg"]]
        for _ in range(5):
            for engine, expected in zip(engines, EXPECTED, strict=True):
                async with engine.connect() as connection:
                    assert tuple((await connection.execute(QUERY)).one()) == expected
        for engine in engines:
            await engine.dispose()

    asyncio.run(work())


def test_the_application_name_in_the_url_is_seen(one: Lifeguard):
    engine = create_engine(one.url("psycopg") + "?application_name=from+the+url")
    assert settings(engine)[0] == "from the url"
    engine.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_the_statement_timeout_of_one_service_ends_its_own_statements_only(one: Lifeguard, driver: str):
    hasty = create_engine(one.url(driver), connect_args={"options": "-c statement_timeout=50"})
    patient = create_engine(one.url(driver))
    with hasty.connect() as connection, pytest.raises(DBAPIError, match="statement timeout"):
        connection.execute(text("select pg_sleep(20)"))
    with patient.connect() as connection:
        assert connection.scalar(text("select pg_sleep(0.2)::text")) == ""
        assert connection.scalar(text("show statement_timeout")) == "0"
    for engine in (hasty, patient):
        engine.dispose()


def test_an_argument_that_postgresql_refuses_is_refused_with_its_name(one: Lifeguard):
    engine = create_engine(one.url("psycopg"), connect_args={"options": "-c no_such_setting=1"})
    with pytest.raises(DBAPIError, match="no_such_setting"):
        engine.connect()
    engine.dispose()


def test_schemas_by_translation_need_no_search_path(one: Lifeguard):
    """`schema_translate_map`, one schema a tenant, is in the text of each statement."""
    engine = create_engine(one.url("psycopg"))
    table = Table("thing", MetaData(), Column("id", Integer, primary_key=True), schema="tenant")
    tenants = [engine.execution_options(schema_translate_map={"tenant": f"tenant_{n}"}) for n in range(3)]
    for number, tenant in enumerate(tenants):
        with tenant.begin() as connection:
            connection.execute(text(f"create schema tenant_{number}"))
            table.create(connection)
            connection.execute(insert(table), [{"id": number}])
    for number, tenant in enumerate(tenants):
        with tenant.begin() as connection:
            assert connection.scalars(select(table.c.id)).all() == [number]
            connection.execute(text(f"drop schema tenant_{number} cascade"))
    engine.dispose()
