"""One pool on several workers (`pool_workers`) behaves as one pool."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from kit.admin import command
from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.sampling import Sampler
from kit.waiting import wait_until

WORKERS = 4

#: Where a client's worker stands in the process id of its cancel key.
SLOT_BITS, WORKER_BITS = 20, 6

#: What a client may be told whose server connection was terminated, where its pool has others.
LOSSES = ("40001", "40003", "57P01", "25P02")


@pytest.fixture
def sharded(lifeguard) -> Callable[..., Lifeguard]:
    """A daemon with four workers, and with a shard of each pool on each of them."""
    def start(*, workers: int = WORKERS, pool: dict | None = None, **sections: dict) -> Lifeguard:
        pool = {"pool_workers": workers, "pool_size": 2, "max_overflow": 0} | (pool or {})
        return lifeguard(server={"workers": workers}, pool=pool, **sections)
    return start


def worker_of(connection: psycopg.Connection) -> int:
    """The worker that serves a client."""
    return connection.info.backend_pid >> SLOT_BITS & (1 << WORKER_BITS) - 1


def connect(daemon: Lifeguard, on: int | None = None, *, other_than: int | None = None, **more: str) -> psycopg.Connection:
    """A client whose worker is this one, or any but one. Which worker accepts it is chance: several at once, so that more
    than one wakes up."""
    def fits(client: psycopg.Connection) -> bool:
        return (on is None or worker_of(client) == on) and worker_of(client) != other_than

    for _ in range(60):
        clients = crowd(daemon, 1 if on is None and other_than is None else 8, **more)
        found = next((client for client in clients if fits(client)), None)
        close(*(client for client in clients if client is not found))
        if found:
            return found
    raise AssertionError("no client came to that worker")


def crowd(daemon: Lifeguard, count: int, **more: str) -> list[psycopg.Connection]:
    """Clients that come eight at once."""
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda _: psycopg.connect(daemon.conninfo(**more), autocommit=True), range(count)))


def spread(daemon: Lifeguard, workers: int) -> list[psycopg.Connection]:
    """Clients of at least so many workers."""
    clients: list[psycopg.Connection] = []

    def are_spread() -> bool:
        clients.extend(crowd(daemon, 16))
        return len({worker_of(client) for client in clients}) >= workers

    wait_until(are_spread, f"clients are with {workers} workers", deadline=30)
    return clients


def backend(connection: psycopg.Connection) -> int:
    """The server's process that a transaction of the client runs in."""
    return connection.execute("select pg_backend_pid()", prepare=False).fetchone()[0]


def moved(daemon: Lifeguard) -> float:
    """Connections that have gone from one shard to another."""
    return daemon.metrics()['lifeguard_pool_shard_connections_total{database="app",user="app"}']


def fill(daemon: Lifeguard, count: int) -> list[psycopg.Connection]:
    """Clients of one worker, as many as there may be connections, all of which they have used."""
    clients = [connect(daemon)]
    clients += [connect(daemon, worker_of(clients[0])) for _ in range(count - 1)]
    for client in clients:
        client.execute("begin")
        backend(client)
    for client in clients:
        client.execute("commit")
    return clients


def hold(daemon: Lifeguard) -> psycopg.Connection:
    """A client that has one of the pool's connections, so that there is one less for the others. (A pool has no more shards
    than connections.)"""
    client = connect(daemon)
    client.execute("begin")
    backend(client)
    return client


def shown(daemon: Lifeguard) -> tuple[float, float]:
    """`pool_size` and `max_overflow` as the metrics have them."""
    counts = daemon.metrics()
    return tuple(counts[f'lifeguard_pool_{name}{{database="app",user="app"}}'] for name in ("size", "max_overflow"))


def close(*clients: psycopg.Connection) -> None:
    for client in clients:
        client.close()


def test_a_client_stays_where_it_was_accepted(sharded):
    daemon = sharded()
    clients = spread(daemon, 2)
    [row] = [row for row in daemon.admin("SHOW POOLS") if row["database"] == "app"]
    assert int(row["cl_active"]) == len(clients)
    close(*clients)


def test_fewer_shards_than_workers_get_all_clients(lifeguard):
    daemon = lifeguard(server={"workers": 4}, pool={"pool_workers": 2})
    clients = spread(daemon, 2) + crowd(daemon, 32)
    for client in clients:
        client.execute("select 1")
    assert len({worker_of(client) for client in clients}) == 2
    close(*clients)


def test_an_idle_connection_moves_to_the_shard_that_wants_it(sharded, postgres: PostgreSQL):
    daemon = sharded()
    clients = fill(daemon, 2)
    other = connect(daemon, other_than=worker_of(clients[0]))
    before = {backend(client) for client in clients}
    with Sampler(postgres) as sampler:
        for _ in range(20):
            for client in (other, *clients):
                client.execute("begin")
                before.add(backend(client))
                client.execute("commit")
    assert len(before) == 2 and sampler.highest == 2
    assert moved(daemon) > 0
    close(other, *clients)


def test_a_waiter_gets_what_another_shard_gives_back(sharded):
    daemon = sharded()
    clients = fill(daemon, 2)
    other = connect(daemon, other_than=worker_of(clients[0]))
    for client in clients:
        client.execute("begin")
        backend(client)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(backend, other)
        wait_until(lambda: daemon.pool()["cl_waiting"] == "1", "it waits")
        held = backend(clients[0])
        clients[0].execute("commit")
        assert answer.result(10) == held
    clients[1].execute("commit")
    close(other, *clients)


def test_a_permit_moves_where_no_connection_is_open(sharded, postgres: PostgreSQL):
    daemon = sharded(pool={"pool_size": 4})
    one = connect(daemon)
    others = [connect(daemon, other_than=worker_of(one)) for _ in range(3)]
    with Sampler(postgres) as sampler:
        for client in (one, *others):
            client.execute("begin")
        assert len({backend(client) for client in (one, *others)}) == 4
        wait_until(lambda: sampler.highest >= 4, "the server has been looked at")
        for client in (one, *others):
            client.execute("commit")
    assert sampler.highest == 4
    assert daemon.metrics()['lifeguard_pool_shard_permits_total{database="app",user="app"}'] > 0
    close(one, *others)


def test_shards_that_have_what_they_need_leave_each_other_alone(sharded):
    daemon = sharded(pool={"pool_size": 4, "pre_ping_idle": "1h"})
    one = connect(daemon)
    other = connect(daemon, other_than=worker_of(one))
    # Both at once, so that each gets a connection that stays with it.
    for client in (one, other):
        client.execute("begin")
        backend(client)
    for client in (one, other):
        client.execute("commit")
    before = moved(daemon)
    for _ in range(200):
        one.execute("select 1")
        other.execute("select 1")
    assert moved(daemon) == before
    close(one, other)


def test_a_shard_without_a_connection_gets_its_turn_beside_one_that_never_rests(sharded):
    daemon = sharded()
    holder = hold(daemon)
    first = connect(daemon)
    busy = [first] + [connect(daemon, worker_of(first)) for _ in range(3)]
    other = connect(daemon, other_than=worker_of(first))
    stop = threading.Event()

    def work(client: psycopg.Connection) -> int:
        count = 0
        while not stop.is_set():
            client.execute("select pg_sleep(0.002)")
            count += 1
        return count

    with ThreadPoolExecutor(4) as threads:
        counts = [threads.submit(work, client) for client in busy]
        for _ in range(5):
            other.execute("select 1")
        stop.set()
        assert all(count.result() > 0 for count in counts)
    close(holder, other, *busy)


def test_settings_and_statements_are_right_after_a_move(sharded):
    daemon = sharded()
    holder = hold(daemon)
    one = connect(daemon, application_name="one", options="-c work_mem=1234kB")
    other = connect(daemon, other_than=worker_of(one), application_name="other")
    other.execute("set statement_timeout = '77s'")
    for number in range(10):
        for client, name, memory, timeout in ((one, "one", "1234kB", "0"), (other, "other", "4MB", "77s")):
            row = client.execute(
                "select current_setting('application_name'), current_setting('work_mem'), "
                "current_setting('statement_timeout'), %s::int", (number,), prepare=True).fetchone()
            assert row[:2] == (name, memory) and row[2] in (timeout, "77s" if timeout != "0" else "0")
            assert row[3] == number
            assert client.execute("select %s::text || %s::text", ("a", name), prepare=True).fetchone() == ("a" + name,)
    assert moved(daemon) >= 10
    close(holder, one, other)


def test_a_connection_that_ended_before_it_moved_costs_nobody_anything(sharded, postgres: PostgreSQL):
    daemon = sharded()
    holder = hold(daemon)
    one = connect(daemon)
    other = connect(daemon, other_than=worker_of(one))
    with Sampler(postgres) as sampler:
        for client in (one, other) * 10:
            first = backend(client)
            postgres.psql(f"select pg_terminate_backend({first}, 5000)")
    assert sampler.highest == 2
    assert backend(one) > 0
    close(holder, one, other)


@pytest.mark.parametrize("word", ["RECONNECT", "PAUSE"])
def test_orders_hold_for_all_shards(sharded, postgres: PostgreSQL, word: str):
    daemon = sharded(pool={"pool_size": 4})
    clients = [connect(daemon) for _ in range(20)]
    old = set()
    for client in clients:
        old.add(backend(client))
    command(daemon, f"{word} app")
    if word == "PAUSE":
        assert postgres.backends() == 0
        command(daemon, "RESUME app")
    else:
        command(daemon, "WAIT_CLOSE app")
    assert not old & {backend(client) for client in clients}
    close(*clients)


def test_kill_ends_the_clients_of_all_shards(sharded, postgres: PostgreSQL):
    daemon = sharded(pool={"pool_size": 4})
    clients = [connect(daemon) for _ in range(20)]
    for client in clients:
        client.execute("select 1")
    command(daemon, "KILL app")
    for client in clients:
        with pytest.raises(psycopg.OperationalError):
            client.execute("select 1")
    wait_until(lambda: postgres.backends() == 0, "the connections are closed")


def test_a_reload_changes_the_bound_of_all_shards_together(sharded, postgres: PostgreSQL):
    daemon = sharded(pool={"pool_size": 6, "max_overflow": 2})
    clients = [connect(daemon) for _ in range(16)]

    def most_at_once() -> int:
        """Connections that clients in transactions have at once, when all want one."""
        barrier = threading.Barrier(len(clients) + 1)

        def work(client: psycopg.Connection) -> None:
            barrier.wait()
            for _ in range(10):
                client.execute("select pg_sleep(0.005)")

        with Sampler(postgres) as sampler, ThreadPoolExecutor(len(clients)) as threads:
            results = [threads.submit(work, client) for client in clients]
            barrier.wait()
            for result in results:
                result.result()
        return sampler.highest

    def resize(size: int, overflow: int) -> None:
        text = re.sub("pool_size = .*", f"pool_size = {size}", daemon.config.read_text())
        daemon.config.write_text(re.sub("max_overflow = .*", f"max_overflow = {overflow}", text))
        daemon.reload()
        wait_until(lambda: shown(daemon) == (size, overflow), "the pool has the new settings")
        wait_until(lambda: postgres.backends() <= size + overflow, "what is too much is closed")

    assert most_at_once() == 8
    for size, overflow in ((2, 0), (5, 2), (3, 0), (8, 0)):
        resize(size, overflow)
        assert most_at_once() == size + overflow
    close(*clients)


def test_max_pinned_is_about_the_pool_as_a_whole(sharded):
    daemon = sharded(pool={"pool_size": 4, "max_pinned": 2})
    clients = [connect(daemon) for _ in range(6)]
    for client in clients[:2]:
        client.execute("create temp table mine (x int)")
    wait_until(lambda: daemon.pool()["sv_pinned"] == "2", "two are pinned")
    for client in clients[2:]:
        with pytest.raises(psycopg.Error, match="max_pinned 2 connections pinned already"):
            client.execute("create temp table mine (x int)")
    assert len(daemon.admin("SHOW PINS")) == 2 and daemon.pool()["sv_pinned"] == "2"
    close(*clients)


def test_who_does_not_wait_still_gets_what_another_shard_has(sharded):
    daemon = sharded(pool={"pool_timeout": 0})
    clients = fill(daemon, 2)
    other = connect(daemon, other_than=worker_of(clients[0]))
    for _ in range(10):
        other.execute("select 1")
        clients[0].execute("select 1")
    for client in clients:
        client.execute("begin")
        backend(client)
    with pytest.raises(psycopg.Error) as refusal:
        other.execute("select 1")
    assert refusal.value.sqlstate == "53300"
    for client in clients:
        client.execute("commit")
    other.execute("select 1")
    close(other, *clients)


def test_sessions_move_too(sharded):
    daemon = sharded(pool={"mode": "session"})
    holder = hold(daemon)
    pids = set()
    worker = None
    for _ in range(10):
        with connect(daemon, other_than=worker) as client:
            worker = worker_of(client)
            client.execute("set work_mem = '1234kB'")
            pids.add(backend(client))
    assert len(pids) == 1
    holder.close()


def test_what_cannot_be_sharded_is_said(lifeguard):
    daemon = lifeguard(server={"workers": 2}, pool={"pool_workers": 8},
                       **{"users.app": {"max_connections": 3}})
    log = daemon.log()
    assert "[pool] pool_workers: 8 is more than there are workers; a pool has 2" in log
    assert "[users.app] max_connections: pools under it have one worker each" in log
    clients = [connect(daemon) for _ in range(10)]
    assert len({worker_of(client) for client in clients}) == 1
    close(*clients)


def test_tls_goes_along(sharded, tls_postgres: PostgreSQL, certificates):
    upstream = tls_postgres.conninfo(
        host="localhost", sslmode="verify-full", sslrootcert=str(certificates.authority.certificate))
    daemon = sharded(**{"databases.app": {"upstream": upstream}})
    holder = hold(daemon)
    one = connect(daemon)
    other = connect(daemon, other_than=worker_of(one))
    pids = set()
    for number in range(10):
        for client in (one, other):
            row = client.execute(
                "select pg_backend_pid(), repeat('x', 100000 + %s)", (number,)).fetchone()
            assert len(row[1]) == 100000 + number
            pids.add(row[0])
    assert len(pids) == 1
    assert moved(daemon) >= 10
    close(holder, one, other)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [False, True], ids=["calm", "with kills"])
def test_a_skewed_crowd_is_served_within_the_bound(sharded, postgres: PostgreSQL, kills: bool):
    daemon = sharded(pool={"pool_size": 4, "max_overflow": 2, "overflow_linger": "20ms", "pool_timeout": "60s"})
    hot = worker_of(probe := connect(daemon))
    probe.close()
    stop = threading.Event()
    served = [0] * 32

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(12):
            with psycopg.connect(daemon.conninfo(), autocommit=True) as client:
                # One shard has most to do; the others' clients come and go.
                for step in range(40 if worker_of(client) == hot else 3):
                    try:
                        if chance.random() < 0.2:
                            client.execute("begin")
                            client.execute("select pg_sleep(%s)", (chance.random() * 0.003,), prepare=True)
                            client.execute("commit")
                        else:
                            assert client.execute("select %s::int", (step,), prepare=True).fetchone() == (step,)
                    except psycopg.Error as error:
                        assert kills and error.sqlstate in LOSSES, error
                        if client.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                            client.execute("rollback")
                    served[number] += 1

    def kill() -> None:
        chance = random.Random(0)
        with psycopg.connect(postgres.superuser(), autocommit=True) as killer:
            while not stop.wait(0.02):
                pids = [row[0] for row in killer.execute("select pid from pg_stat_activity where usename = 'app'")]
                if pids:
                    killer.execute("select pg_terminate_backend(%s, 5000)", (chance.choice(pids),))

    with Sampler(postgres) as sampler:
        killer = threading.Thread(target=kill)
        if kills:
            killer.start()
        try:
            with ThreadPoolExecutor(len(served)) as threads:
                for outcome in [threads.submit(work, number) for number in range(len(served))]:
                    outcome.result()
        finally:
            stop.set()
            if kills:
                killer.join()
    assert all(served)
    assert 0 < sampler.highest <= 6
    wait_until(lambda: postgres.backends() <= 4, "what overflows is closed again")
    [row] = [row for row in daemon.admin("SHOW POOLS") if row["database"] == "app"]
    assert int(row["cl_waiting"]) == 0

    def count(name: str, labels: str = "") -> float:
        return daemon.metrics()[f'lifeguard_pool_{name}{{database="app",user="app"{labels}}}']

    def is_settled() -> bool:
        closed = sum(count(f"{name}_total") for name in ("recycles", "overflow_closes", "invalidations"))
        return count("connects_total") - closed == postgres.backends() and count("checkouts_total") == count("checkins_total")

    wait_until(is_settled, "what the shards have counted adds up to the connections that there are")
    gifts = count("shard_connections_total") + count("shard_permits_total")
    assert 0 < count("shard_transfer_seconds_count") <= gifts
    print(f"{gifts:g} gifts; transfers within 1 ms:", count("shard_transfer_seconds_bucket", ',le="0.001"'),
          "of", count("shard_transfer_seconds_count"), "in all:", count("shard_transfer_seconds_sum"), "s")


def test_clients_that_stay_while_the_daemon_stops_have_all_permits(sharded):
    daemon = sharded()
    first, second = fill(daemon, 2)
    other = connect(daemon, other_than=worker_of(first))
    command(daemon, "SHUTDOWN WAIT_FOR_CLIENTS")
    close(first, second)
    for _ in range(5):
        other.execute("select 1")
    other.close()
    daemon.process.wait(20)
