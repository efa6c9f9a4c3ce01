#!/usr/bin/env python3
"""What an idle client costs the pooler in memory, and how long the pooler takes to start.

Each pooler is started anew, serves one client, and then gets idle clients (`holder.py`), each of which has logged in and
been served once. Bytes a client are the growth of its proportional set size (PSS, `/proc/PID/smaps_rollup`) from the first
two thousand to all of them, divided by how many that is: what is there once and not for each client, such as buffers, is in
use by then. What the kernel keeps for a socket is in neither figure.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from contestants import Certificate, PgBouncer, lifeguard, write
from kit.daemon import BINARY
from kit.postgres import PostgreSQL
from kit.processes import run, spawn
from kit.waiting import wait_until

HOLDER = Path(__file__).with_name("holder.py")
#: Clients that are there before memory is looked at.
FIRST = 2000


def pss(pid: int) -> int:
    """Bytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024


@contextmanager
def idle_clients(port: int, count: int, kind: str) -> Iterator[None]:
    """So many of them, as long as that lasts."""
    holder = spawn([sys.executable, HOLDER, str(port), str(count), kind],
                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if holder.stdout.readline() != "ready\n":
            raise SystemExit("memory: the clients did not get in")
        yield
    finally:
        holder.stdin.close()
        holder.wait(60)


def bytes_a_client(pid: int, port: int, count: int, kind: str) -> float:
    """Growth with `count` idle clients."""
    with idle_clients(port, FIRST, kind):
        before = pss(pid)
        with idle_clients(port, count - FIRST, kind):
            return (pss(pid) - before) / (count - FIRST)


def started(start: Callable):
    """A pooler that has served one client, and how long that took (milliseconds)."""
    began = time.monotonic()
    pooler = start()
    wait_until(lambda: run(["psql", "-X", "-d", conninfo(pooler), "-c", "select 1"]), "the pooler serves")
    return pooler, (time.monotonic() - began) * 1000


def conninfo(pooler) -> str:
    """Where clients connect to."""
    return pooler.conninfo if isinstance(pooler, PgBouncer) else pooler.conninfo()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=10_000, metavar="N",
                        help="idle clients, more than 2000; 15,000 want some 16,000 descriptors (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="%(default)s")
    parser.add_argument("--kind", default="plain,tls", metavar="K,K", help="%(default)s")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=BINARY", help="a further build")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="lifeguard-memory-", dir="/tmp"))
    folder.chmod(0o755)
    postgres = PostgreSQL(max_connections=100)
    certificate = Certificate.make(folder)
    builds = [("Lifeguard", str(BINARY)), *(also.split("=", 1) for also in options.also)]
    names = ["PgBouncer", *(name for name, _ in builds)]
    kinds = options.kind.split(",")
    used: dict[tuple[str, str], list[float]] = {}
    start_up: dict[str, list[float]] = {}
    try:
        for round_number in range(options.rounds):
            for kind in kinds:
                for name in names if round_number % 2 == 0 else reversed(names):
                    own = folder / f"{round_number}-{kind}-{name}"
                    if name == "PgBouncer":
                        own.mkdir()
                        pooler, milliseconds = started(lambda: PgBouncer(own, postgres, 20, certificate))
                    else:
                        binary = Path(dict(builds)[name])
                        pooler, milliseconds = started(lambda: lifeguard(own, postgres, 20, binary, certificate))
                    start_up.setdefault(name, []).append(milliseconds)
                    figure = bytes_a_client(pooler.process.pid, pooler.port, options.clients, kind)
                    used.setdefault((name, kind), []).append(figure)
                    print(f"{kind} {name}: {figure:.0f} bytes a client, up in {milliseconds:.0f} ms", file=sys.stderr)
                    pooler.stop()
        lines = [f"{options.clients:,} idle clients, medians of {options.rounds} rounds.", "",
                 "| pooler | " + " | ".join(f"bytes an idle client, {kind}" for kind in kinds)
                 + " | first client served after, ms |", "| --- " + "| --: " * (len(kinds) + 1) + "|"]
        for name in names:
            figures = " | ".join(f"{statistics.median(used[name, kind]):.0f}" for kind in kinds)
            lines.append(f"| {name} | {figures} | {statistics.median(start_up[name]):.0f} |")
        text = "\n".join(lines)
        print(text)
        if options.write:
            write("benchmarks.md", "memory", text)
    finally:
        postgres.remove()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
