"""Server connections with TLS that die, and ones that are not to be had: as without TLS, and told in words."""

from __future__ import annotations

import hashlib
import threading
import time

import psycopg
import pytest

from kit.certificates import Certificates
from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.tls import tls_client
from kit.waiting import wait_until
from kit.wire import COPY_DONE, Closed, WireClient, copy_data, error, query, startup

APP = {"user": "app", "database": "app"}


@pytest.fixture
def daemon(lifeguard, tls_postgres: PostgreSQL, certificates: Certificates) -> Lifeguard:
    """TLS on both sides, one server connection."""
    return lifeguard(
        server=certificates.settings("require"), pool={"pool_size": 1, "max_overflow": 0},
        **{"databases.app": {"upstream": tls_postgres.conninfo(**certificates.verify())}})


@pytest.fixture
def table(tls_postgres: PostgreSQL):
    tls_postgres.psql("create table lost (a text); grant all on lost to app")
    yield "lost"
    tls_postgres.psql("drop table lost")


def refused(daemon: Lifeguard) -> tuple[dict[str, str], float]:
    """The error of a login whose server connection cannot be opened, and after how many seconds it came."""
    began = time.monotonic()
    with WireClient(daemon.port) as client:
        client.send(startup(APP))
        return error(client.until(lambda message: message.kind == "E")), time.monotonic() - began


def running(postgres: PostgreSQL, text: str) -> bool:
    return postgres.psql(f"select count(*) from pg_stat_activity where state = 'active' and query like $$%{text}%$$ "
                         "and usename = 'app'") != "0"


# MARK: not to be had


@pytest.mark.parametrize("more, words", [
    pytest.param({"sslmode": "disable"}, "no encryption", id="the server insists"),
    pytest.param({"sslmode": "verify-full", "sslrootcert": "authority", "host": "elsewhere.example",
                  "hostaddr": "127.0.0.1"}, "does not match host name", id="another name for the address"),
    pytest.param({"sslmode": "verify-ca", "sslrootcert": "foreign_authority"}, "certificate verify failed",
                 id="another authority"),
    pytest.param({"sslmode": "require", "user": "alice"}, "certificate", id="no client certificate"),
    pytest.param({"sslmode": "require", "user": "alice", "client": "mallory"}, 'user "alice"',
                 id="somebody else's client certificate"),
    pytest.param({"sslmode": "require", "user": "alice", "client": "expired_alice"}, "certificate expired",
                 id="expired client certificate"),
    pytest.param({"sslmode": "require", "user": "guarded", "password": "wrong one"}, "password authentication failed",
                 id="wrong password inside of TLS"),
])
def test_a_refusal_comes_at_once_and_says_why(
        lifeguard, tls_postgres: PostgreSQL, certificates: Certificates, more: dict[str, str], words: str):
    keys = dict(more)
    if client := keys.pop("client", None):
        keys |= certificates.client(getattr(certificates, client))
    if "sslrootcert" in keys:
        keys["sslrootcert"] = str(getattr(certificates, keys["sslrootcert"]).certificate)
    daemon = lifeguard(pool={"pool_timeout": "60s"}, **{"databases.app": {"upstream": tls_postgres.conninfo(**keys)}})
    fields, seconds = refused(daemon)
    assert fields["S"] == "FATAL" and words in fields["D"], fields
    assert "wrong one" not in str(fields)
    assert seconds < 10


def test_channel_binding_without_tls_is_refused(lifeguard, postgres: PostgreSQL):
    keys = {"user": "guarded", "password": "right one", "sslmode": "disable", "channel_binding": "require"}
    daemon = lifeguard(pool={"pool_timeout": "60s"}, **{"databases.app": {"upstream": postgres.conninfo(**keys)}})
    fields, seconds = refused(daemon)
    assert "channel binding" in fields["D"].lower() and seconds < 10, fields


# MARK: lost


def test_killed_idle_backends_are_not_noticed(daemon: Lifeguard, tls_postgres: PostgreSQL):
    clients = [tls_client(daemon.port, APP) for _ in range(10)]
    for _ in range(5):
        assert clients[0].rows("select 1") == [["1"]]
        assert tls_postgres.psql("select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity "
                                 "where usename = 'app' and state = 'idle'") == "1"
        for number, client in enumerate(clients):
            assert client.rows(f"select {number}") == [[str(number)]]
    for client in clients:
        client.close()


@pytest.mark.parametrize("begun, codes", [
    pytest.param("select pg_sleep(60), 'lost'", {"40003"}, id="a query"),
    pytest.param("begin; select pg_sleep(60), 'lost'", {"40001", "40003"}, id="a transaction"),
    pytest.param("select repeat('lost', 20000) from generate_series(1, 1000000)", {"40003"}, id="a large result"),
    pytest.param("copy (select repeat('lost', 20000) from generate_series(1, 1000000)) to stdout", {"40003"},
                 id="copy out"),
])
def test_what_runs_when_its_server_dies_gets_one_error(
        daemon: Lifeguard, tls_postgres: PostgreSQL, begun: str, codes: set[str]):
    with tls_client(daemon.port, APP) as client:
        client.send(query(begun))
        wait_until(lambda: running(tls_postgres, "lost"), "it runs")
        assert tls_postgres.psql("select count(pg_terminate_backend(pid)) from pg_stat_activity "
                                 "where usename = 'app' and query like '%lost%'") == "1"
        try:
            fields = error(client.until_ready())
        except Closed as closed:
            # Half of a row had been relayed: nothing can be sent behind it.
            assert "repeat" in begun and "lost the server connection" not in str(closed)
            return
        assert fields["C"] in codes, fields
        if begun.startswith("begin"):
            client.ask(query("rollback"))
        assert client.rows("select 1") == [["1"]]


def test_copy_in_whose_server_dies_gets_one_error(daemon: Lifeguard, tls_postgres: PostgreSQL, table: str):
    with tls_client(daemon.port, APP) as client:
        client.send(query("copy lost from stdin"))
        assert client.receive().kind == "G"
        client.send(copy_data(b"x\n"))
        assert tls_postgres.psql("select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'app' "
                                 "and query like 'copy lost%'") == "t"
        for _ in range(100):
            client.send(copy_data(b"x\n" * 1000))
        client.send(COPY_DONE)
        assert error(client.until_ready())["C"] in ("40001", "40003")
        assert client.rows("select count(*) from lost") == [["0"]]


def test_a_crash_under_load_shows_only_clear_errors(lifeguard, certificates: Certificates):
    server = PostgreSQL(certificate=certificates.server)
    try:
        daemon = lifeguard(server=certificates.settings("require"),
                           **{"databases.app": {"upstream": server.conninfo(**certificates.verify())}})
        stop, codes, problems, count = threading.Event(), set(), [], [0]

        def work() -> None:
            try:
                with tls_client(daemon.port, APP) as client:
                    while not stop.is_set():
                        answer = client.ask(query("select repeat('x', 5000)"))
                        codes.update(message.fields["C"] for message in answer if message.kind == "E")
                        count[0] += 1
            except BaseException as problem:  # noqa: BLE001
                problems.append(problem)

        threads = [threading.Thread(target=work) for _ in range(10)]
        for thread in threads:
            thread.start()
        try:
            for how in ("immediate", "fast"):
                before = count[0]
                wait_until(lambda: count[0] > before + 200, "load runs", deadline=30)
                server.restart(how)
            before = count[0]
            wait_until(lambda: count[0] > before + 200, "load runs again", deadline=30)
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        assert not problems, problems[:3]
        assert codes <= {"40001", "40003", "57P01"}
        daemon.stop()
    finally:
        server.remove()


# MARK: cancels and pings


def test_a_cancel_reaches_a_server_that_wants_tls(daemon: Lifeguard, tls_postgres: PostgreSQL):
    with psycopg.connect(daemon.conninfo(sslmode="require"), autocommit=True) as connection:
        first = connection.execute("select pg_backend_pid()").fetchone()

        def cancel() -> None:
            wait_until(lambda: running(tls_postgres, "cancelled here"), "the query runs")
            connection.cancel_safe(timeout=10)

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(60), 'cancelled here'")
        thread.join()
        assert connection.execute("select pg_backend_pid()").fetchone() == first


def test_a_ping_over_tls_finds_a_dead_connection(lifeguard, tls_postgres: PostgreSQL, certificates: Certificates):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pre_ping_idle": "0s"},
                       **{"databases.app": {"upstream": tls_postgres.conninfo(**certificates.verify())}})

    def pinged() -> float:
        return sum(value for name, value in daemon.metrics().items()
                   if name.startswith("lifeguard_pool_pings_total") and 'database="app"' in name)

    with psycopg.connect(daemon.conninfo(), autocommit=True) as connection:
        connection.execute("select 1")
        before = pinged()
        pid = connection.execute("select pg_backend_pid()").fetchone()[0]
        assert pinged() > before
        assert tls_postgres.psql(f"select pg_terminate_backend({pid}, 10000)") == "t"
        assert connection.execute("select pg_backend_pid()").fetchone()[0] != pid


# MARK: bytes


def test_a_value_of_50_mb_goes_there_and_back(daemon: Lifeguard):
    value = hashlib.shake_256(b"50 MB").digest(50 * 1024 * 1024)
    with psycopg.connect(daemon.conninfo(sslmode="require"), prepare_threshold=None) as connection:
        cursor = connection.cursor(binary=True)
        assert cursor.execute("select %b::bytea", [value]).fetchone()[0] == value
