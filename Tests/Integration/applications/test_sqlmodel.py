"""SQLModel, whose sessions are SQLAlchemy's."""

import asyncio

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import selectinload
from sqlmodel import Field, Relationship, Session, SQLModel, create_engine, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from kit.daemon import Lifeguard


class Team(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    heroes: list["Hero"] = Relationship(back_populates="team")


class Hero(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    age: int | None = None
    team_id: int | None = Field(default=None, foreign_key="team.id")
    team: Team | None = Relationship(back_populates="heroes")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_models_are_stored_and_read(service: Lifeguard, driver: str):
    engine = create_engine(service.url(driver))
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Team(name="divers", heroes=[Hero(name=f"hero {n}", age=n) for n in range(10)]))
        session.commit()
        session.add(Team(name="divers"))
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        heroes = session.exec(select(Hero).where(Hero.age > 6).order_by(Hero.name)).all()
        assert [hero.name for hero in heroes] == ["hero 7", "hero 8", "hero 9"]
        assert heroes[0].team.name == "divers"
    engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_models_are_stored_and_read_asynchronously(service: Lifeguard, driver: str):
    async def work() -> None:
        engine = create_async_engine(service.url(driver))
        async with engine.begin() as connection:
            await connection.run_sync(SQLModel.metadata.create_all)

        async def one(number: int) -> None:
            async with AsyncSession(engine) as session:
                session.add(Team(name=f"team {number}", heroes=[Hero(name=f"hero {number}")]))
                await session.commit()

        await asyncio.gather(*(one(number) for number in range(30)))
        async with AsyncSession(engine) as session:
            teams = (await session.exec(select(Team).options(selectinload(Team.heroes)))).all()
            assert {team.name: team.heroes[0].name for team in teams} == {f"team {n}": f"hero {n}" for n in range(30)}
            assert (await session.exec(select(func.count(Hero.id)))).one() == 30
        await engine.dispose()

    asyncio.run(work())
