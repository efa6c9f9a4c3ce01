"""What a transaction costs in numbers that no other load on the machine changes: system calls, allocations, instructions.

All are counted over clients that are connected, so that nothing but transactions is in them.
"""

from __future__ import annotations

import mmap
import re
import shutil
import signal
import struct
import subprocess
from collections import Counter
from pathlib import Path

from .daemon import BINARY, Lifeguard
from .processes import run, spawn
from .waiting import wait_until
from .wire import SYNC, WireClient, bind, execute, parse, query

#: As long as that of `pgbench -S`, and as plain.
STATEMENT = "SELECT 'abalance' AS abalance, 7 AS bid WHERE 12345 = 12345;"
#: The requests of a transaction, each of which is answered before the next one.
TRANSACTIONS = {
    "simple": [[query(STATEMENT)]],
    "extended": [[parse(STATEMENT), bind(), execute(), SYNC]],
    "prepared": [[bind(statement="named"), execute(), SYNC]],
    "block": [[query("begin")], [query(STATEMENT)], [query("commit")]],
}
#: A pool that neither dials nor pings once it is warm.
STEADY = {"pool_size": 5, "max_overflow": 0, "pre_ping_idle": "1h", "pool_recycle": "off"}


class Crowd:
    """Clients that are connected, have a prepared statement, and do all the same at once."""

    def __init__(self, daemon: Lifeguard, count: int, databases: tuple[str, ...] = ("app",)) -> None:
        self.clients = [WireClient(daemon.port, {"user": "app", "database": databases[number % len(databases)]})
                        for number in range(count)]
        for client in self.clients:
            client.ask(parse(STATEMENT, "named"), SYNC)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_) -> None:
        for client in self.clients:
            client.close()

    def run(self, kind: str, transactions: int) -> None:
        """So many in all, of a kind of `TRANSACTIONS`."""
        for _ in range(transactions // len(self.clients)):
            for request in TRANSACTIONS[kind]:
                for client in self.clients:
                    client.send(*request)
                for client in self.clients:
                    kinds = [message.kind for message in client.until_ready()]
                    assert "E" not in kinds, kinds


def workers(daemon: Lifeguard) -> list[int]:
    """The threads that are workers, in their order. Threads that a worker has started bear its name too, but are younger."""
    oldest: dict[str, int] = {}
    for task in sorted(Path(f"/proc/{daemon.pid}/task").iterdir(), key=lambda task: int(task.name)):
        name = (task / "comm").read_text().strip()
        if name.startswith("worker "):
            oldest.setdefault(name, int(task.name))
    return list(oldest.values())


def busy(daemon: Lifeguard) -> list[int]:
    """For how many nanoseconds each worker has had a processor until now."""
    states = [Path(f"/proc/{daemon.pid}/task/{thread}/schedstat").read_text() for thread in workers(daemon)]
    return [int(state.split()[0]) for state in states]


class SystemCalls:
    """System calls of all threads of a process, by name, from the beginning to the end of a `with`."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid, self.summary = pid, folder / "strace"
        self.counts: dict[str, int] = {}

    def __enter__(self) -> SystemCalls:
        self.tracer = spawn(["strace", "-f", "-c", "-o", self.summary, "-p", str(self.pid)],
                            stderr=subprocess.PIPE, text=True)
        assert "attached" in self.tracer.stderr.readline()
        return self

    def __exit__(self, *_) -> None:
        self.tracer.send_signal(signal.SIGINT)
        self.tracer.wait(20)
        self.counts = {name: int(number) for number, name in re.findall(
            r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", self.summary.read_text(), re.M) if name != "total"}

    def each(self, transactions: int) -> dict[str, float]:
        """Calls a transaction to one decimal; what a thread does now and then is none."""
        return {name: round(count / transactions, 1) for name, count in self.counts.items()
                if count / transactions >= 0.05}


class Allocations:
    """Counts what each thread of a daemon takes from the heap (`allocations.c`)."""

    SLOT, SLOTS = struct.Struct("QQ"), 1024

    def __init__(self, folder: Path) -> None:
        library, counts = folder / "allocations.so", folder / "allocations"
        run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library,
             Path(__file__).with_name("allocations.c")])
        counts.write_bytes(bytes(self.SLOT.size * self.SLOTS + 8))
        with counts.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        #: What the daemon has to be started with.
        self.environment = {"LD_PRELOAD": str(library), "LIFEGUARD_ALLOCATIONS": str(counts)}

    def of(self, thread: int) -> int:
        """Allocations of a thread until now."""
        slots = self.SLOT.iter_unpack(self._memory[:self.SLOT.size * self.SLOTS])
        return next((count for number, count in slots if number == thread), 0)

    def show(self, stacks: int) -> None:
        """The daemon writes to its log from where the next ones come; 0 ends that."""
        struct.pack_into("q", self._memory, self.SLOT.size * self.SLOTS, stacks)

    @staticmethod
    def callers(log: str, frames: int = 6) -> str:
        """The functions of the daemon in each call stack of a log, innermost first."""
        addresses = [re.findall(rf"^{re.escape(str(BINARY))}\(\+(0x\w+)\)", stack, re.M)[:frames]
                     for stack in log.split("\n\n")]
        text = run(["addr2line", "-f", "-e", BINARY], input="\n".join(sum(addresses, []))).stdout
        names = iter(demangled("\n".join(text.splitlines()[::2])).splitlines())
        return "\n".join(" < ".join(next(names) for _ in stack) for stack in addresses if stack)


def demangled(text: str) -> str:
    """With Swift's names as they are in the source, where there is a toolchain."""
    return run(["swift", "demangle", "--simplified"], input=text).stdout if shutil.which("swift") else text


class Callgrind:
    """A daemon that valgrind runs, counting instructions; the event loop has to be epoll, as valgrind knows no other."""

    #: How the daemon waits for signals makes valgrind read its mask when it is gone; so it is copied first.
    SHIM = """#define _GNU_SOURCE
    #include <signal.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    int sigsuspend(const sigset_t *mask) { sigset_t copy = *mask; return (int)syscall(SYS_rt_sigsuspend, &copy, 8); }
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._dumps = folder, 0
        library = folder / "sigsuspend.so"
        run(["cc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=self.SHIM)
        # Reading debug information takes valgrind longer than all the rest.
        self.binary = folder / "lifeguard"
        run(["objcopy", "--strip-debug", BINARY, self.binary])
        self.environment = {"LD_PRELOAD": str(library), "SWIFT_BACKTRACE": "enable=no"}
        self.launcher = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/callgrind"]

    def profile(self, daemon: Lifeguard) -> Path:
        """What has been counted since the last one."""
        run(["callgrind_control", "--dump", str(daemon.pid)])
        self._dumps += 1
        profile = self.folder / f"callgrind.{self._dumps}"
        wait_until(lambda: "totals:" in profile.read_text(), "the profile is written")
        return profile

    @staticmethod
    def instructions(profile: Path) -> int:
        """All of them."""
        return int(re.search(r"^totals: (\d+)", profile.read_text(), re.M)[1])

    @staticmethod
    def costs(profile: Path) -> Counter[str]:
        """By (mangled) name, the instructions of each function without those that it calls."""
        names: dict[str, str] = {}
        costs: Counter[str] = Counter()
        function, is_call = "", False
        # A name is written once, behind its number. The line behind `calls=` is the cost of the call, not the function's.
        for line in profile.read_text().splitlines():
            if match := re.match(r"(c?)fn=(\(\d+\))(?: (.+))?", line):
                names |= {match[2]: match[3]} if match[3] else {}
                function = function if match[1] else match[2]
            elif line.startswith("calls="):
                is_call = True
            elif match := re.match(r"[-+*\d]\S* (\d+)$", line):
                costs[function] += 0 if is_call else int(match[1])
                is_call = False
        return Counter({names.get(function, function): cost for function, cost in costs.items()})

    @classmethod
    def costliest(cls, profile: Path, count: int = 40) -> str:
        """The functions that most instructions are in, without those that they call."""
        return demangled("\n".join(f"{cost:11,} {name}" for name, cost in cls.costs(profile).most_common(count)))
