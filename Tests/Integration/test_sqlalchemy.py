"""SQLAlchemy 2 with its three drivers. Each test runs in session and in transaction mode."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import NullPool

from kit.daemon import Lifeguard


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list[Book]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


@pytest.fixture(params=["session", "transaction"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server(lifeguard, mode: str) -> Lifeguard:
    return lifeguard(pool={"mode": mode, "pool_size": 3, "max_overflow": 2})


@pytest.fixture(params=["psycopg", "psycopg2"])
def engine(server: Lifeguard, mode: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    # Statements that the server keeps between transactions are not for transaction mode.
    arguments = {"prepare_threshold": None} if request.param == "psycopg" and mode == "transaction" else {}
    engine = create_engine(server.url(request.param), connect_args=arguments)
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


def test_orm_insert_and_select(engine: Engine):
    with Session(engine) as session:
        session.add_all(Author(name=f"author {a}", books=[Book(title=f"{a}.{b}") for b in range(3)]) for a in range(20))
        session.commit()
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Book)) == 60
        author = session.scalars(select(Author).where(Author.name == "author 7")).one()
        assert sorted(book.title for book in author.books) == ["7.0", "7.1", "7.2"]
        session.delete(author)
        session.commit()
        assert session.scalar(select(func.count()).select_from(Book)) == 57


def test_rollback_and_error(engine: Engine):
    with Session(engine) as session:
        session.add(Author(name="kept"))
        session.commit()
        session.add(Author(name="thrown away"))
        session.flush()
        session.rollback()
        session.add(Author(name="kept"))
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        assert session.scalars(select(Author.name)).all() == ["kept"]


def test_savepoint(engine: Engine):
    with Session(engine) as session, session.begin():
        session.add(Author(name="outer"))
        session.flush()
        for name in ("outer", "inner"):
            try:
                with session.begin_nested():
                    session.add(Author(name=name))
            except IntegrityError:
                assert name == "outer"
    with Session(engine) as session:
        assert session.scalars(select(Author.name).order_by(Author.name)).all() == ["inner", "outer"]


def test_many_threads_on_its_own_pool(engine: Engine, mode: str):
    """SQLAlchemy's pool of 5 + 10 connections on top of a pool of 3 + 2."""
    def work(number: int) -> int:
        with Session(engine) as session, session.begin():
            session.add(Author(name=f"worker {number}"))
        return number

    # In session mode a client keeps its connection: no more threads than connections then.
    threads = 5 if mode == "session" else 15
    with ThreadPoolExecutor(threads) as pool:
        assert sorted(pool.map(work, range(100))) == list(range(100))
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Author)) == 100


def test_isolation_levels_and_autocommit(engine: Engine):
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        assert connection.scalar(text("show transaction_isolation")) == "serializable"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum author"))
        assert connection.scalar(text("show transaction_isolation")) == "read committed"


def test_server_side_cursor(engine: Engine):
    with engine.connect().execution_options(stream_results=True, max_row_buffer=10) as connection:
        result = connection.execute(text("select * from generate_series(1, 1000)"))
        assert sum(row[0] for row in result) == 500500


# MARK: asyncpg


async def _asynchronous(engine: AsyncEngine, at_once: int) -> None:
    """What services do; in the end 50 sessions, `at_once` of them at a time."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    try:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            session.add_all(Author(name=f"author {a}", books=[Book(title=f"{a}.{b}") for b in range(3)])
                            for a in range(5))
            await session.commit()
            session.add(Author(name="thrown away"))
            await session.flush()
            await session.rollback()
            session.add(Author(name="author 1"))
            with pytest.raises(IntegrityError):
                await session.commit()
            await session.rollback()
            async with session.begin():
                try:
                    async with session.begin_nested():
                        session.add(Author(name="author 1"))
                except IntegrityError:
                    session.add(Author(name="after savepoint"))
            names = (await session.scalars(select(Author.name).order_by(Author.name))).all()
            assert names == ["after savepoint", *(f"author {a}" for a in range(5))]
            assert await session.scalar(select(func.count()).select_from(Book)) == 15

        places = asyncio.Semaphore(at_once)

        async def one(number: int) -> int:
            async with places, AsyncSession(engine) as session:
                return await session.scalar(text("select :n + 1"), {"n": number})

        assert await asyncio.gather(*(one(number) for number in range(50))) == list(range(1, 51))
    finally:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await engine.dispose()


def test_asyncpg_in_session_mode(lifeguard):
    daemon = lifeguard(pool={"mode": "session"})
    asyncio.run(_asynchronous(create_async_engine(daemon.url("asyncpg")), at_once=50))


def test_asyncpg_in_transaction_mode(lifeguard):
    """With the arguments that SQLAlchemy's documentation gives for poolers."""
    daemon = lifeguard(pool={"pool_size": 3, "max_overflow": 2})
    engine = create_async_engine(
        daemon.url("asyncpg"), poolclass=NullPool, connect_args={
            "statement_cache_size": 0, "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: f"__asyncpg_{uuid.uuid4()}__"})
    asyncio.run(_asynchronous(engine, at_once=50))


@pytest.mark.parametrize("pool", [{}, {"poolclass": NullPool}], ids=["its own pool", "NullPool"])
def test_asyncpg_in_transaction_mode_as_it_comes(lifeguard, pool: dict):
    """No caches turned off, no name functions."""
    daemon = lifeguard(pool={"pool_size": 3, "max_overflow": 2})
    asyncio.run(_asynchronous(create_async_engine(daemon.url("asyncpg"), **pool), at_once=50))
