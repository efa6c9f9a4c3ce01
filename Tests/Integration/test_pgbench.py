"""pgbench with 200 clients through 15 connections."""

from __future__ import annotations

import os

import pytest

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL, server_binaries
from kit.processes import run
from kit.sampling import Sampler

PGBENCH = server_binaries() / "pgbench"
SECONDS = int(os.environ.get("PGBENCH_SECONDS", "5"))


@pytest.fixture(scope="module", autouse=True)
def tables(postgres: PostgreSQL):
    run([PGBENCH, "-i", "-q", "-s", "10", postgres.conninfo()], timeout=120)
    yield
    postgres.psql("drop table pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers")


def bench(daemon: Lifeguard, *options: str, clients: int = 200) -> str:
    done = run([PGBENCH, "-n", "-c", str(clients), "-j", "2", "-T", str(SECONDS), *options, daemon.conninfo()],
               timeout=SECONDS + 90)
    assert "number of failed transactions: 0 " in done.stdout, done.stdout + done.stderr
    assert "error" not in done.stderr.lower(), done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    pytest.param(("-S", "-M", "simple"), id="select-simple"),
    pytest.param(("-S", "-M", "extended"), id="select-extended"),
    pytest.param((), id="tpcb"),
])
def test_200_clients_pass_and_never_more_than_15_connections_are_seen(
        daemon: Lifeguard, postgres: PostgreSQL, options: tuple[str, ...]):
    with Sampler(postgres) as sampler:
        bench(daemon, *options)
    assert sampler.samples > 20
    assert 5 <= sampler.highest <= 15
    if not options:
        total = postgres.psql("select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from "
                              "pgbench_history) and (select sum(bbalance) from pgbench_branches) = (select sum(delta) "
                              "from pgbench_history)")
        assert total == "t"


@pytest.mark.slow
@pytest.mark.parametrize("options", [("-S",), ()], ids=["select", "tpcb"])
def test_200_clients_with_prepared_statements_share_15_connections(
        daemon: Lifeguard, postgres: PostgreSQL, options: tuple[str, ...]):
    with Sampler(postgres) as sampler:
        bench(daemon, "-M", "prepared", *options)
    assert sampler.highest <= 15
    assert daemon.pool()["sv_pinned"] == "0"


@pytest.mark.slow
def test_prepared_statements_pass_in_session_mode(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(pool={"mode": "session"})
    with Sampler(postgres) as sampler:
        bench(daemon, "-S", "-M", "prepared", clients=15)
    assert sampler.highest <= 15


@pytest.mark.slow
def test_a_connection_for_each_transaction_passes(daemon: Lifeguard, postgres: PostgreSQL):
    with Sampler(postgres) as sampler:
        bench(daemon, "-S", "-C", clients=20)
    assert sampler.highest <= 15


@pytest.mark.slow
def test_50_clients_that_write_pass_through_two_connections(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 1})
    with Sampler(postgres) as sampler:
        bench(daemon, "-N", "-M", "extended", clients=50)
    assert sampler.highest <= 2
