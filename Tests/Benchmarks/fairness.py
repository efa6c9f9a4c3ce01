#!/usr/bin/env python3
"""Small transactions beside bulk: what a hundred clients that read COPY without end do to `pgbench -S` of sixteen.

The streams are on another pool of the same worker (Lifeguard has one here, as PgBouncer has one thread), or on the same pool,
which has connections enough for both. They read at a pace that the machine can keep up beside the rest, since
PostgreSQL, pgbench and the readers share it with the pooler; the direct connection shows what that alone does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contestants import Contest, Contestant, add_arguments, cell, markdown, write
from kit.processes import run, spawn
from kit.waiting import wait_until
from transactions import measure

STREAMER = Path(__file__).with_name("streamer.py")
CLIENTS = 16
#: What the streams are on.
PLACES = {"alone": None, "beside streams on another pool": "bulk", "beside streams on the same pool": "app"}


@contextmanager
def streams(contestant: Contestant, database: str | None, options: argparse.Namespace) -> Iterator[list[float]]:
    """So many of them, as long as that lasts; afterwards the list has the megabytes a second that they read."""
    speed: list[float] = []
    if database is None:
        yield speed
        return
    port = next(part.split("=")[1] for part in contestant.conninfo.split() if part.startswith("port="))
    if not contestant.pid:
        database = "app"
    command = [sys.executable, STREAMER, port, database, str(options.streams), str(options.megabytes)]
    process = spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"fairness: {contestant.name} does not stream")
        yield speed
    finally:
        process.stdin.close()
        last = process.stdout.read().split()
        process.wait(60)
    speed.append(float(last[0]) / float(last[1]))


def settle(contest: Contest) -> None:
    """Waits until no stream of before is left on the server."""

    wait_until(lambda: contest.postgres.psql(
        "select count(*) from pg_stat_activity where query ilike 'copy (%' and state = 'active'") == "0",
        "the streams are over", deadline=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=100, metavar="N", help="clients that stream (%(default)s)")
    parser.add_argument("--megabytes", type=int, default=200, metavar="N",
                        help="that they read a second, all together; 0: as fast as they can (%(default)s)")
    parser.add_argument("--seconds", type=int, default=10, help="for each measurement (%(default)s)")
    add_arguments(parser, rounds=5)
    options = parser.parse_args()
    pool_size = options.streams + CLIENTS + 4
    most = (4 + len(options.also) + len(options.pooler)) * 2 * pool_size
    with Contest(options, pool_size=pool_size, max_connections=most, server={"workers": 1}) as contest:
        run([contest.postgres.bin / "pgbench", "-i", "-q", "-s", "10", contest.postgres.conninfo()], timeout=120)
        contest.postgres.psql("vacuum analyze")
        # The streams' rows are made one by one. A query that keeps them would fill the disk; it ends in an error instead.
        contest.postgres.psql("alter role app set temp_file_limit = '1MB'")
        for round_number in range(options.rounds):
            print(f"round {round_number + 1} of {options.rounds}", file=sys.stderr)
            for place, database in PLACES.items():
                for contestant in contest.order(round_number):
                    if place.endswith("another pool") and not (contestant.pid and contestant.must_succeed):
                        continue
                    with streams(contestant, database, options) as speed:
                        measure(contest.postgres, contestant, "simple", CLIENTS, options.seconds)
                    for name in ("speed", "p50", "p99"):
                        contestant.note(place, **{name: contestant.figures[("simple", CLIENTS), name].pop()})
                    if speed:
                        contestant.note(place, bulk=speed[0])
                    settle(contest)
        rows = [[place, contestant.name, cell(contestant.median(place, "speed")), cell(contestant.median(place, "p50"), 2),
                 cell(contestant.median(place, "p99"), 2), cell(contestant.median(place, "bulk"))]
                for place in PLACES for contestant in contest.contestants if contestant.median(place, "speed") is not None]
        header = ["small transactions", "through", "TPS", "p50, ms", "p99, ms", "bulk, MB/s"]
        pace = f"that read {options.megabytes} MB/s in all" if options.megabytes else "without a limit"
        text = (f"`pgbench -S` of {CLIENTS} clients, {options.streams} streams {pace}, {options.seconds} s a measurement, medians of "
                f"{options.rounds} rounds, one worker, {pool_size} server connections, {contest.machine()}.\n\n"
                f"{markdown(header, rows, texts=2)}")
        spilled = contest.postgres.psql("select sum(temp_bytes) from pg_stat_database where datname = 'app'")
        if int(spilled) > 64 << 20:
            raise SystemExit(f"fairness: the server has written {spilled} bytes of temporary files")
        print(text)
        if options.write:
            write("benchmarks.md", "fairness", text)


if __name__ == "__main__":
    main()
