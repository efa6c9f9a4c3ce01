"""One login by each driver, with its outcome in the same words."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg
import psycopg
import psycopg2

from . import secrets
from .postgres import quoted
from .processes import run

SQL = "select current_user"


@dataclass(frozen=True)
class Login:
    """What became of it."""

    #: `current_user` of a login that succeeded.
    user: str | None = None
    #: Of the error, where the driver tells.
    code: str | None = None
    text: str = ""

    def __post_init__(self) -> None:
        shown = [secret for secret in secrets.ALL if secret in self.text]
        assert not shown, f"an error shows {shown}"


def by_psql(parameters: dict[str, str]) -> Login:
    """psql; the code is not shown for errors of the login."""
    conninfo = " ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
    out = run(["psql", "-X", "-A", "-t", "-d", conninfo, "-c", SQL], check=False,
              env={name: value for name, value in os.environ.items() if not name.startswith("PG")})
    return Login(user=out.stdout.strip()) if out.returncode == 0 else Login(text=out.stderr)


def by_psycopg(parameters: dict[str, str]) -> Login:
    """psycopg 3, its own wheel's libpq."""
    try:
        with psycopg.connect(**parameters) as connection:
            return Login(user=connection.execute(SQL).fetchone()[0])
    except psycopg.Error as error:
        return Login(code=error.sqlstate, text=str(error))


def by_psycopg2(parameters: dict[str, str]) -> Login:
    """psycopg2."""
    try:
        connection = psycopg2.connect(**parameters)
    except psycopg2.Error as error:
        return Login(code=error.pgcode, text=str(error))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(SQL)
            return Login(user=cursor.fetchone()[0])
    finally:
        connection.close()


def by_asyncpg(parameters: dict[str, str]) -> Login:
    """asyncpg, which has a protocol implementation of its own."""
    mode = parameters.get("sslmode", "disable")
    context: ssl.SSLContext | bool = False
    if mode != "disable":
        context = ssl.create_default_context(cafile=parameters.get("sslrootcert"))
        context.check_hostname = mode == "verify-full"
        if mode == "require":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if "sslcert" in parameters:
            context.load_cert_chain(parameters["sslcert"], parameters["sslkey"])

    async def log_in() -> Login:
        try:
            connection = await asyncpg.connect(
                host=parameters["host"], port=int(parameters["port"]), user=parameters["user"],
                database=parameters["dbname"], password=parameters.get("password"), ssl=context,
                statement_cache_size=0, timeout=20)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return Login(code=getattr(error, "sqlstate", None), text=str(error))
        except (OSError, ConnectionError) as error:
            return Login(text=str(error))
        try:
            return Login(user=await connection.fetchval(SQL))
        finally:
            await connection.close()

    return asyncio.run(log_in())


DRIVERS: dict[str, Callable[[dict[str, str]], Login]] = {
    "psql": by_psql, "psycopg": by_psycopg, "psycopg2": by_psycopg2, "asyncpg": by_asyncpg,
}


def parameters(port: int, user: str, password: str | None = None, *, database: str = "app", **more: str) -> dict[str, str]:
    """libpq's parameters for a login over the loopback address."""
    made = {"host": "127.0.0.1", "port": str(port), "user": user, "dbname": database, "sslmode": "disable",
            "passfile": "/dev/null"}
    if password is not None:
        made["password"] = password
    return made | more


def code_in(login: Login, code: str, text: str) -> bool:
    """Whether the error is this one; drivers that do not tell the code tell the text."""
    return login.user is None and re.search(text, login.text) is not None and login.code in (None, code)
