"""`read_upstream`: read-only transactions on a standby, everything else on the primary, through one database."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import psycopg
import psycopg2
import pytest
import sqlalchemy

from kit.admin import command
from kit.daemon import Lifeguard
from kit.jdbc import column, connected
from kit.postgres import PostgreSQL
from kit.sampling import Sampler
from kit.standby import Standby, hosts
from kit.waiting import wait_until
from kit.wire import (
    FLUSH, SYNC, TERMINATE, WireClient, bind, cancel_request, describe_portal, describe_statement, error, execute, kinds,
    parse, query,
)

#: Whether a statement runs on the standby.
WHERE = "select pg_is_in_recovery()"
STANDBY, PRIMARY = [["t"]], [["f"]]
READ_ONLY = {"default_transaction_read_only": "on"}
PROBES = {"interval": "100ms", "timeout": "500ms"}


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PostgreSQL, Standby]]:
    """A primary and its standby, for tests that leave both as they are."""
    primary = PostgreSQL()
    standby = Standby(primary)
    yield primary, standby
    standby.remove()
    primary.remove()


@pytest.fixture
def own_servers() -> Iterator[tuple[PostgreSQL, Standby]]:
    """A primary and its standby, for a test that breaks them."""
    primary = PostgreSQL()
    standby = Standby(primary)
    yield primary, standby
    standby.remove()
    primary.remove()


@pytest.fixture
def start(lifeguard) -> Callable[..., Lifeguard]:
    """Starts a daemon with one database for both."""
    def start(servers: tuple[PostgreSQL, PostgreSQL], *, health: dict | None = None, reads: str | None = None,
              database: dict | None = None, **pool) -> Lifeguard:
        primary, standby = servers
        return lifeguard(
            pool={"pool_size": 2, "max_overflow": 0} | pool, health=health or {"interval": "off"},
            **{"databases.app": {"upstream": primary.conninfo(), "read_upstream": reads or standby.conninfo()}
               | (database or {})})
    return start


@pytest.fixture
def daemon(servers, start) -> Lifeguard:
    return start(servers)


def reads_pool(daemon: Lifeguard) -> dict[str, str]:
    return daemon.pool("app:reads/app")


def fallbacks(daemon: Lifeguard) -> set[str]:
    """Why reads have gone to the primary."""
    counted = {match[1]: value for key, value in daemon.metrics().items() if value
               and (match := re.match(r'lifeguard_pool_read_fallbacks_total.*app:reads.*reason="(\w+)"', key))}
    assert reads_pool(daemon)["read_fallbacks"] == f"{sum(counted.values()):g}"
    return set(counted)


def tags(messages: list) -> list[str]:
    return [message.text for message in messages if message.kind == "C"]


def location(client: WireClient, *opening: str) -> list[list[str | None]]:
    """Where a transaction that is opened so runs."""
    for text in opening:
        answer = client.ask(query(text))
        # A client that comes from the other server is told what has changed.
        assert kinds(answer).lstrip("S") == "CZ" and answer[-1].text == "T", answer
    rows = client.rows(WHERE)
    assert client.ask(query("commit"))[-1].text == "I"
    return rows


# MARK: which transactions


@pytest.mark.parametrize("opening", [
    ["begin read only"], ["START TRANSACTION READ ONLY"], ["begin", "set transaction read only"],
    ["begin isolation level repeatable read, read only"], ["begin transaction isolation level read committed read only;"],
    ["begin", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"], ["/* hint */ begin read only -- so"],
    ["begin", "set transaction isolation level repeatable read", "set transaction read only"],
])
def test_read_only_transactions_run_on_the_standby(daemon: Lifeguard, opening: list[str]):
    with WireClient.app(daemon.port) as client:
        assert location(client, *opening) == STANDBY
        assert location(client, "begin") == PRIMARY


@pytest.mark.parametrize("opening", [
    ["begin"], ["begin read write"], ["begin isolation level serializable read only"],
    ["begin isolation level serializable, read only, deferrable"],
    ["begin read only", "set transaction read write"], ["begin", "set transaction isolation level repeatable read"],
    ["begin read only", "set transaction isolation level serializable"], ["begin read only read write"],
])
def test_all_other_transactions_run_on_the_primary(daemon: Lifeguard, opening: list[str]):
    with WireClient.app(daemon.port) as client:
        assert location(client, *opening) == PRIMARY


def test_what_was_held_is_what_the_server_is_told(daemon: Lifeguard):
    show = "select current_setting('transaction_isolation'), current_setting('transaction_read_only'), " \
           "current_setting('transaction_deferrable')"
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin isolation level serializable"))
        assert client.rows(show) == [["serializable", "off", "off"]]
        client.ask(query("rollback"))
        client.ask(query("begin read only"))
        client.ask(query("set transaction isolation level repeatable read, deferrable"))
        assert client.rows(show) == [["repeatable read", "on", "on"]]
        client.ask(query("rollback"))
        client.ask(query("begin"))
        assert client.rows(show) == [["read committed", "off", "off"]]


@pytest.mark.parametrize("first", [
    "listen news", "select pg_advisory_xact_lock(7)", "select pg_current_xact_id()", "select txid_current()",
    "select pg_catalog.pg_try_advisory_xact_lock(7)", "select 1; select 2", "lock table pg_am in access share mode",
    "set local transaction_read_only = off",
])
def test_a_first_statement_that_only_the_primary_can_do_runs_there(daemon: Lifeguard, first: str):
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin read only"))
        answer = client.ask(query(first))
        assert "E" not in kinds(answer) and answer[-1].text == "T", answer
        assert client.rows(WHERE) == PRIMARY
        client.ask(query("rollback"))


@pytest.mark.parametrize("first", [
    "select * from pg_class limit 1", "with a as (select 1) select * from a", "values (1)", "table pg_class",
    "show work_mem", "explain select 1", "declare c cursor for select 1", "copy (select 1) to stdout",
    "set local work_mem = '8MB'", "savepoint s", "(select 1)", "select set_config('app.user', '7', true)",
])
def test_a_first_statement_that_reads_goes_to_the_standby(daemon: Lifeguard, first: str):
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin read only"))
        assert "E" not in kinds(client.ask(query(first)))
        assert client.rows(WHERE) == STANDBY


def test_a_write_is_refused_as_the_primary_refuses_it(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin read only"))
        answer = client.ask(query("create table never (n int)"))
        assert (error(answer)["C"], error(answer)["M"]) == \
            ("25006", "cannot execute CREATE TABLE in a read-only transaction")


def test_default_transaction_read_only_sends_statements_to_the_standby(daemon: Lifeguard):
    with WireClient.app(daemon.port, **READ_ONLY) as client:
        assert client.rows(WHERE) == STANDBY
        assert location(client, "begin") == STANDBY
        assert location(client, "begin read write") == PRIMARY
        assert location(client, "begin", "set transaction read write") == PRIMARY
        assert location(client, "begin isolation level serializable") == PRIMARY
        client.ask(query("set default_transaction_read_only = off"))
        assert client.rows(WHERE) == PRIMARY
        client.ask(query("set session characteristics as transaction read only"))
        assert client.rows(WHERE) == STANDBY
        client.ask(query("set default_transaction_isolation = serializable"))
        assert client.rows(WHERE) == PRIMARY


def test_serializable_by_default_harms_nobody_on_the_standby(daemon: Lifeguard):
    """A standby refuses even `SELECT current_setting(…)` while transactions are SERIALIZABLE by default."""
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        for opening in ("begin read only", "begin isolation level repeatable read read only"):
            client.ask(query(opening))
            assert client.rows(WHERE) == STANDBY
            client.ask(query("set default_transaction_isolation = serializable"))
            assert kinds(client.ask(query("commit"))) == "CZ"
            assert client.rows("show default_transaction_isolation") == [["serializable"]]
            assert client.rows(WHERE) == PRIMARY
            other.ask(query("set app.tenant = 'eight'"))
            assert location(other, "begin read only") == STANDBY
        assert location(client, "begin isolation level read committed read only") == STANDBY
        assert location(client, "begin read only") == PRIMARY
        assert {row["pinned"] for row in daemon.admin("SHOW CLIENTS") if row["database"] == "app"} == {""}


def test_a_session_that_reads_may_write_when_it_says_so(daemon: Lifeguard, servers):
    primary, _ = servers
    primary.psql("create table written (n int); grant all on written to app")
    try:
        with WireClient.app(daemon.port, **READ_ONLY) as client:
            # Sent ahead of all answers: what follows a read waits until it is known where it goes; what follows on the
        # primary stays there.
            client.send(query(WHERE), query("begin read write"), query("insert into written values (1)"), query("commit"),
                        query(WHERE), query("begin"), query(WHERE), query("commit"), query("begin read write"),
                        query(WHERE), query("commit"))
            answers = [client.until_ready() for _ in range(11)]
            assert ["".join(kind for kind in kinds(each) if kind == "E") for each in answers] == [""] * 11
            values = [message.values for each in answers for message in each if message.kind == "D"]
            assert values == [["t"], ["f"], ["f"], ["f"]]
        assert primary.psql("select count(*) from written") == "1"
    finally:
        primary.psql("drop table written")


# MARK: a BEGIN that is held


def test_a_block_without_anything_in_it_takes_no_server(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        before = daemon.pool()["sv_total"], reads_pool(daemon)["sv_total"]
        for end, tag in (("commit", "COMMIT"), ("ROLLBACK;", "ROLLBACK"), ("end work", "COMMIT"), ("abort", "ROLLBACK")):
            answer = client.ask(query("begin"))
            assert (tags(answer), answer[-1].text) == (["BEGIN"], "T")
            answer = client.ask(query("set transaction read only"))
            assert (tags(answer), answer[-1].text) == (["SET"], "T")
            assert kinds(client.ask(query(" ; "))) == "IZ"
            answer = client.ask(query(end))
            assert (tags(answer), answer[-1].text) == ([tag], "I")
        assert tags(client.ask(query("start transaction"))) == ["START TRANSACTION"]
        assert client.ask(SYNC)[-1].text == "T"
        assert (daemon.pool()["sv_total"], reads_pool(daemon)["sv_total"]) == before
        assert daemon.metrics()['lifeguard_pool_queries_total{database="app",user="app"}'] == 0


def test_begin_in_a_block_is_the_servers_business(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin"))
        answer = client.ask(query("begin"))
        assert kinds(answer) == "NCZ" and answer[0].fields["C"] == "25001"
        assert answer[-1].text == "T"
        assert error(client.ask(query("set transaction read sometimes")))["C"] == "42601"
        assert client.ask(query("commit"))[-1].text == "I"


def test_a_client_that_leaves_a_held_block_leaves_nothing(daemon: Lifeguard):
    gone, polite = WireClient.app(daemon.port), WireClient.app(daemon.port)
    gone.ask(query("begin read only"))
    polite.ask(query("begin"))
    gone.reset()
    polite.send(TERMINATE)
    assert polite.is_closed()
    wait_until(lambda: daemon.pool()["cl_active"] == "0", "both are gone")
    with WireClient.app(daemon.port) as client:
        assert location(client, "begin read only") == STANDBY


def test_a_cancel_request_in_a_held_block_means_nothing(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin read only"))
        with WireClient(daemon.port) as other:
            other.send(cancel_request(client.pid, client.secret))
            assert other.is_closed()
        assert client.rows(WHERE) == STANDBY


def test_a_cancelled_wait_ends_the_block(servers, start):
    daemon = start(servers, pool_size=1)
    with WireClient.app(daemon.port) as holder, WireClient.app(daemon.port) as client:
        holder.ask(query("begin read only"))
        holder.rows(WHERE)
        client.ask(query("begin read only"))
        client.send(query(WHERE))
        wait_until(lambda: reads_pool(daemon)["cl_waiting"] == "1", "it waits")
        with WireClient(daemon.port) as other:
            other.send(cancel_request(client.pid, client.secret))
        answer = client.until_ready()
        assert (error(answer)["C"], answer[-1].text) == ("57014", "E")
        assert error(client.ask(query(WHERE)))["C"] == "25P02"
        assert tags(client.ask(query("commit"))) == ["ROLLBACK"]


def test_a_held_block_whose_wait_runs_out_is_lost(servers, start):
    daemon = start(servers, pool_size=1, pool_timeout="300ms")
    with WireClient.app(daemon.port) as holder, WireClient.app(daemon.port) as client:
        holder.ask(query("begin"))
        holder.rows(WHERE)
        client.ask(query("begin"))
        answer = client.ask(query("insert into nowhere values (1)"))
        assert (error(answer)["C"], answer[-1].text) == ("53300", "E")
        assert error(client.ask(query(WHERE)))["C"] == "25P02"
        holder.ask(query("commit"))
        assert error(client.ask(query(WHERE)))["C"] == "25P02"
        assert client.ask(query("rollback"))[-1].text == "I"
        assert client.rows(WHERE) == PRIMARY


def test_an_outage_while_a_block_is_held_loses_the_block(own_servers, start):
    daemon = start(own_servers, on_outage="fail")
    primary, standby = own_servers
    with WireClient.app(daemon.port) as client:
        client.rows(WHERE)
        client.ask(query("begin"))
        primary.stop("immediate")
        answer = client.ask(query("insert into nowhere values (1)"))
        assert answer[-1].text == "E" and error(answer)["M"].startswith('pool "app/app"')
        assert error(client.ask(query(WHERE)))["C"] == "25P02"
        assert tags(client.ask(query("rollback"))) == ["ROLLBACK"]
        client.ask(query("begin read only"))
        assert client.rows(WHERE) == STANDBY


def test_a_daemon_that_stops_waits_for_a_held_block(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin read only"))
        daemon.terminate()
        wait_until(lambda: daemon.http("/readyz")[0] == 503, "it drains")
        assert client.rows(WHERE) == STANDBY
        assert tags(client.ask(query("commit"))) == ["COMMIT"]
        assert client.is_closed()


# MARK: time limits


@pytest.mark.parametrize("limit, code", [("idle_transaction_timeout", "25P03"), ("transaction_timeout", "25P04")])
def test_a_held_block_ends_as_any_block_does(servers, start, limit: str, code: str):
    daemon = start(servers, **{limit: "200ms"})
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin"))
        wait_until(lambda: exceeded(daemon, limit) == 1, "the limit")
        answer = client.ask(query(WHERE))
        assert (error(answer)["C"], answer[-1].text) == (code, "E")
        assert error(client.ask(query(WHERE)))["C"] == "25P02"
        assert client.ask(query("rollback"))[-1].text == "I"
        client.ask(query("begin read only"))
        assert client.rows(WHERE) == STANDBY


def test_a_commit_after_a_held_block_has_ended_hears_of_it(servers, start):
    daemon = start(servers, idle_transaction_timeout="200ms")
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin"))
        wait_until(lambda: exceeded(daemon, "idle_transaction_timeout") == 1, "the limit")
        assert error(client.ask(query("commit")))["C"] == "25P03"
        assert client.ask(query("rollback"))[-1].text == "I"


def test_a_client_in_a_held_block_is_not_idle(servers, start):
    daemon = start(servers, client_idle_timeout="200ms")
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as idle:
        client.ask(query("begin read only"))
        assert error(idle.until(lambda message: message.kind == "E"))["C"] == "57P05"
        assert client.rows(WHERE) == STANDBY


@pytest.mark.parametrize("limit, code", [("query_timeout", "57014"), ("transaction_timeout", "25P04")])
def test_a_limit_that_is_reached_before_the_held_begin_is_answered_ends_the_block(
        own_servers, start, limit: str, code: str):
    primary, _ = own_servers
    daemon = start(own_servers, pre_ping_idle="1h", **{limit: "300ms"})
    with WireClient.app(daemon.port) as client:
        client.rows("select 1")
        primary.freeze()
        try:
            client.ask(query("begin"))
            client.send(query("create table never (n int)"))
            wait_until(lambda: exceeded(daemon, limit) == 1, "the limit")
        finally:
            primary.thaw()
        answer = client.until_ready()
        assert (error(answer)["C"], answer[-1].text) == (code, "E")
        assert limit in error(answer)["M"]
        assert client.ask(query("rollback"))[-1].text == "I"
        assert client.rows("select to_regclass('never')") == [[None]]
        assert client.rows(WHERE) == PRIMARY
        wait_until(lambda: daemon.pool()["sv_idle"] == daemon.pool()["sv_total"], "the connection is clean")


@pytest.mark.parametrize("limit, code", [("query_timeout", "57014"), ("transaction_timeout", "25P04")])
def test_a_server_that_does_not_answer_the_held_begin_is_given_up(own_servers, start, limit: str, code: str):
    primary, _ = own_servers
    daemon = start(own_servers, pre_ping_idle="1h", cancel_timeout="300ms", close_timeout="300ms", connect_timeout="1s",
                   **{limit: "300ms"})
    with WireClient.app(daemon.port) as client:
        client.rows("select 1")
        primary.freeze()
        try:
            client.ask(query("begin"))
            answer = client.ask(query("insert into nowhere values (1)"))
            assert (error(answer)["C"], answer[-1].text) == (code, "E")
            assert limit in error(answer)["M"]
        finally:
            primary.thaw()
        assert error(client.ask(query("select 1")))["C"] == "25P02"
        assert client.ask(query("rollback"))[-1].text == "I"
        assert client.rows(WHERE) == PRIMARY


def exceeded(daemon: Lifeguard, limit: str) -> float:
    return sum(value for key, value in daemon.metrics().items()
               if key.startswith("lifeguard_pool_limits_exceeded_total{") and f'limit="{limit}"' in key)


# MARK: the session


def test_settings_follow_the_client_to_either_server(daemon: Lifeguard):
    show = "select current_setting('work_mem'), current_setting('app.tenant', true), current_setting('TimeZone')"
    with WireClient.app(daemon.port, timezone="Asia/Tokyo") as client, WireClient.app(daemon.port) as other:
        client.ask(query("set work_mem = '9MB'"))
        client.ask(query("set app.tenant = 'seven'"))
        expected = [["9MB", "seven", "Asia/Tokyo"]]
        for opening in ("begin read only", "begin"):
            client.ask(query(opening))
            assert client.rows(show) == expected
            client.ask(query("commit"))
            other.ask(query(opening))
            assert other.rows(show) != expected
            other.ask(query("commit"))
        client.ask(query("begin read only"))
        client.rows("select 1")
        client.ask(query("set work_mem = '11MB'"))
        client.ask(query("commit"))
        assert client.rows(show) == [["11MB", "seven", "Asia/Tokyo"]]
        client.ask(query("begin read only"))
        client.rows("select 1")
        client.ask(query("set work_mem = '12MB'"))
        client.ask(query("rollback"))
        assert client.rows(show) == [["11MB", "seven", "Asia/Tokyo"]]


def test_a_client_is_told_of_the_server_that_it_is_on(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        assert client.parameters["in_hot_standby"] == "off"
        client.ask(query("begin read only"))
        answer = client.ask(query("select 1"))
        assert [message.payload for message in answer if message.kind == "S"] == [b"in_hot_standby\0on\0"]


def test_prepared_statements_follow_the_client_to_either_server(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        assert kinds(client.ask(parse("select pg_is_in_recovery(), $1::int", "s"), describe_statement("s"), SYNC)) == "1tTZ"
        use = bind(("5",), "s"), describe_portal(), execute(), SYNC
        for _ in range(2):
            for opening, where in (("begin read only", "t"), ("begin", "f")):
                client.ask(query(opening))
                answer = client.ask(*use)
                assert kinds(answer).lstrip("S") == "2TDCZ"
                assert [message.values for message in answer if message.kind == "D"] == [[where, "5"]]
                client.ask(query("commit"))


def test_a_pinned_client_stays_where_its_pin_is(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        client.ask(query("create temp table kept (n int)"))
        client.ask(query("begin read only"))
        assert client.rows("select count(*) from kept") == [["0"]]
        assert client.rows(WHERE) == PRIMARY
        client.ask(query("commit"))
        client.ask(query("discard all"))
        client.ask(query("begin read only"))
        assert client.rows(WHERE) == STANDBY


# MARK: the extended protocol


def cycle(*statements: str) -> list[bytes]:
    return [message for text in statements for message in (parse(text), bind(), execute())]


@pytest.mark.parametrize("statements, where", [
    (["begin read only", WHERE], "t"), (["begin", WHERE], "f"), (["begin", "set transaction read only", WHERE], "t"),
    (["begin read only", "select pg_advisory_xact_lock(8)", WHERE], "f"),
    (["begin isolation level serializable read only", WHERE], "f"),
    (["begin read only", WHERE, "commit"], "f"),
])
def test_a_begin_in_the_cycle_of_its_first_statement_decides(daemon: Lifeguard, statements: list[str], where: str):
    with WireClient.app(daemon.port) as client:
        answer = client.ask(*cycle(*statements), SYNC)
        rows = [message.values for message in answer if message.kind == "D" and message.values in (["t"], ["f"])]
        assert rows == [[where]], answer
        assert client.ask(*cycle("rollback"), SYNC)[-1].text == "I"


def test_a_begin_alone_in_its_cycle_decides(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        for opening, where in (("begin read only", STANDBY), ("begin", PRIMARY)):
            client.send(*cycle(opening), FLUSH)
            assert kinds(client.until(lambda message: message.kind == "C")).lstrip("S") == "12C"
            assert client.ask(SYNC)[-1].text == "T"
            assert client.rows(WHERE) == where
            client.ask(query("commit"))


def test_a_cycle_that_comes_in_pieces_is_waited_for(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        whole = b"".join([*cycle("begin read only", WHERE), SYNC])
        for place in range(0, len(whole), 7):
            client.send(whole[place:place + 7])
        answer = client.until_ready()
        assert [message.values for message in answer if message.kind == "D"] == STANDBY
        client.ask(query("commit"))


def test_a_simple_begin_before_extended_statements_is_held(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        for opening, where in (("begin read only", STANDBY), ("begin", PRIMARY)):
            client.ask(query(opening))
            answer = client.ask(*cycle(WHERE), SYNC)
            assert [message.values for message in answer if message.kind == "D"] == where
            assert client.ask(*cycle("commit"), SYNC)[-1].text == "I"


def test_extended_statements_of_a_session_that_reads_go_to_the_standby(daemon: Lifeguard):
    with WireClient.app(daemon.port, **READ_ONLY) as client:
        assert [m.values for m in client.ask(*cycle(WHERE), SYNC) if m.kind == "D"] == STANDBY
        client.ask(parse(WHERE, "named"), SYNC)
        assert [m.values for m in client.ask(bind((), "named"), execute(), SYNC) if m.kind == "D"] == STANDBY
        assert kinds(client.ask(*cycle("select pg_advisory_lock(3)"), SYNC)).lstrip("S") == "12DCZ"
        assert [m.values for m in client.ask(*cycle(WHERE), SYNC) if m.kind == "D"] == PRIMARY, "pinned by the lock"


# MARK: drivers


def test_psycopg(daemon: Lifeguard):
    with psycopg.connect(daemon.conninfo()) as connection:
        assert connection.execute(WHERE).fetchone() == (False,)
        connection.rollback()
        connection.read_only = True
        for _ in range(7):
            assert connection.execute(WHERE).fetchone() == (True,)
            connection.commit()
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        assert connection.execute(WHERE).fetchone() == (False,)
        connection.rollback()
        connection.isolation_level = None
        with connection.pipeline():
            first, second = connection.execute(WHERE), connection.execute("select %s::int", (3,))
            assert (first.fetchone(), second.fetchone()) == ((True,), (3,))
        connection.rollback()
        with connection.transaction(), connection.transaction():
            assert connection.execute(WHERE).fetchone() == (True,)
        connection.autocommit = True
        with connection.transaction():
            assert connection.execute(WHERE).fetchone() == (True,)
        assert connection.execute(WHERE).fetchone() == (False,)


def test_psycopg2(daemon: Lifeguard):
    connection = psycopg2.connect(daemon.conninfo())

    def where() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(WHERE)
            return cursor.fetchone()[0]

    assert not where()
    connection.rollback()
    connection.set_session(readonly=True)
    assert where()
    connection.commit()
    connection.set_session(readonly=False)
    assert not where()
    connection.rollback()
    # In autocommit it sets the session's default.
    connection.set_session(readonly=True, autocommit=True)
    assert where()
    connection.set_session(readonly=False)
    assert not where()
    connection.close()


def test_asyncpg(daemon: Lifeguard):
    async def main() -> list[bool]:
        connection = await asyncpg.connect(host="127.0.0.1", port=daemon.port, user="app", database="app", ssl=False)
        found = [await connection.fetchval(WHERE)]
        for options in ({"readonly": True}, {}, {"readonly": True, "isolation": "serializable"}, {"readonly": True}):
            async with connection.transaction(**options):
                found.append(await connection.fetchval(WHERE))
                assert await connection.fetchval("select $1::int", 4) == 4
        await connection.close()
        return found

    assert asyncio.run(main()) == [False, True, False, False, True]


def test_pgjdbc(daemon: Lifeguard):
    with connected(daemon.port, "app") as connection:
        assert column(connection, WHERE) == ["f"]
        connection.setAutoCommit(False)
        connection.setReadOnly(True)
        # Often enough that BEGIN becomes a prepared statement.
        for _ in range(12):
            assert column(connection, WHERE) == ["t"]
            connection.commit()
        connection.setReadOnly(False)
        assert column(connection, WHERE) == ["f"]
        connection.rollback()
    with connected(daemon.port, "app", readOnlyMode="always") as connection:
        connection.setReadOnly(True)
        assert column(connection, WHERE) == ["t"]
        connection.setReadOnly(False)
        assert column(connection, WHERE) == ["f"]
    with connected(daemon.port, "app", preferQueryMode="simple") as connection:
        connection.setAutoCommit(False)
        connection.setReadOnly(True)
        assert column(connection, WHERE) == ["t"]
        connection.commit()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_sqlalchemy(daemon: Lifeguard, driver: str):
    engine = sqlalchemy.create_engine(daemon.url(driver), pool_size=0)
    where = sqlalchemy.text(WHERE)
    with engine.connect() as connection:
        assert connection.scalar(where) is False
    reads = engine.execution_options(postgresql_readonly=True)
    for _ in range(3):
        with reads.connect() as connection:
            assert connection.scalar(where) is True
        with engine.begin() as connection:
            assert connection.scalar(where) is False
    with engine.connect().execution_options(isolation_level="SERIALIZABLE", postgresql_readonly=True) as connection:
        assert connection.scalar(where) is False
    engine.dispose()


def test_sqlalchemy_on_asyncpg(daemon: Lifeguard):
    from sqlalchemy.ext.asyncio import create_async_engine

    async def main() -> list[bool]:
        engine = create_async_engine(daemon.url("asyncpg"), pool_size=0)
        found = []
        for options in ({}, {"postgresql_readonly": True}, {}):
            async with engine.connect() as connection:
                connection = await connection.execution_options(**options)
                found.append(await connection.scalar(sqlalchemy.text(WHERE)))
        await engine.dispose()
        return found

    assert asyncio.run(main()) == [False, True, False]


# MARK: standbys that cannot serve


def test_reads_go_to_the_primary_while_the_standby_is_away(own_servers, start):
    daemon = start(own_servers, health=PROBES)
    _, standby = own_servers
    with WireClient.app(daemon.port) as client:
        wait_until(lambda: location(client, "begin read only") == STANDBY, "reads go to the standby")
        standby.kill()
        for _ in range(3):
            assert location(client, "begin read only") == PRIMARY
        standby.start()
        wait_until(lambda: location(client, "begin read only") == STANDBY, "reads go to the standby again", deadline=20)


def test_reads_go_to_the_primary_while_an_unprobed_standby_is_away(own_servers, start):
    daemon = start(own_servers)
    _, standby = own_servers
    with WireClient.app(daemon.port) as client:
        assert location(client, "begin read only") == STANDBY
        standby.kill()
        for _ in range(3):
            assert location(client, "begin read only") == PRIMARY
        assert fallbacks(daemon) == {"unreachable"}
        standby.start()
        wait_until(lambda: location(client, "begin read only") == STANDBY, "reads go to the standby again", deadline=20)


def test_a_standby_that_dies_in_a_transaction_costs_that_transaction(own_servers, start):
    daemon = start(own_servers)
    _, standby = own_servers
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as held:
        client.ask(query("begin read only"))
        assert client.rows(WHERE) == STANDBY
        held.ask(query("begin read only"))
        standby.kill()
        answer = client.ask(query(WHERE))
        assert (error(answer)["C"], answer[-1].text) == ("40001", "E")
        client.ask(query("rollback"))
        assert location(client, "begin read only") == PRIMARY
        assert held.rows(WHERE) == PRIMARY
        held.ask(query("commit"))


def test_waiting_reads_go_to_the_primary_when_the_standby_dies(own_servers, start):
    daemon = start(own_servers, pool_size=1)
    _, standby = own_servers
    with WireClient.app(daemon.port) as holder, WireClient.app(daemon.port) as client:
        holder.ask(query("begin read only"))
        assert holder.rows(WHERE) == STANDBY
        client.ask(query("begin read only"))
        client.send(query(WHERE))
        wait_until(lambda: reads_pool(daemon)["cl_waiting"] == "1", "it waits for the standby")
        standby.kill()
        answer = client.until_ready()
        assert [message.values for message in answer if message.kind == "D"] == PRIMARY
        assert answer[-1].text == "T"


def test_a_read_that_has_waited_too_long_goes_to_the_primary(servers, start):
    daemon = start(servers, pool_size=1, pool_timeout="300ms")
    with WireClient.app(daemon.port) as holder, WireClient.app(daemon.port) as client:
        holder.ask(query("begin read only"))
        assert holder.rows(WHERE) == STANDBY
        assert location(client, "begin read only") == PRIMARY
        assert fallbacks(daemon) == {"timeout"}


def test_a_standby_that_refuses_the_login_is_no_error_of_the_client(servers, start):
    primary, standby = servers
    daemon = start(servers, reads=standby.conninfo(database="nowhere"))
    with WireClient.app(daemon.port) as client:
        for _ in range(3):
            assert location(client, "begin read only") == PRIMARY
        assert fallbacks(daemon) == {"rejected"}
    assert "nowhere" in daemon.log()


def test_a_standby_beyond_max_lag_is_not_read_from(own_servers, start):
    daemon = start(own_servers, health=PROBES, max_lag="1s")
    primary, standby = own_servers
    with WireClient.app(daemon.port) as client:
        wait_until(lambda: location(client, "begin read only") == STANDBY, "reads go to the standby")
        standby.psql("select pg_wal_replay_pause()")
        client.ask(query("create table behind (a int)"))
        try:
            wait_until(lambda: location(client, "begin read only") == PRIMARY, "reads go to the primary", deadline=20)
            client.ask(query("begin read only"))
            assert client.rows("select count(*) from behind") == [["0"]]
            client.ask(query("commit"))
            assert fallbacks(daemon) == {"lag"}
        finally:
            standby.psql("select pg_wal_replay_resume()")
        wait_until(lambda: location(client, "begin read only") == STANDBY, "reads go to the standby again", deadline=20)


def test_a_standby_whose_lag_nobody_knows_is_not_read_from(servers, start):
    daemon = start(servers, max_lag="1s")
    with WireClient.app(daemon.port) as client:
        assert location(client, "begin read only") == PRIMARY
        assert fallbacks(daemon) == {"lag"}
    assert "max_lag is set" in daemon.log()


def test_a_standby_that_is_promoted_is_not_read_from(own_servers, start):
    daemon = start(own_servers, health=PROBES, pre_ping_idle="0s")
    _, standby = own_servers
    with WireClient.app(daemon.port) as client:
        wait_until(lambda: location(client, "begin read only") == STANDBY, "reads go to the standby")
        standby.promote()
        wait_until(lambda: standby.is_primary, "it is promoted")
        port = "select inet_server_port()"

        def port_of_reads() -> int:
            client.ask(query("begin read only"))
            rows = client.rows(port)
            client.ask(query("commit"))
            return int(rows[0][0])

        wait_until(lambda: port_of_reads() == own_servers[0].port, "reads go to the primary", deadline=20)
        assert "role" in fallbacks(daemon)
        wait_until(lambda: reads_pool(daemon)["sv_total"] == "0", "no connection to it is left", deadline=20)


def test_one_of_two_standbys_is_enough(own_servers, start):
    primary, standby = own_servers
    other = Standby(primary)
    try:
        daemon = start(own_servers, health=PROBES, reads=hosts(standby, other))
        with WireClient.app(daemon.port) as client:
            for away, left in ((standby, other), (other, standby)):
                away.stop("immediate")
                wait_until(lambda: location(client, "begin read only") == STANDBY, "the other serves", deadline=20)
                away.start()
                wait_until(lambda: len([row for row in daemon.admin("SHOW HEALTH") if row["state"] == "up"]) == 3,
                           "all are up", deadline=20)
    finally:
        other.remove()


# MARK: what is seen, and settings


def test_reads_have_a_pool_of_their_own(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin read only"))
        client.rows(WHERE)
        assert (reads_pool(daemon)["sv_active"], daemon.pool()["sv_active"]) == ("1", "0")
        row = next(row for row in daemon.admin("SHOW SERVERS") if row["state"] == "active")
        assert row["database"] == "app:reads"
        client.ask(query("commit"))
        labels = '{database="app:reads",user="app"}'
        assert daemon.metrics()[f"lifeguard_pool_checkouts_total{labels}"] == 1
        assert (daemon.pool()["cl_active"], reads_pool(daemon)["cl_active"]) == ("1", "0")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(daemon.conninfo(database="app:reads"))


def test_orders_are_about_both_pools(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        assert location(client, "begin read only") == STANDBY
        assert location(client, "begin") == PRIMARY
        command(daemon, "PAUSE app")
        assert {row["paused"] for row in daemon.admin("SHOW POOLS")} == {"t"}
        assert {row["sv_total"] for row in daemon.admin("SHOW POOLS")} == {"0"}
        command(daemon, "RESUME app")
        assert location(client, "begin read only") == STANDBY


def test_a_reload_takes_the_standby_away_and_brings_it_back(servers, start):
    daemon = start(servers)
    primary, standby = servers
    both = {"databases.app": {"upstream": primary.conninfo(), "read_upstream": standby.conninfo()}}
    one = {"databases.app": {"upstream": primary.conninfo()}}
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as held:
        assert location(client, "begin read only") == STANDBY
        held.ask(query("begin read only"))
        for sections, where in ((one, PRIMARY), (both, STANDBY), (one, PRIMARY)):
            daemon.write_settings({"pool": {"pool_size": 2, "max_overflow": 0}} | sections)
            daemon.reload()
            wait_until(lambda where=where: location(client, "begin read only") == where, f"reads go to {where}")
        assert held.rows(WHERE) == PRIMARY
        held.ask(query("commit"))


def test_other_modes_are_not_routed(servers, start):
    daemon = start(servers, mode="session")
    with WireClient.app(daemon.port, **READ_ONLY) as client:
        assert client.rows(WHERE) == PRIMARY
    assert 'read_upstream has no effect: mode is "session"' in daemon.log()


def test_max_connections_of_the_database_holds_for_both(servers, start):
    daemon = start(servers, database={"max_connections": 1})
    with WireClient.app(daemon.port) as client:
        for _ in range(3):
            assert location(client, "begin read only") == STANDBY
            assert location(client, "begin") == PRIMARY
            assert sum(int(row["sv_total"]) for row in daemon.admin("SHOW POOLS")) == 1


def test_reads_go_where_they_should_through_shards_too(servers, lifeguard):
    primary, standby = servers
    daemon = lifeguard(
        server={"workers": 4}, pool={"pool_workers": 4, "pool_size": 4, "max_overflow": 0}, health={"interval": "off"},
        **{"databases.app": {"upstream": primary.conninfo(), "read_upstream": standby.conninfo()}})
    places = {"begin read only": STANDBY, "begin": PRIMARY}

    def work(seed: int) -> set[int]:
        """A client's transactions; the worker that it was on."""
        openings = random.Random(seed).choices(list(places), k=40)
        with WireClient.app(daemon.port) as client:
            for opening in openings:
                assert location(client, opening) == places[opening]
            return client.pid >> 20 & 63

    with Sampler(primary) as writes, Sampler(standby) as reads, ThreadPoolExecutor(24) as threads:
        workers = set(threads.map(work, range(96)))
    assert writes.highest <= 4 and reads.highest <= 4
    assert len(workers) > 1, "several shards have had clients"
    for pool in (daemon.pool(), reads_pool(daemon)):
        assert (pool["cl_waiting"], pool["sv_active"]) == ("0", "0") and int(pool["sv_total"]) <= 4
