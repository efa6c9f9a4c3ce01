"""Fixtures: one PostgreSQL for all tests, and daemons that are checked for a clean end after each test."""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kit.certificates import Certificates
from kit.daemon import BINARY, Lifeguard
from kit.postgres import PostgreSQL

# A test that waits for more time than this is given by a mark of its own.
logging.getLogger("asyncio").setLevel(logging.WARNING)


def pytest_sessionstart(session: pytest.Session) -> None:
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is missing; `make build` makes it", returncode=2)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    """The PostgreSQL of the whole run. Tests leave it running and without tables or connections of theirs."""
    server = PostgreSQL()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    """Certificates for the whole run."""
    made = Certificates()
    yield made
    made.remove()


@pytest.fixture(scope="session")
def tls_postgres(certificates: Certificates) -> Iterator[PostgreSQL]:
    """A PostgreSQL with TLS: `guarded` by SCRAM, `alice` by a client certificate, both over TLS only; it also wants TLS
    of `app`, without asking who it is. Its hosts' name is localhost."""
    server = PostgreSQL(
        certificate=certificates.server, authority=certificates.authority.certificate,
        hba="hostssl all guarded 127.0.0.1/32 scram-sha-256\n"
            "hostssl all alice 127.0.0.1/32 cert\n"
            "hostssl all app 127.0.0.1/32 trust\n"
            "host all app,alice,guarded 127.0.0.1/32 reject\n")
    yield server
    server.remove()


@pytest.fixture
def own_postgres() -> Iterator[PostgreSQL]:
    """A PostgreSQL for one test, which may stop and restart it."""
    server = PostgreSQL()
    yield server
    server.remove()


@pytest.fixture
def lifeguard(postgres: PostgreSQL, request: pytest.FixtureRequest) -> Iterator[Callable[..., Lifeguard]]:
    """Starts daemons: `lifeguard(pool={"pool_size": 2})`, sections as keyword arguments.

    Without other databases it serves `app` and `other` of the run's PostgreSQL; without pool settings a pool is
    pool_size 5, max_overflow 10. `descriptors` is the limit of its open files. At the end of the test every daemon must stop when it is told to, with exit code 0.
    """
    started: list[Lifeguard] = []
    folders: list[Path] = []

    def start(*, upstream: PostgreSQL | None = None, environment: dict[str, str] | None = None, wait: bool = True,
              descriptors: int | None = None, port: int | None = None, sockets: Sequence[socket.socket] = (),
              launcher: Sequence[str] = (), binary: Path = BINARY, **sections: dict) -> Lifeguard:
        server = upstream or postgres
        databases = {name: keys for name, keys in sections.items() if name.startswith("databases.")}
        if not databases:
            databases = {f"databases.{name}": {"upstream": server.conninfo(user=None, database=name)}
                         for name in ("app", "other")}
        pool = {"pool_size": 5, "max_overflow": 10} | sections.pop("pool", {})
        folder = Path(tempfile.mkdtemp(prefix="lifeguard-", dir="/tmp"))
        folders.append(folder)
        daemon = Lifeguard(folder, {"pool": pool, **databases, **sections}, environment=environment, wait=wait,
                           descriptors=descriptors, port=port, sockets=sockets, launcher=launcher, binary=binary)
        started.append(daemon)
        return daemon

    yield start
    problems: list[str] = []
    for daemon in started:
        for step in (daemon.check_secrets, daemon.stop, daemon.check):
            try:
                step()
            except (AssertionError, OSError) as problem:
                problems.append(str(problem))
    report = getattr(request.node, "report", None)
    if report is not None and report.failed and not problems:
        for daemon in started:
            print(f"--- log of the daemon on port {daemon.port}\n{daemon.log_tail()}")
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    assert not problems, "\n".join(problems)


@pytest.fixture
def daemon(lifeguard: Callable[..., Lifeguard]) -> Lifeguard:
    """A daemon in transaction mode with pool_size 5 and max_overflow 10."""
    return lifeguard()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Lets fixtures see whether their test failed."""
    report = yield
    if report.when == "call":
        item.report = report
    return report
