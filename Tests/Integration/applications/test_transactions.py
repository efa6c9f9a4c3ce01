"""Transactions of SQLAlchemy: savepoints, isolation levels, conflicts, locks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from conflicts import sqlstate, transfer_at_once
from models import Account, Author, Base, Book
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.waiting import wait_until


def names(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return list(session.scalars(select(Author.name).order_by(Author.name)))


# MARK: begin, commit, rollback


def test_begin_commits_and_autobegin_rolls_back(engine: Engine):
    with engine.begin() as connection:
        connection.execute(text("insert into author (name) values ('by begin')"))
    with engine.connect() as connection:
        connection.execute(text("insert into author (name) values ('without commit')"))
        assert connection.in_transaction()
    with engine.connect() as connection:
        connection.execute(text("insert into author (name) values ('by commit')"))
        connection.commit()
        connection.execute(text("insert into author (name) values ('after it')"))
        connection.rollback()
    assert names(engine) == ["by begin", "by commit"]


def test_an_exception_rolls_back(engine: Engine):
    with pytest.raises(ZeroDivisionError), Session(engine) as session, session.begin():
        session.add(Author(name="lost"))
        session.flush()
        raise ZeroDivisionError
    with Session(engine) as session:
        session.add(Author(name="kept"))
        session.commit()
        session.add(Author(name="kept"))
        with pytest.raises(IntegrityError) as caught:
            session.commit()
        assert sqlstate(caught.value) == "23505"
        session.rollback()
        session.add(Author(name="after it"))
        session.commit()
    assert names(engine) == ["after it", "kept"]


def test_an_inner_savepoint_fails_and_the_outer_goes_on(engine: Engine):
    with Session(engine) as session, session.begin():
        session.add(Author(name="outer"))
        with session.begin_nested():
            session.add(Author(name="first"))
            session.flush()
            with pytest.raises(IntegrityError), session.begin_nested():
                session.add(Author(name="outer"))
                session.flush()
            session.add(Author(name="second"))
        savepoint = session.begin_nested()
        session.add(Author(name="taken back"))
        session.flush()
        savepoint.rollback()
    assert names(engine) == ["first", "outer", "second"]


class Authors:
    """One repository of a unit of work; the other is `Books`."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def named(self, name: str) -> Author:
        found = self.session.scalars(select(Author).where(Author.name == name)).one_or_none()
        if found is None:
            found = Author(name=name)
            self.session.add(found)
            self.session.flush()
        return found


class Books:
    def __init__(self, session: Session) -> None:
        self.session = session

    def publish(self, author: Author, title: str) -> None:
        if not title:
            raise ValueError("a book needs a title")
        self.session.add(Book(author_id=author.id, title=title))
        self.session.flush()


class UnitOfWork:
    """Both repositories in one transaction."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def __enter__(self) -> UnitOfWork:
        self.session = self._sessions()
        self.authors, self.books = Authors(self.session), Books(self.session)
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        if kind is None:
            self.session.commit()
        self.session.close()


def test_a_unit_of_work_is_one_transaction(engine: Engine):
    sessions = sessionmaker(engine)
    for author, titles in (("Ann", ["one", "two"]), ("Bob", ["three", ""]), ("Ann", ["four"])):
        try:
            with UnitOfWork(sessions) as work:
                for title in titles:
                    work.books.publish(work.authors.named(author), title)
        except ValueError:
            assert author == "Bob"
    with sessions() as session:
        query = select(Author.name, func.count(Book.id)).join(Book).group_by(Author.name)
        assert session.execute(query).all() == [("Ann", 3)]


def test_many_units_of_work_at_once(engine: Engine):
    """15 threads on 3 + 2 server connections: each thread's transactions are its own."""
    def work(number: int) -> None:
        with Session(engine) as session, session.begin():
            author = Author(name=f"author {number}")
            session.add(author)
            session.flush()
            session.add(Book(title=str(number), author=author))
            if number % 5 == 0:
                session.flush()
                session.rollback()

    with ThreadPoolExecutor(15) as pool:
        list(pool.map(work, range(100)))
    with Session(engine) as session:
        rows = session.execute(select(Author.name, Book.title).join(Book)).all()
    assert sorted(rows) == sorted((f"author {n}", str(n)) for n in range(100) if n % 5)


# MARK: isolation levels


def test_isolation_levels_of_an_engine(engine: Engine):
    query = text("show transaction_isolation")
    for level in ("SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"):
        with engine.execution_options(isolation_level=level).connect() as connection:
            assert connection.scalar(query) == level.lower()
            connection.commit()
            assert connection.scalar(query) == level.lower()
    with engine.connect() as connection:
        assert connection.scalar(query) == "read committed"


def test_isolation_levels_of_a_connection_and_a_session(engine: Engine):
    query = text("show transaction_isolation")
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        assert connection.scalar(query) == "repeatable read"
    with Session(engine) as session:
        session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        assert session.scalar(query) == "serializable"
        session.commit()
        assert session.scalar(query) == "read committed"


def test_isolation_levels_by_statement(engine: Engine):
    for statement, level in (("set transaction isolation level serializable", "serializable"),
                             ("set transaction isolation level repeatable read", "repeatable read")):
        with engine.begin() as connection:
            connection.execute(text(statement))
            assert connection.scalar(text("show transaction_isolation")) == level
        with engine.begin() as connection:
            assert connection.scalar(text("show transaction_isolation")) == "read committed"


def test_autocommit_runs_what_no_transaction_may(engine: Engine):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum author"))
        connection.execute(text("insert into author (name) values ('at once')"))
    assert names(engine) == ["at once"]


@pytest.fixture(params=["psycopg", "psycopg2", "pg8000"])
def accounts(service: Lifeguard, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine of each synchronous driver, and two accounts of 100 each."""
    engine = create_engine(service.url(request.param))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Account(id=1, balance=100), Account(id=2, balance=100)])
    yield engine
    engine.dispose()


def test_serialization_conflicts_are_retried_to_the_end(accounts: Engine):
    transfer_at_once(accounts)


def test_a_write_skew_is_refused(accounts: Engine):
    """The textbook interleaving, step by step: exactly the second commit fails, with 40001."""
    serializable = accounts.execution_options(isolation_level="SERIALIZABLE")
    with Session(serializable) as first, Session(serializable) as second:
        assert first.scalar(select(func.sum(Account.balance))) == 200
        assert second.scalar(select(func.sum(Account.balance))) == 200
        first.get(Account, 1).balance -= 150
        second.get(Account, 2).balance -= 150
        first.commit()
        with pytest.raises(DBAPIError) as caught:
            second.commit()
        assert sqlstate(caught.value) == "40001"
        second.rollback()
        assert second.scalar(select(func.sum(Account.balance))) == 50


def test_optimistic_locking_notices_another_writer(accounts: Engine):
    with Session(accounts) as first, Session(accounts) as second:
        mine, theirs = first.get(Account, 1), second.get(Account, 1)
        mine.balance, theirs.balance = 1, 2
        first.commit()
        with pytest.raises(StaleDataError):
            second.commit()
        second.rollback()
        assert second.get(Account, 1).balance == 1


def test_row_locks_do_not_wait_when_they_should_not(accounts: Engine):
    with Session(accounts) as holder, Session(accounts) as other:
        holder.scalars(select(Account).where(Account.id == 1).with_for_update()).one()
        with pytest.raises(DBAPIError) as caught:
            other.scalars(select(Account).where(Account.id == 1).with_for_update(nowait=True)).one()
        assert sqlstate(caught.value) == "55P03"
        other.rollback()
        assert other.scalars(select(Account.id).with_for_update(skip_locked=True)).all() == [2]
        holder.rollback()
        assert other.scalars(select(Account.id).with_for_update(skip_locked=True).order_by(Account.id)).all() == [1, 2]


def test_a_deadlock_is_reported_as_such(accounts: Engine):
    meeting = threading.Barrier(2, timeout=20)

    def lock_both(first: int, second: int) -> str | None:
        try:
            with Session(accounts) as session, session.begin():
                session.scalars(select(Account).where(Account.id == first).with_for_update()).one()
                meeting.wait()
                session.scalars(select(Account).where(Account.id == second).with_for_update()).one()
        except DBAPIError as error:
            return sqlstate(error)
        return None

    with ThreadPoolExecutor(2) as pool:
        answers = [done.result(30) for done in [pool.submit(lock_both, 1, 2), pool.submit(lock_both, 2, 1)]]
    assert sorted(answers, key=str) == ["40P01", None]


# MARK: asynchronous drivers


def test_transactions_asynchronously(on_async_engine):
    async def work(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            session.add(Author(name="kept"))
            await session.commit()
            session.add(Author(name="kept"))
            with pytest.raises(IntegrityError) as caught:
                await session.commit()
            assert sqlstate(caught.value) == "23505"
            await session.rollback()
            async with session.begin():
                session.add(Author(name="outer"))
                with pytest.raises(IntegrityError):
                    async with session.begin_nested():
                        session.add(Author(name="kept"))
            with pytest.raises(ZeroDivisionError):
                async with session.begin():
                    session.add(Author(name="lost"))
                    await session.flush()
                    raise ZeroDivisionError
            assert (await session.scalars(select(Author.name).order_by(Author.name))).all() == ["kept", "outer"]

    on_async_engine(work)


def test_isolation_levels_asynchronously(on_async_engine):
    async def work(engine: AsyncEngine) -> None:
        query = text("show transaction_isolation")
        for level in ("SERIALIZABLE", "REPEATABLE READ"):
            async with engine.execution_options(isolation_level=level).connect() as connection:
                assert await connection.scalar(query) == level.lower()
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("vacuum author"))
        async with AsyncSession(engine) as session:
            await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
            assert await session.scalar(query) == "serializable"
            await session.commit()
            assert await session.scalar(query) == "read committed"

    on_async_engine(work)


def test_many_sessions_at_once_asynchronously(on_async_engine):
    async def work(engine: AsyncEngine) -> None:
        places = asyncio.Semaphore(50)

        async def one(number: int) -> None:
            async with places, AsyncSession(engine) as session, session.begin():
                session.add(Author(name=f"author {number}"))
                await session.flush()
                if number % 5 == 0:
                    await session.rollback()

        await asyncio.gather(*(one(number) for number in range(200)))
        async with AsyncSession(engine) as session:
            assert await session.scalar(select(func.count()).select_from(Author)) == 160

    on_async_engine(work)


def test_a_cancelled_task_leaves_no_transaction_open(on_async_engine, service: Lifeguard, postgres: PostgreSQL):
    async def work(engine: AsyncEngine) -> None:
        async def slow() -> None:
            async with AsyncSession(engine) as session, session.begin():
                session.add(Author(name="cancelled"))
                await session.flush()
                await session.execute(text("select pg_sleep(60)"))

        task = asyncio.create_task(slow())
        await asyncio.to_thread(wait_for_sleepers, postgres, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_for_sleepers, postgres, 0)
        async with AsyncSession(engine) as session:
            assert await session.scalar(select(func.count()).select_from(Author)) == 0

    on_async_engine(work)


def wait_for_sleepers(postgres: PostgreSQL, count: int) -> None:
    sql = ("select count(*) from pg_stat_activity where usename = 'app' and state <> 'idle' "
           "and query like '%pg_sleep(60)%'")
    wait_until(lambda: int(postgres.psql(sql)) == count, f"{count} sleep")
