"""Where requests, failures and clients meet at the wrong moment: what must hold then."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import psycopg
import pytest

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import resident_bytes
from kit.waiting import wait_until
from kit.wire import (
    COPY_DONE, FLUSH, SYNC, WireClient, bind, copy_data, describe_portal, error, execute, frame, kinds, parse, query,
    startup,
)

MEGABYTE = 1024 * 1024


@pytest.fixture
def table(postgres: PostgreSQL):
    postgres.psql("create table edges (a int, b text); grant all on edges to app, alice")
    yield "edges"
    postgres.psql("drop table edges cascade")


@pytest.fixture
def one(lifeguard) -> Lifeguard:
    """A daemon with a single server connection, so that whoever keeps it keeps it from all."""
    return lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pool_timeout": "10s"})


def kill(postgres: PostgreSQL, condition: str) -> None:
    """Ends the one connection of user app that a condition on pg_stat_activity holds for, and waits for its end."""
    wait_until(lambda: postgres.psql("select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where "
                                     f"usename = 'app' and {condition}") == "1", "it is killed")


def is_back(daemon: Lifeguard) -> None:
    wait_until(lambda: daemon.pool()["sv_active"] == "0", "the connection is back in the pool")


# MARK: statement mode


def test_a_begin_refused_in_statement_mode_does_not_take_the_next_query_with_it(
        lifeguard, postgres: PostgreSQL, table: str):
    daemon = lifeguard(pool={"mode": "statement", "pool_size": 1, "max_overflow": 0})
    with WireClient.app(daemon.port) as client:
        client.send(query("begin"), query("insert into edges values (1)"))
        refused = client.until_ready()
        assert error(refused)["C"] == "0A000" and error(refused)["S"] == "ERROR"
        assert refused[-1].text == "I"
        inserted = client.until_ready()
        assert kinds(inserted) == "CZ" and inserted[0].text == "INSERT 0 1" and inserted[-1].text == "I"
        is_back(daemon)
        assert postgres.psql("select count(*) from edges") == "1"
        assert client.rows("select 2") == [["2"]]
        is_back(daemon)


# MARK: clients that never read


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["syncs", "lost block", "console"])
def test_answers_of_the_daemon_itself_pile_up_nowhere(daemon: Lifeguard, postgres: PostgreSQL, kind: str):
    """What the daemon answers by itself is held back like what a server answers."""
    request = {"syncs": SYNC, "lost block": query("select 1"), "console": query("SHOW POOLS")}[kind]
    parameters = ({"user": "postgres", "database": "lifeguard"} if kind == "console"
                  else {"user": "app", "database": "app"})
    with WireClient(daemon.port, parameters) as client, WireClient.app(daemon.port) as other:
        if kind == "lost block":
            client.ask(query("begin"))
            pid = client.rows("select pg_backend_pid()")[0][0]
            assert postgres.psql(f"select pg_terminate_backend({pid}, 10000)") == "t"
            assert client.ask(request)[-1].text == "E"
        other.rows("select 1")
        client.ask(request)
        before = resident_bytes(daemon.pid)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.socket.setblocking(False)
        pending = request * (64 * MEGABYTE // len(request))
        sent, highest = 0, before
        while sent < len(pending) and select.select([], [client.socket], [], 1)[1]:
            sent += client.socket.send(pending[sent:sent + 65536])
            highest = max(highest, resident_bytes(daemon.pid))
            if highest - before > 256 * MEGABYTE:
                break
        assert other.rows("select 1") == [["1"]]
        highest = max(highest, resident_bytes(daemon.pid))
        assert highest - before < 32 * MEGABYTE, f"grew by {(highest - before) // MEGABYTE} MB, {sent} bytes taken"
        assert sent < len(pending), "it is held back"
        # Now it reads, and everything that it sent is answered.
        count = -(-sent // len(request))
        client.socket.settimeout(20)
        rest = threading.Thread(target=client.socket.sendall, args=(pending[sent:count * len(request)],))
        rest.start()
        assert count_ready(client.socket, count) == count
        rest.join()
        assert resident_bytes(daemon.pid) - before < 32 * MEGABYTE
        assert other.rows("select 1") == [["1"]]
        if kind == "lost block":
            assert kinds(client.ask(query("rollback"))) == "CZ"
        assert kinds(client.ask(query("SHOW POOLS" if kind == "console" else "select 1"))).endswith("CZ")


def count_ready(connection: socket.socket, wanted: int) -> int:
    """Reads up to and with a number of ReadyForQuery, fast; how many there were."""
    buffer, ready = b"", 0
    while ready < wanted:
        data = connection.recv(MEGABYTE)
        assert data, f"closed after {ready} of {wanted} answers"
        buffer += data
        offset = 0
        while offset + 5 <= len(buffer):
            end = offset + 1 + struct.unpack_from("!I", buffer, offset + 1)[0]
            if end > len(buffer):
                break
            ready += buffer[offset] == ord("Z")
            offset = end
        buffer = buffer[offset:]
    assert not buffer
    return ready


# MARK: servers that die between the answers and the end


def test_a_server_that_dies_between_execute_and_sync_is_an_error(one: Lifeguard, postgres: PostgreSQL, table: str):
    """The rows were reported as inserted, and are not: a bare ReadyForQuery would be a lie."""
    with WireClient.app(one.port) as client:
        client.send(parse("insert into edges values (1)"), bind(), execute(), FLUSH)
        assert kinds(client.until(lambda message: message.kind in "CE")) == "12C"
        kill(postgres, "query like 'insert into edges%'")
        answer = client.ask(SYNC)
        assert kinds(answer) == "EZ", answer
        assert error(answer)["C"] == "40003"
        assert answer[-1].text == "I"
        assert postgres.psql("select count(*) from edges") == "0"
        assert client.rows("select 1") == [["1"]]


def test_a_server_that_dies_between_execute_and_sync_in_a_block_is_an_error(
        one: Lifeguard, postgres: PostgreSQL, table: str):
    with WireClient.app(one.port) as client:
        client.ask(query("begin"))
        client.send(parse("insert into edges values (1)"), bind(), execute(), FLUSH)
        assert kinds(client.until(lambda message: message.kind in "CE")) == "12C"
        kill(postgres, "query like 'insert into edges%'")
        answer = client.ask(SYNC)
        assert kinds(answer) == "EZ", answer
        assert error(answer)["C"] in ("40001", "40003")
        assert answer[-1].text == "E"
        answer = client.ask(query("rollback"))
        assert kinds(answer) == "CZ" and answer[-1].text == "I"
        assert client.rows("select count(*) from edges") == [["0"]]


def test_a_pipelined_commit_whose_server_dies_may_have_been_completed(
        one: Lifeguard, postgres: PostgreSQL, table: str):
    postgres.psql("create function held_up() returns trigger language plpgsql as "
                  "'begin perform pg_sleep(60); return null; end'")
    try:
        postgres.psql("create constraint trigger held_up after insert on edges deferrable initially deferred "
                      "for each row execute function held_up()")
        with WireClient.app(one.port) as client:
            client.send(query("begin"), query("insert into edges values (1)"), query("commit"))
            kill(postgres, "query = 'commit' and wait_event = 'PgSleep'")
            for tag in ("BEGIN", "INSERT 0 1"):
                answer = client.until_ready()
                assert kinds(answer) == "CZ" and answer[0].text == tag and answer[-1].text == "T"
            answer = client.until_ready()
            assert kinds(answer) == "EZ", answer
            assert error(answer)["C"] == "40003"
            client.ask(query("rollback"))
            assert client.rows("select count(*) from edges") == [["0"]]
    finally:
        postgres.psql("drop function held_up cascade")


# MARK: settings of a driver's pool


def test_reset_all_of_asyncpgs_pool_brings_back_what_the_client_started_with(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    postgres.psql("create schema s1; grant all on schema s1 to app")
    reading = ("select current_setting('application_name'), current_setting('search_path'), "
               "coalesce(current_setting('app.tenant', true), '')")

    async def work() -> None:
        plain = [WireClient.app(daemon.port) for _ in range(3)]
        pools = {}
        try:
            for tenant in ("7", "8"):
                settings = {"application_name": f"svc{tenant}", "search_path": "s1,public", "app.tenant": tenant}
                pools[tenant] = await asyncpg.create_pool(
                    daemon.address(), min_size=3, max_size=3, statement_cache_size=0, server_settings=settings)
            for number in range(40):
                for tenant, pool in pools.items():
                    async with pool.acquire() as first, pool.acquire() as second:
                        for connection in (first, second):
                            row = tuple(await connection.fetchrow(reading))
                            assert (row[0], row[1].replace(" ", ""), row[2]) == (f"svc{tenant}", "s1,public", tenant)
                    row = plain[number % 3].rows(reading)
                    assert row == [["", '"$user", public', ""]]
        finally:
            for pool in pools.values():
                await asyncio.wait_for(pool.close(), 20)
            for client in plain:
                client.close()

    try:
        asyncio.run(work())
    finally:
        postgres.psql("drop schema s1")


# MARK: clients that die in the middle


@pytest.mark.parametrize("how", ["close", "reset"])
def test_half_a_large_query_is_given_up_with_its_client(one: Lifeguard, postgres: PostgreSQL, table: str, how: str):
    text = b"insert into edges values (1); --" + b"x" * 200_000
    with WireClient.app(one.port) as staying:
        staying.rows("select 1")
        leaving = WireClient.app(one.port)
        leaving.send(frame(b"Q", text + b"\0")[:100_000])
        wait_until(lambda: one.pool()["sv_active"] == "1", "it has the connection")
        getattr(leaving, how)()
        began = time.monotonic()
        assert staying.rows("select count(*) from edges") == [["0"]]
        assert time.monotonic() - began < 2
        wait_until(lambda: postgres.backends() <= 1, "no connection too many is left")
        assert postgres.psql("select count(*) from edges") == "0"


# MARK: COPY that fails under the client's hands


def test_a_copy_that_fails_in_the_middle_of_copy_data_gives_the_connection_back(one: Lifeguard, table: str):
    with WireClient.app(one.port) as client, WireClient.app(one.port) as next_client:
        client.send(query("copy edges from stdin"))
        assert client.receive().kind == "G"
        message = copy_data(b"1\tgood\n" * 20_000)
        client.send(copy_data(b"no number\tbad\n" * 10_000), message[:70_000])
        assert error(client.until_ready())["C"] == "22P02"
        client.send(message[70_000:], COPY_DONE)
        is_back(one)
        assert next_client.rows("select count(*) from edges") == [["0"]]
        assert client.rows("select 1") == [["1"]]


def test_a_copy_with_its_sync_pipelined_that_fails_is_one_error_and_one_ready(
        one: Lifeguard, postgres: PostgreSQL, table: str):
    """As PQexecParams does it. A view lets COPY fail only after CopyInResponse, and the server skips the data then."""
    postgres.psql("create view edges_view as select * from edges; grant all on edges_view to app")
    with WireClient.app(one.port) as client, WireClient.app(one.port) as next_client:
        client.send(parse("copy edges_view from stdin"), bind(), describe_portal(), execute(), SYNC)
        data = copy_data(b"1\tx\n" * 1000)
        client.send(data[:2000])
        answer = client.until_ready()
        assert kinds(answer) == "12nGEZ", answer
        assert error(answer)["C"] == "42809" and answer[-1].text == "I"
        client.send(data[2000:], COPY_DONE)
        is_back(one)
        assert next_client.rows("select 1") == [["1"]]
        # No second ReadyForQuery is on its way.
        assert kinds(client.ask(query("select 2"))) == "TDCZ"


# MARK: long batches


def test_a_batch_of_30000_executions_with_one_sync(daemon: Lifeguard, postgres: PostgreSQL, table: str):
    count = 30_000
    with WireClient(daemon.port, {"user": "app", "database": "app"}, timeout=60) as client:
        batch = b"".join([parse("insert into edges values ($1::int)"),
                          *(bind((str(number),)) + execute() for number in range(count)), SYNC])
        sender = threading.Thread(target=client.send, args=(batch,))
        sender.start()
        answer = client.until_ready()
        sender.join()
        assert kinds(answer) == "1" + "2C" * count + "Z", [m for m in answer if m.kind == "E"]
        assert client.rows("select count(*), sum(a) from edges") == [[str(count), str(count * (count - 1) // 2)]]


def test_executemany_of_30000_with_psycopg(daemon: Lifeguard, table: str):
    with psycopg.connect(daemon.conninfo(), prepare_threshold=None) as connection:
        connection.cursor().executemany("insert into edges values (%s)", [(number,) for number in range(30_000)])
        assert connection.execute("select count(*) from edges").fetchone() == (30_000,)


# MARK: logins


@pytest.mark.parametrize("name, value", [("server_version", "1"), ("is_superuser", "on")])
def test_a_startup_parameter_that_nobody_may_set_is_refused_as_postgresql_does(
        daemon: Lifeguard, postgres: PostgreSQL, name: str, value: str):
    refusals = []
    for port in (postgres.port, daemon.port):
        with WireClient(port) as client:
            client.send(startup({"user": "app", "database": "app", name: value}))
            refusals.append(error(client.until_ready()))
            assert client.is_closed()
    for refusal in refusals:
        assert refusal["V"] == "FATAL" and name in refusal["M"]
    assert refusals[0]["C"] == refusals[1]["C"]
    assert daemon.psql("select 1").stdout == "1\n"


# MARK: limits


def test_pools_of_two_users_share_the_limit_of_their_database(lifeguard, postgres: PostgreSQL):
    wait_until(lambda: postgres.backends() + postgres.backends("alice") == 0, "earlier tests are over")
    daemon = lifeguard(pool={"pool_size": 5, "max_overflow": 0}, **{
        "databases.app": {"upstream": postgres.conninfo(user=None, database="app"), "max_connections": 3}})
    served = {"app": 0, "alice": 0}
    highest, over = [0], threading.Event()

    def sample() -> None:
        with psycopg.connect(postgres.superuser("postgres"), autocommit=True) as connection:
            while not over.wait(0.002):
                row = connection.execute(
                    "select count(*) from pg_stat_activity where usename in ('app', 'alice')").fetchone()
                highest[0] = max(highest[0], row[0])

    def load(user: str) -> None:
        with psycopg.connect(daemon.conninfo(user=user), autocommit=True, prepare_threshold=None) as connection:
            # Nobody stops before both are served, so neither can be served only once the other is gone.
            end = time.monotonic() + 20
            while min(served.values()) < 100 and time.monotonic() < end:
                connection.execute("select pg_sleep(0.002)")
                served[user] += 1

    with ThreadPoolExecutor(21) as threads:
        sampler = threads.submit(sample)
        try:
            list(threads.map(load, ["app", "alice"] * 10))
        finally:
            over.set()
        sampler.result()
    assert highest[0] <= 3
    assert min(served.values()) >= 100, served


# MARK: the end


def test_a_drain_lets_a_slow_reader_have_all_of_its_result(daemon: Lifeguard):
    rows = 2560
    with WireClient.app(daemon.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(query(f"select repeat(md5(n::text), 320) from generate_series(1, {rows}) n"))
        assert client.receive().kind == "T"
        daemon.terminate()
        wait_until(lambda: refuses(daemon.port), "it drains")
        for number in range(rows):
            message = client.receive()
            assert message.kind == "D" and len(message.values[0]) == 10_240
            if number % 100 == 0:
                time.sleep(0.05)  # This is what makes it slow.
        assert kinds(client.until_ready()) == "CZ"
        assert client.is_closed()
    assert daemon.process.wait(10) == 0


def refuses(port: int) -> bool:
    try:
        with WireClient.app(port):
            return False
    except Exception:  # noqa: BLE001
        return True


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_the_service_manager_is_told_ready_once_clients_can_come_and_then_stopping(lifeguard, abstract: bool):
    name = f"/tmp/lifeguard-edges-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind("\0" + name if abstract else name)
        notify.settimeout(10)
        told: list[str] = []

        def wait_for(what: str) -> None:
            while what not in told:
                told.extend(notify.recv(4096).decode().splitlines())

        try:
            daemon = lifeguard(wait=False, environment={"NOTIFY_SOCKET": "@" + name if abstract else name})
            wait_for("READY=1")
            with WireClient.app(daemon.port) as client:
                assert client.rows("select 1") == [["1"]]
            assert "STOPPING=1" not in told
            daemon.terminate()
            wait_for("STOPPING=1")
            assert daemon.process.wait(10) == 0
        finally:
            if not abstract:
                os.unlink(name)
