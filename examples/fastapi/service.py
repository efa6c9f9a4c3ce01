"""A small service on FastAPI and SQLAlchemy behind Lifeguard.

What the settings of a pool were for (size, overflow, waiting, recycling, pinging) is done once, in front of the database.
The engine here has one setting: no limit of its own, since connections to Lifeguard cost next to nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

URL = os.environ.get("DATABASE_URL", "postgresql+asyncpg://app@127.0.0.1:6432/app")

engine = create_async_engine(URL, pool_size=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "example_author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list[Book]] = relationship()


class Book(Base):
    __tablename__ = "example_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("example_author.id"))


class BookData(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    title: str


class NewAuthor(BaseModel):
    name: str
    books: list[BookData] = []


class AuthorData(NewAuthor):
    model_config = ConfigDict(from_attributes=True)
    id: int


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        # Several processes may start at once; the lock ends with the transaction, so nothing is pinned.
        await connection.execute(text("select pg_advisory_xact_lock(6432)"))
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


async def session() -> AsyncIterator[AsyncSession]:
    """One transaction a request: committed when the handler is done, rolled back when it failed or was cancelled."""
    async with sessions.begin() as opened:
        yield opened


# Committed before the answer is sent, so that a failed commit is an error of the request.
Transaction = Annotated[AsyncSession, Depends(session, scope="function")]

app = FastAPI(title="Lifeguard's example", lifespan=lifespan)


@app.post("/authors", status_code=201)
async def create(data: NewAuthor, session: Transaction) -> AuthorData:
    author = Author(name=data.name, books=[Book(title=book.title) for book in data.books])
    session.add(author)
    try:
        await session.flush()
    except IntegrityError:
        raise HTTPException(409, f"there is an author {data.name!r}") from None
    return AuthorData.model_validate(author)


@app.get("/authors/{author_id}")
async def read(author_id: int, session: Transaction) -> AuthorData:
    author = await session.get(Author, author_id, options=[selectinload(Author.books)])
    if author is None:
        raise HTTPException(404)
    return AuthorData.model_validate(author)


@app.get("/titles")
async def titles() -> StreamingResponse:
    """All titles, one a line, as the server gives them: neither side holds them all."""
    async def lines() -> AsyncIterator[str]:
        async with sessions() as session:
            rows = await session.stream_scalars(select(Book.title).order_by(Book.id).execution_options(yield_per=1000))
            async for title in rows:
                yield f"{title}\n"

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/slow")
async def slow(seconds: float, session: Transaction, limit: float = 5) -> str:
    """A query with a limit of time: what runs longer is cancelled in the server too."""
    try:
        async with asyncio.timeout(limit):
            await session.execute(text("select pg_sleep(:seconds)"), {"seconds": seconds})
    except TimeoutError:
        raise HTTPException(504, f"not within {limit:g} s") from None
    return "done"
