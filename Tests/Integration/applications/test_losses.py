"""Applications whose server connections are killed at random: what the errors say of each transaction is true."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from conflicts import sqlstate
from models import Account, Author, Base
from sqlalchemy import create_engine, func, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import spawn
from kit.waiting import wait_until


class Killer:
    """Ends one of user app's backends after the other, whatever it is doing, until it is told to stop."""

    def __init__(self, postgres: PostgreSQL, seed: int) -> None:
        self.killed = 0
        self._random = random.Random(seed)
        self._connection = psycopg.connect(postgres.superuser(), autocommit=True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self._stop.wait(self._random.uniform(0.002, 0.02)):
            backends = self._connection.execute("select pid from pg_stat_activity where usename = 'app'").fetchall()
            if backends:
                # It waits for the backend's end (ms): none dies after the killer has stopped.
                self._connection.execute("select pg_terminate_backend(%s, 10000)", self._random.choice(backends))
                self.killed += 1

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(20)
        self._connection.close()


@pytest.fixture(params=[{}, {"poolclass": NullPool}], ids=["its own pool", "NullPool"])
def pool(request: pytest.FixtureRequest) -> Iterator[dict]:
    return request.param


def test_no_committed_transaction_is_lost_and_none_is_done_twice(service: Lifeguard, postgres: PostgreSQL, pool: dict):
    """Each transaction inserts a row with a number of its own and adds one to an account. Committed: the row is there,
    once. 40001: it is not. 40003: it may be. The account counts the rows."""
    engine = create_engine(service.url("psycopg"), **pool)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Account(id=1, balance=0))
    numbers = itertools.count()
    committed: list[int] = []
    undone: list[int] = []
    unknown: list[int] = []

    def work(_: int) -> None:
        number = next(numbers)
        try:
            with Session(engine) as session, session.begin():
                session.execute(insert(Author).values(name=str(number)))
                session.execute(update(Account).values(balance=Account.balance + 1))
        except DBAPIError as error:
            {"40001": undone, "40003": unknown}[sqlstate(error)].append(number)
        else:
            committed.append(number)

    with Killer(postgres, seed=7) as killer, ThreadPoolExecutor(8) as workers:
        for _ in range(100):
            list(workers.map(work, range(20)))
            if len(undone) >= 10 and len(committed) >= 200:
                break
    with Session(engine) as session:
        names = [int(name) for name in session.scalars(select(Author.name))]
        assert session.scalar(select(Account.balance)) == session.scalar(select(func.count()).select_from(Author))
    engine.dispose()
    assert killer.killed and len(undone) >= 10 and len(committed) >= 200
    assert set(committed) <= set(names), "a committed transaction is lost"
    assert not set(undone) & set(names), "40001, and yet it is there"
    assert set(names) <= set(committed) | set(unknown)


WRITER = '''
import sys
from sqlalchemy import create_engine, text

engine = create_engine(sys.argv[1])
connection = engine.connect()
connection.execute(text("insert into author (name) values ('of a process that is gone')"))
print("written", flush=True)
sys.stdin.read()
'''


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_a_process_that_is_killed_leaves_no_row_and_no_transaction(
        service: Lifeguard, postgres: PostgreSQL, driver: str):
    engine = create_engine(service.url("psycopg"))
    Base.metadata.create_all(engine)
    process = spawn([sys.executable, "-c", WRITER, service.url(driver)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"written\n"
    process.kill()
    process.communicate()
    open_ones = "select count(*) from pg_stat_activity where usename = 'app' and state <> 'idle'"
    wait_until(lambda: postgres.psql(open_ones) == "0", "no transaction is open")
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Author)) == 0
    engine.dispose()
