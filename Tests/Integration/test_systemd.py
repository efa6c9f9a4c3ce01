"""Lifeguard as a service of systemd's: sd_notify, the watchdog, passed listeners, the units."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from kit import logs, secrets
from kit.daemon import BINARY, Lifeguard
from kit.processes import free_port, run
from kit.systemd import NotifySocket, stopped_thread
from kit.waiting import wait_until
from kit.wire import WireClient, query

UNITS = Path(__file__).resolve().parents[2] / "deploy/systemd"


@pytest.fixture
def notify() -> Iterator[NotifySocket]:
    made = NotifySocket(f"@lifeguard-test-{os.getpid()}-{time.monotonic_ns()}")
    yield made
    made.close()


def listening(address: tuple[str, int] | str) -> socket.socket:
    """A listening socket as systemd makes it."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    if family != socket.AF_UNIX:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind(address)
    made.listen(64)
    return made


# MARK: states


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_hears_of_start_reload_and_stop(lifeguard, kind: str):
    name = f"lifeguard-notify-{os.getpid()}"
    manager = NotifySocket(f"/tmp/{name}" if kind == "path" else f"@{name}")
    try:
        daemon = lifeguard(environment={"NOTIFY_SOCKET": manager.address})
        assert manager.receive() == {
            "READY": "1", "STATUS": "0 clients, 0 pools, 0 of 0 server connections in use"}

        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        daemon.reload()
        reloading = manager.until(lambda message: "RELOADING" in message, "RELOADING=1")
        assert reloading["RELOADING"] == "1"
        assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert manager.until(lambda message: "READY" in message, "READY=1 after the reload") == {"READY": "1"}

        daemon.terminate()
        assert manager.until(lambda message: "STOPPING" in message, "STOPPING=1")["STOPPING"] == "1"
        daemon.process.wait(10)
    finally:
        manager.close()


def test_a_reload_that_fails_is_over_too(lifeguard, notify: NotifySocket):
    daemon = lifeguard(environment={"NOTIFY_SOCKET": notify.address})
    notify.receive()
    daemon.config.write_text("[pool]\npool_sise = 5\n")
    daemon.reload()
    notify.until(lambda message: "RELOADING" in message, "RELOADING=1")
    notify.until(lambda message: "READY" in message, "READY=1 after the reload")
    assert "settings not reloaded" in daemon.log()


def test_the_status_says_who_is_there(lifeguard, notify: NotifySocket):
    daemon = lifeguard(environment={"NOTIFY_SOCKET": notify.address})
    with WireClient.app(daemon.port) as busy, WireClient.app(daemon.port) as idle:
        busy.ask(query("begin"))
        idle.rows("select 1")
        notify.until(lambda message: message.get("STATUS") == "2 clients, 1 pool, 1 of 2 server connections in use",
                     "the status of two clients")
        busy.ask(query("commit"))
        notify.until(lambda message: message.get("STATUS") == "2 clients, 1 pool, 0 of 2 server connections in use",
                     "the status after the transaction")


def test_a_drain_has_systemd_wait(lifeguard, notify: NotifySocket):
    daemon = lifeguard(environment={"NOTIFY_SOCKET": notify.address}, server={"shutdown_timeout": "60s"})
    with WireClient.app(daemon.port) as busy:
        busy.ask(query("begin"))
        daemon.terminate()
        notify.until(lambda message: "STOPPING" in message, "STOPPING=1")
        for _ in range(2):
            began = time.monotonic()
            message = notify.until(lambda message: "EXTEND_TIMEOUT_USEC" in message, "more time is asked for")
            assert time.monotonic() - began < int(message["EXTEND_TIMEOUT_USEC"]) / 1e6 / 2
        busy.ask(query("commit"))
    assert daemon.process.wait(10) == 0


def test_without_systemd_nobody_is_told(lifeguard):
    """NOTIFY_SOCKET may name what is not there: that is no reason to fail."""
    daemon = lifeguard(environment={"NOTIFY_SOCKET": "/nonexistent/notify"})
    assert daemon.psql("select 1").stdout == "1\n"


# MARK: watchdog


def watchdog(notify: NotifySocket, seconds: float = 0.4) -> dict[str, str]:
    return {"NOTIFY_SOCKET": notify.address, "WATCHDOG_USEC": str(round(seconds * 1e6))}


def test_the_watchdog_is_fed_twice_in_its_time(lifeguard, notify: NotifySocket):
    lifeguard(environment=watchdog(notify))
    notify.until(lambda message: message == {"WATCHDOG": "1"}, "the first WATCHDOG=1")
    began = time.monotonic()
    for _ in range(10):
        notify.until(lambda message: message == {"WATCHDOG": "1"}, "WATCHDOG=1", deadline=2)
    # Ten times 0.2 s, and what a busy machine adds.
    assert 1.8 < time.monotonic() - began < 4


def test_the_watchdog_is_fed_while_draining(lifeguard, notify: NotifySocket):
    daemon = lifeguard(environment=watchdog(notify))
    with WireClient.app(daemon.port) as busy:
        busy.ask(query("begin"))
        daemon.terminate()
        notify.until(lambda message: "STOPPING" in message, "STOPPING=1")
        for _ in range(3):
            notify.until(lambda message: "WATCHDOG" in message, "WATCHDOG=1", deadline=2)
        busy.ask(query("commit"))


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"}])
def test_no_watchdog_is_fed_that_nobody_asked_for(lifeguard, notify: NotifySocket, environment: dict[str, str]):
    daemon = lifeguard(environment={"NOTIFY_SOCKET": notify.address, **environment})
    with WireClient.app(daemon.port) as client:
        client.rows("select 1")

        def status_of_the_client(message: dict[str, str]) -> bool:
            assert "WATCHDOG" not in message
            return message.get("STATUS", "").startswith("1 client,")

        notify.until(status_of_the_client, "the next status, 2 s later")


def test_one_stuck_worker_of_two_stops_the_watchdog(lifeguard, notify: NotifySocket):
    daemon = lifeguard(environment=watchdog(notify), server={"workers": 2})
    notify.until(lambda message: "WATCHDOG" in message, "WATCHDOG=1")
    with stopped_thread(daemon.pid, "worker 1"):
        # What was asked before it stopped may still have been answered.
        deadline = time.monotonic() + 5
        while True:
            assert time.monotonic() < deadline, "the watchdog is fed although a worker is stuck"
            try:
                notify.until(lambda message: "WATCHDOG" in message, "WATCHDOG=1", deadline=1)
            except AssertionError:
                break
    notify.until(lambda message: "WATCHDOG" in message, "WATCHDOG=1 after the worker goes on")


# MARK: passed listeners


def passed(daemon: Lifeguard) -> list[str]:
    """What the log says of passed listeners: the address, with "+" where a setting has it."""
    return [("+" if "not in [server] listen" not in line.text else "") + line.fields["listener"]
            for line in logs.lines(daemon.log()) if line.text.startswith("serving a listener that was passed")]


def test_a_passed_listener_stands_for_its_setting(lifeguard):
    port = free_port()
    with listening(("127.0.0.1", port)) as listener:
        # Comes before there is a daemon, and is served by it: it is this socket that the daemon accepts from.
        early = WireClient(port)
        daemon = lifeguard(port=port, sockets=[listener])
    early.start_up({"user": "app", "database": "app"})
    assert early.rows("select 1") == [["1"]]
    early.close()
    wait_until(lambda: passed(daemon) == [f"+127.0.0.1:{port}"], "the log says which were passed")


def test_passed_listeners_without_a_setting_are_served_too(lifeguard):
    folder = Path(tempfile.mkdtemp(prefix="lifeguard-", dir="/tmp"))
    path, port = folder / ".s.PGSQL.6432", free_port()
    with listening(("127.0.0.1", port)) as tcp, listening(str(path)) as unix:
        daemon = lifeguard(sockets=[tcp, unix])
    try:
        wait_until(lambda: passed(daemon) == [f"127.0.0.1:{port}", str(path)], "the log says which were passed")
        for conninfo in (f"host=127.0.0.1 port={port}", f"host={folder} port=6432", f"host=127.0.0.1 port={daemon.port}"):
            with psycopg.connect(f"{conninfo} user=app dbname=app") as connection:
                assert connection.execute("select 1").fetchone() == (1,)
        daemon.stop()
        assert path.exists(), "the file is systemd's, which listens on while the daemon restarts"
    finally:
        shutil.rmtree(folder)


def test_a_passed_unix_socket_stands_for_its_setting(lifeguard):
    folder = Path(tempfile.mkdtemp(prefix="lifeguard-", dir="/tmp"))
    path, port = folder / ".s.PGSQL.6432", free_port()
    try:
        with listening(str(path)) as unix:
            daemon = lifeguard(sockets=[unix], port=port, server={"listen": [f"127.0.0.1:{port}", str(path)]})
        wait_until(lambda: passed(daemon) == [f"+{path}"], "the log says which were passed")
        with psycopg.connect(f"host={folder} port=6432 user=app dbname=app") as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        shutil.rmtree(folder)


def test_a_bare_port_of_systemds_stands_for_all_addresses(lifeguard):
    port = free_port()
    with listening(("::", port)) as listener:
        daemon = lifeguard(port=port, sockets=[listener], server={"listen": [f"*:{port}"]},
                           auth={"method": "trust", "allow_remote_trust": True})
    wait_until(lambda: passed(daemon) == [f"+[::]:{port}"], "the log says which were passed")
    for host in ("127.0.0.1", "::1"):
        with WireClient.app(port) if host == "127.0.0.1" else WireClient(
                port, {"user": "app", "database": "app"}, host=host) as client:
            assert client.rows("select 1") == [["1"]]


def test_listeners_for_another_process_are_left_alone(lifeguard):
    with listening(("127.0.0.1", free_port())) as listener:
        daemon = lifeguard(sockets=[listener], environment={"LISTEN_PID": "1"})
    assert passed(daemon) == []


def test_what_is_no_listener_is_refused(lifeguard):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        daemon = lifeguard(sockets=[datagrams], wait=False)
        assert daemon.process.wait(10) != 0
    daemon.expected_exit = None
    assert "descriptor 3 is not a listening stream socket" in daemon.log()


def test_a_passed_listener_opens_no_door_that_settings_may_not(lifeguard):
    port = free_port()
    with listening(("0.0.0.0", port)) as listener:
        daemon = lifeguard(sockets=[listener], wait=False)
        assert daemon.process.wait(10) != 0
    daemon.expected_exit = None
    assert f"0.0.0.0:{port}" in daemon.log() and "allow_remote_trust" in daemon.log()


def test_a_reload_opens_no_door_either(lifeguard, tmp_path: Path):
    userlist = secrets.write_userlist(tmp_path / "userlist.txt", {"app": secrets.GOOD})
    with listening(("0.0.0.0", free_port())) as listener:
        daemon = lifeguard(sockets=[listener], auth={"method": "scram-sha-256", "file": userlist})
    daemon.write_settings({"databases.app": {"upstream": "host=127.0.0.1"}, "auth": {"method": "trust"}})
    daemon.reload()
    wait_until(lambda: "settings not reloaded" in daemon.log(), "the reload is refused")
    assert "allow_remote_trust" in daemon.log()


# MARK: units


@pytest.fixture
def units() -> Iterator[Path]:
    """A copy of the units whose ExecStart is the daemon under test."""
    folder = Path(tempfile.mkdtemp(prefix="lifeguard-units-", dir="/tmp"))
    for unit in ("lifeguard.service", "lifeguard.socket"):
        shutil.copy(UNITS / unit, folder)
    service = folder / "lifeguard.service"
    text, count = re.subn(r"^ExecStart=\S+", f"ExecStart={BINARY}", service.read_text(), flags=re.M)
    assert count == 1
    service.write_text(text)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("unit", ["lifeguard.service", "lifeguard.socket"])
def test_systemd_finds_nothing_wrong_with_the_units(units: Path, unit: str):
    done = run(["systemd-analyze", "verify", units / unit], check=False)
    about_ours = [line for line in (done.stdout + done.stderr).splitlines() if "lifeguard" in line]
    assert about_ours == []


def test_a_wrong_unit_would_be_found(units: Path):
    service = units / "lifeguard.service"
    service.write_text(service.read_text().replace("[Service]", "[Service]\nProtectSytem=strict"))
    done = run(["systemd-analyze", "verify", service], check=False)
    assert "ProtectSytem" in done.stdout + done.stderr


def test_the_score_of_the_unit_is_the_documented_one(units: Path):
    done = run(["systemd-analyze", "security", "--offline=true", units / "lifeguard.service"], check=False)
    score = re.search(r"exposure level for lifeguard.service: ([\d.]+)", done.stdout)
    assert score, done.stdout + done.stderr
    documented = re.search(r"exposure level[^:]*: ([\d.]+)", (UNITS.parents[1] / "docs/systemd.md").read_text())
    # Newer versions of systemd look at more.
    assert documented and float(score[1]) <= float(documented[1]) + 0.5
