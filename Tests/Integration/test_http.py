"""Metrics, health and the page over HTTP: what they say, and that no peer can hurt them."""

from __future__ import annotations

import http.client
import json
import os
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kit.admin import command
from kit.daemon import WORKERS, Lifeguard
from kit.postgres import PostgreSQL, server_binaries
from kit.processes import cpu_seconds, spawn
from kit.waiting import wait_until
from kit.wire import WireClient, query, startup

#: Descriptors of a daemon that is to run out of them.
FEW = 256
HALF_OPEN = 2000


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """Room for this process's own ends of all the connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def pgbench(daemon: Lifeguard, clients: int = 4) -> Iterator[subprocess.Popen]:
    """A pgbench that has begun, and at the end must have gone on without an error."""
    process = spawn([server_binaries() / "pgbench", "-n", "-c", str(clients), "-T", "6", "-f", "/dev/stdin",
                     daemon.conninfo()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        process.stdin.write("select 1;\n")
        process.stdin.close()
        process.stdin = None
        wait_until(lambda: transactions(daemon) > 100, "pgbench is at work")
        yield process
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, out + errors
        assert "number of failed transactions: 0 " in out, out + errors
        assert "error" not in errors.lower() and "aborted" not in errors, errors
    finally:
        process.kill()
        process.wait()


def transactions(daemon: Lifeguard) -> float:
    return daemon.metrics().get('lifeguard_pool_transactions_total{database="app",user="app"}', 0)


def open_descriptors(daemon: Lifeguard) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def says_that_all_are_used(metrics: dict[str, float]) -> bool:
    return metrics["process_open_fds"] >= metrics["process_max_fds"] - 1


def is_alive(daemon: Lifeguard) -> bool:
    return daemon.http("/livez") == (200, "ok\n")


def connected(port: int, count: int, first_bytes: bytes) -> list[socket.socket]:
    """Connections on which something has been said. What the kernel cannot take yet is still on its way."""
    sockets = []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        sockets.append(client)
    for client in sockets:
        try:
            client.send(first_bytes)
        except OSError:
            pass
    return sockets


class EndlessHeader(threading.Thread):
    """Sends a request whose header never ends, until the server has had enough."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.sent = 0

    def run(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), 5) as client:
            try:
                client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ")
                while self.sent < 1 << 30:
                    self.sent += client.send(b"x" * 4096)
            except OSError:
                pass


@contextmanager
def out_of_descriptors(daemon: Lifeguard) -> Iterator[None]:
    """Clients have taken all descriptors, and more of them wait for one."""
    clients = connected(daemon.port, FEW + 100, startup({"user": "app", "database": "app"}))
    try:
        wait_until(lambda: "Too many open files" in daemon.log(), "the daemon is out of descriptors")
        yield
    finally:
        for client in clients:
            client.close()


def test_out_of_descriptors_livez_answers_and_nobody_is_hurt(lifeguard):
    daemon = lifeguard(descriptors=FEW)
    with pgbench(daemon), out_of_descriptors(daemon):
        for _ in range(20):
            assert is_alive(daemon)
        wait_until(lambda: says_that_all_are_used(daemon.metrics()), "the metrics show it")
        assert command(daemon, "SHOW VERSION"), "an administrator gets in as well"
        # What was accepted for these answers has not been left to the clients.
        assert open_descriptors(daemon) <= FEW - 30
    wait_until(lambda: daemon.psql("select 1").stdout == "1\n", "clients are let in again")


def test_out_of_descriptors_the_daemon_waits_and_does_not_spin(lifeguard):
    daemon = lifeguard(descriptors=FEW)
    daemon.psql("select 1")
    with out_of_descriptors(daemon):
        before = cpu_seconds(daemon.pid)
        time.sleep(1)
        assert cpu_seconds(daemon.pid) - before < 0.3
        assert daemon.log().count("Too many open files") <= 2 * WORKERS


def test_2000_half_open_requests_and_an_endless_header_keep_nobody_out(lifeguard):
    daemon = lifeguard(descriptors=FEW)
    with pgbench(daemon), out_of_descriptors(daemon):
        endless = EndlessHeader(daemon.http_port)
        half_open = connected(daemon.http_port, HALF_OPEN, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-")
        endless.start()
        try:
            wait_until(lambda: is_alive(daemon), "/livez answers while they are there", deadline=20)
        finally:
            for client in half_open:
                client.close()
        endless.join(30)
        assert not endless.is_alive() and endless.sent < 64 << 20
        wait_until(lambda: is_alive(daemon), "/livez answers afterwards", deadline=20)
    assert is_alive(daemon)


def test_half_open_requests_are_not_waited_for(daemon: Lifeguard):
    half_open = connected(daemon.http_port, HALF_OPEN, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-")
    try:
        # Long before the ten seconds that each of them has for its head.
        wait_until(lambda: is_alive(daemon), "/livez answers while they are there", deadline=5)
    finally:
        for client in half_open:
            client.close()


def test_health_follows_the_upstream(lifeguard, own_postgres: PostgreSQL):
    daemon = lifeguard(upstream=own_postgres, pool={"pool_size": 2, "max_overflow": 1}, **{
        "databases.app": {"upstream": own_postgres.conninfo(user=None, database="app")},
        'databases."Ä b/c"': {"upstream": own_postgres.conninfo(user=None, database="app")}})

    def health(name: str) -> tuple[int, dict]:
        status, text = daemon.http(f"/health/{name}")
        return status, json.loads(text)

    status, unknown = health("app")
    assert status == 200
    assert unknown == {
        "status": "unknown", "latency_ms": None, "role": None, "lag_bytes": None, "lag_seconds": None, "pool_size": 2,
        "pool_checked_out": 0, "overflow": 0, "waiting": 0, "reason": "no server connection has been opened yet",
        "last_error": None}
    assert health("%C3%84%20b%2Fc") == (200, unknown)
    assert daemon.http("/health/nobody")[0] == 404
    assert daemon.http("/health/lifeguard")[0] == 404

    with WireClient.app(daemon.port) as one, WireClient.app(daemon.port) as two, WireClient.app(daemon.port) as three, \
            WireClient.app(daemon.port) as four:
        for client in (one, two, three):
            client.ask(query("begin"))
        four.send(query("select 1"))
        wait_until(lambda: health("app")[1]["waiting"] == 1, "the fourth waits")
        status, healthy = health("app")
        assert (status, healthy["status"], healthy["reason"], healthy["last_error"]) == (200, "healthy", None, None)
        assert 0 < healthy["latency_ms"] < 1000
        assert healthy["role"] == "primary"
        assert (healthy["pool_size"], healthy["pool_checked_out"], healthy["overflow"]) == (2, 3, 1)
        one.ask(query("commit"))
        four.until_ready()

        own_postgres.stop("immediate")
        four.send(query("select 1"))
        wait_until(lambda: health("app")[0] == 503, "the upstream is gone")
        unhealthy = health("app")[1]
        assert unhealthy["status"] == "unhealthy"
        assert unhealthy["reason"].startswith('pool "app/app": the server cannot be reached: ')
        assert "refused" in unhealthy["last_error"]
        assert daemon.http("/readyz")[0] == 200

        own_postgres.start()
        wait_until(lambda: health("app")[0] == 200, "the upstream is back", deadline=30)
        assert health("app")[1]["status"] == "healthy"


def test_a_login_that_the_server_refuses_is_unhealthy(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(**{"databases.gone": {"upstream": postgres.conninfo(user=None, database="gone")}})
    daemon.psql("select 1", database="gone", check=False)
    status, text = daemon.http("/health/gone")
    assert status == 503
    assert json.loads(text)["reason"] == (
        'pool "gone/app": the server refuses the login: ' + json.loads(text)["last_error"])
    assert 'database "gone" does not exist' in text.replace("\\", "")


def test_the_page_and_its_status_are_served(daemon: Lifeguard):
    daemon.psql("select 1")
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=5)
    connection.request("GET", "/")
    answer = connection.getresponse()
    page = answer.read().decode()
    assert answer.status == 200 and page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    status = json.loads(daemon.http("/api/status")[1])
    assert [(pool["database"], pool["user"]) for pool in status["pools"]] == [("app", "app")]
    assert status["pools"][0]["transactions"] >= 1
    assert sum(count for _, count in status["pools"][0]["wait"]) >= 1
