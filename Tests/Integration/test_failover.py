"""A server that restarts under load, and a primary whose standby takes over."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from kit.admin import command
from kit.daemon import Lifeguard
from kit.load import Load, create_tables
from kit.postgres import PostgreSQL
from kit.standby import Standby, hosts
from kit.waiting import wait_until
from kit.wire import WireClient, error, query

#: What is acknowledged must be there after a crash.
DURABLE = {"synchronous_commit": "on"}
POOL = {"pool_size": 15, "max_overflow": 5}
BOUND = 20
PROBES = {"interval": "500ms", "timeout": "500ms"}


@pytest.fixture
def primary() -> Iterator[PostgreSQL]:
    server = PostgreSQL(settings=DURABLE)
    yield server
    server.remove()


@pytest.fixture
def standby(primary: PostgreSQL) -> Iterator[Standby]:
    """Streams from `primary`, which waits for it at each commit."""
    server = Standby(primary, settings=DURABLE | {"hot_standby_feedback": "on"})
    primary.psql("alter system set synchronous_standby_names = '*'")
    primary.psql("select pg_reload_conf()")
    yield server
    server.remove()


def server_hosts(daemon: Lifeguard, database: str) -> set[int]:
    """The ports of the servers that a database's connections are on."""
    return {int(row["port"]) for row in daemon.admin("SHOW SERVERS") if row["database"] == database}


def is_standby(daemon: Lifeguard, database: str) -> str:
    return daemon.psql("select pg_is_in_recovery()", database=database).stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ten_restarts_under_load_lose_no_client_and_no_commit(lifeguard, primary: PostgreSQL, record_property):
    create_tables(primary)
    daemon = lifeguard(upstream=primary, pool=POOL, health=PROBES)
    waits = []
    with Load(daemon.port) as load:
        for number in range(10):
            before, failed = load.commits, load.failures
            wait_until(lambda: load.commits > before + 100, "load runs", deadline=60)
            failed = load.failures
            primary.restart(("fast", "immediate")[number % 2])
            ready = time.monotonic()
            wait_until(lambda: load.first_commit_after(ready), "a transaction succeeds again", deadline=20)
            waits.append(load.first_commit_after(ready) - ready)
            # One for each server connection that was in use.
            assert load.failures - failed <= BOUND, number
    assert load.lost == 0
    assert load.errors == []
    assert load.differences(primary) == []
    record_property("first commit after (s)", [round(each, 3) for each in waits])
    print(f"{load.commits} commits, {load.failures} failed; first commit after {[round(each, 3) for each in waits]} s")
    assert max(waits) < 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("probes", [PROBES, {"interval": "off"}], ids=["probed", "unprobed"])
def test_a_standby_that_takes_over_under_load_loses_no_client_and_no_commit(
        lifeguard, primary: PostgreSQL, standby: Standby, probes: dict):
    create_tables(primary)
    daemon = lifeguard(pool=POOL, health=probes, **{
        "databases.app": {"upstream": hosts(primary, standby, target_session_attrs="read-write")}})
    with Load(daemon.port) as load:
        wait_until(lambda: load.commits > 200, "load runs", deadline=60)
        assert server_hosts(daemon, "app") == {primary.port}
        primary.kill()
        wait_until(lambda: daemon.pool()["cl_waiting"] == "50", "all clients wait", deadline=30)
        standby.promote()
        promoted = time.monotonic()
        first = wait_until(lambda: load.first_commit_after(promoted), "the new primary serves", deadline=20)
        more = load.commits
        wait_until(lambda: load.commits > more + 200, "load runs on the new primary", deadline=60)
    print(f"{load.commits} commits, {load.failures} failed; first commit {first - promoted:.3f} s after the promotion")
    assert first - promoted < 2
    assert (load.lost, load.errors) == (0, [])
    assert load.failures <= BOUND
    assert load.differences(standby) == []
    assert server_hosts(daemon, "app") == {standby.port}


@pytest.mark.slow
def test_idle_backends_that_are_terminated_are_no_client_error(lifeguard, primary: PostgreSQL):
    daemon = lifeguard(upstream=primary, pool=POOL)
    clients = [WireClient.app(daemon.port) for _ in range(50)]
    for _ in range(10):
        for client in clients:
            client.send(query("select 1"))
        for client in clients:
            assert [message.kind for message in client.until_ready()] == ["T", "D", "C", "Z"]
        idle = primary.psql("with idle as materialized (select pid from pg_stat_activity where usename = 'app') "
                            "select pid from idle where pg_terminate_backend(pid)").split()
        assert idle
        wait_until(lambda: primary.psql(f"select count(*) from pg_stat_activity where pid in ({', '.join(idle)})") == "0",
                   "they are gone")
    for client in clients:
        client.close()


def test_a_promoted_standby_loses_its_connections_from_pools_that_want_a_standby(
        lifeguard, primary: PostgreSQL, standby: Standby):
    """Seen by a reply of a live connection, long before any probe."""
    daemon = lifeguard(pool={"pool_timeout": "1s", "pre_ping_idle": "0s"}, health={"interval": "1h"}, **{
        "databases.reads": {"upstream": hosts(standby, target_session_attrs="standby")},
        "databases.writes": {"upstream": hosts(primary, standby, target_session_attrs="primary")}})
    assert (is_standby(daemon, "reads"), is_standby(daemon, "writes")) == ("t", "f")
    with WireClient(daemon.port, {"user": "app", "database": "reads"}) as client:
        client.rows("select 1")
        standby.promote()
        # The ping before it tells the change, so that not even one query runs on the wrong host.
        assert error(client.ask(query("select 1")))["C"] == "53300"
        assert not server_hosts(daemon, "reads")
    row = next(row for row in daemon.admin("SHOW HEALTH") if row["host"] == f"127.0.0.1:{standby.port}")
    assert (row["role"], row["read_only"]) == ("primary", "f")


def test_reads_go_to_the_standby_and_to_the_primary_while_it_is_away(
        lifeguard, primary: PostgreSQL, standby: Standby):
    daemon = lifeguard(health=PROBES, **{
        "databases.reads": {"upstream": hosts(standby, primary, target_session_attrs="prefer-standby")}})
    primary.psql("alter system reset synchronous_standby_names")
    primary.psql("select pg_reload_conf()")
    assert is_standby(daemon, "reads") == "t"
    standby.stop("immediate")
    assert is_standby(daemon, "reads") == "f"


def test_a_standby_beyond_max_lag_leaves_the_pool_and_comes_back(lifeguard, primary: PostgreSQL, standby: Standby):
    primary.psql("alter system reset synchronous_standby_names")
    primary.psql("select pg_reload_conf()")
    daemon = lifeguard(health=PROBES | {"interval": "100ms"}, **{
        "databases.reads": {"upstream": hosts(standby, primary), "max_lag": "1s"},
        "databases.writes": {"upstream": hosts(primary)}})
    assert is_standby(daemon, "reads") == "t"
    standby.psql("select pg_wal_replay_pause()")
    daemon.psql("create table behind (a int)", database="writes")
    try:
        wait_until(lambda: is_standby(daemon, "reads") == "f", "reads go to the primary", deadline=20)
        row = next(row for row in daemon.admin("SHOW HEALTH") if row["host"] == f"127.0.0.1:{standby.port}")
        assert row["role"] == "standby" and int(row["lag_bytes"]) > 0 and float(row["lag_seconds"]) > 1
        metric = daemon.metrics()[f'lifeguard_host_lag_bytes{{host="127.0.0.1:{standby.port}"}}']
        assert metric > 0
    finally:
        standby.psql("select pg_wal_replay_resume()")
    wait_until(lambda: next(row for row in daemon.admin("SHOW HEALTH")
                            if row["host"] == f"127.0.0.1:{standby.port}")["lag_bytes"] == "0", "it has caught up")
    # Connections to the primary are as good as others, so they stay until they are replaced.
    command(daemon, "RECONNECT reads")
    command(daemon, "WAIT_CLOSE reads")
    assert is_standby(daemon, "reads") == "t"


def test_the_only_host_of_a_pool_serves_however_far_it_is_behind(lifeguard, primary: PostgreSQL, standby: Standby):
    primary.psql("alter system reset synchronous_standby_names")
    primary.psql("select pg_reload_conf()")
    daemon = lifeguard(health=PROBES | {"interval": "100ms"}, **{
        "databases.reads": {"upstream": hosts(standby), "max_lag": "100ms"},
        "databases.writes": {"upstream": hosts(primary)}})
    standby.psql("select pg_wal_replay_pause()")
    daemon.psql("create table behind (a int)", database="writes")
    wait_until(lambda: float(json.loads(daemon.http("/health/reads")[1])["lag_seconds"] or 0) > 0.2, "it is behind")
    assert is_standby(daemon, "reads") == "t"


def test_a_primary_that_becomes_read_only_loses_its_connections_from_pools_that_write(
        lifeguard, primary: PostgreSQL):
    daemon = lifeguard(pool={"pool_timeout": "1s"}, health={"interval": "1h"}, **{
        "databases.app": {"upstream": hosts(primary, target_session_attrs="read-write")}})
    daemon.psql("create table written (a int)")
    primary.psql("alter system set default_transaction_read_only = on")
    primary.psql("select pg_reload_conf()")
    with WireClient.app(daemon.port) as client:
        wait_until(lambda: error(client.ask(query("insert into written values (1)")))["C"] == "53300",
                   "the pool has no host that may be written to", deadline=20)
    status, text = daemon.http("/health/app")
    assert (status, json.loads(text)["status"]) == (503, "unhealthy")


def test_a_frozen_host_delays_nobody_else_and_its_clients_get_another_host(
        lifeguard, primary: PostgreSQL, standby: Standby, postgres: PostgreSQL):
    """SIGSTOP: the kernel still accepts connections, but nobody answers. Pings and dials have their time-outs."""
    daemon = lifeguard(pool={"pool_timeout": "10s", "pre_ping_idle": "0s", "pre_ping_timeout": "500ms"},
                       health=PROBES, **{
        "databases.app": {"upstream": hosts(standby, primary), "connect_timeout": "2s"},
        "databases.other": {"upstream": postgres.conninfo(database="other")}})
    with WireClient.app(daemon.port) as client, WireClient(
            daemon.port, {"user": "app", "database": "other"}) as bystander:
        assert client.rows("select pg_is_in_recovery()") == [["t"]]
        bystander.rows("select 1")
        standby.freeze()
        client.send(query("select pg_is_in_recovery()"))
        slowest, end = 0.0, time.monotonic() + 2
        while time.monotonic() < end:
            began = time.monotonic()
            bystander.rows("select 1")
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 0.4, "below any time-out of the frozen host"
        answer = client.until_ready()
        assert [message.values for message in answer if message.kind == "D"] == [["f"]]
    standby.thaw()


# MARK: hosts that come back while nobody probes them


def port_of(daemon: Lifeguard) -> int:
    """Where a connection that is opened now goes."""
    command(daemon, "RECONNECT app")
    return int(daemon.psql("select inet_server_port()").stdout)


def breaker(daemon: Lifeguard, server: PostgreSQL) -> str:
    (row,) = [row for row in command(daemon, "SHOW HEALTH") if row["host"].endswith(f":{server.port}")]
    return row["breaker"]


def probers(server: PostgreSQL) -> str:
    return server.psql("select count(*) from pg_stat_activity where application_name = 'lifeguard prober'")


def test_an_unprobed_first_host_comes_back_into_use(lifeguard, primary: PostgreSQL, postgres: PostgreSQL):
    daemon = lifeguard(**{"databases.app": {"upstream": hosts(primary, postgres)}})
    assert port_of(daemon) == primary.port
    primary.kill()
    wait_until(lambda: daemon.pool()["sv_total"] == "0", "the loss is noticed")
    assert port_of(daemon) == postgres.port
    assert breaker(daemon, primary) != "closed"
    primary.start()
    # Nobody opens a connection meanwhile.
    wait_until(lambda: breaker(daemon, primary) == "closed", "it is found", deadline=20)
    assert port_of(daemon) == primary.port
    wait_until(lambda: probers(primary) == "0", "nobody looks any more")
    assert "host is up" in daemon.log()


def test_an_unprobed_standby_that_is_preferred_comes_back_into_use(
        lifeguard, primary: PostgreSQL, standby: Standby):
    upstream = hosts(primary, standby, target_session_attrs="prefer-standby")
    daemon = lifeguard(**{"databases.app": {"upstream": upstream}})
    assert port_of(daemon) == standby.port
    standby.kill()
    wait_until(lambda: daemon.pool()["sv_total"] == "0", "the loss is noticed")
    assert port_of(daemon) == primary.port
    standby.start()
    wait_until(lambda: breaker(daemon, standby) == "closed", "it is found", deadline=20)
    assert port_of(daemon) == standby.port


def test_an_unprobed_host_that_hangs_makes_no_client_wait(lifeguard, primary: PostgreSQL, postgres: PostgreSQL):
    """It is looked for all the while, on a connection of its own."""
    daemon = lifeguard(pool={"connect_timeout": "10s"}, health={"timeout": "2s"},
                       **{"databases.app": {"upstream": hosts(primary, postgres)}})
    assert port_of(daemon) == primary.port
    primary.kill()
    wait_until(lambda: daemon.pool()["sv_total"] == "0", "the loss is noticed")
    assert port_of(daemon) == postgres.port
    # The kernel takes connections, and nobody answers.
    with socket.create_server(("127.0.0.1", primary.port)):
        began = time.monotonic()
        for _ in range(10):
            assert port_of(daemon) == postgres.port
        assert time.monotonic() - began < 10, "the time-out of a single dial to it"
    primary.start()
    wait_until(lambda: breaker(daemon, primary) == "closed", "it is found", deadline=20)
