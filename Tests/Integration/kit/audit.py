"""An account of transactions: what clients were told of each, and what is there of it."""

from __future__ import annotations

import itertools
from collections import Counter

from .postgres import PostgreSQL


class Audit:
    """A table `audit` with a row for each transaction, under a key of its own. Nothing keeps a key from being there
    twice: there is no constraint."""

    def __init__(self, postgres: PostgreSQL) -> None:
        self._postgres = postgres
        self._keys = itertools.count(1)
        #: How often each key may be there.
        self._allowed: dict[int, tuple[int, ...]] = {}
        postgres.psql("create table audit (key int not null); grant all on audit to app")

    def remove(self) -> None:
        self._postgres.psql("drop table audit")

    def key(self) -> int:
        """A new one. Until the client is told something of its transaction it is taken for undone."""
        key = next(self._keys)
        self._allowed[key] = (0,)
        return key

    def committed(self, *keys: int) -> None:
        """The client was told that they are there."""
        self._allowed |= {key: (1,) for key in keys}

    def unknown(self, *keys: int) -> None:
        """The client was told that nobody knows (40003)."""
        self._allowed |= {key: (0, 1) for key in keys}

    def count(self, *keys: int) -> int:
        """How many rows there are for some keys."""
        return sum(self._rows()[key] for key in keys)

    def differences(self) -> list[str]:
        """Where the table is not what clients were told."""
        rows = self._rows()
        found = [f"key {key}: there {rows[key]} times, allowed are {allowed}"
                 for key, allowed in self._allowed.items() if rows[key] not in allowed]
        return found + [f"key {key}: there, and nobody knows of it" for key in rows if key not in self._allowed]

    def _rows(self) -> Counter[int]:
        return Counter(int(line) for line in self._postgres.psql("select key from audit").splitlines())
