"""The rules of SQLAlchemy's QueuePool, kept by the daemon for applications that have no pool of their own any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool, QueuePool

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.sampling import Sampler
from kit.waiting import wait_until

ONE = text("select 1")
BACKEND = text("select pg_backend_pid()")


@contextmanager
def no_pool(daemon: Lifeguard) -> Iterator[Engine]:
    """An engine without a pool."""
    engine = create_engine(daemon.url("psycopg"), poolclass=NullPool)
    yield engine
    engine.dispose()


def held(engine: Engine, stack: ExitStack) -> int:
    """Opens a transaction that stays open with the stack; its backend's process id."""
    connection = stack.enter_context(engine.connect())
    return connection.scalar(BACKEND)


def status(daemon: Lifeguard) -> dict[str, int]:
    """The numbers of `pool.status()`, from the daemon."""
    row = daemon.pool()
    return {"size": int(row["pool_size"]), "idle": int(row["sv_idle"]), "checked out": int(row["sv_active"]),
            "overflow": int(row["overflow"])}


def status_of(pool: QueuePool) -> dict[str, int]:
    """The same from SQLAlchemy, whose overflow begins at minus `pool_size`."""
    return {"size": pool.size(), "idle": pool.checkedin(), "checked out": pool.checkedout(),
            "overflow": max(0, pool.overflow())}


def test_numbers_equal_those_of_pool_status(lifeguard, postgres: PostgreSQL):
    """The same load on SQLAlchemy's own pool, directly, and on the daemon's: up, down, up again."""
    daemon = lifeguard(pool={"pool_size": 3, "max_overflow": 4, "overflow_linger": 0})
    own = create_engine(f"postgresql+psycopg://app@127.0.0.1:{postgres.port}/app", pool_size=3, max_overflow=4)
    with no_pool(daemon) as engine, ExitStack() as everything:
        open_here: list[ExitStack] = []
        for wanted in (1, 3, 5, 7, 4, 2, 0, 6, 3, 0):
            while len(open_here) < wanted:
                stack = everything.enter_context(ExitStack())
                held(engine, stack)
                held(own, stack)
                open_here.append(stack)
            while len(open_here) > wanted:
                open_here.pop().close()
            expected = status_of(own.pool)
            wait_until(lambda: status(daemon) == expected, f"{wanted} are open: {expected}, not {status(daemon)}")
    own.dispose()


def test_a_wait_that_runs_out_has_the_same_words(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 1, "pool_timeout": "0.2s"})
    own = create_engine(f"postgresql+psycopg://app@127.0.0.1:{postgres.port}/app", pool_size=1, max_overflow=1,
                        pool_timeout=0.2)
    with no_pool(daemon) as engine, ExitStack() as stack:
        for _ in range(2):
            held(engine, stack)
            held(own, stack)
        with pytest.raises(PoolTimeout) as theirs:
            own.connect()
        waiting = stack.enter_context(engine.connect())
        began = time.monotonic()
        with pytest.raises(DBAPIError) as ours:
            waiting.execute(ONE)
        assert 0.2 <= time.monotonic() - began < 5
        words = str(theirs.value).split(" (Background")[0].removeprefix("QueuePool ")
        assert words == "limit of size 1 overflow 1 reached, connection timed out, timeout 0.20"
        assert f'pool "app/app" {words} s' in str(ours.value)
        assert ours.value.orig.sqlstate == "53300"
        # It was no lost connection: the same one works as soon as there is room.
        assert not ours.value.connection_invalidated
        waiting.rollback()
        stack.pop_all().close()
    own.dispose()


def test_size_and_overflow_are_a_bound_for_500_clients(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(pool={"pool_size": 5, "max_overflow": 10})
    with Sampler(postgres) as sampler:
        clients = [psycopg.connect(daemon.conninfo(), autocommit=True) for _ in range(500)]
        answers: list[int] = []

        def work(own: list[psycopg.Connection]) -> None:
            for _ in range(3):
                for client in own:
                    answers.append(client.execute("select 1").fetchone()[0])

        threads = [threading.Thread(target=work, args=[clients[n::20]]) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for client in clients:
            client.close()
    assert len(answers) == 1500
    assert 0 < sampler.highest <= 15


@pytest.mark.parametrize("use_lifo", [True, False], ids=["LIFO", "FIFO"])
def test_idle_connections_are_taken_in_the_order_of_sqlalchemy(lifeguard, postgres: PostgreSQL, use_lifo: bool):
    daemon = lifeguard(pool={"pool_size": 3, "max_overflow": 0, "use_lifo": use_lifo})
    own = create_engine(f"postgresql+psycopg://app@127.0.0.1:{postgres.port}/app", pool_size=3, max_overflow=0,
                        pool_use_lifo=use_lifo)

    def order(engine: Engine) -> list[int]:
        """Which of three connections, by the order in which they were given back, the next six transactions get."""
        with ExitStack() as first, ExitStack() as second, ExitStack() as third:
            backends = [held(engine, stack) for stack in (first, second, third)]
            assert len(set(backends)) == 3
            for stack in (second, first, third):
                stack.close()
        given_back = [backends[1], backends[0], backends[2]]
        taken = []
        for _ in range(6):
            with engine.connect() as connection:
                taken.append(given_back.index(connection.scalar(BACKEND)))
        return taken

    with no_pool(daemon) as engine:
        assert order(engine) == order(own) == ([2] * 6 if use_lifo else [0, 1, 2] * 2)
    own.dispose()


def test_old_connections_are_recycled(lifeguard):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pool_recycle": "0.3s"})
    with no_pool(daemon) as engine:
        def backend() -> int:
            with engine.connect() as connection:
                return connection.scalar(BACKEND)

        first = backend()
        wait_until(lambda: backend() != first, "a new connection")
        # In a transaction none is replaced, however old.
        with engine.connect() as connection:
            inside = connection.scalar(BACKEND)
            connection.execute(text("select pg_sleep(0.6)"))
            assert connection.scalar(BACKEND) == inside


def test_pre_ping_hides_a_restart_of_the_server(lifeguard, own_postgres: PostgreSQL):
    """No client error, neither without a pool in the application nor with one that never pings."""
    daemon = lifeguard(upstream=own_postgres)
    pooled = create_engine(daemon.url("psycopg"), pool_size=5)
    with no_pool(daemon) as engine:
        def ask() -> None:
            for each in (engine, pooled):
                with each.connect() as connection:
                    assert connection.scalar(ONE) == 1

        ask()
        with ExitStack() as stack:
            for _ in range(5):
                held(pooled, stack)
        for how in ("fast", "immediate", "fast"):
            own_postgres.restart(how)
            for _ in range(6):
                ask()
    pooled.dispose()


def test_a_server_that_is_away_makes_transactions_wait(lifeguard, own_postgres: PostgreSQL):
    daemon = lifeguard(upstream=own_postgres)
    answers: list[int] = []
    with no_pool(daemon) as engine:
        def work() -> None:
            with engine.begin() as connection:
                answers.append(connection.scalar(ONE))

        work()
        own_postgres.stop()
        threads = [threading.Thread(target=work) for _ in range(20)]
        for thread in threads:
            thread.start()
        wait_until(lambda: daemon.pool()["cl_waiting"] == "20", "all wait")
        own_postgres.start()
        for thread in threads:
            thread.join(30)
    assert answers == [1] * 21


def test_a_lost_transaction_is_one_error_and_the_pool_stays(lifeguard, postgres: PostgreSQL):
    """SQLAlchemy's pool keeps its connection, as the daemon's error says nothing of a lost one."""
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    engine = create_engine(daemon.url("psycopg"), pool_size=1, max_overflow=0)
    with engine.connect() as connection:
        backend = connection.scalar(BACKEND)
        postgres.psql(f"select pg_terminate_backend({backend}, 10000)")
        with pytest.raises(DBAPIError) as caught:
            connection.execute(ONE)
        assert caught.value.orig.sqlstate == "40001"
        assert not caught.value.connection_invalidated
        connection.rollback()
        assert connection.scalar(ONE) == 1
    engine.dispose()


@pytest.mark.parametrize("released", ["commit", "rollback", "close"])
def test_a_freed_connection_wakes_the_one_that_waits_longest(lifeguard, released: str):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0})
    order: list[int] = []
    with no_pool(daemon) as engine:
        holder = engine.connect()
        holder.execute(ONE)

        def work(number: int) -> None:
            with engine.begin() as connection:
                connection.execute(ONE)
                order.append(number)

        threads = [threading.Thread(target=work, args=[number]) for number in range(5)]
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda: daemon.pool()["cl_waiting"] == str(number + 1), "it waits")
        getattr(holder, released)()
        for thread in threads:
            thread.join(20)
        holder.close()
    assert order == list(range(5))
