#!/usr/bin/env python3
"""Lifeguard, Debian's PgBouncer and a direct connection, alternating in one run.

Each round measures every contestant once for each number of clients and each query mode, in an order that changes from
round to round, so that what else the machine does hits all of them alike. Shown are the medians over the rounds of
transactions a second, of the processor time of the pooler for a transaction (user and system time of all of its threads)
and of the latency that one in a hundred transactions exceeds, and the medians of the rounds' ratios to PgBouncer.

A mode is pgbench's query mode, with `-tls` behind it where clients use TLS, `-session` where the pools are in session mode
(for no more clients than connections), and `connect-` before it where each transaction has a connection of its own:
`connect-simple-tls` is handshakes a second, and their cost.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from contestants import Certificate, Contestant, PgBouncer, lifeguard, write
from kit.daemon import BINARY, Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import cpu_seconds, run
from kit.waiting import wait_until


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="1,16,64,200", metavar="N,N", help="numbers of clients (%(default)s)")
    parser.add_argument("--mode", metavar="M,M", help="modes (%(default)s)",
                        default="simple,extended,prepared,prepared-session,simple-tls,connect-simple,connect-simple-tls")
    parser.add_argument("--seconds", type=float, default=5, help="for each measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    parser.add_argument("--pool-size", type=int, default=20, help="server connections of each pooler (%(default)s)")
    parser.add_argument("--skip-direct", action="store_true", help="leave out the direct connection")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=BINARY",
                        help="a further build of Lifeguard to compare with")
    parser.add_argument("--without-tls", action="append", default=[], metavar="NAME",
                        help="a further build that knows no TLS")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    options.clients = [int(number) for number in options.only.split(",")]
    options.modes = options.mode.split(",")
    return options


def measure(postgres: PostgreSQL, contestant: Contestant, mode: str, clients: int, seconds: float) -> None:
    """One run of pgbench, which writes down how long each twentieth transaction took."""
    words = mode.split("-")
    query_mode = next(word for word in words if word not in ("connect", "tls", "session"))
    connects = ["-C"] if "connect" in words else []
    conninfo = f"{contestant.conninfo} sslmode={'require' if 'tls' in words else 'disable'}"
    if "session" in words and contestant.pid:
        conninfo += " dbname=session"
    before = cpu_seconds(contestant.pid) if contestant.pid else 0
    with tempfile.TemporaryDirectory(prefix="pgbench-") as folder:
        out = run([postgres.bin / "pgbench", "-n", "-S", *connects, "-M", query_mode, "-c", str(clients),
                   "-j", str(min(clients, 2)), "-T", f"{seconds:g}", "-l", "--sampling-rate=0.05", conninfo],
                  timeout=seconds + 120, cwd=folder).stdout
        after = cpu_seconds(contestant.pid) if contestant.pid else 0
        latencies = sorted(int(line.split()[2]) for log in Path(folder).iterdir()
                           for line in log.read_text().splitlines())
    transactions = int(re.search(r"actually processed: (\d+)", out)[1])
    key = (mode, clients)
    if latencies:
        contestant.slowest.setdefault(key, []).append(latencies[len(latencies) * 99 // 100] / 1000)
    contestant.speed.setdefault(key, []).append(float(re.search(r"tps = ([\d.]+)", out)[1]))
    contestant.cost.setdefault(key, []).append((after - before) / transactions * 1e6)


def table(contestants: list[Contestant], options: argparse.Namespace) -> str:
    """The medians, as Markdown."""
    bouncer = next(contestant for contestant in contestants if contestant.name == "PgBouncer")
    poolers = [contestant for contestant in contestants if contestant.pid]
    head = ["mode", "clients", *(f"{contestant.name}, TPS" for contestant in contestants),
            *(f"{contestant.name}, µs" for contestant in poolers),
            *(f"{contestant.name}, p99 ms" for contestant in poolers)]
    for contestant in poolers:
        if contestant is not bouncer:
            head += [f"{contestant.name} / PgBouncer, {figure}" for figure in ("TPS", "µs", "p99")]
    lines = ["| " + " | ".join(head) + " |", "| --- " + "| --: " * (len(head) - 1) + "|"]
    for mode in options.modes:
        for clients in options.clients:
            key = (mode, clients)
            if not any(key in contestant.speed for contestant in contestants):
                continue
            cells = [mode, str(clients)]
            cells += [f"{statistics.median(contestant.speed[key]):.0f}" if key in contestant.speed else ""
                      for contestant in contestants]
            cells += [f"{statistics.median(contestant.cost[key]):.1f}" if key in contestant.cost else ""
                      for contestant in poolers]
            cells += [f"{statistics.median(contestant.slowest[key]):.1f}" if key in contestant.slowest else ""
                      for contestant in poolers]
            for contestant in poolers:
                if contestant is bouncer:
                    continue
                for figures, reference in ((contestant.speed, bouncer.speed), (contestant.cost, bouncer.cost),
                                           (contestant.slowest, bouncer.slowest)):
                    pairs = zip(figures.get(key, []), reference.get(key, []))
                    ratios = [mine / theirs for mine, theirs in pairs if theirs]
                    cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def agreed_tls(contestant: Contestant) -> str:
    """Version and cipher, in psql's words."""
    out = run(["psql", "-X", "-d", f"{contestant.conninfo} sslmode=require", "-c", r"\conninfo"]).stdout
    return re.search(r"protocol: (\S+), cipher: ([^,]+)", out).expand(r"\1 \2")


def conditions(
    postgres: PostgreSQL, bouncer: PgBouncer, contestants: list[Contestant], options: argparse.Namespace
) -> str:
    """How the figures were taken."""
    tls = {contestant.name: agreed_tls(contestant) for contestant in contestants if contestant.has_tls}
    if len(set(tls.values())) != 1:
        raise SystemExit(f"bench: not the same TLS: {tls}")
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return (f"`pgbench -S`, {options.seconds:g} s a measurement, medians of {options.rounds} rounds, "
            f"{options.pool_size} server connections, transaction mode, everything on one machine: "
            f"{model[1].strip() if model else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, "
            f"PostgreSQL {postgres.psql('show server_version').split()[0]}, PgBouncer {bouncer.version}, "
            f"{datetime.date.today().isoformat()}. TLS: {next(iter(tls.values()))}, ECDSA P-256. µs: processor time of the pooler for a transaction.")


def main() -> None:
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="lifeguard-bench-", dir="/tmp"))
    folder.chmod(0o755)
    running: list[Lifeguard] = []
    postgres = PostgreSQL(max_connections=max(options.clients) + 3 * options.pool_size + 20)
    try:
        run([postgres.bin / "pgbench", "-i", "-q", "-s", "10", postgres.conninfo()], timeout=120)
        postgres.psql("vacuum analyze")
        (folder / "pgbouncer").mkdir()
        certificate = Certificate.make(folder)
        bouncer = PgBouncer(folder / "pgbouncer", postgres, options.pool_size, certificate)
        contestants = [] if options.skip_direct else [Contestant("direct", postgres.conninfo(), has_tls=False)]
        contestants.append(Contestant(
            "PgBouncer", bouncer.conninfo, bouncer.process.pid, has_prepared=bouncer.version >= "1.21"))
        builds = [("Lifeguard", BINARY), *(also.split("=", 1) for also in options.also)]
        for number, (name, binary) in enumerate(builds):
            plain = name in options.without_tls
            daemon = lifeguard(folder / f"lifeguard{number}", postgres, options.pool_size, Path(binary),
                               None if plain else certificate)
            running.append(daemon)
            contestants.append(Contestant(name, daemon.conninfo(), daemon.pid, has_tls=not plain))
        for contestant in contestants:
            wait_until(lambda: run(["psql", "-X", "-d", contestant.conninfo, "-c", "select 1"]), contestant.name)
        for round_number in range(options.rounds):
            print(f"round {round_number + 1} of {options.rounds}", file=sys.stderr)
            for mode in options.modes:
                for clients in options.clients:
                    # Turned round every time, and rotated, so that nobody is always after the same one.
                    shift = round_number % len(contestants)
                    order = contestants[shift:] + contestants[:shift]
                    for contestant in order if round_number % 2 == 0 else reversed(order):
                        if mode.endswith("-tls") and not contestant.has_tls:
                            continue
                        if mode == "prepared" and not contestant.has_prepared:
                            continue
                        if mode.endswith("-session") and clients > options.pool_size:
                            continue
                        measure(postgres, contestant, mode, clients, options.seconds)
        text = f"{conditions(postgres, bouncer, contestants, options)}\n\n{table(contestants, options)}"
        print(text)
        if options.write:
            write("benchmarks.md", "bench", text)
        bouncer.stop()
    finally:
        for daemon in running:
            daemon.stop()
        postgres.remove()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
