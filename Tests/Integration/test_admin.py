"""Admin commands: what the documentation says, what they do to clients and servers, and who may give them."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from kit import secrets
from kit.admin import AdminSocket, Refused, command
from kit.daemon import BINARY, Lifeguard
from kit.postgres import PostgreSQL
from kit.waiting import wait_until
from kit.wire import WireClient, error, kinds, query

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs/admin.md"


def documented() -> list[tuple[str, str]]:
    """Each command of docs/admin.md with the answer that stands there."""
    rows = re.findall(r"^\| `([^`]+)` \| ([A-Z_a-z0-9 ]+?) \|", DOCUMENTATION.read_text(), re.M)
    assert len(rows) > 40, rows
    return rows


def answer(daemon: Lifeguard, text: str) -> str:
    """As docs/admin.md writes it."""
    try:
        result = command(daemon, text)
    except Refused as refused:
        return f"ERROR {refused.sqlstate}"
    return "rows" if isinstance(result, list) else result


@pytest.fixture
def scram_daemon(lifeguard, postgres: PostgreSQL, tmp_path: Path) -> Lifeguard:
    """A daemon whose user `postgres` has proven who it is, and may change things on the console."""
    userlist = tmp_path / "userlist.txt"
    secrets.write_userlist(userlist, {"app": secrets.GOOD, "postgres": secrets.GOOD})
    daemon = lifeguard(auth={"method": "scram-sha-256", "file": str(userlist)}, admin={"users": ["postgres"]},
                       **{"databases.app": {"upstream": postgres.conninfo()}})
    daemon.console = {"password": secrets.GOOD}
    return daemon


def in_background(call, *arguments) -> Future:
    """Runs a call on a thread of its own."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call, *arguments)
    pool.shutdown(wait=False)
    return future


# MARK: the documentation


def test_every_documented_command_answers_as_documented(lifeguard):
    daemon = lifeguard()
    stopping = []
    for text, expected in documented():
        if text.startswith("SHUTDOWN"):
            stopping.append((text, expected))
        else:
            assert (text, answer(daemon, text)) == (text, expected)
            if text == "KILL":
                command(daemon, "RESUME")
    for text, expected in stopping:
        daemon = lifeguard()
        assert (text, answer(daemon, text)) == (text, expected)
        assert daemon.process.wait(20) == 0


def test_own_columns_are_the_documented_ones(daemon: Lifeguard):
    daemon.psql("select 1")
    for what in ("POOLS",):
        line = re.search(rf"^\| `SHOW {what}` \| rows \| (.*) \|$", DOCUMENTATION.read_text(), re.M)
        own = re.findall("`([a-z_]+)`", line.group(1))
        assert list(command(daemon, f"SHOW {what}")[0])[-len(own):] == own


def test_help_lists_every_documented_command(daemon: Lifeguard):
    helped = {re.sub(r" (\[db\]|db|id|key = 'value')$", "", row["command"]) for row in command(daemon, "SHOW HELP")}
    for text, expected in documented():
        if not expected.startswith("ERROR"):
            assert re.sub(r" (app|1|pool.pool_size = 7)$", "", text) in helped


def test_the_queries_of_pgbouncer_exporter_return_what_it_parses(lifeguard):
    """The column names are those that prometheus-community/pgbouncer_exporter maps; it uses the simple protocol."""
    daemon = lifeguard()
    daemon.psql("select 1")
    labels = {"STATS_TOTALS": ["database"], "POOLS": ["database", "user"],
              "DATABASES": ["name", "host", "port", "database", "force_user", "pool_mode"]}
    numbers = {
        "STATS_TOTALS": "query_count query_time bytes_received bytes_sent wait_time xact_count xact_time "
                        "client_parse_count server_parse_count bind_count",
        "POOLS": "cl_active cl_active_cancel_req cl_waiting cl_waiting_cancel_req sv_active sv_active_cancel "
                 "sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait",
        "DATABASES": "pool_size max_connections current_connections paused disabled",
    }
    text_oid = 25
    with psycopg.connect(daemon.conninfo(user="postgres", database="pgbouncer"), autocommit=True,
                         cursor_factory=psycopg.ClientCursor) as console:
        for what, names in numbers.items():
            cursor = console.execute(f"SHOW {what};")
            columns = {column.name: index for index, column in enumerate(cursor.description)}
            types = {column.name: column.type_code for column in cursor.description}
            rows = cursor.fetchall()
            assert rows, what
            for row in rows:
                for name in names.split():
                    float(row[columns[name]])
            for name in labels[what]:
                assert types[name] == text_oid, f"{what}.{name} is a label"
        lists = dict(console.execute("SHOW LISTS;").fetchall())
        for name in ("databases", "users", "pools", "free_clients", "used_clients", "login_clients", "free_servers",
                     "used_servers", "dns_names", "dns_zones", "dns_queries"):
            float(lists[name])
        cursor = console.execute("SHOW CONFIG;")
        assert [column.name for column in cursor.description] == ["key", "value", "default", "changeable"]
        config = {row[0]: row[1] for row in cursor.fetchall()}
        assert float(config["max_client_conn"]) == 10000
        float(config["max_user_connections"])
        assert len(console.execute("SHOW VERSION;").fetchone()) == 1
        float(console.execute("SHOW STATS;").fetchone()[1])


# MARK: PAUSE, KILL, DISABLE, RECONNECT


def test_pause_waits_for_transactions_and_resume_serves_who_waited(daemon: Lifeguard, postgres: PostgreSQL):
    with WireClient.app(daemon.port) as busy, WireClient.app(daemon.port) as late:
        busy.ask(query("begin"))
        pause = in_background(command, daemon, "PAUSE")
        wait_until(lambda: daemon.pool()["paused"] == "t", "the pause")
        late.send(query("select 42"))
        wait_until(lambda: daemon.pool()["cl_waiting"] == "1", "the client waits")
        assert not pause.done()
        assert kinds(busy.ask(query("select 1"))) == "TDCZ", "the transaction goes on"
        busy.ask(query("commit"))
        assert pause.result(10) == "PAUSE"
        assert daemon.pool()["sv_total"] == "0"
        assert postgres.backends() == 0
        assert {row["key"]: row["value"] for row in command(daemon, "SHOW STATE")}["paused"] == "yes"
        assert command(daemon, "RESUME") == "RESUME"
        assert [m.values for m in late.until_ready() if m.kind == "D"] == [["42"]]


def test_pausing_one_database_leaves_the_others(daemon: Lifeguard):
    assert command(daemon, "PAUSE app") == "PAUSE"
    assert daemon.psql("select 1", database="other").stdout == "1\n"
    rows = {row["name"]: row["paused"] for row in command(daemon, "SHOW DATABASES")}
    assert rows == {"app": 1, "other": 0}
    waiting = in_background(daemon.psql, "select 1")
    wait_until(lambda: daemon.pool()["cl_waiting"] == "1", "the client waits")
    command(daemon, "RESUME app")
    assert waiting.result(10).stdout == "1\n"


def test_a_pool_that_comes_later_is_paused_too(daemon: Lifeguard):
    command(daemon, "PAUSE")
    waiting = in_background(daemon.psql, "select 1")
    wait_until(lambda: daemon.pool()["cl_waiting"] == "1", "the client waits")
    assert daemon.pool()["paused"] == "t"
    command(daemon, "RESUME")
    assert waiting.result(10).stdout == "1\n"


def test_resume_ends_a_pause_that_still_waits(daemon: Lifeguard):
    with WireClient.app(daemon.port) as busy:
        busy.ask(query("begin"))
        pause = in_background(answer, daemon, "PAUSE")
        wait_until(lambda: daemon.pool()["paused"] == "t", "the pause")
        command(daemon, "RESUME")
        assert pause.result(10) == "ERROR 57014"
        assert kinds(busy.ask(query("commit"))) == "CZ"


def test_ctrl_c_ends_the_wait_of_pause_on_the_console_and_the_pause_stays(scram_daemon: Lifeguard):
    daemon = scram_daemon
    with psycopg.connect(daemon.conninfo(password=secrets.GOOD), autocommit=True) as busy:
        busy.execute("begin")
        with psycopg.connect(daemon.conninfo(user="postgres", database="lifeguard", **daemon.console),
                             autocommit=True) as console:
            pause = in_background(console.execute, "PAUSE")
            wait_until(lambda: daemon.pool()["paused"] == "t", "the pause")
            console.cancel_safe(timeout=10)
            with pytest.raises(psycopg.errors.QueryCanceled):
                pause.result(10)
            assert daemon.pool()["paused"] == "t"
            console.execute("RESUME")
        busy.execute("commit")


def test_kill_closes_clients_and_servers_at_once_and_newcomers_wait(daemon: Lifeguard, postgres: PostgreSQL):
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port, database="other") as other:
        client.ask(query("begin"))
        client.send(query("select pg_sleep(60)"))
        wait_until(lambda: postgres.psql("select count(*) from pg_stat_activity where usename = 'app' and "
                                         "query like '%pg_sleep(60)'").strip() == "1", "the query runs")
        assert command(daemon, "KILL app") == "KILL"
        assert error(client.until(lambda message: message.kind == "E"))["C"] == "57P01"
        assert client.is_closed()
        wait_until(lambda: postgres.psql("select count(*) from pg_stat_activity where datname = 'app' and "
                                         "usename = 'app'").strip() == "0", "its server connection is closed")
        assert other.rows("select 1") == [["1"]]
        waiting = in_background(daemon.psql, "select 1")
        wait_until(lambda: daemon.pool()["cl_waiting"] == "1", "the newcomer waits")
        command(daemon, "RESUME app")
        assert waiting.result(10).stdout == "1\n"


def test_kill_client_closes_that_client_alone(daemon: Lifeguard):
    with WireClient.app(daemon.port, application_name="victim") as victim, WireClient.app(daemon.port) as other:
        victim.ask(query("begin"))
        ids = {row["application_name"]: row["id"] for row in command(daemon, "SHOW CLIENTS")}
        assert command(daemon, f"KILL_CLIENT {ids['victim']}") == "KILL_CLIENT"
        assert error(victim.until(lambda message: message.kind == "E"))["C"] == "57P01"
        assert victim.is_closed()
        assert other.rows("select 1") == [["1"]]
        wait_until(lambda: daemon.pool()["sv_active"] == "0", "its connection is back")
        assert answer(daemon, f"KILL_CLIENT {ids['victim']}") == "ERROR 42704"


def test_disable_keeps_newcomers_out_and_who_is_in_stays(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        client.rows("select 1")
        command(daemon, "DISABLE app")
        refused = daemon.psql("select 1", check=False)
        assert refused.returncode != 0 and 'database "app" is disabled' in refused.stderr
        assert client.rows("select 1") == [["1"]]
        assert daemon.psql("select 1", database="other").stdout == "1\n"
        command(daemon, "ENABLE app")
        assert daemon.psql("select 1").stdout == "1\n"


def test_reconnect_replaces_connections_and_wait_close_waits_for_the_last(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        old = client.rows("select pg_backend_pid()")
        client.ask(query("begin"))
        assert command(daemon, "RECONNECT") == "RECONNECT"
        closing = in_background(command, daemon, "WAIT_CLOSE")
        wait_until(lambda: [row["close_needed"] for row in command(daemon, "SHOW SERVERS")] == [1],
                   "the connection is outdated")
        assert client.rows("select pg_backend_pid()") == old
        assert not closing.done()
        client.ask(query("commit"))
        assert closing.result(10) == "WAIT_CLOSE"
        assert client.rows("select pg_backend_pid()") != old


def test_an_unknown_database_is_named(daemon: Lifeguard):
    for text in ("PAUSE nodb", "RESUME nodb", "KILL nodb", "DISABLE nodb", "ENABLE nodb", "RECONNECT nodb",
                 "WAIT_CLOSE nodb", "PAUSE lifeguard"):
        with pytest.raises(Refused, match="3D000: no such database: "):
            command(daemon, text)


# MARK: RELOAD and SET


def test_a_wrong_file_changes_nothing_and_says_file_line_and_key(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        before = command(daemon, "SHOW CONFIG")
        good = daemon.config.read_text()
        daemon.config.write_text(good.replace("pool_size = 5", "pool_size = 9\npool_sise = 3"))
        line = daemon.config.read_text().splitlines().index("pool_sise = 3") + 1
        for text in ("RELOAD", "RELOAD DRY RUN"):
            with pytest.raises(Refused) as refused:
                command(daemon, text)
            assert refused.value.sqlstate == "F0000"
            assert f'{daemon.config}:{line}:1: [pool] unknown key "pool_sise"' in refused.value.message
        assert command(daemon, "SHOW CONFIG") == before
        assert client.rows("select 1") == [["1"]]
        daemon.config.write_text(good.replace("pool_size = 5", "pool_size = 9"))
        assert command(daemon, "RELOAD") == "RELOAD"
        assert daemon.pool()["pool_size"] == "9"
        assert client.rows("select 1") == [["1"]], "a client of a pool that is still served stays"


def test_a_dry_run_shows_the_differences_and_changes_nothing(daemon: Lifeguard):
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("pool_size = 5", "pool_size = 9").replace("workers = ", "workers = 1"))
    changes = {row["key"]: (row["old"], row["new"], row["takes_effect"]) for row in command(daemon, "RELOAD DRY RUN")}
    assert changes["pool.pool_size"] == ("5", "9", "at once")
    assert changes["server.workers"][2] == "at the next start"
    assert len(changes) == 2
    assert {row["key"]: row["value"] for row in command(daemon, "SHOW CONFIG")}["pool.pool_size"] == "5"


def test_set_changes_one_key_until_the_next_reload(daemon: Lifeguard):
    daemon.psql("select 1")
    assert command(daemon, "SET pool.pool_size = 3") == "SET"
    assert command(daemon, "SET databases.app.max_overflow = 1") == "SET"
    assert (daemon.pool()["pool_size"], daemon.pool()["max_overflow"]) == ("3", "1")
    assert command(daemon, "SET pool_timeout = '100ms'") == "SET"
    assert command(daemon, "RELOAD") == "RELOAD"
    wait_until(lambda: (daemon.pool()["pool_size"], daemon.pool()["max_overflow"]) == ("5", "10"), "the file's again")


def test_set_refuses_what_a_file_could_not_say(daemon: Lifeguard):
    for text, words in (("SET pool.pool_size = 0", "at least 1"), ("SET pool_sise = 3", 'did you mean "pool_size"?'),
                        ("SET default_pool_size = 3", 'did you mean "pool.pool_size"?'),
                        ("SET server.listen = '127.0.0.1:1'", "takes effect only at a start"),
                        ("SET listen = '127.0.0.1:1'", "server.listen, http.listen"),
                        ("SET pool.min_size = 6", "min_size = 6 is above pool_size = 5")):
        with pytest.raises(Refused) as refused:
            command(daemon, text)
        assert words in refused.value.message


# MARK: SHUTDOWN


def test_shutdown_wait_for_clients_waits_for_idle_ones_too(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        assert command(daemon, "SHUTDOWN WAIT_FOR_CLIENTS") == "SHUTDOWN"
        wait_until(lambda: daemon.http("/readyz")[0] == 503, "nobody more is let in")
        assert client.rows("select 1") == [["1"]]
        assert daemon.process.poll() is None
    assert daemon.process.wait(20) == 0


def test_shutdown_does_not_wait(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin"))
        assert command(daemon, "SHUTDOWN") == "SHUTDOWN"
        assert daemon.process.wait(20) == 0


# MARK: the socket


def test_only_root_and_the_daemons_user_can_connect(daemon: Lifeguard):
    path = daemon.folder / "admin.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    os.chmod(daemon.folder, 0o755)
    if os.getuid() == 0:
        outcome = subprocess.run(
            ["setpriv", "--reuid=nobody", "--clear-groups", BINARY, "admin", "--socket", path, "SHOW STATE"],
            capture_output=True, text=True)
        assert outcome.returncode == 2 and "permission denied" in outcome.stderr, outcome


def test_one_connection_may_send_several_commands(daemon: Lifeguard):
    with AdminSocket(daemon) as admin:
        admin.send("SHOW VERSION")
        admin.send("json SHOW STATE\r")
        admin.send("nonsense")
        admin.send("")
        admin.socket.sendall(b"RELOAD")  # the last line has no end
        text = admin.rest()
    assert "Lifeguard " in text and '"key": "active"' in text
    assert 'ERROR:  syntax error: "nonsense" begins no command' in text
    assert text.endswith("RELOAD\n")


def test_a_line_without_end_is_refused_and_costs_nobody_else(daemon: Lifeguard):
    with AdminSocket(daemon) as admin:
        try:
            admin.socket.sendall(b"x" * 1_000_000)
        except OSError:
            pass
        text = b""
        try:
            while part := admin.socket.recv(65536):
                text += part
        except OSError:
            pass
    assert b"" == text or b"too long" in text
    assert command(daemon, "SHOW VERSION")


def test_more_connections_than_are_kept_are_closed(daemon: Lifeguard):
    open_ones = [AdminSocket(daemon) for _ in range(40)]
    try:
        closed = [admin for admin in open_ones[32:] if admin.socket.recv(1) == b""]
        assert len(closed) == 8
        open_ones[0].send("SHOW VERSION")
        assert open_ones[0].socket.recv(100)
    finally:
        for admin in open_ones:
            admin.socket.close()
    wait_until(lambda: command(daemon, "SHOW VERSION"), "there is room again")


def test_who_leaves_while_a_command_waits_costs_nothing(daemon: Lifeguard):
    with WireClient.app(daemon.port) as busy:
        busy.ask(query("begin"))
        with AdminSocket(daemon) as admin:
            admin.send("PAUSE")
            wait_until(lambda: daemon.pool()["paused"] == "t", "the pause")
        command(daemon, "RESUME")
        busy.ask(query("commit"))
    assert daemon.psql("select 1").stdout == "1\n"


def test_hostile_names_are_json_and_cannot_move_the_cursor(lifeguard, postgres: PostgreSQL):
    name = 'a"b\\c\n\x1b[31m\té'
    daemon = lifeguard(**{"databases.\"*\"": {"upstream": postgres.conninfo(user="app", database="app")}})
    with WireClient(daemon.port, {"user": "app", "database": name}) as client:
        client.rows("select 1")
        assert name in {row["database"] for row in command(daemon, "SHOW POOLS")}
        with AdminSocket(daemon) as admin:
            admin.send("SHOW POOLS")
            assert "\x1b" not in admin.rest()


def test_a_socket_that_nobody_listens_on_is_replaced_and_a_live_one_is_not(lifeguard):
    first = lifeguard()
    second = lifeguard(admin={"socket": str(first.folder / "admin.sock")}, wait=False)
    second.expected_exit = 1
    assert second.process.wait(20) == 1
    assert "cannot open the admin socket" in second.log() and "somebody listens on it already" in second.log()
    assert command(first, "SHOW VERSION")
    first.process.kill()
    first.process.wait()
    first.expected_exit = None
    third = lifeguard(admin={"socket": str(first.folder / "admin.sock")})
    assert third.process.poll() is None and command(first, "SHOW VERSION")


# MARK: lifeguard admin


def admin_tool(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run([BINARY, "admin", *arguments], capture_output=True, text=True, timeout=30, **options)


def test_the_tool_prints_tables_and_json_and_says_by_its_exit_code_what_happened(daemon: Lifeguard):
    path = daemon.folder / "admin.sock"
    table = admin_tool("--socket", path, "SHOW STATE")
    assert (table.returncode, table.stderr) == (0, "") and re.search(r"^ active +\| yes", table.stdout, re.M)
    rows = admin_tool("--socket", path, "--json", "SHOW", "STATE")
    assert rows.returncode == 0 and {"key": "active", "value": "yes"} in json.loads(rows.stdout)
    done = admin_tool("--socket", path, "RELOAD")
    assert (done.returncode, done.stdout) == (0, "RELOAD\n")
    refused = admin_tool("--socket", path, "SHOW NONSENSE")
    assert (refused.returncode, refused.stdout) == (1, "") and refused.stderr.startswith("ERROR:  syntax error")
    refused = admin_tool("--socket", path, "--json", "SHOW NONSENSE")
    assert refused.returncode == 1 and json.loads(refused.stdout)["error"]["sqlstate"] == "42601"
    nobody = admin_tool("--socket", daemon.folder / "none.sock", "SHOW STATE")
    assert nobody.returncode == 2 and "there is no such socket" in nobody.stderr


def test_without_a_setting_the_socket_is_where_the_tool_looks(lifeguard, tmp_path: Path):
    """The user's own directory comes into play only where /run/lifeguard cannot be made."""
    if os.getuid() == 0:
        pytest.skip("root can make /run/lifeguard")
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    lifeguard(admin={"socket": None}, environment=environment)
    assert admin_tool("SHOW VERSION", env={**os.environ, **environment}).returncode == 0


# MARK: many at once


def test_commands_from_everywhere_at_once_lose_no_query(lifeguard):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 2, "pool_timeout": "30s"})
    stop = threading.Event()
    failures: list[str] = []
    counts = [0] * 8

    def work(index: int) -> None:
        with WireClient.app(daemon.port) as client:
            while not stop.is_set():
                rows = client.rows(f"select {index}")
                if rows != [[str(index)]]:
                    failures.append(f"{index}: {rows}")
                    return
                counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(counts))]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            for text in ("PAUSE", "SHOW CLIENTS", "RESUME", "RECONNECT", "SHOW SOCKETS", "WAIT_CLOSE", "RELOAD",
                         "SET pool.pool_size = 3", "SHOW MEM", "SHOW STATS"):
                command(daemon, text)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not failures
    assert all(count > 0 for count in counts)
