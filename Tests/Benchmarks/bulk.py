#!/usr/bin/env python3
"""COPY of large amounts, out and in: throughput beside a direct connection, and the pooler's processor time for a gigabyte.

Rows have 1,000 bytes with their newline. They are made by the server from nothing and thrown away by psql, or come from a
pipe and are thrown away by the server (`COPY … WHERE false`), so that no disk has a part in it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from contestants import Contest, Contestant, add_arguments, cell, markdown, write

ROW = "x" * 999
DIRECTIONS = ("out", "in")


def copy(contestant: Contestant, direction: str, rows: int) -> None:
    """One COPY; its figures go to the contestant."""
    psql = ["psql", "-X", "-q", "-d", f"{contestant.conninfo} sslmode=disable", "-c"]
    before = contestant.cpu_seconds()
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
    figures = {"speed": gigabytes * 1000 / seconds}
    if contestant.pid:
        figures["cost"] = (contestant.cpu_seconds() - before) / gigabytes
    contestant.note(direction, **figures)


def table(contest: Contest, options: argparse.Namespace) -> str:
    """The medians, as Markdown."""
    direct = contest.named("direct")
    rows = [[direction, contestant.name, cell(contestant.median(direction, "speed")),
             cell(contestant.ratio(direct, direction, "speed") if direct else None, 2),
             cell(contestant.median(direction, "cost"), 2)]
            for direction in DIRECTIONS for contestant in contest.contestants]
    header = ["COPY", "through", "MB/s", "of a direct connection", "pooler's CPU, s/GB"]
    return (f"{options.gigabytes:g} GB in rows of 1,000 bytes, medians of {options.rounds} rounds, {contest.machine()}.\n\n"
            f"{markdown(header, rows, texts=2)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1, help="of each COPY (%(default)s)")
    add_arguments(parser, rounds=5)
    options = parser.parse_args()
    with Contest(options, pool_size=20, max_connections=100) as contest:
        contest.postgres.psql("create table sink (a text); grant all on sink to app")
        for round_number in range(options.rounds):
            print(f"round {round_number + 1} of {options.rounds}", file=sys.stderr)
            for direction in DIRECTIONS:
                for contestant in contest.order(round_number):
                    copy(contestant, direction, int(options.gigabytes * 1e6))
        text = table(contest, options)
        print(text)
        if options.write:
            write("benchmarks.md", "bulk", text)


if __name__ == "__main__":
    main()
