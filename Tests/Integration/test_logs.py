"""The log: one number for a connection everywhere, text, JSON and the journal, repetitions, changes at run time."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit import logs, secrets
from kit.admin import command
from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import free_port, run
from kit.waiting import wait_until
from kit.wire import WireClient, error, query, startup

HOSTILE = ['qu"ote', "back\\slash", "line\nend", "\x1b[31mred", "a client=1", "tab\t\x01\x7f", "\u202egnp.exe", "\u2028é🐘"]


def number(fields: dict[str, str]) -> str:
    """The number of the client connection that an error's DETAIL ends with."""
    found = re.search(r"(?:^|\n)Client connection (\d+)\.$", fields["D"])
    assert found, fields
    return found[1]


def client_row(daemon: Lifeguard, client: WireClient) -> dict[str, str]:
    """Its row of SHOW CLIENTS."""
    port = str(client.socket.getsockname()[1])
    return next(row for row in daemon.admin("SHOW CLIENTS") if row["port"] == port)


def log_line(daemon: Lifeguard, message: str, **fields: str) -> logs.Line:
    """The first such line, once it is there."""
    return wait_until(
        lambda: next(line for line in logs.lines(daemon.log())
                     if line.text.startswith(message) and fields.items() <= line.fields.items()),
        f"{message} with {fields}")


# MARK: numbers of connections


@pytest.mark.parametrize("workers", [1, 3])
def test_a_client_has_one_number_in_the_log_in_show_and_in_errors(lifeguard, workers: int):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pool_timeout": "50ms"}, server={"workers": workers})
    with WireClient.app(daemon.port) as busy, WireClient.app(daemon.port) as client:
        busy.ask(query("begin"))
        refused = error(client.ask(query("select 1")))
        assert refused["C"] == "53300"
        row = client_row(daemon, client)
        assert number(refused) == row["id"] != client_row(daemon, busy)["id"]
        port = client.socket.getsockname()[1]
        for message in ("client connected", "a client has waited for pool_timeout"):
            log_line(daemon, message, client=row["id"], pool="app/app")
        assert log_line(daemon, "client connected", client=row["id"]).fields["peer"] == f"127.0.0.1:{port}"
        busy.ask(query("commit"))
    log_line(daemon, "client closed", client=row["id"], peer=f"127.0.0.1:{port}")


def test_numbers_rise_and_are_not_used_again(daemon: Lifeguard):
    numbers = []
    for _ in range(3):
        with WireClient.app(daemon.port) as client:
            numbers.append(int(client_row(daemon, client)["id"]))
    assert numbers == sorted(set(numbers))


def test_a_server_connection_has_one_number_and_matches_its_client(daemon: Lifeguard, postgres: PostgreSQL):
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin"))
        pid = client.rows("select pg_backend_pid()")[0][0]
        server = next(row for row in daemon.admin("SHOW SERVERS") if row["remote_pid"] == pid)
        row = client_row(daemon, client)
        assert server["link"] == row["ptr"] and row["link"] == server["ptr"]
        log_line(daemon, "server connection opened", server=server["id"], backend=pid)
        postgres.psql(f"select pg_terminate_backend({pid})")
        lost = error(client.ask(query("select 1")))
        assert number(lost) == row["id"] and "terminating connection" in lost["D"].splitlines()[0]
        log_line(daemon, "server connection lost", server=server["id"], backend=pid)
        client.ask(query("rollback"))
        client.rows("select 1")
        again = next(row for row in daemon.admin("SHOW SERVERS") if row["remote_pid"] != pid)
        assert int(again["id"]) > int(server["id"])


def test_an_error_at_login_is_found_in_the_log(lifeguard):
    upstream = f"host=127.0.0.1 port={free_port()}"
    daemon = lifeguard(pool={"on_outage": "fail"}, **{"databases.app": {"upstream": upstream}})
    for database, message in (("nowhere", "client turned away"), ("app", "client closed")):
        with WireClient(daemon.port) as client:
            client.send(startup({"user": "app", "database": database}))
            fields = error(client.until(lambda message: message.kind == "E"))
            log_line(daemon, message, client=number(fields))


def test_errors_of_the_server_stay_as_they_are(daemon: Lifeguard, postgres: PostgreSQL):
    said = []
    for port in (postgres.port, daemon.port):
        with WireClient.app(port) as client:
            said.append(error(client.ask(query("select 1/0"))))
        with WireClient(port) as client:
            client.send(startup({"user": "app", "database": "app", "work_mem": "much"}))
            said.append(error(client.until(lambda message: message.kind == "E")))
    assert said[0] == said[2]
    assert said[1].get("D") == said[3].get("D")


def test_an_unknown_user_and_a_wrong_password_are_told_the_same(lifeguard, tmp_path: Path):
    daemon = guarded(lifeguard, tmp_path)
    told = []
    for user in ("app", "nobody"):
        done = daemon.psql("select 1", user=user, check=False, environment={"PGPASSWORD": secrets.WRONG})
        told.append(re.sub(r"\d+|app|nobody", "", done.stderr.split("FATAL:")[1]))
    assert told[0] == told[1] and "Client connection" in told[0]


# MARK: forms


def guarded(lifeguard: Callable[..., Lifeguard], folder: Path, **sections: dict) -> Lifeguard:
    """A daemon that `app` needs a password for."""
    userlist = secrets.write_userlist(folder / "userlist.txt", {"app": secrets.GOOD, "postgres": secrets.OTHER})
    daemon = lifeguard(auth={"method": "scram-sha-256", "file": userlist}, admin={"users": ["postgres"]}, **sections)
    daemon.console = {"password": secrets.OTHER}
    return daemon


@pytest.mark.parametrize("form", ["auto", "text", "json", "journal"])
def test_no_form_of_the_log_has_passwords(lifeguard, tmp_path: Path, form: str):
    """What is searched for secrets at the end is the whole log, console and metrics (kit/daemon.py)."""
    daemon = guarded(lifeguard, tmp_path, log={"format": form, "level": "trace"}, **{
        "databases.app": {"upstream": f"host=127.0.0.1 port={free_port()} password={secrets.SERVER}"}},
        pool={"on_outage": "fail"})
    for user in ("app", "nobody"):
        for password in (secrets.GOOD, secrets.WRONG):
            daemon.psql("select 1", user=user, check=False, environment={"PGPASSWORD": password})
    daemon.reload()
    wait_until(lambda: "settings reloaded" in daemon.log(), "the reload")
    assert "wrong password" in daemon.log() and "cannot open a server connection" in daemon.log()


def connect_as(daemon: Lifeguard, names: list[str]) -> None:
    """Clients with these names for user, and for a database that does not exist."""
    for name in names:
        with WireClient(daemon.port) as client:
            client.send(startup({"user": name, "database": name}))
            assert client.is_closed()


def test_json_lines_parse_whatever_clients_call_themselves(lifeguard):
    daemon = lifeguard(log={"format": "json"})
    connect_as(daemon, HOSTILE)

    def refused() -> bool:
        return {line["user"] for line in logs.objects(daemon.log()) if line["message"] == "client turned away"} \
            == set(HOSTILE)

    wait_until(refused, "all names are in the log as they were sent")
    for line in logs.objects(daemon.log()):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert all(isinstance(value, str) for value in line.values())


def test_text_stays_one_line_whatever_clients_call_themselves(lifeguard):
    daemon = lifeguard()
    connect_as(daemon, HOSTILE)
    wait_until(lambda: logs.count(daemon.log(), "client turned away") == len(HOSTILE), "the log has all")
    for line in daemon.log().split("\n")[:-1]:
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z (info|notice|warning) ", line), line
        assert line.isprintable(), line
    refused = [line for line in logs.lines(daemon.log()) if line.text.startswith("client turned away")]
    assert all(line.fields["client"] != "1" or line.fields["user"] != "a client=1" for line in refused)


def test_a_journal_that_is_not_this_standard_error_gets_nothing(lifeguard):
    """The variable is inherited by whatever a service starts, wherever that sends its output."""
    daemon = lifeguard(environment={"JOURNAL_STREAM": "1:2"})
    assert logs.count(daemon.log(), "ready") == 1


@pytest.fixture
def journal() -> Iterator[tuple[socket.socket, list[str]]]:
    """The journal's socket, and what stands before a command so that it finds it: in a mount namespace of its own the
    folder of the socket is at /run."""
    folder = Path(tempfile.mkdtemp(prefix="lifeguard-run-", dir="/tmp"))
    path = folder / "systemd/journal/socket"
    path.parent.mkdir(parents=True)
    launcher = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                f'mount --bind {folder} /run && exec "$@"', "sh"]
    try:
        run([*launcher, "true"])
    except (AssertionError, OSError) as problem:
        shutil.rmtree(folder)
        pytest.skip(f"no mount namespace here: {problem}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(path))
        made.settimeout(10)
        yield made, launcher
    shutil.rmtree(folder)


def journal_fields(datagram: bytes) -> dict[str, str]:
    """Fields as libsystemd sends them: a line each, or, where a value has line ends, name, length and value."""
    fields = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(rest[:8], "little")
            value, rest = rest[8:8 + length], rest[8 + length + 1:]
        fields[name.decode()] = value.decode()
        datagram = rest
    return fields


def test_the_journal_gets_fields(lifeguard, journal):
    receiver, launcher = journal
    daemon = lifeguard(log={"format": "journal"}, launcher=launcher)
    connect_as(daemon, ["line\nend"])

    def received(message: str) -> dict[str, str]:
        while True:
            fields = journal_fields(receiver.recv(65536))
            if fields["MESSAGE"].startswith(message):
                return fields

    ready = received("ready")
    assert ready["PRIORITY"] == "5" and ready["SYSLOG_IDENTIFIER"] == "lifeguard"
    assert ready["LIFEGUARD_EVENT_LOOP"] in ("io_uring", "epoll")
    refused = received("client turned away")
    assert refused["LIFEGUARD_USER"] == "line\nend" and refused["PRIORITY"] == "6"
    assert "\n" not in refused["MESSAGE"] and f"client={refused['LIFEGUARD_CLIENT']}" in refused["MESSAGE"]
    assert daemon.log() == ""


def test_auto_is_the_journal_where_standard_error_is_its_stream(lifeguard, journal):
    receiver, launcher = journal
    # The log file is standard error; its device and inode are known only when it is there.
    script = 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) && export JOURNAL_STREAM && exec "$@"'
    daemon = lifeguard(launcher=[*launcher, "sh", "-c", script, "sh"])
    assert journal_fields(receiver.recv(65536))["MESSAGE"].startswith("ready")
    assert daemon.log() == ""


# MARK: repetitions


def test_repetitions_are_counted_and_the_first_is_there_at_once(lifeguard, tmp_path: Path):
    daemon = guarded(lifeguard, tmp_path)

    def fail() -> None:
        daemon.psql("select 1", check=False, environment={"PGPASSWORD": secrets.WRONG})

    fail()
    wait_until(lambda: logs.count(daemon.log(), "login refused") == 1, "the first", deadline=0.9)
    for _ in range(20):
        fail()
    wait_until(lambda: logs.count(daemon.log(), "login refused", user="app", reason="wrong password") == 21, "all")
    written = [line for line in logs.lines(daemon.log()) if line.text.startswith("login refused")]
    assert len(written) < 21
    repeated = next(line for line in written if "repeated" in line.fields)
    times = repeated.fields["repeated"]
    assert f"login refused … repeated {times} time" in repeated.text
    assert "client" in written[0].fields and "client" not in repeated.fields


def test_counts_are_written_at_the_end_of_the_daemon(lifeguard):
    daemon = lifeguard()
    connect_as(daemon, ["nobody"] * 5)
    daemon.stop()
    assert logs.count(daemon.log(), "client turned away") == 5


# MARK: changes at run time


def test_a_reload_changes_level_and_connections(lifeguard, postgres: PostgreSQL):
    databases = {"databases.app": {"upstream": postgres.conninfo(user=None, database="app")}}

    def settings(**log: object) -> None:
        daemon.write_settings({**databases, "log": log})
        daemon.reload()
        wait_until(lambda: shown() == log, "the reload")

    def shown() -> dict[str, object]:
        rows = {row["key"]: row["value"] for row in daemon.admin("SHOW CONFIG")}
        return {"level": rows["log.level"].strip('"'), "connections": rows["log.connections"] == "true"}

    def connects() -> int:
        with WireClient.app(daemon.port) as client:
            client.rows("select 1")
        # Written in order, so what comes behind it shows that it would be there.
        before = logs.count(daemon.log(), "server connection lost")
        postgres.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
        wait_until(lambda: logs.count(daemon.log(), "server connection lost") > before, "the log goes on")
        return logs.count(daemon.log(), "client connected")

    daemon = lifeguard(**databases)
    assert connects() == 1
    settings(level="warning", connections=True)
    assert connects() == 1
    settings(level="info", connections=True)
    assert connects() == 2
    settings(level="info", connections=False)
    assert connects() == 2
    assert logs.count(daemon.log(), "server connection opened") >= 3


def test_the_level_can_be_set_on_the_console(daemon: Lifeguard):
    for level in ("error", "info"):
        assert command(daemon, f"SET log.level = '{level}'") == "SET"
        with WireClient.app(daemon.port) as client:
            client.rows("select 1")
    # In order: had the first one been written, it would stand before the second.
    log_line(daemon, "client connected")
    assert logs.count(daemon.log(), "client connected") == 1


def test_what_is_set_on_the_console_is_not_logged(daemon: Lifeguard):
    """It may be a password; that none is in the log is checked at the end (kit/daemon.py)."""
    command(daemon, f"SET databases.app.upstream = 'host=127.0.0.1 port=1 user=app password={secrets.SERVER}'")
    command(daemon, f"SET databases.app.password = '{secrets.OTHER}'")
    assert 'command="SET databases.app.password = …"' in daemon.log()
    shown = str(command(daemon, "SHOW EVENTS"))
    assert secrets.SERVER not in shown and secrets.OTHER not in shown


# MARK: events


def test_show_events_has_pools_and_the_daemon_but_no_clients(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pool_timeout": "50ms"})
    with WireClient.app(daemon.port) as busy, WireClient.app(daemon.port) as waiting:
        busy.ask(query("begin"))
        for _ in range(3):
            assert error(waiting.ask(query("select 1")))["C"] == "53300"
        pid = busy.rows("select pg_backend_pid()")[0][0]
        postgres.psql(f"select pg_terminate_backend({pid})")
        error(busy.ask(query("select 1")))
        busy.ask(query("rollback"))
    # What workers report is noted a little later than what the daemon does itself.
    wait_until(lambda: any(row["event"] == "server_lost" for row in command(daemon, "SHOW EVENTS")), "the loss")
    daemon.reload()
    wait_until(lambda: any(row["event"] == "settings" for row in command(daemon, "SHOW EVENTS")), "the reload")
    rows = command(daemon, "SHOW EVENTS")
    assert [(row["event"], row["pool"], row["count"]) for row in rows] == [
        ("started", None, 1), ("server_opened", "app/app", 1), ("wait_timed_out", "app/app", 3),
        ("server_lost", "app/app", 1), ("settings", None, 1)]
    assert "terminating connection" in rows[3]["detail"]
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 5]
