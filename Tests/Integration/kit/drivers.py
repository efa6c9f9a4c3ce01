"""Real drivers behind one interface: a connection on which an application writes keys into table `audit`."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import asyncpg
import jpype
import psycopg
import psycopg2
import sqlalchemy
from psycopg2.extras import execute_values
from sqlalchemy.exc import DBAPIError

from . import jdbc
from .daemon import Lifeguard

ROWS = "select n, repeat('x', 300) from generate_series(1, 3) n"
COPY_IN = "copy audit from stdin"
COPY_OUT = f"copy ({ROWS}) to stdout"


class Driver(ABC):
    """One connection, in autocommit until `begin`. Errors are the driver's own."""

    #: Messages of the answer to ROWS up to the first row, once a row has been written.
    up_to_row = 4
    #: Whether it has `copy_in` and `copy_out`.
    copies = True

    @abstractmethod
    def __init__(self, daemon: Lifeguard) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def commit(self) -> None: ...

    @abstractmethod
    def rollback(self) -> None:
        """What a pool does with a connection that had an error; in autocommit from then on."""

    @abstractmethod
    def insert(self, key: int) -> None: ...

    @abstractmethod
    def insert_all(self, keys: list[int]) -> None:
        """By one call of the driver's, all or nothing."""

    @abstractmethod
    def number(self, number: int) -> int:
        """Asks the server for this number."""

    @abstractmethod
    def rows(self) -> int:
        """How many rows ROWS has."""

    def copy_in(self, first: int, meanwhile: Callable[[], None], last: int) -> None:
        """Two rows by COPY, with something between them."""
        raise NotImplementedError

    def copy_out(self) -> int:
        """How many bytes COPY_OUT has."""
        raise NotImplementedError

    def code(self, error: BaseException) -> str | None:
        """An error's SQLSTATE; None where there is none."""
        return getattr(error, "sqlstate", None)


class Psycopg(Driver):
    """psycopg 3. Several statements go by its pipeline mode."""

    def __init__(self, daemon: Lifeguard) -> None:
        self.connection = psycopg.connect(daemon.conninfo(), autocommit=True)

    def close(self) -> None:
        self.connection.close()

    def begin(self) -> None:
        self.connection.autocommit = False

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()
        self.connection.autocommit = True

    def insert(self, key: int) -> None:
        self.connection.execute("insert into audit values (%s)", [key])

    def insert_all(self, keys: list[int]) -> None:
        with self.connection.pipeline():
            for key in keys:
                self.insert(key)

    def number(self, number: int) -> int:
        return self.connection.execute("select %s::int", [number]).fetchone()[0]

    def rows(self) -> int:
        return len(self.connection.execute(ROWS, prepare=False).fetchall())

    def copy_in(self, first: int, meanwhile: Callable[[], None], last: int) -> None:
        with self.connection.cursor().copy(COPY_IN) as copy:
            copy.write_row([first])
            meanwhile()
            copy.write_row([last])

    def copy_out(self) -> int:
        with self.connection.cursor().copy(COPY_OUT) as copy:
            return sum(len(data) for data in copy)


class Psycopg2(Driver):
    """psycopg2, which knows the simple protocol only."""

    up_to_row = 2

    def __init__(self, daemon: Lifeguard) -> None:
        self.connection = psycopg2.connect(daemon.conninfo())
        self.connection.autocommit = True

    def close(self) -> None:
        self.connection.close()

    def begin(self) -> None:
        self.connection.autocommit = False

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()
        self.connection.autocommit = True

    def insert(self, key: int) -> None:
        self._fetch("insert into audit values (%s) returning key", [key])

    def insert_all(self, keys: list[int]) -> None:
        with self.connection.cursor() as cursor:
            execute_values(cursor, "insert into audit values %s", [(key,) for key in keys])

    def number(self, number: int) -> int:
        return self._fetch("select %s::int", [number])[0][0]

    def rows(self) -> int:
        return len(self._fetch(ROWS))

    def _fetch(self, sql: str, values: list[int] | None = None) -> list[tuple]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()

    def copy_in(self, first: int, meanwhile: Callable[[], None], last: int) -> None:
        with self.connection.cursor() as cursor:
            cursor.copy_expert(COPY_IN, _Pieces(f"{first}\n", meanwhile, f"{last}\n"))

    def copy_out(self) -> int:
        sink = _Pieces()
        with self.connection.cursor() as cursor:
            cursor.copy_expert(COPY_OUT, sink)
        return sink.written

    def code(self, error: BaseException) -> str | None:
        return getattr(error, "pgcode", None)


class _Pieces:
    """A file of pieces of text, and of what is called between them."""

    def __init__(self, *parts: str | Callable[[], None]) -> None:
        self._parts = list(parts)
        self.written = 0

    def read(self, _: int = -1) -> str:
        while self._parts:
            part = self._parts.pop(0)
            if isinstance(part, str):
                return part
            part()
        return ""

    def write(self, data: str) -> None:
        self.written += len(data)


class _Asynchronous(Driver):
    """Has an event loop in a thread of its own, so that it can be waited for like the others."""

    def _start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def _wait(self, work: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class AsyncPsycopg(_Asynchronous):
    """psycopg 3 with asyncio."""

    def __init__(self, daemon: Lifeguard) -> None:
        self._start()
        self.connection = self._wait(psycopg.AsyncConnection.connect(daemon.conninfo(), autocommit=True))

    def close(self) -> None:
        self._wait(self.connection.close())
        self._stop()

    def begin(self) -> None:
        self._wait(self.connection.set_autocommit(False))

    def commit(self) -> None:
        self._wait(self.connection.commit())

    def rollback(self) -> None:
        self._wait(self.connection.rollback())
        self._wait(self.connection.set_autocommit(True))

    def insert(self, key: int) -> None:
        self._wait(self.connection.execute("insert into audit values (%s)", [key]))

    def insert_all(self, keys: list[int]) -> None:
        async def work() -> None:
            async with self.connection.pipeline():
                await self.connection.cursor().executemany("insert into audit values (%s)", [(key,) for key in keys])

        self._wait(work())

    def number(self, number: int) -> int:
        return self._fetch("select %s::int", [number])[0][0]

    def rows(self) -> int:
        return len(self._fetch(ROWS, None))

    def _fetch(self, sql: str, values: list[int] | None) -> list[tuple]:
        async def work() -> list[tuple]:
            return await (await self.connection.execute(sql, values, prepare=False)).fetchall()

        return self._wait(work())

    def copy_in(self, first: int, meanwhile: Callable[[], None], last: int) -> None:
        async def work() -> None:
            async with self.connection.cursor().copy(COPY_IN) as copy:
                await copy.write_row([first])
                await asyncio.to_thread(meanwhile)
                await copy.write_row([last])

        self._wait(work())

    def copy_out(self) -> int:
        async def work() -> int:
            async with self.connection.cursor().copy(COPY_OUT) as copy:
                return sum([len(data) async for data in copy])

        return self._wait(work())


class Asyncpg(_Asynchronous):
    """asyncpg, with its cache of prepared statements."""

    up_to_row = 2

    def __init__(self, daemon: Lifeguard) -> None:
        self._start()
        self.connection = self._wait(asyncpg.connect(daemon.address()))
        # Prepared once, it is only bound afterwards.
        self.rows()

    def close(self) -> None:
        self._wait(self.connection.close(timeout=10))
        self._stop()

    def begin(self) -> None:
        self._transaction = self.connection.transaction()
        self._wait(self._transaction.start())

    def commit(self) -> None:
        self._wait(self._transaction.commit())

    def rollback(self) -> None:
        self._wait(self.connection.reset())

    def insert(self, key: int) -> None:
        self._wait(self.connection.execute("insert into audit values ($1)", key))

    def insert_all(self, keys: list[int]) -> None:
        self._wait(self.connection.executemany("insert into audit values ($1)", [(key,) for key in keys]))

    def number(self, number: int) -> int:
        return self._wait(self.connection.fetchval("select $1::int", number))

    def rows(self) -> int:
        return len(self._wait(self.connection.fetch(ROWS)))

    def copy_in(self, first: int, meanwhile: Callable[[], None], last: int) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield f"{first}\n".encode()
            await asyncio.to_thread(meanwhile)
            yield f"{last}\n".encode()

        self._wait(self.connection.copy_to_table("audit", source=pieces()))

    def copy_out(self) -> int:
        size = 0

        async def count(data: bytes) -> None:
            nonlocal size
            size += len(data)

        self._wait(self.connection.copy_from_query(ROWS, output=count))
        return size


class Pgjdbc(Driver):
    """pgjdbc, which prepares its own COMMIT and ROLLBACK."""

    def __init__(self, daemon: Lifeguard) -> None:
        self._opened = jdbc.connected(daemon.port, "app")
        self.connection = self._opened.__enter__()

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def begin(self) -> None:
        self.connection.setAutoCommit(False)

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        if not self.connection.getAutoCommit():
            self.connection.rollback()
            self.connection.setAutoCommit(True)

    def insert(self, key: int) -> None:
        self.insert_all([key])

    def insert_all(self, keys: list[int]) -> None:
        statement = self.connection.prepareStatement("insert into audit values (?)")
        try:
            for key in keys:
                statement.setInt(1, key)
                statement.addBatch()
            statement.executeBatch()
        finally:
            statement.close()

    def number(self, number: int) -> int:
        return int(jdbc.column(self.connection, f"select {number}")[0])

    def rows(self) -> int:
        return len(jdbc.column(self.connection, ROWS))

    def copy_in(self, first: int, meanwhile: Callable[[], None], last: int) -> None:
        copy = self._manager.copyIn(COPY_IN)
        self._write(copy, first)
        meanwhile()
        self._write(copy, last)
        copy.endCopy()

    def copy_out(self) -> int:
        sink = jpype.JClass("java.io.ByteArrayOutputStream")()
        self._manager.copyOut(COPY_OUT, sink)
        return int(sink.size())

    @property
    def _manager(self) -> Any:
        return jpype.JClass("org.postgresql.copy.CopyManager")(self.connection)

    @staticmethod
    def _write(copy: Any, key: int) -> None:
        data = jpype.JArray(jpype.JByte)(f"{key}\n".encode())
        copy.writeToCopy(data, 0, len(data))
        copy.flushCopy()

    def code(self, error: BaseException) -> str | None:
        return str(error.getSQLState()) if hasattr(error, "getSQLState") else None


class SQLAlchemy(Driver):
    """A connection of SQLAlchemy's, on psycopg 3."""

    copies = False

    def __init__(self, daemon: Lifeguard) -> None:
        self._engine = sqlalchemy.create_engine(daemon.url("psycopg"), connect_args={"prepare_threshold": None})
        self.connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        self.connection.close()
        self._engine.dispose()

    def begin(self) -> None:
        self.connection.commit()
        self.connection.execution_options(isolation_level="READ COMMITTED")

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()
        self.connection.execution_options(isolation_level="AUTOCOMMIT")

    def insert(self, key: int) -> None:
        self.connection.execute(sqlalchemy.text("insert into audit values (:key)"), {"key": key})

    def insert_all(self, keys: list[int]) -> None:
        audit = sqlalchemy.table("audit", sqlalchemy.column("key"))
        self.connection.execute(sqlalchemy.insert(audit).values([{"key": key} for key in keys]))

    def number(self, number: int) -> int:
        return self.connection.scalar(sqlalchemy.select(sqlalchemy.literal(number)))

    def rows(self) -> int:
        return len(self.connection.execute(sqlalchemy.text(ROWS)).all())

    def code(self, error: BaseException) -> str | None:
        return error.orig.sqlstate if isinstance(error, DBAPIError) else None


DRIVERS: list[type[Driver]] = [Psycopg, AsyncPsycopg, Psycopg2, Asyncpg, Pgjdbc, SQLAlchemy]
