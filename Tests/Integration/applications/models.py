"""The tables of a small service, as SQLAlchemy's ORM has them."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid

from sqlalchemy import JSON, DateTime, Enum, ForeignKey, LargeBinary, Numeric
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import Integer


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
    pages: Mapped[int] = mapped_column(default=100)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


class Account(Base):
    """Optimistic locking: an update of a row whose version has changed meanwhile fails."""

    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Mood(enum.Enum):
    GLAD = "glad"
    SAD = "sad"


class Event(Base):
    """One column of each kind that drivers treat in a way of their own; asyncpg looks up the enum's type by itself."""

    __tablename__ = "event"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True))
    amount: Mapped[decimal.Decimal] = mapped_column(Numeric(12, 2))
    document: Mapped[dict] = mapped_column(JSONB)
    plain: Mapped[list] = mapped_column(JSON)
    numbers: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    mood: Mapped[Mood] = mapped_column(Enum(Mood))
    raw: Mapped[bytes] = mapped_column(LargeBinary)
    note: Mapped[str | None]
