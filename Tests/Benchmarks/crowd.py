#!/usr/bin/env python3
"""Crowds: 15,000 clients that are idle, and 10,000 that are not, on a hundred server connections, for minutes.

The idle ones are in a process of their own (`holder.py`); all of them are asked again in the end. The others are pgbench's
(`-S`). A client that is refused or loses its connection ends the benchmark.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import threading
import time

from contestants import Contest, Contestant, add_arguments, cell, markdown, write
from kit.postgres import PostgreSQL
from kit.processes import run, spawn
from memory import HOLDER, pss
from transactions import measure


def idle(contestant: Contestant, count: int) -> list[str]:
    """A row."""
    port = next(part.split("=")[1] for part in contestant.conninfo.split() if part.startswith("port="))
    before, began = pss(contestant.pid), time.monotonic()
    holder = spawn([sys.executable, HOLDER, port, str(count), "plain"],
                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        times = []
        for step in ("come", "asked again"):
            if holder.stdout.readline() != "ready\n":
                raise SystemExit(f"crowd: not all clients of {contestant.name} have {step}")
            times.append(time.monotonic() - began)
            if step == "come":
                grown, began = pss(contestant.pid) - before, time.monotonic()
                holder.stdin.write("ask\n")
                holder.stdin.flush()
    finally:
        holder.stdin.close()
        holder.wait(120)
    return [contestant.name, f"{count:,}", cell(grown / 1e6, 1), *(cell(seconds, 1) for seconds in times)]


class MostBackends:
    """The most connections that the server has had, looked at twice a second."""

    def __init__(self, postgres: PostgreSQL) -> None:
        self.most = 0
        self._postgres, self._stop = postgres, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            self.most = max(self.most, self._postgres.backends())

    def __enter__(self) -> MostBackends:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(30)


def busy(contest: Contest, contestant: Contestant, options: argparse.Namespace) -> list[str]:
    """A row."""
    with MostBackends(contest.postgres) as backends:
        measure(contest.postgres, contestant, "simple", options.busy, options.seconds)
    key = ("simple", options.busy)
    return [contestant.name, f"{options.busy:,}", str(backends.most),
            *(cell(contestant.median(key, name), digits) for name, digits in (("speed", 0), ("cost", 1), ("p50", 0), ("p99", 0)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--idle", type=int, default=15_000, metavar="N", help="idle clients (%(default)s)")
    parser.add_argument("--busy", type=int, default=10_000, metavar="N", help="clients of pgbench (%(default)s)")
    parser.add_argument("--seconds", type=int, default=180, help="for which these are busy (%(default)s)")
    add_arguments(parser, rounds=1)
    options = parser.parse_args()
    options.skip += ["direct"]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    pool_size = 100
    with Contest(options, pool_size=pool_size, max_connections=5 * pool_size, epoll=False) as contest:
        run([contest.postgres.bin / "pgbench", "-i", "-q", "-s", "10", contest.postgres.conninfo()], timeout=120)
        contest.postgres.psql("vacuum analyze")
        idle_rows, busy_rows = [], []
        for contestant in contest.contestants:
            idle_rows.append(idle(contestant, options.idle))
            print(idle_rows[-1], file=sys.stderr)
            # Those of the one before do not count for the next one.
            contest.postgres.psql("select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where usename = 'app'")
            busy_rows.append(busy(contest, contestant, options))
            print(busy_rows[-1], file=sys.stderr)
            contest.postgres.psql("select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where usename = 'app'")
        text = "\n\n".join([
            f"One run, {contest.machine()}.",
            markdown(["idle clients of", "clients", "PSS grown by, MB", "all logged in and served after, s",
                      "all served once more after, s"], idle_rows),
            f"`pgbench -S` for {options.seconds} s, {pool_size} server connections:",
            markdown(["busy clients of", "clients", "server connections, at most", "TPS", "CPU, µs", "p50, ms", "p99, ms"],
                     busy_rows)])
        print(text)
        if options.write:
            write("benchmarks.md", "crowd", text)


if __name__ == "__main__":
    main()
