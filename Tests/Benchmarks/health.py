#!/usr/bin/env python3
"""What health checks cost: a checkout for each tier of pre-ping, a connection that died, a server that restarts.

The tiers: nothing is checked; nothing has to be, because the connection has answered a moment ago; it is pinged before each
transaction; it died while it was idle, and a new one has to be opened. A restart counts from the moment at which the server
serves again to the first transaction.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from contestants import Certificate, Contestant, PgBouncer, cell, lifeguard, markdown, write
from kit.daemon import BINARY
from kit.postgres import PostgreSQL
from kit.processes import run
from kit.waiting import wait_until
from kit.wire import WireClient, query
from reliability import RESTARTS, Bench, restarts
from transactions import measure

#: Settings of `[pool]`, and of PgBouncer.
TIERS = {
    "off": ({"pool_pre_ping": False}, "server_check_query =\n"),
    "on, it has answered recently": ({"pre_ping_idle": "1h"}, "server_check_query = select 1\nserver_check_delay = 3600\n"),
    "on, pinged each time": ({"pre_ping_idle": "0s"}, "server_check_query = select 1\nserver_check_delay = 0\n"),
}
DEAD = "on, it died while idle"
CLIENTS = (1, 16)


def after_death(contestant: Contestant, postgres: PostgreSQL, times: int) -> None:
    """How long a client waits whose pool has lost its only connection."""
    port = int(next(part.split("=")[1] for part in contestant.conninfo.split() if part.startswith("port=")))
    waits = []
    with WireClient.app(port) as client:
        for _ in range(times):
            client.ask(query("select 1"))
            postgres.psql("with ended as materialized (select pid from pg_stat_activity where usename = 'app') "
                          "select count(pg_terminate_backend(pid, 10000)) from ended")
            began = time.monotonic()
            answer = client.ask(query("select 1"))
            waits.append(time.monotonic() - began)
            assert [message.kind for message in answer] == ["T", "D", "C", "Z"], answer
    contestant.note((DEAD, 1), p50=1000 * statistics.median(waits))


def checkouts(options: argparse.Namespace) -> str:
    """The tiers, as a table."""
    folder = Path(tempfile.mkdtemp(prefix="lifeguard-health-", dir="/tmp"))
    folder.chmod(0o755)
    postgres = PostgreSQL()
    poolers: list = []
    contestants: list[tuple[str, Contestant]] = []
    try:
        run([postgres.bin / "pgbench", "-i", "-q", "-s", "10", postgres.conninfo()], timeout=120)
        certificate = Certificate.make(folder)
        for number, (tier, (pool, lines)) in enumerate(TIERS.items()):
            daemon = lifeguard(folder / f"lifeguard{number}", postgres, 20, BINARY, None, pool=pool)
            (folder / f"pgbouncer{number}").mkdir()
            bouncer = PgBouncer(folder / f"pgbouncer{number}", postgres, 20, certificate, settings=lines)
            poolers += [daemon, bouncer]
            contestants += [(tier, Contestant("Lifeguard", daemon.conninfo(), daemon.pid)),
                            (tier, Contestant("PgBouncer", bouncer.conninfo, bouncer.process.pid))]
        for _, contestant in contestants:
            wait_until(lambda: run(["psql", "-X", "-d", contestant.conninfo, "-c", "select 1"]), contestant.name)
        for round_number in range(options.rounds):
            print(f"round {round_number + 1} of {options.rounds}", file=sys.stderr)
            for clients in CLIENTS:
                for _, contestant in contestants if round_number % 2 == 0 else reversed(contestants):
                    measure(postgres, contestant, "simple", clients, options.seconds)
        rows = []
        for tier, contestant in contestants:
            figures = [contestant.median(("simple", clients), name) for clients in CLIENTS for name in ("cost", "p50")]
            rows.append([tier, contestant.name, *(cell(figure, digits) for figure, digits in zip(figures, (1, 3, 1, 3)))])
        for _, contestant in contestants[:2]:
            after_death(contestant, postgres, 50)
            rows.append([DEAD, contestant.name, "", cell(contestant.median((DEAD, 1), "p50"), 3), "", ""])
    finally:
        for pooler in poolers:
            pooler.stop()
        postgres.remove()
        shutil.rmtree(folder, ignore_errors=True)
    header = ["pre-ping", "through", *(f"{figure}, {clients} client{'s' * (clients > 1)}"
                                       for clients in CLIENTS for figure in ("CPU, µs", "p50, ms"))]
    return (f"`pgbench -S`, {options.seconds} s a measurement, medians of {options.rounds} rounds; deaths: of 50.\n\n"
            f"{markdown(header, rows, texts=2)}")


def restart() -> str:
    """Restarts, as a table."""
    bench = Bench()
    try:
        bench.measure("restarts", restarts)
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)
    rows = [[name, wait, lost] for _, name, lost, _, _, wait in bench.rows]
    return (f"{RESTARTS} restarts, fast and immediate in turn, under the load of 50 clients.\n\n"
            + markdown(["pooler", "first transaction after, ms: median (most)", "client connections lost"], rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    parser.add_argument("--seconds", type=int, default=5, help="for each measurement (%(default)s)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    options = parser.parse_args()
    text = f"{checkouts(options)}\n\n{restart()}"
    print(text)
    if options.write:
        write("benchmarks.md", "health", text)


if __name__ == "__main__":
    main()
