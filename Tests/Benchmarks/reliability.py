#!/usr/bin/env python3
"""What outages cost the clients of Lifeguard and of Debian's PgBouncer, one after the other on servers of their own.

Fifty clients run TPC-B's statements and write down what they are told of each transaction; afterwards a table is compared
with that. A client whose connection is closed connects again, and is counted. `--write` puts the table into
docs/reliability.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from contestants import Certificate, PgBouncer, write
from kit.daemon import Lifeguard
from kit.load import Load, create_tables
from kit.postgres import PostgreSQL
from kit.standby import Standby, hosts
from kit.waiting import wait_until
from kit.wire import Closed, WireClient, query

CLIENTS, POOL, RESTARTS = 50, 20, 10
DURABLE = {"synchronous_commit": "on"}


@dataclass
class Result:
    """What a fault has cost."""

    lost: int = 0
    failed: int = 0
    wrong: int = 0
    #: Most of those that failed at one fault.
    worst: int = 0
    #: From the moment at which the server serves again to the first transaction (s).
    waits: list[float] = field(default_factory=list)

    def row(self) -> list[str]:
        wait = f"{1000 * statistics.median(self.waits):.0f} ({1000 * max(self.waits):.0f})" if self.waits else "–"
        failed = f"{self.failed} ({self.worst})" if self.failed else "0"
        return [str(self.lost), failed, str(self.wrong), wait]


def restarts(port: int, postgres: PostgreSQL) -> Result:
    """Restarts under load, fast and immediate in turn."""
    result = Result()
    with Load(port, CLIENTS, reconnects=True) as load:
        for number in range(RESTARTS):
            before = load.commits
            wait_until(lambda: load.commits > before + 100, "load runs", deadline=60)
            failed = load.failures
            postgres.restart(("fast", "immediate")[number % 2])
            ready = time.monotonic()
            result.waits.append(wait_until(lambda: load.first_commit_after(ready), "served again", deadline=60) - ready)
            result.worst = max(result.worst, load.failures - failed)
    result.lost, result.failed = load.lost, load.failures
    result.wrong = len(load.differences(postgres))
    return result


def idle_backends(port: int, postgres: PostgreSQL) -> Result:
    """All server connections are ended while nobody asks anything, ten times."""
    result = Result()
    clients = [WireClient.app(port) for _ in range(CLIENTS)]
    for _ in range(10):
        for number, client in enumerate(clients):
            try:
                if any(message.kind == "E" for message in client.ask(query("select 1"))):
                    result.failed += 1
            except (Closed, ConnectionError):
                result.lost += 1
                clients[number] = WireClient.app(port)
        postgres.psql("with ended as materialized (select pid from pg_stat_activity where usename = 'app') "
                      "select count(pg_terminate_backend(pid, 10000)) from ended")
    for client in clients:
        client.close()
    return result


def failover(port: int, primary: PostgreSQL, standby: Standby) -> Result:
    """The primary is killed, and its standby promoted two seconds later."""
    result = Result()
    with Load(port, CLIENTS, reconnects=True) as load:
        wait_until(lambda: load.commits > 200, "load runs", deadline=60)
        primary.kill()
        # How long an operator takes, or a tool.
        time.sleep(2)
        standby.promote()
        promoted = time.monotonic()
        result.waits.append(wait_until(lambda: load.first_commit_after(promoted), "served", deadline=60) - promoted)
    result.lost, result.failed = load.lost, load.failures
    result.worst = result.failed
    result.wrong = len(load.differences(standby))
    return result


class Bench:
    """A pooler before a server of its own for each fault."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lifeguard-reliability-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.certificate = Certificate.make(self.folder)
        self.rows: list[list[str]] = []
        self.versions = ""

    def measure(self, fault: str, run: Callable[[int, PostgreSQL], Result]) -> None:
        for name in ("Lifeguard", "PgBouncer"):
            postgres = PostgreSQL(settings=DURABLE)
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            folder.chmod(0o755)
            try:
                create_tables(postgres)
                if name == "Lifeguard":
                    pooler = self.lifeguard(folder, postgres.conninfo())
                    result = run(pooler.port, postgres)
                else:
                    pooler = PgBouncer(folder, postgres, POOL, self.certificate)
                    wait_until(lambda: WireClient.app(pooler.port).close() is None, "PgBouncer serves")
                    result = run(pooler.port, postgres)
                    self.versions = (f"PostgreSQL {postgres.psql('show server_version').split()[0]}, "
                                     f"PgBouncer {pooler.version}")
                pooler.stop()
            finally:
                postgres.remove()
            self.add(fault, name, result)

    def measure_failover(self, fault: str) -> None:
        """Lifeguard alone: PgBouncer asks no host for its role."""
        primary = PostgreSQL(settings=DURABLE)
        try:
            create_tables(primary)
            standby = Standby(primary, settings=DURABLE)
            try:
                primary.psql("alter system set synchronous_standby_names = '*'")
                primary.psql("select pg_reload_conf()")
                folder = Path(tempfile.mkdtemp(dir=self.folder))
                daemon = self.lifeguard(folder, hosts(primary, standby, target_session_attrs="read-write"))
                self.add(fault, "Lifeguard", failover(daemon.port, primary, standby))
                daemon.stop()
            finally:
                standby.remove()
        finally:
            primary.remove()
        self.rows.append([fault, "PgBouncer", "–", "–", "–", "cannot"])

    def lifeguard(self, folder: Path, upstream: str) -> Lifeguard:
        return Lifeguard(folder, {"pool": {"pool_size": POOL, "max_overflow": 0}, "health": {"interval": "2s"},
                                  "databases.app": {"upstream": upstream}})

    def add(self, fault: str, name: str, result: Result) -> None:
        self.rows.append([fault, name, *result.row()])
        print(" | ".join(self.rows[-1]), file=sys.stderr)

    def text(self) -> str:
        conditions = (f"{os.cpu_count()} cores, {self.versions}, {CLIENTS} clients, {POOL} server connections, "
                      f"{datetime.date.today().isoformat()}.")
        header = ["fault", "pooler", "client connections lost", "transactions failed: all (most at a fault)",
                  "transactions that are not what their client was told", "first transaction after, ms: median (most)"]
        lines = [header, ["---"] * len(header), *self.rows]
        return conditions + "\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/reliability.md")
    options = parser.parse_args()
    bench = Bench()
    try:
        bench.measure(f"{RESTARTS} restarts, fast and immediate in turn", restarts)
        bench.measure("all idle backends terminated, 10 times", idle_backends)
        bench.measure_failover("primary killed, standby promoted")
        print(bench.text())
        if options.write:
            write("reliability.md", "reliability", bench.text())
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
