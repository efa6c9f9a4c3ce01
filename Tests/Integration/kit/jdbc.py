"""pgjdbc, in a Java machine inside of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jpype

from .logins import SQL, Login

JAR = Path(__file__).resolve().parents[3] / ".run/deps/usr/share/java/postgresql.jar"


def start_java() -> None:
    """Starts the machine, once; it ends with this process."""
    if not jpype.isJVMStarted():
        assert JAR.exists(), f"{JAR} is missing; `make deps` unpacks it"
        jpype.startJVM("-Xrs", "-Xmx256m", classpath=[str(JAR)], convertStrings=True)


@contextmanager
def connected(port: int, user: str, password: str | None = None, *, host: str = "127.0.0.1", database: str = "app",
              **properties: str) -> Iterator[Any]:
    """A `java.sql.Connection`."""
    start_java()
    values = jpype.JClass("java.util.Properties")()
    for name, value in ({"user": user, "sslmode": "disable"} | properties).items():
        values.setProperty(name, value)
    if password is not None:
        values.setProperty("password", password)
    connection = jpype.JClass("org.postgresql.Driver")().connect(f"jdbc:postgresql://{host}:{port}/{database}", values)
    try:
        yield connection
    finally:
        connection.close()


def column(connection: Any, sql: str) -> list[str]:
    """The first column of a query's rows."""
    statement = connection.createStatement()
    rows = statement.executeQuery(sql)
    values = []
    while rows.next():
        values.append(str(rows.getString(1)))
    statement.close()
    return values


def log_in(port: int, user: str, password: str | None = None, **more: str) -> Login:
    """One login, in the words of `kit.logins`."""
    start_java()
    try:
        with connected(port, user, password, **more) as connection:
            return Login(user=column(connection, SQL)[0])
    except jpype.JClass("java.sql.SQLException") as error:
        return Login(code=str(error.getSQLState()), text=str(error.getMessage()))
