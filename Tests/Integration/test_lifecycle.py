"""Start, reload, drain and stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from kit.daemon import BINARY, Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import free_port, spawn
from kit.waiting import wait_until
from kit.wire import Closed, WireClient, query


def test_a_reload_changes_what_may_change(lifeguard, postgres: PostgreSQL):
    sections = {"databases.app": {"upstream": postgres.conninfo(user=None, database="app")}}
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pool_timeout": "200ms"}, **sections)
    with WireClient.app(daemon.port) as first:
        first.ask(query("begin"))
        assert "limit of size 1 overflow 0 reached" in daemon.psql("select 1", check=False).stderr
        daemon.write_settings({"pool": {"pool_size": 2, "max_overflow": 0, "pool_timeout": "200ms"}, **sections,
                               "databases.second": {"upstream": postgres.conninfo(user=None, database="other")}})
        daemon.reload()
        wait_until(lambda: daemon.psql("select 1", check=False).stdout == "1\n", "the second connection is allowed")
        assert daemon.psql("select current_database()", database="second").stdout == "other\n"
        assert first.rows("select 1") == [["1"]]
        first.ask(query("commit"))


def test_a_reload_of_a_wrong_file_changes_nothing_and_says_why(lifeguard, postgres: PostgreSQL):
    sections = {"databases.app": {"upstream": postgres.conninfo(user=None, database="app")}}
    daemon = lifeguard(**sections)
    with WireClient.app(daemon.port) as client:
        client.rows("select 1")
        daemon.write_settings({"pool": {"pool_sise": 9}, "databases.new": {"upstream": "host=127.0.0.1"}})
        daemon.reload()
        wait_until(lambda: "pool_sise" in daemon.log(), "the log names the key")
        assert "pool_size" in daemon.log()
        assert str(daemon.config) in daemon.log()
        assert client.rows("select 2") == [["2"]]
        assert daemon.psql("select 3").stdout == "3\n"
        assert daemon.psql("select 4", database="new", check=False).returncode != 0
    daemon.write_settings({"pool": {"pool_size": 5, "max_overflow": 10}, **sections,
                           "databases.later": {"upstream": postgres.conninfo(user=None, database="other")}})
    daemon.reload()
    wait_until(lambda: daemon.psql("select 5", database="later", check=False).stdout == "5\n", "a good file counts")


def test_a_database_that_a_reload_takes_away_is_refused_from_then_on(lifeguard, postgres: PostgreSQL):
    upstreams = {f"databases.{name}": {"upstream": postgres.conninfo(user=None, database=name)}
                 for name in ("app", "other")}
    daemon = lifeguard(**upstreams)
    assert daemon.psql("select 1", database="other").stdout == "1\n"
    daemon.write_settings({"databases.app": upstreams["databases.app"]})
    daemon.reload()
    wait_until(lambda: daemon.psql("select 1", database="other", check=False).returncode != 0, "it is refused")
    assert daemon.psql("select 1").stdout == "1\n"
    wait_until(lambda: postgres.psql("select count(*) from pg_stat_activity where datname = 'other' and "
                                     "usename = 'app'") == "0", "its connections are closed")


def test_a_drain_waits_for_transactions_and_closes_the_rest(daemon: Lifeguard, postgres: PostgreSQL):
    with WireClient.app(daemon.port) as idle, WireClient.app(daemon.port) as busy:
        idle.rows("select 1")
        busy.ask(query("begin"))
        daemon.terminate()
        assert idle.is_closed()
        assert busy.rows("select 'still served'") == [["still served"]]
        busy.ask(query("commit"))
        assert busy.is_closed()
    daemon.process.wait(10)
    assert postgres.backends() == 0


def test_a_drain_finishes_running_queries(daemon: Lifeguard, postgres: PostgreSQL):
    with WireClient.app(daemon.port) as client:
        client.send(query("select pg_sleep(0.7), 'whole'"))
        wait_until(lambda: postgres.psql("select count(*) from pg_stat_activity where query like '%whole%' and "
                                         "usename = 'app'") == "1", "it runs")
        daemon.terminate()
        answer = client.until_ready()
        assert [message.values[1] for message in answer if message.kind == "D"] == ["whole"]
    daemon.process.wait(10)


def test_a_draining_daemon_accepts_nobody(daemon: Lifeguard):
    with WireClient.app(daemon.port) as busy:
        busy.ask(query("begin"))
        daemon.terminate()
        wait_until(lambda: not _connects(daemon), "new clients are refused")
        busy.ask(query("commit"))
    daemon.process.wait(10)


def _connects(daemon: Lifeguard) -> bool:
    try:
        with WireClient.app(daemon.port):
            return True
    except (OSError, Closed, AssertionError):
        return False


def test_a_second_sigterm_stops_at_once(daemon: Lifeguard, postgres: PostgreSQL):
    with WireClient.app(daemon.port) as busy:
        busy.ask(query("begin"))
        daemon.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.process.wait(0.5)
        daemon.terminate()
        daemon.process.wait(5)
    wait_until(lambda: postgres.backends() == 0, "its connections are gone")


def test_shutdown_timeout_ends_a_drain(lifeguard):
    daemon = lifeguard(server={"shutdown_timeout": "500ms"})
    with WireClient.app(daemon.port) as busy:
        busy.ask(query("begin"))
        began = time.monotonic()
        daemon.terminate()
        daemon.process.wait(5)
        assert time.monotonic() - began >= 0.45
        # It is told why.
        try:
            message = busy.receive()
        except Closed:
            pytest.fail("a client that is cut off inside a transaction gets a FATAL")
        assert message.kind == "E" and message.fields["V"] == "FATAL" and message.fields["C"] == "57P01"


def test_a_signal_to_stop_before_any_client_came(daemon: Lifeguard):
    daemon.terminate()
    assert daemon.process.wait(5) == 0


def test_ctrl_c_stops(lifeguard):
    daemon = lifeguard()
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.process.wait(5) == 0


def test_systemd_is_told_ready_and_stopping(lifeguard):
    address = f"/tmp/lifeguard-notify-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(address)
        notify.settimeout(10)
        try:
            daemon = lifeguard(environment={"NOTIFY_SOCKET": address})

            def told(what: str) -> bool:
                return what in notify.recv(4096).decode().splitlines()

            wait_until(lambda: told("READY=1"), "READY=1")
            daemon.terminate()
            wait_until(lambda: told("STOPPING=1"), "STOPPING=1")
            daemon.process.wait(10)
        finally:
            os.unlink(address)


@pytest.mark.parametrize("section, key", [("server", "listen"), ("http", "listen")])
def test_a_taken_port_is_named_with_its_setting(lifeguard, section: str, key: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        address = f"127.0.0.1:{port}"
        daemon = lifeguard(wait=False, **{section: {key: [address] if section == "server" else address}})
        assert daemon.process.wait(10) != 0
        daemon.expected_exit = None
        assert address in daemon.log()
        assert f"[{section}] {key}" in daemon.log() or f"{section}.{key}" in daemon.log()


def test_unix_sockets_serve_and_are_removed(lifeguard):
    folder = Path(tempfile.mkdtemp(prefix="lifeguard-", dir="/tmp"))
    path = folder / ".s.PGSQL.6432"
    port = free_port()
    daemon = lifeguard(wait=False, server={"listen": [f"127.0.0.1:{port}", str(path)]})
    wait_until(path.exists, "the socket is there")
    with psycopg.connect(f"host={folder} port=6432 user=app dbname=app") as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    daemon.stop()
    assert not path.exists()
    folder.rmdir()


def test_serve_without_a_file(postgres: PostgreSQL):
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 9127)) == 0:
            pytest.skip("somebody listens on the HTTP server's default port")
    port = free_port()
    process = spawn(
        [BINARY, "serve", "--upstream", postgres.conninfo(user="app", database="app"), "--listen", f"127.0.0.1:{port}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        def works() -> bool:
            assert process.poll() is None, process.stdout.read()
            with psycopg.connect(f"host=127.0.0.1 port={port} user=app dbname=app") as connection:
                return connection.execute("select 1").fetchone() == (1,)

        wait_until(works, "it serves")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
