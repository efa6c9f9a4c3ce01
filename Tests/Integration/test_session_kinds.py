"""Every kind of session state that PostgreSQL has (DISCARD's page lists them), in transaction mode: it follows its
client or pins it, and no other client ever sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from kit.admin import command
from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.waiting import wait_until
from kit.wire import SYNC, WireClient, bind, error, execute, function_call, parse, query


@dataclass(frozen=True)
class Kind:
    """A kind of session state."""

    name: str
    #: What brings it about, each its own transaction.
    made: tuple[str, ...]
    #: What shows it, and the one value that it gives where it is.
    probe: str
    there: str | None
    #: Why it pins; nothing where it follows the client.
    pinned: str | None = None
    #: What ends it.
    ended: tuple[str, ...] = field(default=())
    #: The errors that the probe gives to a client that has nothing of it.
    elsewhere: tuple[str, ...] = field(default=())


LOCKS = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
CURSORS = "select count(*) from pg_cursors where is_holdable"

KINDS = [
    Kind("SET", ("set work_mem = '5MB'",), "show work_mem", "5MB", ended=("reset work_mem",)),
    Kind("SET of a reported setting", ("set timezone = 'Asia/Tokyo'",), "show timezone", "Asia/Tokyo",
         ended=("reset timezone",)),
    Kind("SET SESSION", ("set session statement_timeout to 7000",), "show statement_timeout", "7s",
         ended=("set statement_timeout to default",)),
    Kind("SET of a list", ("set search_path = pg_catalog, \"Odd 'name\"",), "show search_path",
         "pg_catalog, \"Odd 'name\"", ended=("reset search_path",)),
    Kind("SET SCHEMA", ("set schema 'information_schema'",), "show search_path", "information_schema",
         ended=("discard all",)),
    Kind("SET of a custom name", ("set app.tenant = '7'",), "select nullif(current_setting('app.tenant', true), '')",
         "7", ended=("reset app.tenant",)),
    Kind("set_config", ("select set_config('app.tenant', 'a ' || 'b', false)",),
         "select nullif(current_setting('app.tenant', true), '')", "a b", ended=("reset all",)),
    Kind("SET in a block", ("begin; set app.tenant = 'in'; commit",),
         "select nullif(current_setting('app.tenant', true), '')", "in", ended=("discard all",)),
    Kind("SET after a savepoint", ("begin", "set work_mem = '6MB'", "savepoint s", "set work_mem = '8MB'",
                                   "rollback to s", "commit"), "show work_mem", "6MB", ended=("reset work_mem",)),
    Kind("several SETs", ("set work_mem = '5MB'; set app.a = '1'; select set_config('app.b', '2', false)",),
         "select current_setting('work_mem') || nullif(current_setting('app.a', true), '') || "
         "nullif(current_setting('app.b', true), '')", "5MB12",
         ended=("reset work_mem", "reset app.a", "reset app.b"), elsewhere=(None,)),
    Kind("SET SESSION CHARACTERISTICS", ("set session characteristics as transaction isolation level serializable",),
         "show transaction_isolation", "serializable", ended=("reset default_transaction_isolation",)),
    Kind("SET ROLE", ("set role reader",), "select current_user::text", "reader", ended=("reset role",)),
    Kind("SET ROLE NONE", ("set role reader", "set role none", "set app.tenant = '7'"),
         "select current_user || coalesce(current_setting('app.tenant', true), '')", "app7", ended=("reset app.tenant",)),
    Kind("SET TIME ZONE", ("set time zone interval '-08:00' hour to minute",), "show timezone", "<-08>+08",
         ended=("set time zone default",)),
    Kind("SET NAMES", ("set names 'latin1'",), "show client_encoding", "LATIN1", ended=("reset client_encoding",)),
    Kind("PREPARE", ("prepare mine(int) as select $1 + 1",), "execute mine(4)", "5", "PREPARE",
         ("deallocate mine",), elsewhere=("26000",)),
    Kind("temporary table", ("create temp table mine as select 3 as n",), "select n from mine", "3",
         "temporary table", ("drop table mine",), elsewhere=("42P01",)),
    Kind("SELECT INTO TEMP", ("select 4 as n into temp mine",), "select n from mine", "4", "temporary table",
         ("discard temp",), elsewhere=("42P01",)),
    Kind("table in pg_temp", ("create table pg_temp.mine as select 5 as n",), "select n from pg_temp.mine", "5",
         "temporary table", ("drop table pg_temp.mine",), elsewhere=("42P01", "3F000")),
    Kind("pg_temp in the search path", ("set search_path = 'pg_temp', public", "create table mine as select 6 as n"),
         "select n from mine", "6", "temporary table", ("drop table mine", "reset search_path"),
         elsewhere=("42P01",)),
    Kind("temporary sequence", ("create temporary sequence mine",), "select count(*) from pg_sequences "
         "where sequencename = 'mine' and schemaname like 'pg_temp%'", "1", "temporary table",
         ("drop sequence mine",), elsewhere=("0",)),
    Kind("temporary function", ("create function pg_temp.mine() returns int language sql as 'select 9'",),
         "select pg_temp.mine()", "9", "temporary table", ("drop function pg_temp.mine()",),
         elsewhere=("42883", "3F000")),
    Kind("LISTEN", ("listen mine",), "select pg_listening_channels()", "mine", "LISTEN", ("unlisten mine",),
         elsewhere=()),
    Kind("advisory lock", ("select pg_advisory_lock(1)",), LOCKS, "1", "advisory lock",
         ("select pg_advisory_unlock(1)",), elsewhere=("0",)),
    Kind("advisory lock that is tried", ("select pg_try_advisory_lock_shared(1, 2)",), LOCKS, "1", "advisory lock",
         ("select pg_advisory_unlock_all()",), elsewhere=("0",)),
    Kind("advisory lock in a list", ("select n, pg_advisory_lock(n) from generate_series(1, 3) n",), LOCKS, "3",
         "advisory lock", ("discard all",), elsewhere=("0",)),
    Kind("WITH HOLD cursor", ("begin", "declare mine cursor with hold for select 1", "commit"), CURSORS, "1",
         "WITH HOLD cursor", ("close mine",), elsewhere=("0",)),
    Kind("WITH HOLD cursor without a block", ("declare mine cursor with hold for select 1",), CURSORS, "1",
         "WITH HOLD cursor", ("close all",), elsewhere=("0",)),
    Kind("setting of unknown name", ("select set_config(n, v, false) from (values ('app.x', '1')) as t(n, v)",),
         "select nullif(current_setting('app.x', true), '')", "1", "setting of unknown name", ("reset all",)),
]


@pytest.fixture
def daemon(lifeguard) -> Lifeguard:
    """A daemon with three server connections, two of which may be pinned: three clients do with the third."""
    return lifeguard(pool={"pool_size": 3, "max_overflow": 0, "max_pinned": 2})


@pytest.fixture(scope="session", autouse=True)
def roles(postgres: PostgreSQL) -> None:
    postgres.psql("do $$ begin create role reader; exception when duplicate_object then null; end $$;"
                  "grant reader to app; create schema if not exists tenant authorization app")


def shown(client: WireClient, kind: Kind) -> str | None:
    """What the probe gives: a value, or the code of an error; nothing where there is no row."""
    answer = client.ask(query(kind.probe))
    if any(message.kind == "E" for message in answer):
        return error(answer)["C"]
    rows = [message.values for message in answer if message.kind == "D"]
    return rows[0][0] if rows else None


def pins(daemon: Lifeguard) -> list[dict]:
    return command(daemon, "SHOW PINS")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_session_state_stays_with_its_client(daemon: Lifeguard, postgres: PostgreSQL, kind: Kind):
    with WireClient.app(daemon.port) as mine, WireClient.app(daemon.port) as other, WireClient.app(daemon.port) as third:
        nothing = {shown(other, kind), *kind.elsewhere}
        assert kind.there not in nothing
        for statement in kind.made:
            mine.ask(query(statement))
        for _ in range(3):
            assert shown(mine, kind) == kind.there
            for client in (other, third):
                assert shown(client, kind) in nothing
            # Another connection, where neither is pinned.
            other.ask(query("begin"))
            assert shown(mine, kind) == kind.there
            other.ask(query("rollback"))
        wait_until(lambda: [row["reason"] for row in pins(daemon)] == ([kind.pinned] if kind.pinned else []), "the pin")
        if kind.pinned:
            assert any(statement in pins(daemon)[0]["statement"] for statement in kind.made) or "path" in kind.name
        for statement in kind.ended:
            assert not any(message.kind == "E" for message in mine.ask(query(statement)))
        wait_until(lambda: not pins(daemon), "the end of the pin")
        for client in (mine, other, third):
            assert shown(client, kind) in nothing


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_session_state_ends_with_its_client(daemon: Lifeguard, kind: Kind):
    with WireClient.app(daemon.port) as other, WireClient.app(daemon.port) as third:
        nothing = {shown(other, kind), *kind.elsewhere}
        with WireClient.app(daemon.port) as mine:
            for statement in kind.made:
                mine.ask(query(statement))
        wait_until(lambda: not pins(daemon), "the pin ends with its client")
        other.ask(query("begin"))
        assert shown(third, kind) in nothing
        other.ask(query("rollback"))
        assert shown(other, kind) in nothing


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.pinned], ids=lambda kind: kind.name)
def test_a_setting_that_is_rolled_back_is_not_kept(daemon: Lifeguard, kind: Kind):
    if any(word in statement for statement in kind.made for word in ("begin", "characteristics")):
        pytest.skip("the statements end the transaction themselves")
    with WireClient.app(daemon.port) as mine, WireClient.app(daemon.port) as other:
        nothing = shown(mine, kind)
        mine.ask(query("begin"))
        for statement in kind.made:
            mine.ask(query(statement))
        assert shown(mine, kind) == kind.there
        mine.ask(query("rollback"))
        other.ask(query("begin"))
        assert shown(mine, kind) in (nothing, "app")
        other.ask(query("rollback"))
        assert shown(mine, kind) in (nothing, "app")
