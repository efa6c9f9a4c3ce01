"""Budgets of a transaction that no noise changes: system calls, wake-ups, allocations, instructions.

Who goes beyond one on purpose changes it here, and says in the commit what the difference buys.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.counting import STATEMENT, STEADY, Allocations, Callgrind, Crowd, SystemCalls, busy, workers
from kit.daemon import WORKERS, Lifeguard
from kit.postgres import PostgreSQL
from kit.waiting import wait_until
from kit.wire import WireClient, query
from test_event_loop import DRIVERS

# Daemons here have as many workers as a test says, and the event loop that it says.
pytestmark = pytest.mark.skipif(WORKERS != 1, reason="counted in the run with one worker")
needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="no strace")
needs_valgrind = pytest.mark.skipif(not shutil.which("valgrind"), reason="no valgrind; `make deps` installs it")

#: Of a lone client: a turn of the loop for its request and one for the answer, each with what it receives and sends.
CALLS = {"io_uring": {"io_uring_enter": 2.0}, "epoll": {"epoll_wait": 2.0, "recvfrom": 2.0, "sendto": 2.0}}


def connect(daemon: Lifeguard, database: str = "app") -> None:
    """A client comes, asks once, and goes."""
    with WireClient.app(daemon.port, database=database) as client:
        client.ask(query(STATEMENT))


#: A line for each client costs as much as the client.
SILENT = {"connections": False}


@needs_strace
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_transaction_makes_these_system_calls_and_no_other(
        lifeguard: Callable[..., Lifeguard], tmp_path: Path, driver: str):
    daemon = lifeguard(server={"event_loop": driver, "workers": 1}, pool=STEADY)
    for kind in ("simple", "extended", "prepared"):
        with Crowd(daemon, 1) as crowd:
            crowd.run(kind, 100)
            with SystemCalls(daemon.pid, tmp_path) as calls:
                crowd.run(kind, 500)
        assert calls.each(500) == CALLS[driver], (kind, calls.counts)


@needs_strace
@pytest.mark.parametrize("driver", DRIVERS)
def test_many_clients_make_no_more_system_calls_than_one(
        lifeguard: Callable[..., Lifeguard], tmp_path: Path, driver: str):
    daemon = lifeguard(server={"event_loop": driver, "workers": 1}, pool=STEADY)
    with Crowd(daemon, 16) as crowd:
        crowd.run("simple", 160)
        with SystemCalls(daemon.pid, tmp_path) as calls:
            crowd.run("simple", 1600)
    each = calls.each(1600)
    # How many clients a turn serves is up to how fast they and the server are.
    assert each.keys() <= CALLS[driver].keys(), calls.counts
    assert all(count <= CALLS[driver][name] for name, count in each.items()), calls.counts


@needs_strace
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_transaction_of_a_client_that_is_home_wakes_no_other_thread(
        lifeguard: Callable[..., Lifeguard], postgres: PostgreSQL, tmp_path: Path, driver: str):
    """No lock that somebody waits for (futex), no mail (a write to an eventfd, and the read of it)."""
    names = ("one", "two")
    daemon = lifeguard(server={"event_loop": driver, "workers": 2}, pool=STEADY,
                       **{f"databases.{name}": {"upstream": postgres.conninfo()} for name in names})
    with Crowd(daemon, 8, names) as crowd:
        crowd.run("simple", 800)
        before = busy(daemon)
        with SystemCalls(daemon.pid, tmp_path) as calls:
            crowd.run("simple", 1600)
        took = [after - first for first, after in zip(before, busy(daemon), strict=True)]
    # Both serve: 5 µs a transaction is less than any takes.
    assert min(took) > 800 * 5_000, took
    assert calls.each(1600).keys() <= CALLS[driver].keys(), calls.counts
    for call in ("futex", "write", "read"):
        assert calls.counts.get(call, 0) < 16, calls.counts


@needs_strace
@pytest.mark.parametrize("driver", DRIVERS)
def test_clients_of_the_only_busy_pool_are_accepted_where_it_is(
        lifeguard: Callable[..., Lifeguard], postgres: PostgreSQL, tmp_path: Path, driver: str):
    """Whoever is accepted by another worker comes by mail, and has two workers wake up for it."""
    names = ("one", "two")
    daemon = lifeguard(server={"event_loop": driver, "workers": 2}, pool=STEADY, log=SILENT,
                       **{f"databases.{name}": {"upstream": postgres.conninfo()} for name in names})
    for name in names:
        connect(daemon, name)
    # The pools live on different workers. Which one is busy changes.
    for name in (*names, *names):
        with SystemCalls(daemon.pid, tmp_path) as calls:
            for _ in range(600):
                connect(daemon, name)
        # The other worker comes last once it has had 64 of them, when this one no longer does. Then the other one looks
        # once a second, and may take some.
        assert calls.counts.get("write", 0) < 64 + 64, (name, calls.counts)


#: By kind of transaction, pool mode and number of clients: more than connections where some may wait.
ALLOCATIONS = {
    ("simple", "transaction", 16): 0, ("extended", "transaction", 16): 0, ("block", "transaction", 4): 0,
    ("prepared", "transaction", 16): 0, ("prepared", "session", 4): 0,
}


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_transaction_allocates_nothing(
        lifeguard: Callable[..., Lifeguard], postgres: PostgreSQL, tmp_path: Path, driver: str):
    counter = Allocations(tmp_path)
    daemon = lifeguard(server={"event_loop": driver, "workers": 1}, pool=STEADY, environment=counter.environment,
                       **{"databases.transaction": {"upstream": postgres.conninfo()},
                          "databases.session": {"upstream": postgres.conninfo(), "mode": "session"}})
    (worker,) = workers(daemon)
    for (kind, mode, clients), most in ALLOCATIONS.items():
        with Crowd(daemon, clients, (mode,)) as crowd:
            crowd.run(kind, 800)
            before = counter.of(worker)
            crowd.run(kind, 800)
            each = (counter.of(worker) - before) / 800
            if each > most + 0.01:
                counter.show(stacks=10)
                crowd.run(kind, 16)
                counter.show(stacks=0)
                pytest.fail(f"{kind} in {mode} mode: {each:.2f} allocations a transaction, at most {most} expected; by\n"
                            f"{counter.callers(daemon.log())}")


#: Instructions of the whole daemon, in user mode, for a transaction of a lone client: what callgrind counts of a release
#: build by Swift 6.3 (9,512, 11,704 and 12,946), and five per cent, since compilers and libraries differ.
INSTRUCTIONS = {"simple": 10_000, "extended": 12_300, "prepared": 13_600}
#: The same for a client that comes, asks once, and goes (19,499, its transaction among them), where no log line tells of it.
CONNECTION = 20_500
#: Of them, those in functions that the linker puts side by side (93%, the rest is libc and hashing); `make order` lists them anew.
ORDERED_SHARE = 0.88
ORDERED = set((Path(__file__).resolve().parents[2] / "deploy/dev/hot-functions.txt").read_text().split())
#: What reading a plain text may be of all, and the functions that do it.
READING_SHARE, READING = 0.03, re.compile("StatementEffectsV4scan|EffectScanner|SQLLexer|PlainStatement")


@needs_valgrind
def test_a_transaction_and_a_connection_take_few_instructions(lifeguard: Callable[..., Lifeguard], tmp_path: Path):
    callgrind = Callgrind(tmp_path)
    daemon = lifeguard(server={"event_loop": "epoll", "workers": 1}, pool=STEADY, log=SILENT,
                       environment=callgrind.environment, binary=callgrind.binary, launcher=callgrind.launcher, wait=False)
    wait_until(lambda: daemon.http("/livez")[0] == 200, "valgrind has started the daemon", deadline=60)
    each = {}
    for connections in (50, 300):
        callgrind.profile(daemon)
        for _ in range(connections):
            connect(daemon)
    profile = callgrind.profile(daemon)
    connection = callgrind.instructions(profile) / 300
    print(f"{connection:.0f} instructions a connection, at most {CONNECTION}")
    if connection > CONNECTION:
        print(callgrind.costliest(profile))
    with Crowd(daemon, 1) as crowd:
        for kind, most in INSTRUCTIONS.items():
            crowd.run(kind, 100)
            callgrind.profile(daemon)
            crowd.run(kind, 500)
            profile = callgrind.profile(daemon)
            each[kind] = callgrind.instructions(profile) / 500
            print(f"{kind}: {each[kind]:.0f} instructions a transaction, at most {most}")
            costs = callgrind.costs(profile)
            ordered = sum(cost for name, cost in costs.items() if name.split("'")[0] in ORDERED) / costs.total()
            print(f"  of these in functions of deploy/dev/hot-functions.txt: {ordered:.1%}")
            assert ordered >= ORDERED_SHARE, "what a transaction runs has changed its names: `make order`"
            reading = sum(cost for name, cost in costs.items() if READING.search(name)) / 500
            print(f"  of these for reading texts: {reading:.0f} ({reading / each[kind]:.1%})")
            if each[kind] > most:
                print(callgrind.costliest(profile))
            assert (reading > 0) == (kind != "prepared") and reading <= READING_SHARE * each[kind], (kind, reading)
    assert connection <= CONNECTION and all(each[kind] <= most for kind, most in INSTRUCTIONS.items()), \
        f"{connection}, {each}; what each function takes is above, and all of it in {profile.parent} for callgrind_annotate"
