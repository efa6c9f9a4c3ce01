"""Clients whose passwords the server judges: who gets in, who does not, and what a pool does with what it learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from kit import secrets
from kit.daemon import Lifeguard
from kit.logins import DRIVERS, Login, code_in, parameters
from kit.postgres import PostgreSQL
from kit.processes import free_port
from kit.scram import CLEARTEXT, asked, password_message
from kit.waiting import wait_until
from kit.wire import error

LOG_IN = DRIVERS["psycopg"]


@pytest.fixture(scope="module")
def scram_postgres() -> Iterator[PostgreSQL]:
    """A server that wants SCRAM of everybody."""
    server = PostgreSQL(hba="host all all 127.0.0.1/32 scram-sha-256\n")
    yield server
    server.remove()


@pytest.fixture
def strict(scram_postgres: PostgreSQL) -> PostgreSQL:
    """That server, with the passwords of `app` and `alice` as they are at the beginning of each test."""
    scram_postgres.psql(f"alter role app password '{secrets.SERVER}'")
    scram_postgres.psql(f"alter role alice password '{secrets.GOOD}'")
    return scram_postgres


@pytest.fixture
def asks(strict: PostgreSQL, lifeguard) -> Callable[..., Lifeguard]:
    """A daemon that has the server judge passwords."""
    def start(**sections: dict) -> Lifeguard:
        return lifeguard(auth={"method": "upstream"}, environment={"PGPASSFILE": "/dev/null"},
                         **{"databases.app": {"upstream": strict.conninfo(user=None)}} | sections)
    return start


def by_alice(daemon: Lifeguard, password: str) -> Login:
    """One login of `alice`."""
    return LOG_IN(parameters(daemon.port, "alice", password))


def is_refused(login: Login, user: str = "alice") -> bool:
    """Whether the password was wrong."""
    return code_in(login, "28P01", f'password authentication failed for user "{user}"')


def test_a_password_is_right_for_its_own_user_only(asks):
    daemon = asks()
    for _ in range(2):  # The second time the daemon knows both passwords.
        assert LOG_IN(parameters(daemon.port, "app", secrets.SERVER)).user == "app"
        assert by_alice(daemon, secrets.GOOD).user == "alice"
        assert is_refused(by_alice(daemon, secrets.SERVER))
        assert is_refused(LOG_IN(parameters(daemon.port, "app", secrets.GOOD)), "app")


def test_an_unknown_user_hears_what_a_wrong_password_hears(asks):
    daemon = asks()
    for name, log_in in DRIVERS.items():
        for user in ("alice", "app", "nobody"):
            assert is_refused(log_in(parameters(daemon.port, user, secrets.WRONG)), user), name


def test_a_server_that_is_down_is_told_so(lifeguard):
    daemon = lifeguard(
        auth={"method": "upstream"}, pool={"connect_timeout": "2s"},
        **{"databases.app": {"upstream": f"host=127.0.0.1 port={free_port()}"}})
    for name, log_in in DRIVERS.items():
        login = log_in(parameters(daemon.port, "alice", secrets.GOOD))
        assert login.user is None and "the password could not be verified at the server" in login.text, (name, login)
        assert login.code not in ("28P01", "28000"), (name, login)


def test_logins_work_again_when_the_server_is_back(asks, strict: PostgreSQL):
    daemon = asks()
    strict.stop()
    assert by_alice(daemon, secrets.GOOD).user is None
    strict.start()
    wait_until(lambda: by_alice(daemon, secrets.GOOD).user == "alice", "logins work again")
    assert is_refused(by_alice(daemon, secrets.WRONG))


def test_the_verdict_on_a_client_that_left_is_nobody_elses(asks):
    daemon = asks()

    def leave(number: int) -> None:
        client, code, _ = asked(daemon.port, "alice")
        assert code == CLEARTEXT
        client.send(password_message(secrets.GOOD))
        client.reset()

    def stay(right: bool) -> str | None:
        return by_alice(daemon, secrets.GOOD if right else secrets.WRONG).user

    with ThreadPoolExecutor(8) as threads:
        leavers, outcomes = [], []
        for number in range(120):
            leavers.append(threads.submit(leave, number))
            outcomes.append((number % 2 == 0, threads.submit(stay, number % 2 == 0)))
        for leaver in leavers:
            leaver.result()
        for right, outcome in outcomes:
            assert outcome.result() == ("alice" if right else None)


@pytest.mark.parametrize("password", ["", "x" * 1025, "with \ttab and 'quotes' \\ = host=elsewhere"])
def test_a_password_is_never_more_than_a_password(asks, password: str):
    """libpq takes an empty one for none; and no password may become part of a connection string."""
    daemon = asks()
    client, _, _ = asked(daemon.port, "alice")
    with client:
        client.send(password_message(password))
        fields = error(client.until(lambda message: message.kind == "E"))
    assert fields["C"] == "28P01" and fields["M"] == 'password authentication failed for user "alice"', fields


def test_a_password_with_any_quotes_is_taken(asks, strict: PostgreSQL):
    password = "it's \\ \"x\" host=elsewhere"
    strict.psql("alter role alice password '" + password.replace("'", "''") + "'")
    assert by_alice(asks(), password).user == "alice"


def test_an_old_password_that_is_still_known_does_not_come_back_to_the_pool(asks, strict: PostgreSQL):
    """A worker takes a password for a minute without asking again. Who comes by an old one then must not have the pool
    dial with it, or clients with the new one would suffer."""
    daemon = asks(server={"workers": 2}, pool={"pool_size": 1, "max_overflow": 0, "pool_timeout": "5s"})
    for _ in range(30):
        assert by_alice(daemon, secrets.GOOD).user == "alice"
    strict.psql(f"alter role alice password '{secrets.OTHER}'")
    with psycopg.connect(**parameters(daemon.port, "alice", secrets.OTHER), autocommit=True) as connection:
        first = connection.execute("select pg_backend_pid()").fetchone()
        for _ in range(30):
            by_alice(daemon, secrets.GOOD)
        lost = daemon.log().count("server connection lost")
        strict.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'alice'")
        wait_until(lambda: daemon.log().count("server connection lost") > lost, "the pool has no connection")
        assert connection.execute("select pg_backend_pid()").fetchone() != first


@pytest.mark.slow
def test_an_old_password_is_taken_for_a_minute_at_most(asks, strict: PostgreSQL):
    daemon = asks(pool={"pool_size": 1, "max_overflow": 0})
    assert by_alice(daemon, secrets.GOOD).user == "alice"
    strict.psql(f"alter role alice password '{secrets.OTHER}'")
    wait_until(lambda: is_refused(by_alice(daemon, secrets.GOOD)), "the old password is refused", deadline=65, every=1)
    assert by_alice(daemon, secrets.OTHER).user == "alice"
