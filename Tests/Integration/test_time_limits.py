"""What takes too long: statements, transactions, silence inside of them and outside. And peers that are gone without a word."""

from __future__ import annotations

import psycopg
import pytest

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import run
from kit.waiting import wait_until
from kit.wire import (
    COPY_DONE, FLUSH, SYNC, WireClient, bind, copy_data, error, execute, kinds, parse, query,
)

FOREVER = "select pg_sleep(600)"
MARK = "select 'mark'"


def narrow(lifeguard, **pool) -> Lifeguard:
    """All clients share two connections."""
    return lifeguard(pool={"pool_size": 2, "max_overflow": 0} | pool)


def exceeded(daemon: Lifeguard, limit: str) -> float:
    return sum(value for key, value in daemon.metrics().items()
               if key.startswith("lifeguard_pool_limits_exceeded_total{") and f'limit="{limit}"' in key)


def check_free(daemon: Lifeguard) -> None:
    """Two other clients get all of the pool's connections, and they are clean."""
    with WireClient.app(daemon.port) as one, WireClient.app(daemon.port) as two:
        for other in (one, two):
            other.ask(query("begin"))
            assert other.rows("select pg_current_xact_id_if_assigned() is null, count(*) from pg_locks "
                              "where locktype = 'advisory' and pid = pg_backend_pid()") == [["t", "0"]]


# MARK: query_timeout


@pytest.mark.parametrize("messages", [query(FOREVER), parse(FOREVER) + bind() + execute() + SYNC],
                         ids=["simple", "extended"])
def test_a_statement_that_takes_too_long_is_cancelled_and_its_client_goes_on(lifeguard, messages: bytes):
    daemon = narrow(lifeguard, query_timeout="200ms")
    with WireClient.app(daemon.port) as client:
        answer = client.ask(messages)
        assert error(answer)["C"] == "57014" and answer[-1].kind == "Z"
        assert error(answer)["M"] == 'pool "app/app" canceled the statement: query_timeout of 200ms exceeded'
        for _ in range(3):
            assert client.rows(MARK) == [["mark"]]
        assert exceeded(daemon, "query_timeout") == 1
    check_free(daemon)


def test_a_cancelled_statement_leaves_its_block_failed_as_postgresql_does(lifeguard):
    daemon = narrow(lifeguard, query_timeout="200ms")
    with psycopg.connect(daemon.conninfo()) as connection:
        connection.execute("create temp table kept (n int)")
        connection.commit()
        with pytest.raises(psycopg.errors.QueryCanceled, match="query_timeout of 200ms exceeded"):
            connection.execute(FOREVER)
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute(MARK)
        connection.rollback()
        assert connection.execute("select count(*) from kept").fetchone() == (0,)


def test_of_a_pipeline_only_the_statement_that_takes_too_long_is_cancelled(lifeguard):
    daemon = narrow(lifeguard, query_timeout="300ms")
    with WireClient.app(daemon.port) as client:
        client.send(query("select 'before'"), query(FOREVER), query("select 'after'"), query(MARK))
        answers = [client.until_ready() for _ in range(4)]
        assert error(answers[1])["C"] == "57014" and answers[1][-1].text == "I"
        assert [answers[index][1].values for index in (0, 2, 3)] == [["before"], ["after"], ["mark"]]


def test_a_statement_within_the_limit_is_left_alone_however_many_there_are(lifeguard):
    daemon = narrow(lifeguard, query_timeout="2s", transaction_timeout="20s")
    with WireClient.app(daemon.port) as client:
        for _ in range(300):
            assert client.rows(MARK) == [["mark"]]
        assert client.rows("select 'slow' from pg_sleep(0.5)") == [["slow"]]
        assert exceeded(daemon, "query_timeout") == 0 and exceeded(daemon, "transaction_timeout") == 0


def test_the_wait_for_a_connection_is_not_part_of_the_statement(lifeguard):
    daemon = narrow(lifeguard, pool_size=1, query_timeout="1s")
    with WireClient.app(daemon.port) as holder, WireClient.app(daemon.port) as waiting:
        holder.ask(query("begin"))
        waiting.send(query(MARK))
        wait_until(lambda: daemon.pool()["cl_waiting"] == "1", "the wait")
        assert holder.rows("select 'x' from pg_sleep(0.6)") == [["x"]]
        assert holder.rows("select 'y' from pg_sleep(0.6)") == [["y"]]
        holder.ask(query("commit"))
        assert waiting.until_ready()[1].values == ["mark"]
        assert exceeded(daemon, "query_timeout") == 0


@pytest.mark.parametrize("limit, code", [("query_timeout", "57014"), ("transaction_timeout", "25P04")])
def test_a_server_that_does_not_answer_is_given_up_and_its_client_goes_on(
        own_postgres: PostgreSQL, lifeguard, limit: str, code: str):
    daemon = lifeguard(
        pool={"pool_size": 2, "max_overflow": 0, limit: "300ms", "cancel_timeout": "300ms", "close_timeout": "300ms",
              "connect_timeout": "1s", "pre_ping_timeout": "300ms"},
        upstream=own_postgres)
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as inside:
        inside.ask(query("begin"))
        client.rows(MARK)
        own_postgres.freeze()
        try:
            answer = client.ask(query(MARK))
            assert error(answer)["C"] == code and answer[-1].kind == "Z"
            assert limit in error(answer)["M"] and "did not end the statement in time" in error(answer)["D"]
            inside.send(query("insert into nowhere values (1)"))
            answer = inside.until_ready()
            assert error(answer)["C"] == code and answer[-1].text == "E"
        finally:
            own_postgres.thaw()
        assert error(inside.ask(query(MARK)))["C"] == "25P02"
        assert kinds(inside.ask(query("rollback"))) == "CZ"
        for each in (client, inside):
            assert each.rows(MARK) == [["mark"]]


# MARK: transaction_timeout


def test_a_transaction_of_short_statements_ends_when_it_takes_too_long(lifeguard, postgres: PostgreSQL):
    postgres.psql("create table limited (n int); grant all on limited to app")
    daemon = narrow(lifeguard, transaction_timeout="400ms")
    try:
        with WireClient.app(daemon.port) as client:
            client.ask(query("begin"))
            while not (answer := client.ask(query("insert into limited values (1); select pg_sleep(0.05)")))[0].kind == "E":
                pass
            assert error(answer)["C"] in ("25P04", "25P02")
            assert exceeded(daemon, "transaction_timeout") >= 1
            assert error(client.ask(query(MARK)))["C"] == "25P02"
            assert kinds(client.ask(query("commit"))) == "CZ"
            assert client.rows("select count(*) from limited") == [["0"]]
        check_free(daemon)
    finally:
        postgres.psql("drop table limited")


def test_a_long_statement_outside_of_a_block_is_a_transaction_too(lifeguard):
    daemon = narrow(lifeguard, transaction_timeout="200ms")
    with WireClient.app(daemon.port) as client:
        answer = client.ask(query(FOREVER))
        assert error(answer)["C"] == "25P04"
        assert error(answer)["M"] == 'pool "app/app" ended the transaction: transaction_timeout of 200ms exceeded'
        assert client.rows(MARK) == [["mark"]]


def test_a_cycle_without_its_sync_is_a_transaction_too(lifeguard):
    daemon = narrow(lifeguard, transaction_timeout="200ms")
    with WireClient.app(daemon.port) as client:
        client.send(parse(MARK), bind(), execute(), FLUSH)
        assert kinds(client.until(lambda message: message.kind == "C")) == "12DC"
        check_free(daemon)
        client.send(parse(MARK), bind(), execute(), SYNC)
        answer = client.until_ready()
        assert kinds(answer) == "EZ" and error(answer)["C"] == "25P04"
        assert client.rows(MARK) == [["mark"]]


def test_a_copy_whose_client_is_silent_ends(lifeguard, postgres: PostgreSQL):
    postgres.psql("create table copied (n int); grant all on copied to app")
    daemon = narrow(lifeguard, query_timeout="200ms", cancel_timeout="300ms")
    try:
        with WireClient.app(daemon.port) as client:
            client.send(query("copy copied from stdin"), copy_data(b"1\n"))
            assert client.receive().kind == "G"
            answer = client.until_ready()
            assert error(answer)["C"] == "57014"
            client.send(copy_data(b"2\n"), COPY_DONE)
            assert client.rows("select count(*) from copied") == [["0"]]
    finally:
        postgres.psql("drop table copied")


# MARK: idle_transaction_timeout


@pytest.mark.parametrize("first", ["select 1", "select pg_advisory_lock(8)", "set application_name = 'inside'"])
def test_a_block_that_sits_idle_is_lost_and_its_connection_free(lifeguard, first: str):
    daemon = narrow(lifeguard, idle_transaction_timeout="200ms")
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin"))
        client.ask(query(first))
        check_free(daemon)
        # Nothing is sent to a client that has no request under way; its next one hears of it, once.
        answer = client.ask(query(MARK))
        assert error(answer)["C"] == "25P03" and answer[-1].text == "E"
        assert error(answer)["M"] == \
            'pool "app/app" ended the transaction: idle_transaction_timeout of 200ms exceeded'
        assert error(client.ask(query(MARK)))["C"] == "25P02"
        assert kinds(client.ask(query("rollback"))) == "CZ"
        assert client.rows(MARK) == [["mark"]]
        assert exceeded(daemon, "idle_transaction_timeout") >= 1


def test_a_commit_after_the_silence_hears_that_it_did_not_happen(lifeguard):
    daemon = narrow(lifeguard, idle_transaction_timeout="200ms")
    with psycopg.connect(daemon.conninfo()) as connection:
        connection.execute("select 1")
        check_free(daemon)
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            connection.commit()
        # Its block is over, as after any COMMIT that fails.
        assert connection.execute(MARK).fetchone() == ("mark",)


def test_a_failed_block_that_sits_idle_goes_on_as_a_failed_block(lifeguard):
    daemon = narrow(lifeguard, idle_transaction_timeout="200ms")
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin"))
        assert error(client.ask(query("select 1/0")))["C"] == "22012"
        check_free(daemon)
        assert error(client.ask(query(MARK)))["C"] == "25P02"
        assert kinds(client.ask(query("commit"))) == "CZ"
        assert client.rows(MARK) == [["mark"]]


@pytest.mark.parametrize("settings, first", [({"mode": "session"}, "select 1"), ({}, "create temp table t (n int)")])
def test_a_session_that_sits_idle_in_a_block_is_lost_with_it(lifeguard, settings: dict, first: str):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0, "idle_transaction_timeout": "200ms"} | settings)
    with WireClient.app(daemon.port) as client:
        client.ask(query(first))
        client.ask(query("begin"))
        fields = client.until(lambda message: message.kind == "E")[-1].fields
        assert (fields["S"], fields["C"]) == ("FATAL", "25P03")
        assert client.is_closed()


def test_a_client_that_keeps_talking_is_not_idle_in_its_transaction(lifeguard):
    daemon = narrow(lifeguard, idle_transaction_timeout="500ms")
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin"))
        for _ in range(6):
            assert client.rows("select 'x' from pg_sleep(0.2)") == [["x"]]
        assert kinds(client.ask(query("commit"))) == "CZ"
        assert exceeded(daemon, "idle_transaction_timeout") == 0


# MARK: client_idle_timeout


def test_a_client_that_sits_idle_is_closed_and_one_in_a_transaction_is_not(lifeguard):
    daemon = lifeguard(pool={"pool_size": 3, "max_overflow": 0, "client_idle_timeout": "300ms"})
    with WireClient.app(daemon.port) as idle, WireClient.app(daemon.port) as inside:
        inside.ask(query("begin"))
        idle.rows(MARK)
        fields = idle.until(lambda message: message.kind == "E")[-1].fields
        assert (fields["S"], fields["C"]) == ("FATAL", "57P05")
        assert fields["M"] == 'pool "app/app" ended the connection: client_idle_timeout of 300ms exceeded'
        assert idle.is_closed()
        assert inside.rows(MARK) == [["mark"]]
        assert inside.rows("select 'x' from pg_sleep(0.6)") == [["x"]]
        inside.ask(query("commit"))
        assert inside.is_closed()


def test_limits_hold_for_a_user_and_from_the_next_reload_on(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(**{"users.alice": {"query_timeout": "200ms"}})
    with WireClient.app(daemon.port) as app, WireClient(daemon.port, {"user": "alice", "database": "app"}) as alice:
        assert app.rows("select 'x' from pg_sleep(0.5)") == [["x"]]
        assert error(alice.ask(query(FOREVER)))["C"] == "57014"
        daemon.write_settings({"databases.app": {"upstream": postgres.conninfo(user=None, database="app")},
                               "pool": {"query_timeout": "250ms"}})
        daemon.reload()
        wait_until(lambda: "E" in kinds(app.ask(query("select pg_sleep(0.7)"))), "the new limit")


# MARK: peers that vanish without a word


def timer(local: int, remote: int) -> str:
    """Which timer runs on the socket from one port to another, as in `keepalive,59sec,0`; `` where none does."""
    shown = run(["ss", "-Htno", f"sport = :{local} and dport = :{remote}"]).stdout
    return shown.partition("timer:(")[2].partition(")")[0]


def test_the_kernel_asks_after_silent_clients_and_servers(lifeguard, postgres: PostgreSQL):
    upstream = postgres.conninfo(user=None, database="app")
    for server, conninfo, client_side, server_side in [
            ({}, upstream, "keepalive,5", "keepalive,5"),
            ({"tcp_keepidle": "200s", "tcp_keepintvl": "3s", "tcp_keepcnt": 4, "tcp_user_timeout": "20s"},
             f"{upstream} keepalives_idle=300", "keepalive,3min", "keepalive,4min"),
            ({"tcp_keepidle": "off"}, f"{upstream} keepalives=0", "", "")]:
        daemon = lifeguard(server=server, **{"databases.app": {"upstream": conninfo}})
        with WireClient.app(daemon.port) as client:
            [port] = client.rows("select inet_client_port()")[0]
            for local, remote, expected in [(daemon.port, client.socket.getsockname()[1], client_side),
                                            (int(port), postgres.port, server_side)]:
                # Another timer runs while something is not acknowledged.
                wait_until(lambda: timer(local, remote).startswith(expected) and bool(timer(local, remote)) == bool(expected),
                           f"timer {expected!r} from port {local} to {remote}")
