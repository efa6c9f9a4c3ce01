"""Several workers behave as one daemon."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from kit import logs, secrets
from kit.certificates import Certificates
from kit.daemon import Lifeguard
from kit.logins import DRIVERS, parameters
from kit.postgres import PostgreSQL
from kit.sampling import Sampler
from kit.scram import SASL, Scram, request, sasl_initial
from kit.tls import request_tls, unverified
from kit.waiting import wait_until
from kit.wire import Closed, WireClient, frame, query, startup

WORKERS = pytest.mark.parametrize("workers", [2, 4])


@pytest.fixture
def several(lifeguard, postgres: PostgreSQL) -> Callable[..., Lifeguard]:
    """A daemon with some workers and five databases, all of which lead to the same one."""
    def start(workers: int, *, database: dict | None = None, **sections: dict) -> Lifeguard:
        databases = {f"databases.db{number}": {"upstream": postgres.conninfo()} | (database or {}) for number in range(5)}
        return lifeguard(**{"server": {"workers": workers}} | databases | sections)
    return start


def in_parallel(count: int, work: Callable[[int], None]) -> None:
    """Runs `work` with 0, 1, … in threads, and fails where one of them does."""
    with ThreadPoolExecutor(count) as threads:
        for outcome in [threads.submit(work, number) for number in range(count)]:
            outcome.result()


def connect(daemon: Lifeguard, number: int, **more: str) -> psycopg.Connection:
    """One of the databases, by number."""
    return psycopg.connect(daemon.conninfo(database=f"db{number % 5}", **more), autocommit=True)


@WORKERS
def test_two_hundred_clients_share_few_connections(several, postgres: PostgreSQL, workers: int):
    daemon = several(workers, pool={"pool_size": 2, "max_overflow": 0})

    def work(number: int) -> None:
        with connect(daemon, number, application_name=f"client {number}") as connection:
            for step in range(10):
                row = connection.execute(
                    "select %s::int, current_setting('application_name')", (step,), prepare=False).fetchone()
                assert row == (step, f"client {number}")

    with Sampler(postgres) as sampler:
        in_parallel(200, work)
    assert 0 < sampler.highest <= 10
    pools = [row for row in daemon.admin("SHOW POOLS") if row["database"].startswith("db")]
    assert sorted(row["database"] for row in pools) == [f"db{number}" for number in range(5)]


@WORKERS
def test_the_bound_of_a_pool_is_one_for_all_workers(several, postgres: PostgreSQL, workers: int):
    daemon = several(workers, pool={"pool_size": 1, "max_overflow": 1, "overflow_linger": "1ms"})

    def work(number: int) -> None:
        for _ in range(20):
            with connect(daemon, 0) as connection:
                connection.execute("select 1")

    with Sampler(postgres) as sampler:
        in_parallel(16, work)
    assert 0 < sampler.highest <= 2


@WORKERS
def test_max_connections_of_a_database_holds_over_its_pools(several, postgres: PostgreSQL, workers: int):
    users = [f"limited{number}" for number in range(6)]
    for user in users:
        postgres.psql(f"create role {user} login")
    try:
        daemon = several(
            workers, pool={"pool_size": 3, "max_overflow": 0},
            **{"databases.limited": {"upstream": postgres.conninfo(user=None), "max_connections": 4}})

        def work(number: int) -> None:
            for _ in range(10):
                with psycopg.connect(daemon.conninfo(user=users[number % 6], database="limited"),
                                     autocommit=True) as connection:
                    assert connection.execute("select current_user").fetchone() == (users[number % 6],)
                    most.append(int(postgres.psql(
                        "select count(*) from pg_stat_activity where usename like 'limited%'")))

        most: list[int] = []
        in_parallel(18, work)
        assert 0 < max(most) <= 4
        daemon.stop()
    finally:
        wait_until(lambda: postgres.psql("select count(*) from pg_stat_activity where usename like 'limited%'") == "0",
                   "the server connections are gone")
        for user in users:
            postgres.psql(f"drop role {user}")


@WORKERS
def test_max_connections_of_a_user_holds_over_its_pools(several, postgres: PostgreSQL, workers: int):
    daemon = several(workers, pool={"pool_size": 3, "max_overflow": 0}, **{"users.app": {"max_connections": 3}})

    def work(number: int) -> None:
        for _ in range(10):
            with connect(daemon, number) as connection:
                connection.execute("select 1")

    with Sampler(postgres) as sampler:
        in_parallel(20, work)
    assert 0 < sampler.highest <= 3


def test_limits_of_databases_and_users_together_hold(several, postgres: PostgreSQL):
    daemon = several(4, pool={"pool_size": 3, "max_overflow": 0}, database={"max_connections": 2},
                     **{"users.app": {"max_connections": 4}})

    def work(number: int) -> None:
        for _ in range(10):
            with connect(daemon, number) as connection:
                connection.execute("select 1")

    with Sampler(postgres) as sampler:
        in_parallel(20, work)
    assert 0 < sampler.highest <= 4


def test_a_limit_that_comes_by_a_reload_waits_for_the_next_start(several, postgres: PostgreSQL):
    daemon = several(2)
    daemon.config.write_text(daemon.config.read_text() + "\n[users.app]\nmax_connections = 1\n")
    daemon.reload()
    wait_until(lambda: "settings reloaded" in daemon.log(), "the reload")
    assert "[users.app] max_connections" in daemon.log() and "takes effect at the next start" in daemon.log()


@WORKERS
def test_cancel_requests_find_their_worker(several, workers: int):
    daemon = several(workers)

    def work(number: int) -> None:
        with connect(daemon, number) as connection:
            threading.Timer(0.2, connection.cancel).start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("select pg_sleep(30)")

    in_parallel(10, work)


@WORKERS
def test_the_console_adds_up_over_workers(several, workers: int):
    daemon = several(workers)
    clients = [connect(daemon, number) for number in range(15)]
    for client in clients:
        client.execute("select 1")
    assert sum(row["database"].startswith("db") for row in daemon.admin("SHOW CLIENTS")) == 15
    pools = [row for row in daemon.admin("SHOW POOLS") if row["database"].startswith("db")]
    assert [int(row["cl_active"]) for row in pools] == [3] * 5
    assert daemon.metrics()["lifeguard_workers"] == workers
    for client in clients:
        client.close()


@WORKERS
def test_a_stop_waits_for_transactions_on_all_workers(several, workers: int):
    daemon = several(workers)
    clients = [connect(daemon, number) for number in range(10)]
    for client in clients:
        client.autocommit = False
        client.execute("select 1")
    idle = connect(daemon, 0)
    daemon.terminate()
    wait_until(lambda: idle.pgconn.socket >= 0 and is_gone(idle), "idle clients are closed")
    for client in clients:
        assert client.execute("select 2").fetchone() == (2,)
        client.commit()
        client.autocommit = True
        wait_until(lambda: is_gone(client), "a client is closed after its transaction")
    assert daemon.process.wait(20) == 0


def is_gone(connection: psycopg.Connection) -> bool:
    """Whether the other side has closed a connection."""
    try:
        connection.execute("select 1")
    except psycopg.OperationalError:
        return True
    return connection.closed


def stop_under_load(daemon: Lifeguard, count: int, work: Callable[[int, int], None]) -> None:
    """Runs `work(number, step)` over and over in threads, and stops the daemon meanwhile; it must not fail before that."""
    stopping = threading.Event()
    served: list[int] = []

    def repeat(number: int) -> None:
        for step in range(500):
            try:
                work(number, step)
            except (OSError, AssertionError, Closed):
                if stopping.is_set():
                    return
                raise
            served.append(number)

    with ThreadPoolExecutor(count) as threads:
        outcomes = [threads.submit(repeat, number) for number in range(count)]
        wait_until(lambda: len(served) > 40, "there is load")
        stopping.set()
        daemon.terminate()
        for outcome in outcomes:
            outcome.result()
    assert daemon.process.wait(20) == 0


@WORKERS
def test_a_stop_in_the_middle_of_logins_leaves_nobody_hanging(several, workers: int):
    daemon = several(workers)

    def work(number: int, step: int) -> None:
        with WireClient(daemon.port, {"user": "app", "database": f"db{number % 5}"}) as client:
            client.ask(query("select 1"))

    stop_under_load(daemon, 16, work)


@WORKERS
def test_a_reload_reaches_all_workers(several, workers: int):
    daemon = several(workers)
    clients = [connect(daemon, number) for number in range(5)]
    daemon.config.write_text(daemon.config.read_text().replace("pool_size = 5", "pool_size = 7"))
    daemon.reload()
    wait_until(lambda: {row["pool_size"] for row in daemon.admin("SHOW DATABASES")} == {"7"}, "the new size")
    for client in clients:
        client.execute("select 1")
        client.close()
    daemon.config.write_text(daemon.config.read_text().replace("[databases.db3]", "[databases.renamed]"))
    daemon.reload()
    wait_until(lambda: 'database "db3" does not exist' in refusal(daemon, 3), "the database is gone")


def refusal(daemon: Lifeguard, number: int) -> str:
    """What the login says; nothing where it succeeds."""
    try:
        connect(daemon, number).close()
    except psycopg.OperationalError as error:
        return str(error)
    return ""


# MARK: clients that move to the worker of their pool


@pytest.fixture
def guarded(several, certificates: Certificates, tmp_path: Path) -> Callable[[int], Lifeguard]:
    """Such a daemon that offers TLS and asks for SCRAM."""
    def start(workers: int) -> Lifeguard:
        userlist = secrets.write_userlist(tmp_path / "users", {"app": secrets.GOOD, "postgres": secrets.GOOD})
        daemon = several(
            workers, server=certificates.settings("prefer") | {"workers": workers}, admin={"users": ["postgres"]},
            auth={"method": "scram-sha-256", "file": userlist})
        daemon.console = {"password": secrets.GOOD}
        return daemon
    return start


def proof(client: WireClient, database: str, password: str = secrets.GOOD) -> bytes:
    """Goes through SCRAM up to the client's last message, which is for the caller to send."""
    scram = Scram(password)
    client.send(startup({"user": "app", "database": database}))
    # What is offered differs with TLS; what is chosen here does not.
    assert request(client.receive())[0] == SASL
    client.send(sasl_initial(scram.first))
    return frame(b"p", scram.final(request(client.receive())[1]))


def use_tls(client: WireClient) -> None:
    """Goes on in TLS, with whatever certificate."""
    request_tls(client)
    client.socket = unverified().wrap_socket(client.socket)


def numbers(client: WireClient, count: int) -> list[str | None]:
    """The single values that so many queries bring."""
    return [message.values[0] for _ in range(count) for message in client.until_ready() if message.kind == "D"]


@WORKERS
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_queries_behind_the_last_password_message_move_along(guarded, workers: int, tls: bool):
    daemon = guarded(workers)

    def work(number: int) -> None:
        with WireClient(daemon.port) as client:
            if tls:
                use_tls(client)
            last = proof(client, f"db{number % 5}")
            client.send(last, *(query(f"select {number + step}") for step in range(3)))
            client._finish_startup()
            assert numbers(client, 3) == [str(number + step) for step in range(3)]
            assert client.rows("select 'alive'") == [["alive"]]

    in_parallel(40, work)


@WORKERS
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_a_large_query_behind_the_last_password_message_moves_along(guarded, workers: int, tls: bool):
    daemon = guarded(workers)

    def work(number: int) -> None:
        with WireClient(daemon.port) as client:
            if tls:
                use_tls(client)
            last = proof(client, f"db{number % 5}")
            client.send(last, query(f"select length('{'x' * 1_000_000}')"), query("select 'behind'"))
            client._finish_startup()
            assert numbers(client, 2) == ["1000000", "behind"]

    in_parallel(10, work)


@WORKERS
def test_no_worker_lets_a_wrong_password_in(guarded, workers: int):
    daemon = guarded(workers)

    def work(number: int) -> None:
        for step in range(5):
            right = (number + step) % 2 == 0
            login = DRIVERS["psycopg"](parameters(
                daemon.port, "app", secrets.GOOD if right else secrets.WRONG, database=f"db{number % 5}",
                sslmode="require" if step % 2 else "disable"))
            assert login.user == ("app" if right else None), login

    in_parallel(20, work)
    wait_until(lambda: logs.count(daemon.log(), "login refused", reason="wrong password") == 50, "the log has all of them")


@WORKERS
def test_clients_that_leave_on_their_way_leave_nothing(guarded, workers: int):
    daemon = guarded(workers)

    def work(number: int) -> None:
        for step in range(10):
            with WireClient(daemon.port) as client:
                if number % 2:
                    use_tls(client)
                client.send(proof(client, f"db{step % 5}"), query("select 1"))
                if step % 2:
                    client.reset()

    in_parallel(16, work)
    wait_until(lambda: not [row for row in daemon.admin("SHOW CLIENTS") if row["database"].startswith("db")],
               "the clients are gone")
    for number in range(5):
        assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD, database=f"db{number}")).user == "app"


@WORKERS
def test_a_stop_in_the_middle_of_scram_leaves_nobody_hanging(guarded, workers: int):
    daemon = guarded(workers)

    def work(number: int, step: int) -> None:
        with WireClient(daemon.port) as client:
            if step % 2:
                use_tls(client)
            client.send(proof(client, f"db{number % 5}"), query("select 1"))
            client._finish_startup()
            assert numbers(client, 1) == ["1"]

    stop_under_load(daemon, 8, work)


@WORKERS
def test_a_new_userlist_reaches_all_workers(guarded, workers: int, tmp_path: Path):
    daemon = guarded(workers)

    def users(password: str) -> set[str | None]:
        return {DRIVERS["psycopg"](parameters(daemon.port, "app", password, database=f"db{number % 5}")).user
                for number in range(4 * workers)}

    assert users(secrets.GOOD) == {"app"}
    secrets.write_userlist(tmp_path / "users", {"app": secrets.OTHER, "postgres": secrets.GOOD})
    daemon.reload()
    wait_until(lambda: users(secrets.OTHER) == {"app"}, "the new password counts everywhere")
    assert users(secrets.GOOD) == {None}


@WORKERS
def test_counters_add_up_over_workers(several, workers: int):
    daemon = several(workers)

    def work(number: int) -> None:
        with WireClient(daemon.port, {"user": "app", "database": f"db{number % 5}"}) as client:
            for _ in range(10):
                client.rows("select 1")

    in_parallel(20, work)
    stats = {row["database"]: row for row in daemon.admin("SHOW STATS")}
    metrics = daemon.metrics()
    for number in range(5):
        row = stats[f"db{number}"]
        assert (row["total_query_count"], row["total_client_login_count"]) == ("40", "4")
        labels = f'{{database="db{number}",user="app"}}'
        assert metrics[f"lifeguard_pool_queries_total{labels}"] == 40
        assert metrics[f"lifeguard_pool_client_logins_total{labels}"] == 4
