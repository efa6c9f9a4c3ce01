"""A standby of a throwaway PostgreSQL."""

from __future__ import annotations

from .postgres import PostgreSQL
from .processes import run
from .waiting import wait_until


class Standby(PostgreSQL):
    """A hot standby that streams from its primary, made by pg_basebackup."""

    def __init__(self, primary: PostgreSQL, *, settings: dict[str, str] | None = None) -> None:
        self._take_place({"max_connections": "200"} | (settings or {}))
        run([self.bin / "pg_basebackup", "-h", primary.folder, "-p", str(primary.port), "-U", "postgres", "-D", self.data,
             "-X", "stream", "-R", "-c", "fast", "--no-sync"], **self._as_user)
        self.start()
        wait_until(lambda: primary.psql("select count(*) from pg_stat_replication where state = 'streaming'") != "0",
                   "the standby streams", deadline=30)

    def promote(self) -> None:
        """Makes it a primary, and waits until it is one."""
        self.psql("select pg_promote()", database="postgres")

    @property
    def is_primary(self) -> bool:
        """Whether it has been promoted."""
        return self.psql("select pg_is_in_recovery()", database="postgres") == "f"


def hosts(*servers: PostgreSQL, database: str = "app", user: str = "app", **more: str) -> str:
    """A connection string with several hosts, in this order."""
    parts = {"host": ",".join("127.0.0.1" for _ in servers), "port": ",".join(str(each.port) for each in servers),
             "user": user, "dbname": database, **more}
    return " ".join(f"{name}={value}" for name, value in parts.items())
