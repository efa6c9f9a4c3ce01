"""The console, and what is served by HTTP."""

from __future__ import annotations

import pytest

from kit.daemon import Lifeguard
from kit.wire import SYNC, WireClient, bind, describe_portal, error, execute, kinds, parse, query

# PgBouncer's columns in their order; Lifeguard's own come after them.
COLUMNS = {
    "POOLS": "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel "
             "sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts",
    "CLIENTS": "type user database replication state addr port local_addr local_port connect_time request_time wait "
               "wait_us close_needed ptr link remote_pid tls application_name prepared_statements id",
    "SERVERS": "type user database replication state addr port local_addr local_port connect_time request_time wait "
               "wait_us close_needed ptr link remote_pid tls application_name prepared_statements id",
    "STATE": "key value",
    "VERSION": "version",
}


@pytest.mark.parametrize("database", ["lifeguard", "pgbouncer"])
@pytest.mark.parametrize("command", COLUMNS)
def test_columns_are_pgbouncers_first(daemon: Lifeguard, database: str, command: str):
    daemon.psql("select 1")
    with WireClient(daemon.port, {"user": "postgres", "database": database}) as console:
        answer = console.ask(query(f"show {command.lower()};"))
    assert answer[0].kind == "T", answer
    names = column_names(answer[0].payload)
    assert names[:len(COLUMNS[command].split())] == COLUMNS[command].split()


def column_names(payload: bytes) -> list[str]:
    count, offset, names = int.from_bytes(payload[:2], "big"), 2, []
    for _ in range(count):
        end = payload.index(0, offset)
        names.append(payload[offset:end].decode())
        offset = end + 1 + 18
    return names


def test_show_pools_counts(daemon: Lifeguard):
    with WireClient.app(daemon.port) as busy, WireClient.app(daemon.port) as idle:
        busy.ask(query("begin"))
        idle.rows("select 1")
        row = daemon.pool()
        assert row["sv_active"] == "1"
        assert row["sv_idle"] == "1"
        assert row["cl_waiting"] == "0"
        assert row["pool_mode"] == "transaction"


def test_show_clients_and_servers(daemon: Lifeguard):
    with WireClient.app(daemon.port, application_name="watched") as client:
        client.ask(query("begin"))
        pid = client.rows("select pg_backend_pid()")[0][0]
        clients = [row for row in daemon.admin("SHOW CLIENTS") if row["application_name"] == "watched"]
        assert len(clients) == 1
        assert clients[0]["user"] == "app" and clients[0]["database"] == "app"
        assert clients[0]["addr"] == "127.0.0.1"
        assert clients[0]["port"] == str(client.socket.getsockname()[1])
        servers = [row for row in daemon.admin("SHOW SERVERS") if row["remote_pid"] == pid]
        assert len(servers) == 1
        assert servers[0]["state"] == "active"
        assert servers[0]["link"] == clients[0]["ptr"] and clients[0]["link"] == servers[0]["ptr"]
        client.ask(query("commit"))


def test_show_state_and_version(daemon: Lifeguard):
    state = {row["key"]: row["value"] for row in daemon.admin("SHOW STATE")}
    assert (state["active"], state["paused"], state["suspended"]) == ("yes", "no", "no")
    assert state["event_loop"] in ("io_uring", "epoll")
    assert "lifeguard" in daemon.admin("SHOW VERSION")[0]["version"].lower()


def test_the_extended_protocol_works_on_the_console(daemon: Lifeguard):
    with WireClient(daemon.port, {"user": "postgres", "database": "lifeguard"}) as console:
        answer = console.ask(parse("SHOW VERSION"), bind(), describe_portal(), execute(), SYNC)
        assert kinds(answer) == "12TDCZ"


def test_an_unknown_command_is_an_error_and_the_console_stays(daemon: Lifeguard):
    with WireClient(daemon.port, {"user": "postgres", "database": "lifeguard"}) as console:
        assert error(console.ask(query("SHOW NONSENSE")))["S"] == "ERROR"
        assert kinds(console.ask(query("SHOW VERSION"))) == "TDCZ"


def test_under_trust_the_console_only_shows(lifeguard):
    daemon = lifeguard(admin={"users": ["postgres"]})
    with WireClient(daemon.port, {"user": "postgres", "database": "lifeguard"}) as console:
        for command in ("RELOAD", "SHUTDOWN", "PAUSE", "KILL app"):
            assert error(console.ask(query(command)))["S"] == "ERROR"
        assert kinds(console.ask(query("SHOW STATE"))).endswith("CZ")


def test_livez_and_unknown_pages(daemon: Lifeguard):
    assert daemon.http("/livez")[0] == 200
    assert daemon.http("/nonsense")[0] == 404


def test_metrics_count(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        for _ in range(10):
            client.rows("select 1")
        status, text = daemon.http("/metrics")
    assert status == 200
    assert "# HELP " in text and "# TYPE " in text
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            float(value)
            assert name.startswith(("lifeguard_", "process_")), line
    assert 'database="app"' in text and 'user="app"' in text
    assert any(value >= 10 for name, value in daemon.metrics().items() if "quer" in name or "transaction" in name)
