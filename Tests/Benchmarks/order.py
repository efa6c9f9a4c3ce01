#!/usr/bin/env python3
"""Which functions the daemon runs while it serves, for the linker to put beside each other (`make order`).

Callgrind counts the instructions of transactions, connections and TLS with epoll, which is all that it can run; what belongs to
io_uring is taken by its names. The functions of each load follow those of the loads before it, the costliest first. Writes
deploy/dev/hot-functions.txt: symbols as the linker has them (docs/decisions/0010-hot-functions-side-by-side.md).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from contestants import ROOT
from kit.certificates import Certificates
from kit.counting import STEADY, TRANSACTIONS, Callgrind, Crowd
from kit.daemon import BINARY, Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import run
from kit.waiting import wait_until

ORDER = ROOT / "deploy/dev/hot-functions.txt"
#: Of a load's instructions. A function that runs once a transaction and does next to nothing has more.
LEAST = 0.00005
#: Of modules of ours and those that they have copies of, and of the run time. The rest of Swift's library cannot be taken
#: apart: a function of it would bring along all others.
MOVABLE = re.compile(
    "12PostgresWire|14Authentication|7Pooling|7Reactor|5Proxy|9Telemetry|9lifeguard|T[gG]5|^_?_?swift_|^lifeguard_")
URING = re.compile(r"^\$s7Reactor(11UringDriver|4Ring|15ProvidedBuffers)C?V?\d")


def loads(daemon: Lifeguard, postgres: PostgreSQL) -> list[Callable[[], None]]:
    """What users do, the most frequent first."""

    def bench(*options: str) -> None:
        run([postgres.bin / "pgbench", "-n", "-S", "-c", "4", "-t", "100", *options], timeout=300)

    def transactions(kind: str) -> None:
        # Those in blocks do not wait for each other, so they need a connection each.
        with Crowd(daemon, 4 if kind == "block" else 16) as crowd:
            crowd.run(kind, 1600)

    return [*(lambda kind=kind: transactions(kind) for kind in TRANSACTIONS),
            lambda: bench("-C", daemon.conninfo(sslmode="disable")),
            lambda: bench(daemon.conninfo(sslmode="require")),
            lambda: bench("-C", daemon.conninfo(sslmode="require"))]


def main() -> None:
    text = {line.split()[2] for line in run(["nm", "--defined-only", BINARY]).stdout.splitlines() if line.split()[1] in "tTwW"}
    names: dict[str, None] = {}
    postgres, certificates = PostgreSQL(), Certificates()
    try:
        run([postgres.bin / "pgbench", "-i", "-q", "-s", "1", postgres.conninfo()], timeout=120)
        with tempfile.TemporaryDirectory(prefix="lifeguard-order-", dir="/tmp") as path:
            folder = Path(path)
            callgrind = Callgrind(folder)
            (folder / "daemon").mkdir()
            daemon = Lifeguard(
                folder / "daemon",
                {"server": {"workers": 1, "event_loop": "epoll", "tls_mode": "allow",
                            "tls_cert": str(certificates.server.certificate), "tls_key": str(certificates.server.key)},
                 "pool": STEADY, "log": {"connections": False}, "databases.app": {"upstream": postgres.conninfo()}},
                environment=callgrind.environment, binary=callgrind.binary, launcher=callgrind.launcher, wait=False)
            wait_until(lambda: daemon.http("/livez")[0] == 200, "valgrind has started the daemon", deadline=60)
            try:
                for load in loads(daemon, postgres):
                    load()
                    callgrind.profile(daemon)
                    load()
                    costs = callgrind.costs(callgrind.profile(daemon))
                    for name, cost in costs.most_common():
                        # One that calls itself has a number behind its name for each depth.
                        name = name.split("'")[0]
                        if cost >= LEAST * costs.total() and name in text and MOVABLE.search(name):
                            names[name] = None
            finally:
                daemon.stop()
    finally:
        postgres.remove()
        certificates.remove()
    names |= dict.fromkeys(sorted(name for name in text if URING.match(name)))
    ORDER.write_text("".join(f"{name}\n" for name in names))
    print(f"{len(names)} functions in {ORDER.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
