#!/usr/bin/env python3
"""Transactions of pgbench: speed, latency and the pooler's processor time, for more and more clients.

Each round measures every contestant once for each number of clients and each mode, in an order that changes from round to
round, so that what else the machine does hits all of them alike. Shown are the medians over the rounds, and the medians of
the rounds' ratios to PgBouncer.

A mode is pgbench's query mode, with `-tls` behind it where clients use TLS, `-session` where the pools are in session mode
(for no more clients than connections), and `connect-` before it where each transaction has a connection of its own:
`connect-simple-tls` is handshakes a second, and their cost.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from contestants import ROOT, Contest, Contestant, add_arguments, cell, markdown, write
from kit.postgres import PostgreSQL
from kit.processes import run
from plots import Line, Panel, draw

CLIENTS = [1, 16, 64, 200, 1000]
MODES = ["simple", "extended", "prepared", "prepared-session", "simple-tls", "connect-simple", "connect-simple-tls"]
#: Those with a picture.
PLOTTED = {"simple": "simple protocol", "extended": "extended protocol", "prepared": "prepared statements"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(map(str, CLIENTS)), metavar="N,N", help="numbers of clients (%(default)s)")
    parser.add_argument("--mode", metavar="M,M", default=",".join(MODES), help="modes (%(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="for each measurement (%(default)s)")
    parser.add_argument("--pool-size", type=int, default=20, help="server connections of each pooler (%(default)s)")
    parser.add_argument("--skip-direct", action="store_true", help="leave out the direct connection")
    add_arguments(parser, rounds=5)
    options = parser.parse_args()
    options.clients = [int(number) for number in options.only.split(",")]
    options.modes = options.mode.split(",")
    if options.skip_direct:
        options.skip.append("direct")
    return options


def measure(postgres: PostgreSQL, contestant: Contestant, mode: str, clients: int, seconds: int) -> None:
    """One run of pgbench, which writes down how long each twentieth transaction took."""
    words = mode.split("-")
    query_mode = next(word for word in words if word not in ("connect", "tls", "session"))
    connects = ["-C"] if "connect" in words else []
    conninfo = f"{contestant.conninfo} sslmode={'require' if 'tls' in words else 'disable'}"
    if "session" in words and contestant.pid:
        conninfo += " dbname=session"
    before = contestant.cpu_seconds()
    with tempfile.TemporaryDirectory(prefix="pgbench-") as folder:
        done = run([postgres.bin / "pgbench", "-n", "-S", *connects, "-M", query_mode, "-c", str(clients),
                    "-j", str(min(clients, 2)), "-T", str(seconds), "-l", "--sampling-rate=0.05", conninfo],
                   timeout=seconds + 120, cwd=folder, check=contestant.must_succeed)
        after = contestant.cpu_seconds()
        latencies = sorted(int(line.split()[2]) for log in Path(folder).iterdir()
                           for line in log.read_text().splitlines())
    transactions = int((re.search(r"actually processed: (\d+)", done.stdout) or [0, "0"])[1])
    if done.returncode or not transactions:
        print(f"{contestant.name} cannot: {mode}, {clients} clients: {done.stderr.strip()[-200:]}", file=sys.stderr)
        return
    figures = {"speed": float(re.search(r"tps = ([\d.]+)", done.stdout)[1])}
    if contestant.pid:
        figures["cost"] = (after - before) / transactions * 1e6
    if latencies:
        figures |= {f"p{part}": latencies[len(latencies) * part // 100] / 1000 for part in (50, 99)}
    contestant.note((mode, clients), **figures)


def applies(contestant: Contestant, mode: str, clients: int, pool_size: int) -> bool:
    """Whether there is something to measure."""
    if mode.endswith("-tls") and not contestant.has_tls or mode == "prepared" and not contestant.has_prepared:
        return False
    if mode.endswith("-session"):
        return clients <= pool_size and contestant.must_succeed
    return True


def tables(contest: Contest, options: argparse.Namespace) -> str:
    """One for each mode."""
    bouncer = contest.named("PgBouncer")
    header = ["clients", "through", "TPS", "CPU, µs", "p50, ms", "p99, ms"]
    if bouncer:
        header += ["TPS / PgBouncer", "CPU / PgBouncer", "p99 / PgBouncer"]
    parts = []
    for mode in options.modes:
        rows = []
        for clients in options.clients:
            key = (mode, clients)
            for contestant in contest.contestants:
                if contestant.median(key, "speed") is None:
                    continue
                row = [str(clients), contestant.name]
                row += [cell(contestant.median(key, name), digits)
                        for name, digits in (("speed", 0), ("cost", 1), ("p50", 2), ("p99", 2))]
                if bouncer:
                    row += ["" if contestant is bouncer or not contestant.pid else cell(contestant.ratio(bouncer, key, name), 2)
                            for name in ("speed", "cost", "p99")]
                rows.append(row)
        picture = f"![Speed, cost and latency, {PLOTTED[mode]}]({picture_name(mode)})\n\n" if mode in PLOTTED else ""
        parts.append(f"### {mode}\n\n{picture}{markdown(header, rows, texts=2)}")
    return "\n\n".join(parts)


def picture_name(mode: str) -> str:
    return f"benchmarks-{mode}.svg"


def pictures(contest: Contest, options: argparse.Namespace) -> dict[str, str]:
    """SVG by file name."""
    figures = [("CPU of the pooler, µs a transaction", "cost", False), ("transactions a second", "speed", False),
               ("p99 latency, ms", "p99", True)]
    drawn = {}
    for mode in options.modes:
        if mode not in PLOTTED:
            continue
        panels = [
            Panel(title, [str(clients) for clients in options.clients],
                  [Line(contestant.name, [contestant.median((mode, clients), name) for clients in options.clients])
                   for contestant in contest.contestants], is_logarithmic)
            for title, name, is_logarithmic in figures]
        drawn[picture_name(mode)] = draw(f"pgbench -S, {PLOTTED[mode]}, by number of clients", panels)
    return drawn


def agreed_tls(contestant: Contestant) -> str:
    """Version and cipher, in psql's words."""
    out = run(["psql", "-X", "-d", f"{contestant.conninfo} sslmode=require", "-c", r"\conninfo"]).stdout
    return re.search(r"protocol: (\S+), cipher: ([^,]+)", out).expand(r"\1 \2")


def conditions(contest: Contest, options: argparse.Namespace) -> str:
    """How the figures were taken."""
    tls = {contestant.name: agreed_tls(contestant) for contestant in contest.contestants if contestant.has_tls}
    if len(set(tls.values())) > 1:
        raise SystemExit(f"transactions: not the same TLS: {tls}")
    partly = "" if options.clients == CLIENTS and options.modes == MODES else " This run did not measure all modes and numbers."
    return (f"`pgbench -S`, {options.seconds} s a measurement, medians of {options.rounds} rounds, "
            f"{options.pool_size} server connections, transaction mode, {contest.machine()}. "
            f"TLS: {next(iter(tls.values()), 'none')}, ECDSA P-256. CPU: processor time of the pooler for a transaction.{partly}")


def main() -> None:
    options = arguments()
    most = max(options.clients) + (5 + len(options.also) + len(options.pooler)) * 2 * options.pool_size
    with Contest(options, pool_size=options.pool_size, max_connections=most) as contest:
        run([contest.postgres.bin / "pgbench", "-i", "-q", "-s", "10", contest.postgres.conninfo()], timeout=120)
        contest.postgres.psql("vacuum analyze")
        for round_number in range(options.rounds):
            print(f"round {round_number + 1} of {options.rounds}", file=sys.stderr)
            for mode in options.modes:
                for clients in options.clients:
                    for contestant in contest.order(round_number):
                        if applies(contestant, mode, clients, options.pool_size):
                            measure(contest.postgres, contestant, mode, clients, options.seconds)
        text = f"{conditions(contest, options)}\n\n{tables(contest, options)}"
        print(text)
        if options.write:
            for name, picture in pictures(contest, options).items():
                (ROOT / "docs" / name).write_text(picture)
            write("benchmarks.md", "transactions", text)


if __name__ == "__main__":
    main()
