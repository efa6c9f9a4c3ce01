"""Cancel requests: of what runs, of what waits, and never of somebody else's query."""

from __future__ import annotations

import select
import signal
import subprocess
import threading
import time

import psycopg
import pytest

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import spawn
from kit.waiting import wait_until
from kit.wire import Closed, WireClient, cancel_request, error, query


def send_cancel(port: int, pid: int, secret: int) -> None:
    """Sends a CancelRequest and waits for the end of its connection, as libpq does."""
    with WireClient(port) as canceller:
        canceller.send(cancel_request(pid, secret))
        assert canceller.is_closed()


def running(postgres: PostgreSQL, text: str) -> bool:
    return postgres.psql(f"select count(*) from pg_stat_activity where state = 'active' and query like $$%{text}%$$ "
                         "and usename = 'app'") != "0"


def test_a_running_query_is_cancelled_and_its_connection_stays_usable(daemon: Lifeguard, postgres: PostgreSQL):
    with WireClient.app(daemon.port) as client:
        client.send(query("select pg_sleep(60)"))
        wait_until(lambda: running(postgres, "pg_sleep(60)"), "the query runs")
        send_cancel(daemon.port, client.pid, client.secret)
        fields = error(client.until_ready())
        assert fields["C"] == "57014"
        assert client.rows("select 1") == [["1"]]


def test_psycopg_cancels(daemon: Lifeguard, postgres: PostgreSQL):
    with psycopg.connect(daemon.conninfo(), autocommit=True) as connection:
        def cancel() -> None:
            wait_until(lambda: running(postgres, "pg_sleep(61)"), "the query runs")
            connection.cancel_safe(timeout=10)

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(61)")
        thread.join()
        assert connection.execute("select 1").fetchone() == (1,)


def test_ctrl_c_in_psql_cancels(daemon: Lifeguard, postgres: PostgreSQL):
    psql = spawn(["psql", "-X", "-d", daemon.conninfo(), "-c", "select pg_sleep(62)"], stdin=subprocess.DEVNULL,
                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: running(postgres, "pg_sleep(62)"), "the query runs")
    psql.send_signal(signal.SIGINT)
    _, err = psql.communicate(timeout=10)
    assert "canceling statement due to user request" in err


def test_a_waiting_query_is_cancelled_without_a_server_connection(lifeguard):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0})
    with WireClient.app(daemon.port) as busy, WireClient.app(daemon.port) as waiting:
        busy.ask(query("begin"))
        waiting.send(query("select 'never run'"))
        wait_until(lambda: daemon.pool()["cl_waiting"] == "1", "it waits")
        began = time.monotonic()
        send_cancel(daemon.port, waiting.pid, waiting.secret)
        fields = error(waiting.until_ready())
        assert fields["C"] == "57014"
        assert time.monotonic() - began < 5
        busy.ask(query("commit"))
        assert waiting.rows("select 1") == [["1"]]


def test_a_wrong_secret_cancels_nothing(daemon: Lifeguard, postgres: PostgreSQL):
    with WireClient.app(daemon.port) as client:
        client.send(query("select pg_sleep(0.5), 'whole'"))
        wait_until(lambda: running(postgres, "'whole'"), "the query runs")
        send_cancel(daemon.port, client.pid, client.secret ^ 1)
        send_cancel(daemon.port, client.pid + 1, client.secret)
        answer = client.until_ready()
        assert [message.values[1] for message in answer if message.kind == "D"] == ["whole"]


def test_a_cancel_of_an_idle_client_changes_nothing(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        assert client.rows("select 1") == [["1"]]
        for _ in range(20):
            send_cancel(daemon.port, client.pid, client.secret)
        assert client.rows("select 2") == [["2"]]


def test_a_late_cancel_never_hits_the_next_client(lifeguard):
    """Cancels that race with the end of a query: the connection's next user must never be cancelled."""
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0})
    with WireClient.app(daemon.port) as victim, WireClient.app(daemon.port) as culprit:
        for number in range(60):
            culprit.send(query("select pg_sleep(0.002)"))
            with WireClient(daemon.port) as canceller:
                time.sleep(number % 6 / 1000)  # where the race is tight differs from machine to machine
                canceller.send(cancel_request(culprit.pid, culprit.secret))
                victim.send(query("select pg_sleep(0.003), 'victim'"))
                culprit.until_ready()
                answer = victim.until_ready()
                assert [message.values[1] for message in answer if message.kind == "D"] == ["victim"], answer
                assert canceller.is_closed()


def test_the_query_of_a_client_that_vanished_is_cancelled(daemon: Lifeguard, postgres: PostgreSQL):
    client = WireClient.app(daemon.port)
    client.send(query("select pg_sleep(63)"))
    wait_until(lambda: running(postgres, "pg_sleep(63)"), "the query runs")
    client.close()
    wait_until(lambda: not running(postgres, "pg_sleep(63)"), "the query is cancelled")
    assert daemon.psql("select 1").stdout == "1\n"


def test_cancels_of_many_clients_at_once(daemon: Lifeguard, postgres: PostgreSQL):
    clients = [WireClient.app(daemon.port) for _ in range(40)]
    for client in clients:
        client.send(query("select pg_sleep(64)"))
    wait_until(lambda: int(daemon.pool()["cl_waiting"]) == 25, "15 run and 25 wait")
    def cancel(client: WireClient) -> None:
        with WireClient(daemon.port) as canceller:
            canceller.send(cancel_request(client.pid, client.secret))
            try:
                canceller.receive()
            except Closed:
                pass

    for client in clients:
        cancel(client)
    for client in clients:
        # A request that was handed to a server at that moment may not have begun there yet, and PostgreSQL ignores a
        # cancel then, as on a direct connection: whoever means it asks again.
        for _ in range(15):
            if select.select([client.socket], [], [], 1)[0]:
                break
            cancel(client)
        assert error(client.until_ready())["C"] == "57014"
    for number, client in enumerate(clients):
        assert client.rows(f"select {number}") == [[str(number)]]
        client.close()
