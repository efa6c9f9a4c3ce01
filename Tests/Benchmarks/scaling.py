#!/usr/bin/env python3
"""What workers share, counted, since a machine with few cores cannot show how many of them scale.

A daemon with four workers serves four pools, one on each. Over transactions of clients that are connected and home:

- system calls of the whole daemon (strace), with one worker and one pool for comparison;
- increments and decrements of reference counts (uprobes on Swift's run time, with object and thread): each writes to the
  object's cache line, so an object that two workers touch would be shared;
- locked instructions by function, of the daemon's code and all libraries (callgrind's counts of each instruction, with one
  worker and epoll): reference counts, locks, mailboxes, and counters with several writers;
- the processor time of a transaction with one pool, and with four at once.

Needs root, strace, perf, valgrind and objdump. What a worker could do with a core of its own follows from the last figure.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from contestants import cell, markdown, write
from kit.counting import STEADY, Callgrind, Crowd, SystemCalls, busy, workers
from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import cpu_seconds, run, spawn

TRACING = Path("/sys/kernel/tracing")
GROUP = "lifeguard_scaling"
COUNTING = ["swift_retain", "swift_release", "swift_retain_n", "swift_release_n", "swift_bridgeObjectRetain",
            "swift_bridgeObjectRelease", "swift_unownedRetain", "swift_unownedRelease", "swift_unownedRetainStrong"]
#: Objects of the run time whose counts are never written.
IMMORTAL = ["_swiftEmptyArrayStorage", "_swiftEmptyDictionarySingleton", "_swiftEmptySetSingleton"]
KINDS = ("simple", "extended", "prepared")
POOLS = ("one", "two", "three", "four")
CLIENTS, TRANSACTIONS = 8, 800


def file_offset(binary: Path, address: int) -> int:
    """Where in the file the code at an address is."""
    for line in run(["readelf", "-lW", binary]).stdout.splitlines():
        if match := re.match(r" +LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+)", line):
            offset, start, size = (int(text, 16) for text in match.groups())
            if start <= address < start + size:
                return address - start + offset
    raise SystemExit(f"scaling: {binary} has nothing at {address:#x}")


def symbols(library: Path) -> dict[str, int]:
    """Addresses of what a library or a program has."""
    lines = (line.split() for line in run(["nm", "--defined-only", library]).stdout.splitlines())
    return {line[2].split("@")[0]: int(line[0], 16) for line in lines}


@contextmanager
def uprobes(probes: dict[str, tuple[Path, int, str]]) -> Iterator[None]:
    """Probes by name: file, offset, what is to be noted."""
    # Python's append mode asks for a position, which this file does not have.
    events = os.open(TRACING / "uprobe_events", os.O_WRONLY | os.O_APPEND)
    made: list[str] = []
    try:
        for name, (binary, offset, arguments) in probes.items():
            os.write(events, f"p:{GROUP}/{name} {binary}:{offset:#x} {arguments}\n".encode())
            made.append(name)
        yield
    finally:
        # One that is still on cannot be removed.
        switch = TRACING / "events" / GROUP / "enable"
        if switch.exists():
            switch.write_text("0")
        for name in made:
            os.write(events, f"-:{GROUP}/{name}\n".encode())
        os.close(events)


def serve(folder: Path, postgres: PostgreSQL, driver: str, names: tuple[str, ...], **options) -> Lifeguard:
    """A daemon with a worker for each pool; `options` are those of `Lifeguard`."""
    folder.mkdir()
    return Lifeguard(folder, {
        "server": {"workers": len(names), "event_loop": driver}, "pool": STEADY,
        "log": {"level": "warning", "connections": False},
        **{f"databases.{name}": {"upstream": postgres.conninfo()} for name in names}}, **options)


def calls(daemon: Lifeguard, crowd: Crowd, folder: Path) -> dict[str, float]:
    """System calls a transaction, as counted."""
    crowd.run("simple", TRANSACTIONS)
    with SystemCalls(daemon.pid, folder) as counted:
        crowd.run("simple", TRANSACTIONS)
    return {name: count / TRANSACTIONS for name, count in counted.counts.items()}


@contextmanager
def recording(pid: int, data: Path, folder: Path) -> Iterator[None]:
    """Notes what all threads of a process run into of our probes."""
    orders, answers = folder / "orders", folder / "answers"
    for fifo in (orders, answers):
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo)
    recorder = spawn(["perf", "record", "--delay=-1", f"--control=fifo:{orders},{answers}", "-e", f"{GROUP}:*",
                      "-p", str(pid), "-o", data], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with orders.open("w", buffering=1) as order, answers.open() as answer:
        order.write("enable\n")
        if not answer.readline().startswith("ack"):
            raise SystemExit("scaling: perf does not record")
        yield
        recorder.send_signal(signal.SIGINT)
        recorder.wait(60)


def reference_counts(daemon: Lifeguard, crowd: Crowd, folder: Path) -> tuple[float, int]:
    """How many are changed a transaction, and of how many objects by more than one worker in one of ten transactions."""
    maps = Path(f"/proc/{daemon.pid}/maps").read_text()
    program = Path(f"/proc/{daemon.pid}/exe").resolve()
    base = re.search(rf"^(\w+)-\S+ \S+ 00000000 .* {re.escape(str(program))}$", maps, re.M)[1]
    addresses = symbols(program)
    immortal = {int(base, 16) + addresses[name] for name in IMMORTAL}
    threads = workers(daemon)
    probes = {name: (program, file_offset(program, addresses[name]), "object=%di:x64") for name in COUNTING}
    touched: dict[int, Counter[int]] = {}
    changes = 0
    with uprobes(probes):
        for kind in KINDS:
            data = folder / "perf.data"
            with recording(daemon.pid, data, folder):
                crowd.run(kind, TRANSACTIONS)
            for line in run(["perf", "script", "-i", data, "-F", "tid,event,trace"]).stdout.splitlines():
                thread, address = re.match(rf" *(\d+) +{GROUP}:\w+:.*object=(0x\w+)", line).groups()
                # Small values and tagged ones are no objects; the run time leaves them alone.
                if int(thread) in threads and 4096 < int(address, 16) < 1 << 47 and int(address, 16) not in immortal:
                    touched.setdefault(int(address, 16), Counter())[int(thread)] += 1
                    changes += 1
    often = TRANSACTIONS * len(KINDS) / len(threads) / 10
    shared = sum(sum(count > often for count in who.values()) > 1 for who in touched.values())
    return changes / TRANSACTIONS / len(KINDS), shared


def executed(profile: Path) -> dict[Path, dict[int, tuple[str, int]]]:
    """The function of each instruction and how often it was executed, by object and address (`--dump-instr=yes`)."""
    paths: dict[str, Path] = {}
    names: dict[str, str] = {}
    counts: dict[Path, dict[int, tuple[str, int]]] = {}
    current, function, address, is_call = Path(), "", 0, False
    for line in profile.read_text().splitlines():
        if match := re.match(r"(c?)ob=(\(\d+\))(?: (.+))?", line):
            paths |= {match[2]: Path(match[3])} if match[3] else {}
            current = current if match[1] else paths[match[2]]
        elif match := re.match(r"(c?)fn=(\(\d+\))(?: (.+))?", line):
            names |= {match[2]: match[3]} if match[3] else {}
            function = function if match[1] else names[match[2]]
        elif line.startswith("calls="):
            is_call = True
        elif match := re.match(r"(0x\w+|[-+]\d+|\*) \S+ (\d+)$", line):
            # The cost behind a call is that of the function called.
            step, count = match.groups()
            address = int(step, 16) if step.startswith("0x") else address + (0 if step == "*" else int(step))
            if not is_call:
                instructions = counts.setdefault(current, {})
                instructions[address] = function, instructions.get(address, ("", 0))[1] + int(count)
            is_call = False
    return counts


def locked(folder: Path, postgres: PostgreSQL) -> Counter[str]:
    """How many locked instructions a thousand transactions of each kind execute, by function."""
    folder.mkdir()
    callgrind = Callgrind(folder)
    daemon = serve(folder / "daemon", postgres, "epoll", POOLS[:1], environment=callgrind.environment,
                   binary=callgrind.binary, launcher=[*callgrind.launcher, "--dump-instr=yes"])
    try:
        with Crowd(daemon, 1, POOLS[:1]) as crowd:
            for kind in KINDS:
                crowd.run(kind, 100)
            callgrind.profile(daemon)
            for kind in KINDS:
                crowd.run(kind, 1000)
            counts = executed(callgrind.profile(daemon))
    finally:
        daemon.stop()
    found: Counter[str] = Counter()
    for path, addresses in counts.items():
        if not path.is_file():
            continue
        code = run(["objdump", "-d", "--no-show-raw-insn", path], timeout=300).stdout
        for address in re.findall(r"^ *(\w+):\t(?:lock |xchg +.*\()", code, re.M):
            function, count = addresses.get(int(address, 16), ("", 0))
            is_counting = re.search("RefCount|^swift_(bridgeObject|unowned)?(retain|release)", function, re.I)
            found["reference counts" if is_counting else function] += count
    return found


def cost(daemon: Lifeguard, postgres: PostgreSQL, names: tuple[str, ...], seconds: int) -> float:
    """Microseconds of processor time for a transaction of fifty clients of pgbench on each pool."""

    def bench(name: str) -> int:
        out = run([postgres.bin / "pgbench", "-n", "-S", "-c", "50", "-T", str(seconds), daemon.conninfo(database=name)],
                  timeout=seconds + 120).stdout
        return int(re.search(r"actually processed: (\d+)", out)[1])

    before = cpu_seconds(daemon.pid)
    with ThreadPoolExecutor(len(names)) as threads:
        transactions = sum(threads.map(bench, names))
    return (cpu_seconds(daemon.pid) - before) / transactions * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=10, help="of pgbench (%(default)s)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    rows, most = [], 0.0
    postgres = PostgreSQL()
    try:
        run([postgres.bin / "pgbench", "-i", "-q", "-s", "10", postgres.conninfo()], timeout=120)
        with tempfile.TemporaryDirectory(prefix="lifeguard-scaling-", dir="/tmp") as path:
            folder = Path(path)
            for driver in ("io_uring", "epoll"):
                for names in (POOLS[:1], POOLS):
                    daemon = serve(folder / f"{driver}{len(names)}", postgres, driver, names)
                    try:
                        with Crowd(daemon, CLIENTS, names) as crowd:
                            counts = calls(daemon, crowd, folder)
                            began = busy(daemon)
                            changes, shared = reference_counts(daemon, crowd, folder)
                            if not all(after > before for before, after in zip(began, busy(daemon))):
                                raise SystemExit("scaling: a worker has done nothing")
                        microseconds = cost(daemon, postgres, names, options.seconds)
                    finally:
                        daemon.stop()
                    most = max(most, microseconds if driver == "io_uring" else 0)
                    waits = counts.get("io_uring_enter", 0) + counts.get("epoll_wait", 0)
                    moves = counts.get("recvfrom", 0) + counts.get("sendto", 0)
                    wakes = sum(counts.get(name, 0) for name in ("futex", "write", "read"))
                    rows.append([driver, str(len(names)), cell(waits, 2), cell(moves, 2), cell(wakes, 3), cell(changes),
                                 str(shared), cell(microseconds, 1)])
                    print(rows[-1], file=sys.stderr)
            functions = locked(folder / "callgrind", postgres)
    finally:
        postgres.remove()
    header = ["event_loop", "workers and pools", "waits and submissions", "receives and sends", "futex, eventfd",
              "reference counts changed", "objects that two workers change", "CPU, µs"]
    each = {function: round(count / 1000 / len(KINDS), 1) for function, count in functions.most_common()}
    listed = ", ".join(f"{function} {count:g}" for function, count in each.items() if count)
    text = (f"For a transaction; {CLIENTS} clients, {TRANSACTIONS} transactions of each kind ({', '.join(KINDS)}); processor "
            f"time of `pgbench -S`, 50 clients a pool, {options.seconds} s.\n\n{markdown(header, rows)}\n\n"
            f"Locked instructions a transaction, all libraries included: {listed}; no other once in twenty.\n\n"
            f"At {most:.1f} µs a transaction, a worker with a core of its own ends {1e6 / most:,.0f} of them a second, and "
            f"sixteen {16e6 / most:,.0f}, for as long as the kernel and the network beneath scale as well.")
    print(text)
    if options.write:
        write("benchmarks.md", "scaling", text)


if __name__ == "__main__":
    main()
