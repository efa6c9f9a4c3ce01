"""Clients prove who they are: methods, secrets, outcomes, and what does not follow from them."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import struct
from pathlib import Path

import psycopg
import pytest

from kit import secrets
from kit.daemon import BINARY, Lifeguard
from kit.logins import DRIVERS, code_in, parameters
from kit.postgres import PostgreSQL
from kit.processes import run
from kit.waiting import wait_until
from kit.wire import Closed, WireClient, error, frame, startup, startup_packet

WRONG_PASSWORD = 'password authentication failed for user "{}"'


@pytest.fixture
def userlist(tmp_path: Path) -> Path:
    """Users by the kind of their secret; the password of each is GOOD."""
    path = tmp_path / "userlist.txt"
    secrets.write_userlist(path, {
        "app": secrets.GOOD, "alice": secrets.scram_secret(secrets.GOOD), "postgres": secrets.GOOD,
        "md": secrets.md5_secret("md", secrets.GOOD), "prepared": secrets.UNPREPARED, "long": secrets.LONG,
        "empty": ""})
    return path


@pytest.fixture
def guard(lifeguard, postgres: PostgreSQL, userlist: Path):
    """Starts a daemon with a method and the userlist. Whoever logs in, the server's user is `app`."""
    def start(method: str, **sections: dict) -> Lifeguard:
        sections.setdefault("databases.app", {"upstream": postgres.conninfo()})
        sections.setdefault("admin", {"users": ["postgres"]})
        daemon = lifeguard(auth={"method": method, "file": str(userlist)}, **sections)
        daemon.console = {"password": secrets.GOOD}
        return daemon
    return start


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_every_driver_logs_in_by_every_kind_of_secret(guard, method: str):
    daemon = guard(method)
    for user in ("app", "alice", "md"):
        for name, log_in in DRIVERS.items():
            login = log_in(parameters(daemon.port, user, secrets.GOOD))
            if user == "md" and method == "scram-sha-256":
                assert code_in(login, "28P01", WRONG_PASSWORD.format(user)), (name, login)
            else:
                assert login.user == "app", (name, user, login)


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_wrong_passwords_and_unknown_users_hear_the_same_from_every_driver(guard, method: str):
    daemon = guard(method)
    for user in ("app", "alice", "empty", "nobody"):
        for name, log_in in DRIVERS.items():
            login = log_in(parameters(daemon.port, user, secrets.WRONG))
            assert code_in(login, "28P01", WRONG_PASSWORD.format(user)), (name, user, login)
    wait_until(lambda: 'reason="no such user"' in daemon.log() and 'reason="wrong password"' in daemon.log(),
               "the log tells them apart")


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_an_empty_password_is_wrong(guard, method: str):
    daemon = guard(method)
    with WireClient(daemon.port) as client:
        client.send(startup({"user": "app", "database": "app"}))
        client.receive()
        client.send(frame(b"p", b"\0" if method != "scram-sha-256" else b""))
        assert error(client.until(lambda message: message.kind == "E"))["C"] in ("28P01", "08P01")


def test_passwords_are_prepared_as_sasl_wants_it(guard):
    daemon = guard("scram-sha-256")
    for name, log_in in DRIVERS.items():
        assert log_in(parameters(daemon.port, "prepared", secrets.UNPREPARED)).user == "app", name
        assert log_in(parameters(daemon.port, "prepared", secrets.PREPARED)).user == "app", name


@pytest.mark.parametrize("method", ["password", "scram-sha-256"])
def test_long_passwords_are_taken_and_very_long_ones_are_just_wrong(guard, method: str):
    daemon = guard(method)
    assert DRIVERS["psycopg"](parameters(daemon.port, "long", secrets.LONG)).user == "app"
    for length in (1025, 60_000):
        login = DRIVERS["psycopg"](parameters(daemon.port, "long", "x" * length))
        assert login.user is None and login.text, login
    assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD)).user == "app"


def test_scram_gives_an_unknown_user_the_same_salt_each_time(guard):
    daemon = guard("scram-sha-256")

    def salt_and_iterations(user: str) -> str:
        with WireClient(daemon.port) as client:
            client.send(startup({"user": user, "database": "app"}))
            assert client.receive().payload == struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"
            client.send(sasl_initial(b"n,,n=,r=abc"))
            answer = client.receive()
            assert answer.kind == "R" and answer.payload[:4] == struct.pack("!I", 11)
            return answer.payload.split(b",", 1)[1].decode()

    assert salt_and_iterations("nobody") == salt_and_iterations("nobody")
    assert salt_and_iterations("nobody") != salt_and_iterations("somebody")
    for user in ("nobody", "app"):
        salt, iterations = re.fullmatch("s=([^,]+),i=(.*)", salt_and_iterations(user)).groups()
        assert len(base64.b64decode(salt)) == 16 and iterations == "4096"


def sasl_initial(first: bytes, length: int | None = None, mechanism: bytes = b"SCRAM-SHA-256") -> bytes:
    """SASLInitialResponse, with whatever length."""
    return frame(b"p", mechanism + b"\0" + struct.pack("!i", len(first) if length is None else length) + first)


# MARK: damaged messages


@pytest.mark.parametrize("message", [
    sasl_initial(b"n,,n=,r=abc", -2), sasl_initial(b"n,,n=,r=abc", 0x7fffffff), sasl_initial(b"n,,n=,r=abc", 10),
    sasl_initial(b"n,,n=,r=abc", 12), sasl_initial(b"n,,n=,r=abc", -0x80000000), sasl_initial(b"n,,n=,r=" + b"a" * 2000),
    sasl_initial(b"n,,n=,r=" + b"a" * 60_000), sasl_initial(b"n,,n=,r=abc", mechanism=b"SCRAM-SHA-1"),
    sasl_initial(b"y,,n=,r=\xff\xff"), sasl_initial(b""), frame(b"p"), frame(b"p", b"SCRAM-SHA-256\0\0\0"),
    frame(b"Q", b"select 1\0"), b"p" + struct.pack("!I", 0x40000000), b"p" + struct.pack("!I", 3), b"p\xff\xff\xff\xff",
], ids=lambda message: repr(message[:24]))
def test_damaged_login_messages_are_violations_and_harm_nobody(guard, message: bytes):
    daemon = guard("scram-sha-256")
    with WireClient(daemon.port) as client:
        client.send(startup({"user": "app", "database": "app"}))
        client.receive()
        client.send(message)
        assert error(client.until(lambda message: message.kind == "E"))["C"] == "08P01"
        assert client.is_closed()
    assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD)).user == "app"


@pytest.mark.parametrize("body", [b"", b"no zero byte", b"two\0zero bytes\0", b"\0\0"])
def test_damaged_password_messages_are_violations(guard, body: bytes):
    daemon = guard("password")
    with WireClient(daemon.port) as client:
        client.send(startup({"user": "app", "database": "app"}))
        client.receive()
        client.send(frame(b"p", body))
        assert error(client.until(lambda message: message.kind == "E"))["C"] == "08P01"


@pytest.mark.parametrize("name,value", [
    ("application_name", "x'; drop table app_secret; --"), ("search_path", "\"x\"; drop table app_secret; --"),
    ("options", "-c search_path=x;drop\\ table\\ app_secret"), ("lifeguard.x", "\\'; drop table app_secret; --"),
    ("work_mem'; drop table app_secret; --", "64MB"), ("a.b\"; drop table app_secret; --", "x"),
])
def test_startup_parameters_never_run_as_sql(lifeguard, postgres: PostgreSQL, name: str, value: str):
    daemon = lifeguard()
    postgres.psql("create table if not exists app_secret (a int); alter table app_secret owner to app")
    try:
        with WireClient(daemon.port) as client:
            client.send(startup({"user": "app", "database": "app", name: value}))
            client.until(lambda message: message.kind in "EZ")
        assert postgres.psql("select count(*) from app_secret") == "0"
        assert daemon.psql("select 1").stdout.strip() == "1"
    finally:
        postgres.psql("drop table if exists app_secret")


# MARK: limits


def test_a_login_that_takes_too_long_is_ended(guard):
    daemon = guard("scram-sha-256", server={"client_login_timeout": "300ms"})
    for messages in ([], [startup({"user": "app", "database": "app"})],
                     [startup({"user": "app", "database": "app"}), sasl_initial(b"n,,n=,r=abc")]):
        with WireClient(daemon.port) as client:
            client.send(*messages)
            answer = error(client.until(lambda message: message.kind == "E"))
            assert answer["S"] == "FATAL" and "client_login_timeout" in answer["M"]
            assert client.is_closed()


@pytest.mark.parametrize("said", [b"", b"\0"], ids=["silent", "speaking"])
def test_a_flood_of_half_open_logins_keeps_nobody_out(guard, said: bytes):
    daemon = guard("scram-sha-256", server={"workers": 1, "max_clients": 20})
    flood = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(2500)]
    try:
        for connection in flood:
            connection.sendall(said)
        for log_in in DRIVERS.values():
            assert log_in(parameters(daemon.port, "app", secrets.GOOD)).user == "app"
        # The kernel shows silent ones when it likes, so that nobody knows which of them come first.
        if said:
            assert "too many clients are logging in" in flood[0].recv(1000).decode()
            flood[-1].settimeout(0.2)
            with pytest.raises(TimeoutError):
                flood[-1].recv(1)
    finally:
        for connection in flood:
            connection.close()


def test_max_clients_is_told_with_its_code(guard):
    daemon = guard("scram-sha-256", server={"max_clients": 2})
    open_ones = [psycopg.connect(**parameters(daemon.port, "app", secrets.GOOD)) for _ in range(2)]
    for name, log_in in DRIVERS.items():
        login = log_in(parameters(daemon.port, "app", secrets.GOOD))
        assert code_in(login, "53300", r"sorry, too many clients already \(max_clients 2\)"), (name, login)
    for connection in open_ones:
        connection.close()
    wait_until(lambda: DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD)).user == "app", "there is room")


def test_trust_takes_no_proof_and_lets_nobody_change_anything(lifeguard):
    daemon = lifeguard()
    assert DRIVERS["psql"](parameters(daemon.port, "app")).user == "app"
    with psycopg.connect(daemon.conninfo(user="postgres", database="lifeguard"), autocommit=True) as console:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            console.execute("RELOAD")


def test_the_console_asks_for_a_proof_too(guard):
    daemon = guard("scram-sha-256", admin={"users": ["postgres"], "stats_users": ["app"]})
    login = DRIVERS["psycopg"](parameters(daemon.port, "postgres", secrets.WRONG, database="lifeguard"))
    assert code_in(login, "28P01", WRONG_PASSWORD.format("postgres"))
    with psycopg.connect(**parameters(daemon.port, "app", secrets.GOOD, database="lifeguard"),
                         autocommit=True) as console:
        assert console.execute("SHOW LISTS").description
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            console.execute("RELOAD")
    with psycopg.connect(**parameters(daemon.port, "alice", secrets.GOOD, database="lifeguard"),
                         autocommit=True) as console:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            console.execute("SHOW POOLS")
    with psycopg.connect(**parameters(daemon.port, "postgres", secrets.GOOD, database="lifeguard"),
                         autocommit=True) as console:
        daemon.config.write_text(daemon.config.read_text().replace("max_overflow = 10", "max_overflow = 11"))
        console.execute("RELOAD")
        wait_until(lambda: "settings reloaded" in daemon.log(), "the reload")
        daemon.config.write_text("[pool]\npool_sise = 3\n")
        with pytest.raises(psycopg.Error, match="settings not reloaded: .*pool_sise"):
            console.execute("RELOAD")
        with contextlib.suppress(psycopg.OperationalError):
            console.execute("SHUTDOWN")
    assert daemon.process.wait(20) == 0


# MARK: settings


def test_a_reload_takes_a_new_userlist_and_keeps_who_is_connected(guard, userlist: Path):
    daemon = guard("scram-sha-256")
    with psycopg.connect(**parameters(daemon.port, "app", secrets.GOOD), autocommit=True) as connection:
        secrets.write_userlist(userlist, {"app": secrets.OTHER, "postgres": secrets.GOOD})
        daemon.reload()
        wait_until(lambda: DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.OTHER)).user == "app",
                   "the new password")
        assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD)).code is None
        assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD)).user is None
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_broken_userlist_changes_nothing_and_is_named_without_a_secret(guard, userlist: Path):
    daemon = guard("scram-sha-256")
    userlist.write_text(f'"app" "{secrets.OTHER}"\n"alice" "{secrets.OTHER}\n')
    daemon.reload()
    wait_until(lambda: "settings not reloaded" in daemon.log(), "the log")
    assert f"{userlist}, line 2: the double quote of the secret is not closed" in daemon.log()
    assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD)).user == "app"


def test_check_names_a_broken_userlist(tmp_path: Path, userlist: Path):
    userlist.write_text("app x\n")
    settings = tmp_path / "l.toml"
    settings.write_text(f'[auth]\nmethod = "md5"\nfile = "{userlist}"\n[databases.app]\nupstream = "host=h"\n')
    out = run([BINARY, "check", "--config", settings], check=False)
    assert out.returncode == 1
    assert f"[auth] file: {userlist}, line 1: the name must stand in double quotes" in out.stderr


def test_check_warns_of_secrets_that_everybody_can_read(tmp_path: Path, userlist: Path):
    settings = tmp_path / "l.toml"
    settings.write_text(f'[auth]\nmethod = "md5"\nfile = "{userlist}"\n[databases.app]\nupstream = "host=h"\n')
    warning = f"[auth] file: {userlist} can be read by every user of this machine (chmod 600)"
    for mode, warned in ((0o600, False), (0o644, True)):
        userlist.chmod(mode)
        out = run([BINARY, "check", "--config", settings])
        assert (warning in out.stderr) == warned


def test_serve_without_a_file_takes_a_method_and_a_userlist(postgres: PostgreSQL, userlist: Path):
    def check(*options: str) -> str:
        return run([BINARY, "check", "--upstream", postgres.conninfo(), *options], check=False).stderr

    assert check("--auth", "scram-sha-256", "--userlist", str(userlist)).count("\n") == 1  # the empty password
    assert check("--auth", "md5") == "--auth: md5 needs --userlist: the users and their secrets\n"
    assert 'did you mean "scram-sha-256"?' in check("--auth", "scram-sha256")


# MARK: servers that misbehave in a login


@pytest.mark.parametrize("answer", [
    # An error without SQLSTATE, without any field, and one that never ends.
    frame(b"E", b"SFATAL\0Mno code\0\0"), frame(b"E", b"\0"), frame(b"E", b"SFATAL\0Mnot ended"),
    # A SCRAM exchange whose first message is as long as libpq takes, and a nonce that is not the client's.
    frame(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0") + frame(
        b"R", struct.pack("!I", 11) + b"r=" + b"n" * 60_000 + b",s=AAAA,i=4096"),
    frame(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0") + frame(
        b"R", struct.pack("!I", 11) + b"r=other,s=AAAA,i=99999999999999"),
    frame(b"R", struct.pack("!I", 99)), b"\0" * 100, b"R\xff\xff\xff\xff",
], ids=lambda answer: repr(answer[:20]))
def test_a_server_that_misbehaves_in_the_login_costs_one_error(lifeguard, answer: bytes):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        daemon = lifeguard(
            pool={"on_outage": "fail", "connect_timeout": "2s", "pool_timeout": "3s"},
            **{"databases.app": {"upstream": f"host=127.0.0.1 port={port} user=app password={secrets.SERVER} "
                                             "sslmode=disable"}})
        with WireClient(daemon.port) as client:
            client.send(startup({"user": "app", "database": "app"}))
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                # The daemon may give up before it has all of it.
                with contextlib.suppress(OSError):
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                assert error(client.until(lambda message: message.kind == "E"))["S"] == "FATAL"
        assert daemon.http("/livez")[0] == 200


def test_a_cancel_request_needs_no_login(guard):
    daemon = guard("scram-sha-256")
    with WireClient(daemon.port) as client:
        client.send(startup_packet(80877102, struct.pack("!II", 5, 7)))
        assert client.is_closed()
    with pytest.raises(Closed), WireClient(daemon.port) as client:
        client.send(startup_packet(80877102, b"\0" * 400))
        client.receive()
        client.receive()
