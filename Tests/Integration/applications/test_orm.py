"""SQLAlchemy's ORM through every driver: objects, relationships, aggregates, batches, streams."""

from __future__ import annotations

import datetime
import decimal
import uuid

from models import Author, Book, Event, Mood
from sqlalchemy import Engine, MetaData, any_, bindparam, delete, func, insert, inspect, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, contains_eager, joinedload, selectinload

EVENT = {
    "at": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc),
    "amount": decimal.Decimal("1234567890.12"), "document": {"ä": [1, None, {"b": True}]}, "plain": [1, "zwei"],
    "numbers": [3, 1, 2], "mood": Mood.SAD, "raw": bytes(range(256)), "note": "snowman ☃ and 'quotes'",
}


def library(authors: int, books: int) -> list[Author]:
    """Authors, each with as many books; the titles say whose they are."""
    return [Author(name=f"author {a}", books=[Book(title=f"{a}.{b}", pages=b) for b in range(books)])
            for a in range(authors)]


# MARK: synchronous drivers


def test_objects_are_stored_changed_and_deleted(engine: Engine):
    with Session(engine) as session:
        session.add_all(library(20, 3))
        session.commit()
    with Session(engine) as session:
        author = session.scalars(select(Author).where(Author.name == "author 7")).one()
        assert sorted(book.title for book in author.books) == ["7.0", "7.1", "7.2"]
        author.name = "renamed"
        author.books.pop()
        session.commit()
        assert session.scalar(select(func.count()).select_from(Book)) == 59
        session.delete(author)
        session.commit()
        assert session.scalar(select(func.count()).select_from(Book)) == 57


def test_relationships_load_in_each_way(engine: Engine):
    with Session(engine) as session:
        session.add_all(library(30, 4))
        session.commit()
    expected = {f"author {a}": [f"{a}.{b}" for b in range(4)] for a in range(30)}
    for option in (selectinload(Author.books), joinedload(Author.books)):
        with Session(engine) as session:
            authors = session.scalars(select(Author).options(option)).unique().all()
        assert {author.name: sorted(book.title for book in author.books) for author in authors} == expected
    with Session(engine) as session:
        query = select(Author).join(Author.books).where(Book.pages == 3).options(contains_eager(Author.books))
        assert all(len(author.books) == 1 for author in session.scalars(query).unique())


def test_aggregates_and_windows(engine: Engine):
    with Session(engine) as session:
        session.add_all(library(5, 4))
        session.flush()
        query = (select(Author.name, func.count(Book.id), func.sum(Book.pages)).join(Book).group_by(Author.name)
                 .having(func.sum(Book.pages) > 5).order_by(Author.name))
        assert session.execute(query).all() == [(f"author {a}", 4, 6) for a in range(5)]
        rank = func.row_number().over(partition_by=Book.author_id, order_by=Book.pages.desc())
        ranked = select(Book.pages, rank.label("rank")).subquery()
        assert session.scalars(select(ranked.c.pages).where(ranked.c.rank == 1)).all() == [3] * 5


def test_batches_are_inserted_updated_and_deleted(engine: Engine):
    with Session(engine) as session, session.begin():
        session.execute(insert(Author), [{"id": n, "name": f"author {n}"} for n in range(1, 1201)])
        returned = session.scalars(insert(Book).returning(Book.id, sort_by_parameter_order=True), [
            {"title": f"book {n}", "author_id": n} for n in range(1, 1201)]).all()
        assert len(set(returned)) == 1200
        session.execute(update(Book), [{"id": book, "pages": n} for n, book in enumerate(returned)])
        assert session.scalar(select(func.sum(Book.pages))) == sum(range(1200))
        session.execute(update(Book).where(Book.pages < 100).values(pages=Book.pages + 1))
        assert session.scalar(select(func.sum(Book.pages))) == sum(range(1200)) + 100
        done = session.execute(delete(Book).where(Book.pages >= 1000))
        assert done.rowcount == 200
        statement = upsert(Author).values([{"id": 1, "name": "changed"}, {"id": 9999, "name": "new"}])
        session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"name": statement.excluded.name}))
        assert session.scalar(select(Author.name).where(Author.id == 1)) == "changed"
    with engine.begin() as connection:
        statement = update(Book).where(Book.id == bindparam("which")).values(title=bindparam("new"))
        connection.execute(statement, [{"which": book, "new": "x"} for book in returned[:200]])
        assert connection.scalar(select(func.count()).where(Book.title == "x")) == 200


def test_values_of_every_type_come_back_as_they_were(engine: Engine):
    name = uuid.uuid4()
    with Session(engine) as session:
        session.add(Event(id=name, **EVENT))
        session.commit()
    with Session(engine) as session:
        event = session.get(Event, name)
        assert {key: getattr(event, key) for key in EVENT} == EVENT
        query = select(Event.id).where(Event.document["ä"][2]["b"].as_boolean(), any_(Event.numbers) == 2,
                                       Event.mood == Mood.SAD, Event.note.is_not(None))
        assert session.scalars(query).all() == [name]


def test_the_catalog_is_reflected(engine: Engine):
    metadata = MetaData()
    metadata.reflect(engine)
    assert {"author", "book", "account", "event"} <= set(metadata.tables)
    assert [key.target_fullname for key in metadata.tables["book"].foreign_keys] == ["author.id"]
    assert inspect(engine).get_enums()[0]["labels"] == ["GLAD", "SAD"]


def test_many_rows_are_streamed(engine: Engine):
    with engine.begin() as connection:
        connection.execute(text("insert into author (name) select 'author ' || n from generate_series(1, 20000) n"))
    with Session(engine) as session:
        names = session.scalars(select(Author.name).execution_options(yield_per=500))
        assert sum(1 for _ in names) == 20_000
        objects = session.scalars(select(Author).order_by(Author.id).execution_options(yield_per=1000))
        assert [len(part) for part in objects.partitions()] == [1000] * 20
    with engine.connect().execution_options(stream_results=True, max_row_buffer=100) as connection:
        result = connection.execute(text("select id from author order by id"))
        assert [row.id for row in result.fetchmany(3)] == [1, 2, 3]
        result.close()
        assert connection.scalar(text("select count(*) from author where id < :n"), {"n": 11}) == 10


# MARK: asynchronous drivers


def test_objects_and_relationships_asynchronously(on_async_engine):
    async def work(engine: AsyncEngine) -> None:
        sessions = async_sessionmaker(engine, expire_on_commit=False)
        async with sessions.begin() as session:
            session.add_all(library(20, 3))
        async with sessions() as session:
            for option in (selectinload(Author.books), joinedload(Author.books)):
                authors = (await session.scalars(select(Author).options(option))).unique().all()
                assert sorted(len(author.books) for author in authors) == [3] * 20
                session.expunge_all()
            author = (await session.scalars(select(Author).where(Author.name == "author 3"))).one()
            assert sorted(book.pages for book in await session.run_sync(lambda _: author.books)) == [0, 1, 2]
            await session.delete(author)
            await session.commit()
            assert await session.scalar(select(func.count()).select_from(Book)) == 57

    on_async_engine(work)


def test_values_of_every_type_come_back_asynchronously(on_async_engine):
    async def work(engine: AsyncEngine) -> None:
        name = uuid.uuid4()
        async with AsyncSession(engine) as session:
            session.add(Event(id=name, **EVENT))
            await session.commit()
            event = await session.get(Event, name)
            await session.refresh(event)
            assert {key: getattr(event, key) for key in EVENT} == EVENT

    on_async_engine(work)


def test_batches_asynchronously(on_async_engine):
    async def work(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(insert(Author), [{"id": n, "name": f"author {n}"} for n in range(1, 2001)])
            await session.execute(update(Author), [{"id": n, "name": f"writer {n}"} for n in range(1, 501)])
            done = await session.execute(delete(Author).where(Author.name.like("writer%")))
            assert done.rowcount == 500
            assert await session.scalar(select(func.count()).select_from(Author)) == 1500

    on_async_engine(work)


def test_many_rows_are_streamed_asynchronously(on_async_engine):
    async def work(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.execute(
                text("insert into author (name) select 'author ' || n from generate_series(1, 20000) n"))
        async with AsyncSession(engine) as session:
            stream = await session.stream_scalars(select(Author).order_by(Author.id).execution_options(yield_per=1000))
            assert [len(part) async for part in stream.partitions()] == [1000] * 20
            rows = await session.stream(select(Author.id, Author.name).execution_options(yield_per=777))
            assert len({row.id async for row in rows}) == 20_000
        async with engine.connect() as connection:
            result = await connection.stream(text("select n from generate_series(1, :last) n"), {"last": 5000})
            assert [number async for number in result.scalars()] == list(range(1, 5001))

    on_async_engine(work)
