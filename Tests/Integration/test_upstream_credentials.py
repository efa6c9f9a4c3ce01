"""How the daemon logs in at the server: where its passwords come from, and clients checked by the server."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from kit import secrets
from kit.daemon import Lifeguard
from kit.logins import DRIVERS, code_in, parameters
from kit.postgres import PostgreSQL
from kit.waiting import wait_until
from kit.wire import WireClient, error, frame, startup


@pytest.fixture(scope="module")
def strict() -> PostgreSQL:
    """A server that wants SCRAM of `app`, `alice` and `bob`, and takes anybody else at their word."""
    server = PostgreSQL(hba="host all app,alice,bob 127.0.0.1/32 scram-sha-256\n")
    for user, password in (("app", secrets.SERVER), ("alice", secrets.GOOD)):
        server.psql(f"alter role {user} password '{password}'")
    server.psql(f"create role bob login password '{secrets.OTHER}'")
    yield server
    server.remove()


def fails_fast(daemon: Lifeguard, user: str = "app") -> str:
    """The error of a login whose server connection cannot be opened."""
    with WireClient(daemon.port) as client:
        client.send(startup({"user": user, "database": "app"}))
        fields = error(client.until(lambda message: message.kind == "E"))
    assert fields["C"] == "28P01" and "cannot open a server connection" in fields["M"], fields
    return fields["D"]


# MARK: where passwords come from


def by_environment(strict: PostgreSQL, tmp_path: Path) -> dict:
    return {"environment": {"APP_PASSWORD": secrets.SERVER}, "password": {"env": "APP_PASSWORD"}}


def by_file(strict: PostgreSQL, tmp_path: Path) -> dict:
    (tmp_path / "secret").write_text(secrets.SERVER + "\n")
    return {"password": {"file": str(tmp_path / "secret")}}


def by_credential(strict: PostgreSQL, tmp_path: Path) -> dict:
    (tmp_path / "app").write_text(secrets.SERVER)
    return {"environment": {"CREDENTIALS_DIRECTORY": str(tmp_path)}, "password": {"credential": "app"}}


def by_literal(strict: PostgreSQL, tmp_path: Path) -> dict:
    return {"password": secrets.SERVER}


def by_upstream(strict: PostgreSQL, tmp_path: Path) -> dict:
    return {"upstream": {"password": secrets.SERVER}}


def by_passfile(strict: PostgreSQL, tmp_path: Path) -> dict:
    (tmp_path / "pgpass").write_text(f"127.0.0.1:{strict.port}:app:app:{secrets.SERVER}\n")
    (tmp_path / "pgpass").chmod(0o600)
    return {"environment": {"PGPASSFILE": str(tmp_path / "pgpass")}}


def by_service(strict: PostgreSQL, tmp_path: Path) -> dict:
    (tmp_path / "service").write_text(f"[strict]\nhost=127.0.0.1\nport={strict.port}\npassword={secrets.SERVER}\n")
    return {"environment": {"PGSERVICEFILE": str(tmp_path / "service")}, "whole": "service=strict dbname=app"}


def by_userlist(strict: PostgreSQL, tmp_path: Path) -> dict:
    return {"file": secrets.write_userlist(tmp_path / "users", {"app": secrets.SERVER})}


@pytest.mark.parametrize("place", [
    by_environment, by_file, by_credential, by_literal, by_upstream, by_passfile, by_service, by_userlist])
@pytest.mark.parametrize("fixes_user", [False, True])
def test_the_password_is_found(lifeguard, strict: PostgreSQL, tmp_path: Path, place, fixes_user: bool):
    found = place(strict, tmp_path)
    if place is by_userlist and fixes_user:
        pytest.skip("secrets of the userlist are for users that the upstream does not name")
    upstream = found.get("whole") or strict.conninfo(user=None, **found.get("upstream", {}))
    if fixes_user:
        upstream += " user=app"
    database = {"upstream": upstream} | ({"password": found["password"]} if "password" in found else {})
    auth = {"file": found["file"]} if "file" in found else {}
    daemon = lifeguard(environment=found.get("environment"), auth=auth, **{"databases.app": database})
    assert daemon.psql("select current_user").stdout.strip() == "app"
    check = DRIVERS["psycopg"](parameters(daemon.port, "app"))
    assert check.user == "app"


def test_a_user_has_its_own_password_before_the_databases(lifeguard, strict: PostgreSQL, tmp_path: Path):
    userlist = secrets.write_userlist(tmp_path / "users", {"alice": secrets.GOOD, "bob": secrets.WRONG})
    daemon = lifeguard(
        auth={"file": userlist},
        **{"databases.app": {"upstream": strict.conninfo(user=None), "password": secrets.SERVER},
           "users.bob": {"password": secrets.OTHER}})
    for user in ("app", "alice", "bob"):
        assert DRIVERS["psycopg"](parameters(daemon.port, user)).user == user


def test_an_upstream_with_a_user_keeps_its_own_password(lifeguard, strict: PostgreSQL, tmp_path: Path):
    userlist = secrets.write_userlist(tmp_path / "users", {"app": secrets.WRONG, "alice": secrets.WRONG})
    daemon = lifeguard(
        auth={"file": userlist}, **{"databases.app": {"upstream": strict.conninfo(password=secrets.SERVER)}})
    for user in ("app", "alice"):
        assert DRIVERS["psycopg"](parameters(daemon.port, user)).user == "app"


def test_a_wrong_or_missing_password_is_told_at_once(lifeguard, strict: PostgreSQL):
    for password in (secrets.WRONG, None):
        more = {"password": password} if password else {}
        daemon = lifeguard(
            pool={"pool_timeout": "60s"}, environment={"PGPASSFILE": "/dev/null"},
            **{"databases.app": {"upstream": strict.conninfo(**more)}})
        detail = fails_fast(daemon)
        assert ("password authentication failed" if password else "no password supplied") in detail
        assert secrets.WRONG not in detail


@pytest.mark.parametrize("source,problem", [
    ({"env": "NOT_THERE"}, '[databases.app] password: the environment variable "NOT_THERE" is not set'),
    ({"file": "/nonexistent/x"}, '[databases.app] password: the file "/nonexistent/x" cannot be opened'),
    ({"credential": "x"}, '[databases.app] password: the credential "x" needs $CREDENTIALS_DIRECTORY'),
])
def test_a_password_that_is_not_there_keeps_the_daemon_from_starting(lifeguard, strict, source: dict, problem: str):
    daemon = lifeguard(
        wait=False, **{"databases.app": {"upstream": strict.conninfo(), "password": source}})
    assert daemon.process.wait(20) == 1
    daemon.expected_exit = 1
    assert problem in daemon.log()


def test_a_reload_takes_a_password_that_was_changed(lifeguard, own_postgres: PostgreSQL, tmp_path: Path):
    own_postgres.psql(f"alter role guarded password '{secrets.SERVER}'")
    path = tmp_path / "password"
    path.write_text(secrets.SERVER)
    daemon = lifeguard(
        pool={"pool_size": 1, "max_overflow": 0},
        **{"databases.app": {"upstream": own_postgres.conninfo(user="guarded"), "password": {"file": str(path)}}})
    first = daemon.psql("select pg_backend_pid()").stdout
    own_postgres.psql(f"alter role guarded password '{secrets.OTHER}'")
    path.write_text(secrets.OTHER)
    daemon.reload()
    wait_until(lambda: daemon.psql("select pg_backend_pid()").stdout != first, "a connection by the new password")


# MARK: method = "upstream"


@pytest.fixture
def asks_server(lifeguard, strict: PostgreSQL):
    """A daemon that lets the server judge passwords, in a world where .pgpass has the right one for everybody."""
    def start(**sections: dict) -> Lifeguard:
        sections.setdefault("databases.app", {"upstream": strict.conninfo(user=None, database=None)})
        return lifeguard(auth={"method": "upstream"}, **sections)
    return start


def test_the_server_judges_passwords(asks_server):
    daemon = asks_server()
    for name, log_in in DRIVERS.items():
        for user, password in (("app", secrets.SERVER), ("alice", secrets.GOOD)):
            assert log_in(parameters(daemon.port, user, password)).user == user, name
            login = log_in(parameters(daemon.port, user, secrets.WRONG))
            assert code_in(login, "28P01", f'password authentication failed for user "{user}"'), (name, login)
        login = log_in(parameters(daemon.port, "nobody", secrets.WRONG))
        assert login.user is None, (name, login)


def test_an_empty_password_is_never_taken_for_the_one_in_pgpass(lifeguard, strict: PostgreSQL, tmp_path: Path):
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"*:*:*:*:{secrets.SERVER}\n")
    passfile.chmod(0o600)
    daemon = lifeguard(
        auth={"method": "upstream"}, environment={"PGPASSFILE": str(passfile), "PGPASSWORD": secrets.SERVER},
        **{"databases.app": {"upstream": strict.conninfo(user=None, password=secrets.SERVER)}})
    with WireClient(daemon.port) as client:
        client.send(startup({"user": "app", "database": "app"}))
        client.receive()
        client.send(frame(b"p", b"\0"))
        assert error(client.until(lambda message: message.kind == "E"))["C"] == "28P01"
    login = DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.WRONG))
    assert code_in(login, "28P01", "password authentication failed")
    assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.SERVER)).user == "app"


def test_a_server_that_asks_for_no_password_proves_nothing(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(
        auth={"method": "upstream"}, **{"databases.app": {"upstream": postgres.conninfo(user=None)}})
    login = DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD))
    assert code_in(login, "28P01", "password authentication failed")
    wait_until(lambda: "asked for no password" in daemon.log(), "the log says why")


def test_a_password_changed_at_the_server_is_taken_at_once(lifeguard):
    server = PostgreSQL(hba="host all alice 127.0.0.1/32 scram-sha-256\n")
    try:
        server.psql(f"alter role alice password '{secrets.GOOD}'")
        daemon = lifeguard(
            auth={"method": "upstream"}, **{"databases.app": {"upstream": server.conninfo(user=None)}})
        assert DRIVERS["psycopg"](parameters(daemon.port, "alice", secrets.GOOD)).user == "alice"
        server.psql(f"alter role alice password '{secrets.OTHER}'")
        assert DRIVERS["psycopg"](parameters(daemon.port, "alice", secrets.OTHER)).user == "alice"
        # The pool opens its connections with the new one too.
        server.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'alice'")
        wait_until(lambda: "server connection lost" in daemon.log(), "the pool has no connection")
        assert DRIVERS["psycopg"](parameters(daemon.port, "alice", secrets.OTHER)).user == "alice"
    finally:
        daemon.stop()
        server.remove()


def test_many_logins_with_one_password_are_few_at_the_server(asks_server, strict: PostgreSQL):
    daemon = asks_server()
    before = strict.log.read_text().count("connection authenticated")
    strict.psql("alter system set log_connections = on")
    strict.psql("select pg_reload_conf()")
    try:
        for _ in range(20):
            assert DRIVERS["psycopg"](parameters(daemon.port, "alice", secrets.GOOD)).user == "alice"
        after = strict.log.read_text().count("connection authenticated: identity=\"alice\"")
        assert after - before <= 6
    finally:
        strict.psql("alter system reset log_connections")
        strict.psql("select pg_reload_conf()")


def test_an_unknown_database_is_named(lifeguard, strict: PostgreSQL):
    daemon = lifeguard(
        auth={"method": "upstream"}, **{"databases.app": {"upstream": strict.conninfo(user=None, database="gone")}})
    login = DRIVERS["psycopg"](parameters(daemon.port, "alice", secrets.GOOD))
    assert login.user is None and "could not be verified" in login.text and '"gone" does not exist' in login.text
    login = DRIVERS["psycopg"](parameters(daemon.port, "alice", secrets.GOOD, database="elsewhere"))
    assert code_in(login, "3D000", 'database "elsewhere" does not exist')


def test_the_console_is_checked_against_the_userlist(lifeguard, strict: PostgreSQL, tmp_path: Path):
    userlist = secrets.write_userlist(tmp_path / "users", {"postgres": secrets.GOOD})
    daemon = lifeguard(
        auth={"method": "upstream", "file": userlist}, admin={"users": ["postgres"]},
        **{"databases.app": {"upstream": strict.conninfo(user=None)}})
    daemon.console = {"password": secrets.GOOD}
    assert daemon.admin("SHOW DATABASES")
    login = DRIVERS["psycopg"](parameters(daemon.port, "postgres", secrets.WRONG, database="lifeguard"))
    assert code_in(login, "28P01", "password authentication failed")


def test_a_pool_of_each_user_logs_in_as_that_user(asks_server):
    daemon = asks_server()
    with psycopg.connect(**parameters(daemon.port, "app", secrets.SERVER)) as app, \
            psycopg.connect(**parameters(daemon.port, "alice", secrets.GOOD)) as alice:
        for _ in range(3):
            assert app.execute("select current_user").fetchone() == ("app",)
            assert alice.execute("select current_user").fetchone() == ("alice",)
