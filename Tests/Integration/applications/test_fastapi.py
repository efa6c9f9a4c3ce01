"""A FastAPI service, the one in examples/fastapi, as its users see it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import free_port, spawn
from kit.sampling import Sampler
from kit.waiting import wait_until

EXAMPLE = Path(__file__).resolve().parents[3] / "examples/fastapi"


class Service:
    """The example as its run.sh starts it, with the tests' packages."""

    def __init__(self, daemon: Lifeguard, driver: str, log: Path) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        with log.open("wb") as file:
            self._process = spawn(
                [EXAMPLE / "run.sh", "--log-level", "warning", "--timeout-graceful-shutdown", "5"],
                env={**os.environ, "DATABASE_URL": daemon.url(driver), "PORT": str(port), "VENV": sys.prefix},
                stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            wait_until(lambda: httpx.get(f"{self.url}/openapi.json").status_code == 200, "the service answers", 30)
        except AssertionError:
            self.stop()
            raise AssertionError(log.read_text()) from None

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)


@pytest.fixture(params=["asyncpg", "psycopg"])
def api(lifeguard, empty: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Service, Lifeguard]]:
    """The service on a daemon with 5 + 10 connections."""
    daemon = lifeguard(pool={"pool_size": 5, "max_overflow": 10})
    service = Service(daemon, request.param, tmp_path / "service.log")
    yield service, daemon
    service.stop()
    errors = (tmp_path / "service.log").read_text()
    assert "Traceback" not in errors, errors


def open_transactions(postgres: PostgreSQL) -> int:
    return int(postgres.psql("select count(*) from pg_stat_activity where usename = 'app' and state <> 'idle'"))


def test_requests_store_and_read(api: tuple[Service, Lifeguard]):
    with httpx.Client(base_url=api[0].url) as client:
        books = [{"title": "one"}, {"title": "two"}]
        created = client.post("/authors", json={"name": "Ann", "books": books})
        assert created.status_code == 201
        assert client.get(f"/authors/{created.json()['id']}").json() == created.json()
        refused = client.post("/authors", json={"name": "Ann", "books": [{"title": "lost"}]})
        assert refused.status_code == 409
        assert client.get("/authors/999").status_code == 404
        assert client.get("/titles").text == "one\ntwo\n"


def test_500_requests_at_once_share_15_connections(api: tuple[Service, Lifeguard], postgres: PostgreSQL):
    service, _ = api

    async def work() -> list[int]:
        limits = httpx.Limits(max_connections=500)
        async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as client:
            answers = await asyncio.gather(*(
                client.get("/slow", params={"seconds": 0.02, "limit": 50}) if number % 2 else
                client.post("/authors", json={"name": f"author {number}", "books": [{"title": "x"}]})
                for number in range(500)))
            return [answer.status_code for answer in answers]

    with Sampler(postgres) as sampler:
        codes = asyncio.run(work())
    assert sorted(codes) == [200] * 250 + [201] * 250
    assert 5 <= sampler.highest <= 15
    assert postgres.psql("select count(*), count(distinct author_id) from example_book") == "250|250"


def test_a_request_that_ran_out_of_time_leaves_nothing_behind(api: tuple[Service, Lifeguard], postgres: PostgreSQL):
    service, _ = api

    async def work() -> list[int]:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            answers = await asyncio.gather(*(
                client.get("/slow", params={"seconds": 60, "limit": 0.3}) for _ in range(10)))
            return [answer.status_code for answer in answers]

    assert asyncio.run(work()) == [504] * 10
    wait_until(lambda: open_transactions(postgres) == 0, "no transaction is open, no query runs")
    assert httpx.get(f"{service.url}/slow", params={"seconds": 0}).status_code == 200


def test_a_client_that_goes_away_amid_its_answer_leaves_nothing_behind(
        api: tuple[Service, Lifeguard], postgres: PostgreSQL):
    service, daemon = api
    postgres.psql("insert into example_author (name) values ('a'); insert into example_book (title, author_id) "
                  "select repeat('x', 1000), 1 from generate_series(1, 30000)")
    for _ in range(20):
        with httpx.stream("GET", f"{service.url}/titles") as answer:
            parts = answer.iter_raw(1000)
            assert next(parts).startswith(b"xxx")
            assert open_transactions(postgres) >= 1
    wait_until(lambda: open_transactions(postgres) == 0, "no transaction is open, no query runs")
    wait_until(lambda: daemon.pool()["sv_active"] == "0", "no client holds a connection")
    assert len(httpx.get(f"{service.url}/titles", timeout=30).content) == 30_000 * 1001


def test_a_restart_of_the_server_is_not_noticed_between_requests(lifeguard, own_postgres: PostgreSQL, tmp_path: Path):
    daemon = lifeguard(upstream=own_postgres)
    service = Service(daemon, "asyncpg", tmp_path / "service.log")
    with httpx.Client(base_url=service.url, timeout=30) as client:
        for number in range(3):
            assert client.post("/authors", json={"name": str(number)}).status_code == 201
            own_postgres.restart()
        assert client.get("/authors/1").json()["name"] == "0"
    service.stop()
