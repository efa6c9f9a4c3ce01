"""Probes of hosts and what they tell, and the circuit breaker that all pools of a host share."""

from __future__ import annotations

import json
import threading
import time

import pytest

from kit.admin import command
from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.relay import Refuser, Relay
from kit.waiting import wait_until
from kit.wire import WireClient, error, query, startup

FAST = {"interval": "100ms", "timeout": "500ms", "rise": 2, "fall": 3}


def host(daemon: Lifeguard, port: int) -> dict[str, str]:
    """The row of SHOW HEALTH of a host on the loopback address."""
    return next(row for row in daemon.admin("SHOW HEALTH") if row["host"] == f"127.0.0.1:{port}")


def health(daemon: Lifeguard, database: str = "app") -> tuple[int, dict]:
    status, text = daemon.http(f"/health/{database}")
    return status, json.loads(text)


def startup_of(database: str) -> bytes:
    return startup({"user": "app", "database": database})


def probers(postgres: PostgreSQL) -> int:
    return int(postgres.psql("select count(*) from pg_stat_activity where application_name = 'lifeguard prober'"))


def test_a_host_is_probed_before_any_client_comes(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(health=FAST, **{"databases.app": {"upstream": postgres.conninfo()}})
    wait_until(lambda: host(daemon, postgres.port)["state"] == "up", "the host is up")
    wait_until(lambda: host(daemon, postgres.port)["history"].startswith("++"), "it is probed again")
    row = host(daemon, postgres.port)
    assert (row["role"], row["read_only"], row["breaker"], row["probed"]) == ("primary", "f", "closed", "t")
    assert float(row["latency_ms"]) > 0 and row["lag_bytes"] == "" and row["last_error"] == ""
    status, shown = health(daemon)
    assert (status, shown["status"], shown["role"], shown["last_error"]) == (200, "healthy", "primary", None)
    assert shown["latency_ms"] > 0 and shown["pool_checked_out"] == 0
    assert daemon.metrics()[f'lifeguard_host_state{{host="127.0.0.1:{postgres.port}",state="up"}}'] == 1
    assert probers(postgres) == 1


def test_one_prober_for_all_databases_of_a_host(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(health=FAST, **{
        f"databases.{name}": {"upstream": postgres.conninfo(database="app")} for name in ("app", "again", "more")})
    wait_until(lambda: host(daemon, postgres.port)["state"] == "up", "the host is up")
    assert len(daemon.admin("SHOW HEALTH")) == 1
    assert probers(postgres) == 1


def test_a_host_whose_upstream_names_no_user_is_probed_as_the_first_pool_that_connects(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(health=FAST)
    row = host(daemon, postgres.port) if daemon.admin("SHOW HEALTH") else {"state": "unknown"}
    assert row["state"] == "unknown"
    assert health(daemon)[1]["status"] == "unknown"
    daemon.psql("select 1")
    wait_until(lambda: host(daemon, postgres.port)["state"] == "up", "the host is up")
    assert postgres.psql("select usename from pg_stat_activity where application_name = 'lifeguard prober'") == "app"


def test_all_hosts_of_an_upstream_are_probed_as_soon_as_a_pool_has_connected_to_one(
        lifeguard, postgres: PostgreSQL, own_postgres: PostgreSQL):
    upstream = f"host=127.0.0.1,127.0.0.1 port={postgres.port},{own_postgres.port} dbname=app"
    daemon = lifeguard(health=FAST, **{"databases.app": {"upstream": upstream}})
    daemon.psql("select 1")
    for server in (postgres, own_postgres):
        wait_until(lambda: host(daemon, server.port)["state"] == "up", "the host is up")


def test_a_server_that_stops_is_down_and_comes_back(lifeguard, own_postgres: PostgreSQL):
    daemon = lifeguard(upstream=own_postgres, health=FAST, **{"databases.app": {"upstream": own_postgres.conninfo()}})
    wait_until(lambda: host(daemon, own_postgres.port)["state"] == "up", "the host is up")
    own_postgres.stop()
    wait_until(lambda: host(daemon, own_postgres.port)["state"] == "down", "the host is down")
    status, shown = health(daemon)
    assert (status, shown["status"]) == (503, "unhealthy")
    assert f"host 127.0.0.1:{own_postgres.port} is down" in shown["reason"] and "refused" in shown["last_error"]
    assert host(daemon, own_postgres.port)["history"].endswith("---")
    own_postgres.start()
    wait_until(lambda: host(daemon, own_postgres.port)["state"] == "up", "the host is up again")
    assert health(daemon)[0] == 200
    kinds = [row["event"] for row in daemon.admin("SHOW EVENTS") if row["event"].startswith("host_")]
    assert kinds == ["host_up", "host_down", "host_up"]


def test_a_server_that_hangs_is_down_and_delays_no_other(lifeguard, own_postgres: PostgreSQL, postgres: PostgreSQL):
    daemon = lifeguard(health=FAST | {"timeout": "300ms"}, **{
        "databases.app": {"upstream": own_postgres.conninfo()},
        "databases.other": {"upstream": postgres.conninfo(database="other")}})
    for port in (own_postgres.port, postgres.port):
        wait_until(lambda: host(daemon, port)["state"] == "up", "the host is up")
    own_postgres.freeze()
    wait_until(lambda: host(daemon, own_postgres.port)["state"] == "down", "the host is down")
    assert "in time" in host(daemon, own_postgres.port)["last_error"] or "timeout" in host(
        daemon, own_postgres.port)["last_error"]
    before = daemon.metrics()[f'lifeguard_host_probes_total{{host="127.0.0.1:{postgres.port}",outcome="answered"}}']
    wait_until(lambda: daemon.metrics()[
        f'lifeguard_host_probes_total{{host="127.0.0.1:{postgres.port}",outcome="answered"}}'] >= before + 5,
        "the other host is probed as ever", deadline=5)
    own_postgres.thaw()
    wait_until(lambda: host(daemon, own_postgres.port)["state"] == "up", "the host is up again")


def test_a_login_that_is_refused_is_no_host_that_is_down(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(health=FAST, **{"databases.app": {"upstream": postgres.conninfo(user="nobody")}})
    wait_until(lambda: host(daemon, postgres.port)["state"] == "up", "the host is up")
    row = host(daemon, postgres.port)
    assert set(row["history"]) == {"!"} and "nobody" in row["last_error"] and row["role"] == ""


def test_a_killed_prober_session_is_replaced_at_once_and_is_no_failure(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(health={"interval": "1h"}, **{"databases.app": {"upstream": postgres.conninfo()}})
    wait_until(lambda: host(daemon, postgres.port)["history"] == "+", "the host is up")
    assert postgres.psql("select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity "
                         "where application_name = 'lifeguard prober'") == "1"
    wait_until(lambda: host(daemon, postgres.port)["history"] == "++", "it is probed out of turn")
    assert probers(postgres) == 1


def test_pause_leaves_the_server_without_any_connection(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(health=FAST, **{"databases.app": {"upstream": postgres.conninfo()}})
    wait_until(lambda: probers(postgres) == 1, "the host is probed")
    daemon.psql("select 1")
    command(daemon, "PAUSE")
    wait_until(lambda: postgres.backends() == 0, "no connection is left")
    command(daemon, "RESUME")
    wait_until(lambda: probers(postgres) == 1, "the host is probed again")


def test_a_reload_changes_who_is_probed(lifeguard, postgres: PostgreSQL, own_postgres: PostgreSQL):
    daemon = lifeguard(health=FAST, **{"databases.app": {"upstream": postgres.conninfo()}})
    wait_until(lambda: probers(postgres) == 1, "the host is probed")
    daemon.write_settings({"health": FAST, "databases.app": {"upstream": own_postgres.conninfo()}})
    daemon.reload()
    wait_until(lambda: probers(own_postgres) == 1 and probers(postgres) == 0, "the other host is probed")
    assert [row["host"] for row in daemon.admin("SHOW HEALTH")] == [f"127.0.0.1:{own_postgres.port}"]
    daemon.write_settings({"health": {"interval": "off"}, "databases.app": {"upstream": own_postgres.conninfo()}})
    daemon.reload()
    wait_until(lambda: probers(own_postgres) == 0, "nobody is probed")
    assert host(daemon, own_postgres.port)["state"] == "unknown"


# MARK: the circuit breaker


@pytest.mark.parametrize("workers", [1, 2])
def test_a_host_that_is_away_gets_one_dial_at_a_time_from_all_pools(lifeguard, workers: int):
    """Six pools with clients that wait: the host gets a dial every 100 to 200 ms, not six, nor one for each client."""
    with Refuser() as away:
        daemon = lifeguard(server={"workers": workers}, pool={"pool_timeout": "2s"}, **{
            f"databases.d{number}": {"upstream": f"host=127.0.0.1 port={away.port} dbname=x user=x sslmode=disable"}
            for number in range(6)})
        answers: list[str] = []

        def ask(number: int) -> None:
            with WireClient(daemon.port) as client:
                client.send(startup_of(f"d{number % 6}"))
                answers.append(error(client.until(lambda message: message.kind == "E"))["C"])

        began = time.monotonic()
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        seconds = time.monotonic() - began
        assert answers == ["53300"] * 30
        # Each client may have had a dial under way when the first one failed; then come the trials.
        assert seconds / 0.4 < away.accepted < 30 + seconds / 0.1, (away.accepted, seconds)
        state = f'lifeguard_host_breaker{{host="127.0.0.1:{away.port}",breaker="closed"}}'
        assert daemon.metrics()[state] == 0


def test_a_failure_that_one_pool_has_met_is_known_to_the_others(lifeguard, own_postgres: PostgreSQL):
    """With on_outage = fail, a pool that has never dialed fails at once, with the words of the other one's dial."""
    daemon = lifeguard(pool={"on_outage": "fail"}, **{
        name: {"upstream": own_postgres.conninfo(database="app")} for name in ("databases.app", "databases.again")})
    own_postgres.stop()
    for database in ("app", "again"):
        with WireClient(daemon.port) as client:
            client.send(startup_of(database))
            fields = error(client.until(lambda message: message.kind == "E"))
            assert fields["C"] == "53300" and "refused" in fields["D"]


def test_all_pools_are_served_as_soon_as_one_dial_gets_through(lifeguard, own_postgres: PostgreSQL):
    daemon = lifeguard(**{
        f"databases.d{number}": {"upstream": own_postgres.conninfo(database="app"), "connect_timeout": "2s"}
        for number in range(5)})
    clients = [WireClient(daemon.port, {"user": "app", "database": f"d{number}"}) for number in range(5)]
    own_postgres.stop("immediate")
    for client in clients:
        client.send(query("select 1"))
    wait_until(lambda: sum(int(row["cl_waiting"]) for row in daemon.admin("SHOW POOLS")) == 5, "all wait")
    own_postgres.start()
    began = time.monotonic()
    for client in clients:
        assert [message.kind for message in client.until_ready()][-3:] == ["D", "C", "Z"]
    assert time.monotonic() - began < 1
    for client in clients:
        client.close()


def test_what_a_checkout_has_cost_is_counted(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(pool={"pre_ping_idle": "0s", "pool_size": 1})
    with WireClient.app(daemon.port) as client:
        for _ in range(3):
            client.rows("select 1")
    proofs = {name: daemon.metrics()[f'lifeguard_pool_checkout_proofs_total{{database="app",user="app",proof="{name}"}}']
              for name in ("recent", "ping", "dial")}
    assert proofs == {"recent": 0, "ping": 3, "dial": 1}


# MARK: a network that misbehaves


def behind(relay: Relay, **more: str) -> dict[str, str]:
    """A database whose server is reached through the relay."""
    return {"upstream": f"host=127.0.0.1 port={relay.port} user=app dbname=app sslmode=disable", **more}


def test_a_slow_network_is_seen_in_the_latency(lifeguard, postgres: PostgreSQL):
    with Relay(postgres.port) as relay:
        relay.delay = 0.05
        daemon = lifeguard(health=FAST | {"timeout": "5s"}, **{"databases.app": behind(relay)})
        wait_until(lambda: host(daemon, relay.port)["state"] == "up", "the host is up")
        assert float(host(daemon, relay.port)["latency_ms"]) >= 50


def test_a_network_that_drops_everything_is_a_host_that_is_down(lifeguard, postgres: PostgreSQL):
    with Relay(postgres.port) as relay:
        daemon = lifeguard(health=FAST | {"timeout": "200ms"}, **{"databases.app": behind(relay)})
        wait_until(lambda: host(daemon, relay.port)["state"] == "up", "the host is up")
        relay.delay = 1
        wait_until(lambda: host(daemon, relay.port)["state"] == "down", "the host is down")
        relay.delay = 0
        wait_until(lambda: host(daemon, relay.port)["state"] == "up", "the host is up again")


def test_an_idle_connection_that_the_server_half_closes_is_noticed_at_once(lifeguard, postgres: PostgreSQL):
    with Relay(postgres.port) as relay:
        daemon = lifeguard(**{"databases.app": behind(relay)})
        with WireClient.app(daemon.port) as client:
            client.rows("select 1")
            relay.half_close()
            wait_until(lambda: daemon.metrics()['lifeguard_pool_idle_losses_total{database="app",user="app"}'] == 1,
                       "the loss is noticed")
            assert client.rows("select 2") == [["2"]]


def test_a_damaged_reply_reaches_no_client(lifeguard, postgres: PostgreSQL):
    with Relay(postgres.port) as relay:
        daemon = lifeguard(pool={"pool_pre_ping": False}, **{"databases.app": behind(relay)})
        with WireClient.app(daemon.port) as client:
            client.rows("select 1")
            relay.damage()
            assert error(client.ask(query("select 2")))["C"] == "40003"
            assert not relay.is_damaging
            assert client.rows("select 3") == [["3"]]


def test_damaged_answers_to_probes_do_no_harm(lifeguard, postgres: PostgreSQL):
    with Relay(postgres.port) as relay:
        daemon = lifeguard(health=FAST | {"interval": "100ms"}, **{"databases.app": behind(relay)})
        wait_until(lambda: host(daemon, relay.port)["state"] == "up", "the host is up")
        for _ in range(5):
            relay.damage()
            wait_until(lambda: not relay.is_damaging, "an answer is damaged")
        wait_until(lambda: host(daemon, relay.port)["history"].endswith("++"), "probes are answered again")
        assert host(daemon, relay.port)["state"] == "up"
