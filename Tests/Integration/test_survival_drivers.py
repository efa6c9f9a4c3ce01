"""Real drivers whose server connection dies: what they are told of each transaction is true, and they go on.

An audit table is compared with what the driver was told. Nothing of a transaction of which it was told 40001 is there,
nothing is there twice, and all is done on one and the same client connection.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kit.admin import command
from kit.audit import Audit
from kit.daemon import Lifeguard
from kit.drivers import DRIVERS, Driver
from kit.faults import Death, crash, rst, strike
from kit.postgres import PostgreSQL
from kit.processes import spawn
from kit.relay import Relay
from kit.waiting import wait_until
from kit.wire import READY


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """A PostgreSQL that the tests may crash. What it has acknowledged it has after a crash."""
    server = PostgreSQL(settings={"synchronous_commit": "on"})
    yield server
    server.remove()


@pytest.fixture
def relay(server: PostgreSQL) -> Iterator[Relay]:
    with Relay(server.port) as relay:
        yield relay
    server.psql("select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'app'")


@pytest.fixture
def audit(server: PostgreSQL, relay: Relay) -> Iterator[Audit]:
    audit = Audit(server)
    yield audit
    audit.remove()


@pytest.fixture
def daemon(lifeguard, audit: Audit, relay: Relay) -> Lifeguard:
    """Behind the relay, with one server connection at a time."""
    return lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pool_pre_ping": False}, **{
        "databases.app": {"upstream": f"host=127.0.0.1 port={relay.port} user=app dbname=app sslmode=disable"}})


# The others are told from these by the daemon alone (test_survival.py).
@pytest.fixture(params=[crash, rst], ids=lambda death: death.__name__)
def death(request: pytest.FixtureRequest) -> Death:
    return request.param


@dataclass
class Fault:
    """Lets server connections die at chosen moments."""

    daemon: Lifeguard
    server: PostgreSQL
    relay: Relay
    death: Death

    def strike(self, death: Death | None = None) -> None:
        strike(death or self.death, self.daemon, self.server, self.relay)

    def losing_answer(self, work: Callable[[], object], *, messages: int = 0, more: int = 0) -> BaseException | None:
        """Has some work done while the server dies: it has carried out the request, but of its answer only so much
        arrives. What the work raised."""
        self.relay.break_off(messages=messages, more=more)
        return self._under_way(work, lambda: READY in self.relay.lost, self.death)

    def losing_request(self, work: Callable[[], object]) -> BaseException | None:
        """Has some work done while its request gets lost on the way to the server. What the work raised."""
        self.relay.stop()
        return self._under_way(work, lambda: self.relay.is_holding, rst)

    def _under_way(self, work: Callable[[], object], condition: Callable[[], object], death: Death
                   ) -> BaseException | None:
        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(work)
            try:
                wait_until(condition, "the request is under way")
            finally:
                self.strike(death)
            return future.exception(30)


@pytest.fixture
def fault(daemon: Lifeguard, server: PostgreSQL, relay: Relay, death: Death) -> Fault:
    return Fault(daemon, server, relay, death)


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.__name__)
def driver(request: pytest.FixtureRequest, daemon: Lifeguard) -> Iterator[Driver]:
    driver = request.param(daemon)
    yield driver
    driver.close()


def client_ids(daemon: Lifeguard) -> list[int]:
    return [row["id"] for row in command(daemon, "SHOW CLIENTS")]


@contextmanager
def one_connection(daemon: Lifeguard, driver: Driver, audit: Audit) -> Iterator[None]:
    """What is done in it is done on one client connection, which gets the replies to its own requests afterwards; and
    the audit is what the driver was told."""
    before = client_ids(daemon)
    assert len(before) == 1
    yield
    assert [driver.number(number) for number in range(5)] == list(range(5))
    key = audit.key()
    driver.insert(key)
    audit.committed(key)
    assert client_ids(daemon) == before
    assert audit.differences() == []


def begun(driver: Driver, audit: Audit) -> int:
    """Begins a transaction in which a key is written."""
    key = audit.key()
    driver.begin()
    driver.insert(key)
    return key


def raised(work: Callable[[], object]) -> BaseException | None:
    try:
        work()
    except Exception as error:  # noqa: BLE001
        return error
    return None


def go_on_and_roll_back(driver: Driver, audit: Audit) -> None:
    """An application that does not mind the error goes on in its transaction, and only then rolls it back."""
    assert driver.code(raised(lambda: driver.insert(audit.key()))) == "25P02"
    assert raised(lambda: driver.insert_all([audit.key(), audit.key()]))
    driver.rollback()


# MARK: every driver


def test_between_requests(daemon: Lifeguard, fault: Fault, driver: Driver, audit: Audit):
    with one_connection(daemon, driver, audit):
        assert driver.number(7) == 7
        fault.strike()
    with one_connection(daemon, driver, audit):
        begun(driver, audit)
        fault.strike()
        assert driver.code(raised(lambda: driver.insert(audit.key()))) == "40001"
        go_on_and_roll_back(driver, audit)
    with one_connection(daemon, driver, audit):
        begun(driver, audit)
        fault.strike()
        assert driver.code(raised(driver.commit)) == "40001"
        driver.rollback()
    with one_connection(daemon, driver, audit):
        begun(driver, audit)
        fault.strike()
        driver.rollback()


def test_in_a_request(daemon: Lifeguard, fault: Fault, driver: Driver, audit: Audit):
    # What a driver does only once, such as to prepare a statement, is done.
    driver.insert(first := audit.key())
    driver.insert_all([second := audit.key(), third := audit.key()])
    audit.committed(first, second, third)
    with one_connection(daemon, driver, audit):
        audit.unknown(key := audit.key())
        assert driver.code(fault.losing_answer(lambda: driver.insert(key))) == "40003"
        driver.rollback()
        assert audit.count(key) == 1
    with one_connection(daemon, driver, audit):
        audit.unknown(key := audit.key())
        assert driver.code(fault.losing_request(lambda: driver.insert(key))) == "40003"
        driver.rollback()
        assert audit.count(key) == 0
    with one_connection(daemon, driver, audit):
        keys = [audit.key(), audit.key(), audit.key()]
        audit.unknown(*keys)
        assert driver.code(fault.losing_answer(lambda: driver.insert_all(keys))) == "40003"
        driver.rollback()
        assert audit.count(*keys) == 3
    with one_connection(daemon, driver, audit):
        begun(driver, audit)
        assert driver.code(fault.losing_answer(lambda: driver.insert(audit.key()))) == "40001"
        go_on_and_roll_back(driver, audit)
    with one_connection(daemon, driver, audit):
        begun(driver, audit)
        keys = [audit.key(), audit.key(), audit.key()]
        assert driver.code(fault.losing_request(lambda: driver.insert_all(keys))) == "40001"
        go_on_and_roll_back(driver, audit)


def test_in_a_commit(daemon: Lifeguard, fault: Fault, driver: Driver, audit: Audit):
    for _ in range(2):
        with one_connection(daemon, driver, audit):
            audit.unknown(key := begun(driver, audit))
            assert driver.code(fault.losing_answer(driver.commit)) == "40003"
            driver.rollback()
            assert audit.count(key) == 1
        with one_connection(daemon, driver, audit):
            audit.unknown(key := begun(driver, audit))
            assert driver.code(fault.losing_request(driver.commit)) == "40003"
            driver.rollback()
            assert audit.count(key) == 0
        with one_connection(daemon, driver, audit):
            audit.committed(begun(driver, audit))
            driver.commit()
            driver.rollback()


@pytest.mark.parametrize("driver", [each for each in DRIVERS if each.copies], indirect=True,
                         ids=lambda driver: driver.__name__)
def test_in_a_copy(daemon: Lifeguard, fault: Fault, driver: Driver, audit: Audit):
    with one_connection(daemon, driver, audit):
        copied = raised(lambda: driver.copy_in(audit.key(), fault.strike, audit.key()))
        assert driver.code(copied) == "40003"
        driver.rollback()
    with one_connection(daemon, driver, audit):
        begun(driver, audit)
        copied = raised(lambda: driver.copy_in(audit.key(), fault.strike, audit.key()))
        assert driver.code(copied) == "40001"
        go_on_and_roll_back(driver, audit)
    with one_connection(daemon, driver, audit):
        assert driver.code(fault.losing_answer(driver.copy_out, messages=2)) == "40003"
        driver.rollback()
    with one_connection(daemon, driver, audit):
        begun(driver, audit)
        assert driver.code(fault.losing_answer(driver.copy_out, messages=2)) == "40001"
        go_on_and_roll_back(driver, audit)


def test_in_an_answer(daemon: Lifeguard, fault: Fault, driver: Driver, audit: Audit):
    with one_connection(daemon, driver, audit):
        assert driver.rows() == 3
        assert driver.code(fault.losing_answer(driver.rows, messages=driver.up_to_row)) == "40003"
        driver.rollback()
    with one_connection(daemon, driver, audit):
        begun(driver, audit)
        assert driver.rows() == 3
        assert driver.code(fault.losing_answer(driver.rows, messages=driver.up_to_row)) == "40001"
        go_on_and_roll_back(driver, audit)
    begun(driver, audit)
    assert driver.rows() == 3
    lost = fault.losing_answer(driver.rows, messages=driver.up_to_row - 1, more=40)
    assert lost is not None and (driver.code(lost) or "08")[:2] == "08", "half a row is a lost connection, and no row"
    wait_until(lambda: client_ids(daemon) == [], "the client is gone")
    with fresh(type(driver), daemon) as other, one_connection(daemon, other, audit):
        assert other.rows() == 3


@contextmanager
def fresh(kind: type[Driver], daemon: Lifeguard) -> Iterator[Driver]:
    driver = kind(daemon)
    yield driver
    driver.close()


# MARK: psql -f


class Script:
    """A psql that runs a file, which stops where it has `cat` read a FIFO."""

    def __init__(self, daemon: Lifeguard, folder: Path, text: str) -> None:
        self._fifos = iter([folder / f"fifo {number}" for number in range(text.count("FIFO"))])
        for number in range(text.count("FIFO")):
            os.mkfifo(fifo := folder / f"fifo {number}")
            text = text.replace("FIFO", f'"{fifo}"', 1)
        file = folder / "script.sql"
        file.write_text(text)
        self._process = spawn(
            ["psql", "-X", "-v", "VERBOSITY=sqlstate", "-f", file, "-d", daemon.conninfo()],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @contextmanager
    def stop(self, data: str = "") -> Iterator[None]:
        """What is done while the script stops; `data` comes before that, and after it."""
        with next(self._fifos).open("w") as writer:
            writer.write(data)
            writer.flush()
            yield
            writer.write(data)

    def told(self) -> list[str]:
        """Tags and SQLSTATEs, to the end, up to which psql has had one connection: it ends where it loses one."""
        try:
            out = self._process.communicate(timeout=30)[0]
        finally:
            self._process.kill()
        assert self._process.returncode == 0, out
        return [line.rpartition("ERROR:  ")[2] for line in out.splitlines()]


def inserted(audit: Audit, *, committed: bool = False) -> str:
    """An INSERT of a new key."""
    key = audit.key()
    if committed:
        audit.committed(key)
    return f"insert into audit values ({key});"


def test_psql_with_a_file(daemon: Lifeguard, fault: Fault, audit: Audit, tmp_path: Path):
    """It goes on after errors, as psql does without ON_ERROR_STOP, and nothing of a broken transaction commits."""
    lost, unsent = audit.key(), audit.key()
    audit.unknown(lost, unsent)
    script = Script(daemon, tmp_path, f"""
        {inserted(audit, committed=True)}
        \\! cat FIFO
        {inserted(audit, committed=True)}
        begin;
        {inserted(audit)}
        \\! cat FIFO
        {inserted(audit)}
        {inserted(audit)}
        commit;
        {inserted(audit, committed=True)}
        begin;
        {inserted(audit)}
        \\! cat FIFO
        commit;
        {inserted(audit, committed=True)}
        begin;
        insert into audit values ({lost});
        \\! cat FIFO
        commit;
        {inserted(audit, committed=True)}
        begin;
        {inserted(audit)}
        \\copy audit from program 'cat FIFO'
        {inserted(audit)}
        commit;
        \\copy audit from program 'cat FIFO'
        {inserted(audit, committed=True)}
        \\! cat FIFO
        insert into audit values ({unsent});
        {inserted(audit, committed=True)}
        """)
    for _ in range(3):
        with script.stop():
            fault.strike()
    with script.stop():
        fault.relay.break_off()
    wait_until(lambda: READY in fault.relay.lost, "the COMMIT is under way")
    fault.strike()
    assert audit.count(lost) == 1
    for _ in range(2):
        with script.stop(f"{audit.key()}\n" * 2):
            wait_until(lambda: is_copying(fault.server), "it copies")
            fault.strike()
    with script.stop():
        fault.relay.stop()
    wait_until(lambda: fault.relay.is_holding, "the INSERT is under way")
    fault.strike(rst)
    assert script.told() == [
        "INSERT 0 1", "INSERT 0 1",
        "BEGIN", "INSERT 0 1", "40001", "25P02", "ROLLBACK", "INSERT 0 1",
        "BEGIN", "INSERT 0 1", "40001", "INSERT 0 1",
        "BEGIN", "INSERT 0 1", "40003", "INSERT 0 1",
        "BEGIN", "INSERT 0 1", "40001", "25P02", "ROLLBACK", "40003",
        "INSERT 0 1", "40003", "INSERT 0 1"]
    assert audit.count(unsent) == 0
    assert audit.differences() == []


def is_copying(server: PostgreSQL) -> bool:
    return server.psql("select count(*) from pg_stat_activity where usename = 'app' and state = 'active' "
                       "and query ilike 'copy%audit%'") == "1"
