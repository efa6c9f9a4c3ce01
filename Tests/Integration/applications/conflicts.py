"""Transactions that conflict with each other, and are done again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from models import Account
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session


def sqlstate(error: DBAPIError) -> str:
    """The code of an error; each driver has it in a place of its own."""
    original = error.orig
    found = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return found or original.args[0]["C"]


def transfer_at_once(engine: Engine) -> None:
    """40 transactions from 6 threads on accounts 1 and 2 with 100 each. Every one reads both and writes one: two of
    these at once are not serializable, so that one of them fails and is done again."""
    serializable = engine.execution_options(isolation_level="SERIALIZABLE")

    def transfer(number: int) -> None:
        while True:
            try:
                with Session(serializable) as session, session.begin():
                    total = session.scalar(select(func.sum(Account.balance)))
                    account = session.get(Account, 1 + number % 2)
                    account.balance += total % 7 + 1
                return
            except DBAPIError as error:
                if sqlstate(error) not in ("40001", "40P01"):
                    raise

    # What each adds depends on the sum alone, so that every order comes to the same.
    total = 200
    for _ in range(40):
        total += total % 7 + 1
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(transfer, range(40)))
    with Session(engine) as session:
        assert dict(session.execute(select(Account.id, Account.version)).all()) == {1: 21, 2: 21}
        assert session.scalar(select(func.sum(Account.balance))) == total
