"""Server connections that die, and a server that is away."""

from __future__ import annotations

import socket
import threading
import time

import psycopg
import pytest

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.sampling import Sampler
from kit.waiting import wait_until
from kit.wire import COPY_DONE, WireClient, copy_data, error, kinds, query


def kill_idle(postgres: PostgreSQL) -> int:
    """Ends every idle connection of user app and waits for it; how many there were."""
    return int(postgres.psql("with idle as materialized (select pid from pg_stat_activity where usename = 'app' "
                             "and state = 'idle') select count(pg_terminate_backend(pid, 10000)) from idle"))


def test_after_all_idle_backends_were_killed_every_client_works(daemon: Lifeguard, postgres: PostgreSQL):
    clients = [WireClient.app(daemon.port) for _ in range(30)]
    for client in clients:
        client.send(query("select pg_sleep(0.01)"))
    for client in clients:
        client.until_ready()
    for _ in range(5):
        assert kill_idle(postgres) > 0
        for number, client in enumerate(clients):
            assert client.rows(f"select {number}") == [[str(number)]]
    for client in clients:
        client.close()


@pytest.mark.parametrize("ping", [True, False])
def test_drivers_notice_nothing_of_killed_idle_backends(lifeguard, postgres: PostgreSQL, ping: bool):
    daemon = lifeguard(pool={"pool_pre_ping": ping})
    connections = [psycopg.connect(daemon.conninfo(), autocommit=True) for _ in range(10)]
    for _ in range(3):
        for connection in connections:
            connection.execute("select 1")
        kill_idle(postgres)
        for connection in connections:
            assert connection.execute("select 2").fetchone() == (2,)
    for connection in connections:
        connection.close()


def test_a_restart_between_two_queries_is_not_noticed(lifeguard, own_postgres: PostgreSQL):
    daemon = lifeguard(upstream=own_postgres)
    clients = [WireClient.app(daemon.port) for _ in range(30)]
    for client in clients:
        client.ask(query("select 1"))
    for how in ("fast", "immediate"):
        own_postgres.restart(how)
        for number, client in enumerate(clients):
            client.send(query(f"select {number}"))
        for number, client in enumerate(clients):
            answer = client.until_ready()
            assert [message.values for message in answer if message.kind == "D"] == [[str(number)]], answer
    for client in clients:
        client.close()


def test_clients_that_ask_while_the_server_is_away_are_held(lifeguard, own_postgres: PostgreSQL):
    daemon = lifeguard(upstream=own_postgres)
    clients = [WireClient.app(daemon.port) for _ in range(30)]
    clients[0].ask(query("select 1"))
    own_postgres.stop()
    for number, client in enumerate(clients):
        client.send(query(f"select {number}"))
    wait_until(lambda: int(daemon.pool()["cl_waiting"]) == 30, "all wait")
    with StartedAndSampled(own_postgres) as sampler:
        for number, client in enumerate(clients):
            answer = client.until_ready()
            assert [message.values for message in answer if message.kind == "D"] == [[str(number)]], answer
            client.close()
    assert sampler.highest <= 15


class StartedAndSampled:
    """Starts the server, and samples from then on."""

    def __init__(self, postgres: PostgreSQL) -> None:
        self._postgres = postgres

    def __enter__(self) -> Sampler:
        self._postgres.start()
        self._sampler = Sampler(self._postgres)
        return self._sampler.__enter__()

    def __exit__(self, *what) -> None:
        self._sampler.__exit__(*what)


def test_a_hold_that_runs_out_is_the_pool_timeout(lifeguard, own_postgres: PostgreSQL):
    daemon = lifeguard(upstream=own_postgres, pool={"pool_timeout": "500ms"})
    with WireClient.app(daemon.port) as client:
        client.ask(query("select 1"))
        own_postgres.stop()
        began = time.monotonic()
        answer = client.ask(query("select 1"))
        assert 0.4 < time.monotonic() - began < 5
        fields = error(answer)
        assert fields["C"] == "53300"
        assert fields["M"].startswith('pool "app/app"')
        assert "D" in fields
        assert answer[-1].text == "I"
        own_postgres.start()
        wait_until(lambda: client.rows("select 2") == [["2"]], "the same client works", deadline=15)


def test_on_outage_fail_answers_at_once(lifeguard, own_postgres: PostgreSQL):
    daemon = lifeguard(upstream=own_postgres, pool={"on_outage": "fail"})
    with WireClient.app(daemon.port) as client:
        client.ask(query("select 1"))
        own_postgres.stop()
        began = time.monotonic()
        fields = error(client.ask(query("select 1")))
        assert time.monotonic() - began < 3
        assert fields["S"] == "ERROR" and fields["M"].startswith('pool "app/app"')
        own_postgres.start()
        wait_until(lambda: client.rows("select 2") == [["2"]], "the same client works", deadline=15)


def test_a_query_whose_server_dies_gets_one_error_and_the_client_works_on(daemon: Lifeguard, postgres: PostgreSQL):
    with WireClient.app(daemon.port) as client:
        client.send(query("select pg_sleep(60)"))
        wait_until(lambda: postgres.psql("select count(pg_terminate_backend(pid)) from pg_stat_activity where "
                                         "usename = 'app' and query like '%pg_sleep(60)%'") == "1", "it is killed")
        answer = client.until_ready()
        fields = error(answer)
        assert fields["C"] == "40003"
        assert fields["S"] == "ERROR" and fields["M"].startswith('pool "app/app"')
        assert answer[-1].text == "I"
        assert client.rows("select 1") == [["1"]]


def test_a_transaction_whose_server_dies_is_lost_until_rollback(daemon: Lifeguard, postgres: PostgreSQL):
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin"))
        pid = client.rows("select pg_backend_pid()")[0][0]
        assert postgres.psql(f"select pg_terminate_backend({pid}, 10000)") == "t"
        answer = client.ask(query("select 1"))
        assert error(answer)["C"] == "40001"
        assert answer[-1].text == "E"
        answer = client.ask(query("select 2"))
        assert error(answer)["C"] == "25P02"
        answer = client.ask(query("rollback"))
        assert kinds(answer) == "CZ" and answer[0].text == "ROLLBACK" and answer[1].text == "I"
        assert client.rows("select 3") == [["3"]]


def test_psycopg_transaction_whose_server_dies_keeps_the_connection(daemon: Lifeguard, postgres: PostgreSQL):
    with psycopg.connect(daemon.conninfo()) as connection:
        with pytest.raises(psycopg.errors.SerializationFailure):
            pid = connection.execute("select pg_backend_pid()").fetchone()[0]
            assert postgres.psql(f"select pg_terminate_backend({pid}, 10000)") == "t"
            connection.execute("select 1")
        assert not connection.closed
        connection.rollback()
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_server_that_dies_in_copy_in_is_one_error(daemon: Lifeguard, postgres: PostgreSQL):
    postgres.psql("create table copied (a int); grant all on copied to app")
    try:
        with WireClient.app(daemon.port) as client:
            client.send(query("copy copied from stdin"))
            assert client.receive().kind == "G"
            client.send(copy_data(b"1\n"))
            assert postgres.psql("select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'app' "
                                 "and query like 'copy copied%'") == "t"
            for _ in range(100):
                client.send(copy_data(b"1\n" * 1000))
            client.send(COPY_DONE)
            answer = client.until_ready()
            assert error(answer)["C"] in ("40001", "40003")
            assert client.rows("select count(*) from copied") == [["0"]]
    finally:
        postgres.psql("drop table copied")


@pytest.mark.slow
def test_load_during_restarts_sees_only_clear_errors(lifeguard, own_postgres: PostgreSQL):
    """Thirty clients under load while the server restarts twice: an error is 40001 or 40003, and nobody is cut off."""
    daemon = lifeguard(upstream=own_postgres)
    stop = threading.Event()
    states: set[str] = set()
    problems: list[BaseException] = []
    count = [0]

    def work() -> None:
        try:
            with WireClient.app(daemon.port) as client:
                while not stop.is_set():
                    answer = client.ask(query("select 1"))
                    count[0] += 1
                    if kinds(answer) != "TDCZ":
                        states.add(error(answer)["C"])
        except BaseException as problem:  # noqa: BLE001
            problems.append(problem)

    threads = [threading.Thread(target=work) for _ in range(30)]
    for thread in threads:
        thread.start()
    try:
        for how in ("fast", "immediate"):
            before = count[0]
            wait_until(lambda: count[0] > before + 500, "load runs", deadline=30)
            own_postgres.restart(how)
        before = count[0]
        wait_until(lambda: count[0] > before + 500, "load runs again", deadline=30)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert not problems
    assert states <= {"40001", "40003", "57P01"}


def test_a_host_that_does_not_answer_blocks_nobody_else(lifeguard, postgres: PostgreSQL):
    """The upstream of one database accepts and then says nothing; the other database's clients are served."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        daemon = lifeguard(**{
            "databases.app": {"upstream": postgres.conninfo(user=None, database="app")},
            "databases.silent": {"upstream": f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x",
                                 "connect_timeout": "2s", "pool_timeout": "3s"},
        })
        stuck = threading.Thread(target=lambda: daemon.psql("select 1", database="silent", check=False))
        stuck.start()
        began = time.monotonic()
        for _ in range(10):
            assert daemon.psql("select 1").stdout == "1\n"
        assert time.monotonic() - began < 5
        stuck.join(30)
