"""pgjdbc through the daemon: logins, TLS, and its ways with statements."""

from __future__ import annotations

import threading
from pathlib import Path

import jpype
import pytest

from kit import secrets
from kit.certificates import Certificates
from kit.daemon import Lifeguard
from kit.jdbc import column, connected, log_in, start_java
from kit.logins import code_in
from kit.postgres import PostgreSQL


@pytest.fixture
def guard(lifeguard, postgres: PostgreSQL, tmp_path: Path):
    """Starts a daemon with a method; the password of every user is GOOD."""
    def start(method: str, **sections: dict) -> Lifeguard:
        userlist = secrets.write_userlist(tmp_path / "users", {
            "app": secrets.GOOD, "alice": secrets.scram_secret(secrets.GOOD),
            "md": secrets.md5_secret("md", secrets.GOOD), "prepared": secrets.UNPREPARED})
        return lifeguard(auth={"method": method, "file": userlist},
                         **{"databases.app": {"upstream": postgres.conninfo()}} | sections)
    return start


@pytest.mark.parametrize("method,users", [
    ("password", ["app", "alice", "md"]), ("md5", ["app", "alice", "md"]), ("scram-sha-256", ["app", "alice"])])
def test_pgjdbc_logs_in_by_each_method(guard, method: str, users: list[str]):
    daemon = guard(method)
    for user in users:
        assert log_in(daemon.port, user, secrets.GOOD).user == "app"
    for user in (*users, "nobody"):
        login = log_in(daemon.port, user, secrets.WRONG)
        assert code_in(login, "28P01", f'password authentication failed for user "{user}"'), login


def test_pgjdbc_prepares_passwords(guard):
    daemon = guard("scram-sha-256")
    for password in (secrets.UNPREPARED, secrets.PREPARED):
        assert log_in(daemon.port, "prepared", password).user == "app"


def test_pgjdbc_uses_tls(guard, certificates: Certificates):
    daemon = guard("scram-sha-256", server=certificates.settings("require"))
    full = {"sslmode": "verify-full", "sslrootcert": str(certificates.authority.certificate), "host": "localhost"}
    for more in ({"sslmode": "require"}, full):
        assert log_in(daemon.port, "app", secrets.GOOD, **more).user == "app"
    foreign = full | {"sslrootcert": str(certificates.foreign_authority.certificate)}
    assert log_in(daemon.port, "app", secrets.GOOD, **foreign).user is None
    refused = log_in(daemon.port, "app", secrets.GOOD)
    assert code_in(refused, "28000", "connections without TLS are not allowed here"), refused


def test_pgjdbc_works_in_transaction_mode(guard):
    daemon = guard("scram-sha-256", pool={"pool_size": 1, "max_overflow": 0})
    with connected(daemon.port, "app", secrets.GOOD, prepareThreshold="0") as connection, \
            connected(daemon.port, "alice", secrets.GOOD, prepareThreshold="0") as other:
        for number in range(100):
            for each in (connection, other):
                statement = each.prepareStatement("select ?::int + 1")
                statement.setInt(1, number)
                rows = statement.executeQuery()
                assert rows.next() and rows.getInt(1) == number + 1
                statement.close()
        connection.setAutoCommit(False)
        assert column(connection, "select 1") == ["1"]
        connection.rollback()
        assert column(other, "select 2") == ["2"]


def test_pgjdbc_runs_1000_simple_queries(guard):
    daemon = guard("scram-sha-256", pool={"pool_size": 1, "max_overflow": 0})
    with connected(daemon.port, "app", secrets.GOOD, prepareThreshold="0", preferQueryMode="simple") as connection:
        assert [column(connection, f"select {number}") for number in range(1000)] == [
            [str(number)] for number in range(1000)]


def test_pgjdbc_binds_scram_to_the_certificate(guard, certificates: Certificates):
    start_java()
    version = jpype.JClass("org.postgresql.util.DriverInfo")
    if (int(version.MAJOR_VERSION), int(version.MINOR_VERSION)) < (42, 7):
        pytest.skip(f"{version.DRIVER_FULL_NAME} has no channel binding")
    daemon = guard("scram-sha-256", server=certificates.settings("require"))
    login = log_in(daemon.port, "app", secrets.GOOD, sslmode="require", channelBinding="require")
    assert login.user == "app", login


def test_pgjdbc_cancels(guard):
    daemon = guard("scram-sha-256")
    with connected(daemon.port, "app", secrets.GOOD) as connection:
        statement = connection.createStatement()
        timer = threading.Timer(0.3, statement.cancel)
        timer.start()
        with pytest.raises(jpype.JClass("java.sql.SQLException")) as caught:
            statement.executeQuery("select pg_sleep(30)")
        assert str(caught.value.getSQLState()) == "57014"


def test_pgjdbc_hears_of_too_many_clients(guard):
    daemon = guard("scram-sha-256", server={"max_clients": 1})
    with connected(daemon.port, "app", secrets.GOOD):
        login = log_in(daemon.port, "app", secrets.GOOD)
        assert code_in(login, "53300", "sorry, too many clients already"), login


def test_pgjdbc_is_judged_by_the_server(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(auth={"method": "upstream"}, **{"databases.app": {"upstream": postgres.conninfo(user=None)}})
    assert log_in(daemon.port, "guarded", "right one").user == "guarded"
    login = log_in(daemon.port, "guarded", secrets.WRONG)
    assert code_in(login, "28P01", 'password authentication failed for user "guarded"'), login
