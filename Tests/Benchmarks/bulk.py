#!/usr/bin/env python3
"""COPY of large amounts, out and in: throughput beside a direct connection, and the pooler's processor time for a gigabyte.

Rows have 1,000 bytes with their newline. They are made by the server from nothing and thrown away by psql, or come from a
pipe and are thrown away by the server (`COPY … WHERE false`), so that no disk has a part in it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contestants import Certificate, Contestant, PgBouncer, lifeguard, write
from kit.daemon import BINARY, Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import cpu_seconds, run
from kit.waiting import wait_until

ROW = "x" * 999
DIRECTIONS = ("out", "in")


def copy(contestant: Contestant, direction: str, rows: int) -> None:
    """One COPY; its figures go to the contestant."""
    psql = ["psql", "-X", "-q", "-d", f"{contestant.conninfo} sslmode=disable", "-c"]
    before = cpu_seconds(contestant.pid) if contestant.pid else 0
    began = time.monotonic()
    if direction == "out":
        text = f"copy (select '{ROW}' from generate_series(1, {rows})) to stdout"
        subprocess.run([*psql, text], stdout=subprocess.DEVNULL, check=True)
    else:
        with subprocess.Popen(["yes", ROW], stdout=subprocess.PIPE) as source:
            with subprocess.Popen(["head", "-n", str(rows)], stdin=source.stdout, stdout=subprocess.PIPE) as head:
                source.stdout.close()
                subprocess.run([*psql, "copy sink from stdin where false"], stdin=head.stdout, check=True)
    seconds = time.monotonic() - began
    gigabytes = rows / 1e6
    contestant.speed.setdefault((direction, 1), []).append(gigabytes * 1000 / seconds)
    if contestant.pid:
        contestant.cost.setdefault((direction, 1), []).append((cpu_seconds(contestant.pid) - before) / gigabytes)


def table(contestants: list[Contestant], options: argparse.Namespace) -> str:
    """The medians, as Markdown. The first contestant is the direct connection."""
    direct = contestants[0]
    lines = [f"{options.gigabytes:g} GB in rows of 1,000 bytes, medians of {options.rounds} rounds.", "",
             "| COPY | through | MB/s | of a direct connection | pooler's CPU, s/GB |", "| --- | --- | --: | --: | --: |"]
    for direction in DIRECTIONS:
        for contestant in contestants:
            speed = contestant.speed[direction, 1]
            ratios = [mine / theirs for mine, theirs in zip(speed, direct.speed[direction, 1], strict=True)]
            cost = f"{statistics.median(contestant.cost[direction, 1]):.2f}" if contestant.pid else ""
            lines.append(f"| {direction} | {contestant.name} | {statistics.median(speed):.0f} | "
                         f"{statistics.median(ratios):.2f} | {cost} |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1, help="of each COPY (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=BINARY", help="a further build")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="lifeguard-bulk-", dir="/tmp"))
    folder.chmod(0o755)
    running: list[Lifeguard] = []
    postgres = PostgreSQL(max_connections=100)
    try:
        postgres.psql("create table sink (a text); grant all on sink to app")
        certificate = Certificate.make(folder)
        (folder / "pgbouncer").mkdir()
        bouncer = PgBouncer(folder / "pgbouncer", postgres, 20, certificate)
        contestants = [Contestant("nothing", postgres.conninfo()),
                       Contestant("PgBouncer", bouncer.conninfo, bouncer.process.pid)]
        for name, binary in [("Lifeguard", str(BINARY)), *(also.split("=", 1) for also in options.also)]:
            daemon = lifeguard(folder / name, postgres, 20, Path(binary), None)
            running.append(daemon)
            contestants.append(Contestant(name, daemon.conninfo(), daemon.pid))
        for contestant in contestants:
            wait_until(lambda: run(["psql", "-X", "-d", contestant.conninfo, "-c", "select 1"]), contestant.name)
        for round_number in range(options.rounds):
            print(f"round {round_number + 1} of {options.rounds}", file=sys.stderr)
            for direction in DIRECTIONS:
                for contestant in contestants if round_number % 2 == 0 else reversed(contestants):
                    copy(contestant, direction, int(options.gigabytes * 1e6))
        text = table(contestants, options)
        print(text)
        if options.write:
            write("benchmarks.md", "bulk", text)
        bouncer.stop()
    finally:
        for daemon in running:
            daemon.stop()
        postgres.remove()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
