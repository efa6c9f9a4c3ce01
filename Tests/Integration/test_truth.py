"""What the daemon says of itself is true: known loads, and every place that shows a number of them.

Each load has a database, hence a pool, of its own, and keeps an account of exactly what it does (`kit.account`): of all
counters, those that must stay 0 too, and of all durations between two bounds. Then /metrics, SHOW STATS, STATS_TOTALS,
TOTALS and the status page's JSON are compared with the account. What changes (SHOW POOLS, CLIENTS, SERVERS, …) is
compared in known states, further below. `kit.truth` has the comparisons; a metric that none of them names fails a
test.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kit.account import DURATIONS, Account, until_equal
from kit.admin import command
from kit.daemon import BINARY, WORKERS, Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import cpu_seconds, resident_bytes, run
from kit.relay import Refuser, Relay
from kit.tls import request_tls, unverified
from kit.truth import COUNTERS, GAUGES, OF_THE_DAEMON, Scrape, State, check_state, differences
from kit.waiting import wait_until
from kit.wire import (
    COPY_DONE, FLUSH, SSL_REQUEST, SYNC, Closed, WireClient, bind, cancel_request, copy_data, copy_fail,
    describe_portal, error, execute, function_call, kinds, parse, query, startup, startup_packet,
)

# MARK: the loads


@dataclass
class Load:
    """What one pool is, and what is done to it."""

    name: str
    run: Callable[[Scene], None]
    pool: dict[str, Any]
    #: What stands in the server's place, if anything: made from the server's port.
    server: Callable[[int], Relay | Refuser] | None


@dataclass
class Scene:
    """Where a load takes place."""

    daemon: Lifeguard
    postgres: PostgreSQL
    account: Account
    server: Any = None
    accounts: list[Account] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Its row of SHOW POOLS."""
        return next(row for row in command(self.daemon, "SHOW POOLS") if row["database"] == self.account.database)

    def reaches(self, **columns: int) -> None:
        """Waits until its row of SHOW POOLS has these values."""
        wait_until(lambda: {name: self.row()[name] for name in columns} == columns, f"{columns} in SHOW POOLS")


LOADS: list[Load] = []


def load(pool: dict[str, Any] | None = None, server: Callable[[int], Relay | Refuser] | None = None):
    """Makes a load of a function. Nothing is pinged, recycled or closed by itself unless its settings say so."""
    quiet = {"pool_pre_ping": False, "pool_recycle": "off", "overflow_linger": "60s", "pool_size": 5, "max_overflow": 0}

    def add(function: Callable[[Scene], None]) -> Callable[[Scene], None]:
        LOADS.append(Load(function.__name__, function, quiet | (pool or {}), server))
        return function

    return add


@load()
def queries(scene: Scene) -> None:
    """Simple queries: of one statement, of several, of none, and such that fail."""
    with scene.account.client(dials=1) as client:
        for number in range(10):
            client.ask(query(f"select {number}"))
        client.ask(query("select pg_sleep(0.2)"), low=0.2)
        client.ask(query("select 1; select 2"))
        client.ask(query(""))
        assert error(client.ask(query("select 1/0")))["C"] == "22012"
        client.ask(query("select repeat('x', 3000000)"))
        client.ask(query("select '" + "y" * 1000000 + "'"))
        client.ask(function_call(177, (b"\0\0\0\1", b"\0\0\0\2")))
        # What a text does beyond 64 KiB, and what function is called, only the server knows.
        scene.account.add(session_inspections=2)
        answer = client.ask(*[query(f"select {number}") for number in range(7)], readies=7)
        assert kinds(answer).count("Z") == 7
    with scene.account.client() as client:
        client.wire.send(query("select 'never whole'")[:10])


@load()
def extended(scene: Scene) -> None:
    """The extended protocol: with parameters, pipelined, failing, and with messages that have no answer."""
    with scene.account.client(dials=1) as client:
        one = (parse("select $1::int"), bind(("7",)), describe_portal(), execute())
        client.ask(*one, SYNC)
        client.ask(*[message for _ in range(5) for message in (*one, SYNC)], readies=5)
        client.ask(parse("select 1"), bind(), execute(), bind(), execute(), SYNC)
        client.ask(parse("select nonsense"), bind(), execute(), SYNC)
        client.ask(parse("select pg_sleep(0.15)"), bind(), FLUSH, execute(), SYNC, low=0.15)
        answer = client.ask(*one, SYNC, query("select 1"), parse("x"), bind(), SYNC, *one, SYNC, readies=4)
        assert kinds(answer).count("E") == 1
        # A Sync with nothing before it needs no server, and a Flush has no answer.
        assert kinds(client.refused(SYNC)) == "Z"
        client.wire.send(FLUSH)


@load({"pool_size": 1})
def heals(scene: Scene) -> None:
    """A prepared statement that is gone from its connection, and is made anew."""
    with scene.account.client(dials=1) as client:
        client.ask(parse("select 1", "s"), SYNC)
        client.ask(query("do $$ begin execute 'deallocate all'; end $$"))
        answer = client.ask(bind(statement="s"), describe_portal(), execute(), SYNC)
        assert kinds(answer) == "2TDCZ"
        scene.account.add(statement_heals=1, server_parses=1)


@load()
def blocks(scene: Scene) -> None:
    """Transaction blocks that commit, fail, roll back, are idle, and are left behind."""
    with scene.account.client(dials=1) as client:
        client.ask(query("begin"))
        client.ask(query("select 1"))
        time.sleep(0.2)
        client.ask(query("select pg_sleep(0.4)"), low=0.4)
        client.ask(query("commit"))
        client.ask(query("begin"))
        client.ask(query("select 1/0"))
        client.ask(query("select 1"))
        time.sleep(0.1)
        client.ask(query("rollback"))
        client.ask(query("begin; select 1; commit"))
        client.ask(parse("begin"), bind(), execute(), SYNC, parse("select 1"), bind(), execute(), SYNC,
                   parse("commit"), bind(), execute(), SYNC, readies=3)
        client.ask(query("begin"), query("select 1"), query("commit"), query("select 2"), readies=4)
        client.ask(query("begin"))
        client.ask(query("commit and chain"))
        client.ask(query("commit"))
    with scene.account.client() as client:
        client.ask(query("begin"))
    scene.reaches(sv_idle=1, sv_total=1)


@load()
def copies(scene: Scene) -> None:
    """COPY in both directions, slow and failing."""
    with scene.account.client(dials=1) as client:
        client.ask(query("begin; create temp table copied (a text) on commit drop"))
        client.send(query("copy copied from stdin"))
        assert client.wire.until(lambda message: message.kind == "G")
        for _ in range(3):
            time.sleep(0.05)
            client.wire.send(copy_data(b"some text\n" * 1000))
        client.wire.send(COPY_DONE)
        client.finish(low=0.15)
        client.ask(query("copy copied to stdout"))
        client.ask(query("copy copied from stdin"), copy_fail("no more"))
        client.ask(query("rollback"))
        scene.account.add(session_inspections=1)
        client.ask(query("copy (select generate_series(1, 100000)) to stdout"))


@load({"pool_size": 1, "pool_timeout": "20s"})
def waits(scene: Scene) -> None:
    """Waits that end with a connection, by a cancel request, and because the client goes away."""
    account = scene.account
    with contextlib.ExitStack() as clients:
        holder = clients.enter_context(account.client(dials=1))
        waiting = [clients.enter_context(account.client()) for _ in range(3)]
        canceled = clients.enter_context(account.client())
        leaving = account.client()
        holder.ask(query("begin"))
        for client in waiting:
            client.send(query("select 1"))
        with account.measured() as span:
            canceled.wire.send(query("select 'canceled'"))
            leaving.wire.send(query("select 'never asked for'"))
            scene.reaches(cl_waiting=5)
            time.sleep(0.3)
            with WireClient(scene.daemon.port) as canceller:
                canceller.send(cancel_request(canceled.wire.pid, canceled.wire.secret))
            assert error(canceled.wire.until_ready())["C"] == "57014"
            leaving.close()
            scene.reaches(cl_waiting=3)
        account.took("wait", 0.3, span.seconds, 2)
        holder.ask(query("commit"))
        for client in waiting:
            client.finish(waited=0.3)


@load({"pool_size": 1, "pool_timeout": "250ms"})
def timeouts(scene: Scene) -> None:
    """Waits that run out. What the daemon answers itself is no query, but its bytes are bytes."""
    account = scene.account
    with account.client(dials=1) as holder, account.client() as impatient:
        holder.ask(query("begin"))
        account.add(timeouts=3)
        assert error(impatient.refused(query("select 1"), waited=0.25))["C"] == "53300"
        assert error(impatient.refused(parse("select 1"), bind(), execute(), SYNC, waited=0.25))["C"] == "53300"
        assert error(impatient.refused(query("begin"), waited=0.25))["C"] == "53300"
        assert error(impatient.refused(query("select 'lost'")))["C"] == "25P02"
        impatient.refused(query("rollback"))
        holder.ask(query("commit"))
        impatient.ask(query("select 1"))


@load({"pool_size": 1})
def cancels(scene: Scene) -> None:
    """Cancel requests: a client's, and for what a client left running. A ping follows each."""
    account = scene.account
    with account.client(dials=1) as client:
        client.send(query("select pg_sleep(71)"))
        wait_until(lambda: runs(scene.postgres, "pg_sleep(71)"), "the query runs")
        with account.measured() as span:
            with WireClient(scene.daemon.port) as canceller:
                canceller.send(cancel_request(client.wire.pid, client.wire.secret))
            assert error(client.finish())["C"] == "57014"
            scene.reaches(sv_idle=1, sv_total=1)
        account.add(cancels=1, **{"pings/ok": 1})
        account.took("ping", 0, span.seconds)
        with WireClient(scene.daemon.port) as canceller:  # nothing runs
            canceller.send(cancel_request(client.wire.pid, client.wire.secret))
            assert canceller.is_closed()
    client = account.client()
    with account.measured() as span:
        client.wire.send(query("select pg_sleep(72)"))
        wait_until(lambda: runs(scene.postgres, "pg_sleep(72)"), "the query runs")
        account.lent(span)
        # What it got is known to be alive by the ping after the first cancel.
        account.add(**{"checkout_proofs/recent": -1, "checkout_proofs/ping": 1})
        client.wire.close()
        scene.reaches(sv_idle=1, sv_total=1, cl_active=0)
    account.add(cancels=1, checkins=1, **{"pings/ok": 1})
    account.took("ping", 0, span.seconds)


def runs(postgres: PostgreSQL, text: str) -> bool:
    return postgres.psql("select count(*) from pg_stat_activity where state = 'active' and usename = 'app' "
                         f"and query like $$%{text}%$$") != "0"


@load({"pool_size": 1, "pool_pre_ping": True, "pre_ping_idle": 0, "pre_ping_timeout": "300ms",
       "close_timeout": "200ms"}, server=Relay)
def pings(scene: Scene) -> None:
    """Pings that are answered, and one that is not answered in time."""
    account, relay = scene.account, scene.server
    with account.client(dials=1) as client:
        for _ in range(4):
            client.ask(query("select 1"), pings=1)
        relay.stop()
        client.send(query("select 'not pinged in time'"))
        scene.reaches(sv_closing=1)
        client.finish(waited=0.3, dials=1)
        # Whatever is busy when it is closed is cancelled, the ping too.
        account.add(invalidations=1, cancels=1, **{"pings/timed_out": 1})
        relay.cut()
        scene.reaches(sv_total=1)
    with account.client() as client:
        client.ask(query("select 1"), pings=1)


@load({"pool_size": 1, "pool_pre_ping": True, "pre_ping_idle": 0, "pre_ping_timeout": "20s"}, server=Relay)
def failed_pings(scene: Scene) -> None:
    """A ping that meets a dead connection; the client notices nothing."""
    account, relay = scene.account, scene.server
    with account.client(dials=1) as client:
        relay.stop()
        client.send(query("select 'pinged in vain'"))
        scene.reaches(sv_tested=1)
        relay.cut()
        client.finish(dials=1)
        account.add(invalidations=1, **{"pings/failed": 1})


@load({"pool_size": 1, "pool_recycle": "1s"})
def recycles(scene: Scene) -> None:
    """Connections that get too old while they are idle, and while a client has them."""
    account = scene.account
    with account.client(dials=1) as client:
        client.ask(query("select 1"))
        scene.reaches(sv_total=0)
        client.ask(query("select pg_sleep(1)"), low=1, dials=1)
        scene.reaches(sv_total=0)
        account.add(recycles=2)


@load({"pool_size": 1, "max_overflow": 2, "overflow_linger": "100ms"})
def overflow(scene: Scene) -> None:
    """Connections beyond pool_size, one by one and all at once."""
    account = scene.account
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(account.client(dials=1))] + [
            stack.enter_context(account.client()) for _ in range(2)]
        for number, client in enumerate(clients):
            client.ask(query("begin"), dials=min(number, 1))
        for client in clients:
            client.ask(query("commit"))
        account.add(overflow_dials=2, overflow_closes=2)
        scene.reaches(sv_total=1)
        command(scene.daemon, f"PAUSE {account.database}")
        account.add(invalidations=1)
        for client in clients:
            client.send(query("select pg_sleep(0.3)"))
        scene.reaches(cl_waiting=3, sv_total=0)
        time.sleep(0.1)
        command(scene.daemon, f"RESUME {account.database}")
        for client in clients:
            client.finish(low=0.3, waited=0.1, dials=1)
        account.add(overflow_dials=2, overflow_closes=2)
        scene.reaches(sv_total=1)


@load({"on_outage": "fail"}, server=lambda _: Refuser())
def outages(scene: Scene) -> None:
    """A server that cannot be reached fails a login at once: no wait has run out."""
    account = scene.account
    fails_to_log_in(account)
    account.add(connect_failures=1)
    assert scene.server.accepted == 1


@load({"on_outage": "fail"}, server=lambda _: Refuser(after_login=True))
def broken_off(scene: Scene) -> None:
    """A server that lets the daemon in and is gone before it has answered a thing: nothing was connected."""
    outages(scene)


@load({"pool_timeout": "500ms"}, server=lambda _: Refuser())
def holds(scene: Scene) -> None:
    """A server that cannot be reached is tried again until the wait has run out."""
    account = scene.account
    fails_to_log_in(account, waited=0.5)
    scene.reaches(sv_total=0, cl_active=0)
    account.add(timeouts=1, connect_failures=scene.server.accepted)
    assert scene.server.accepted > 2


def fails_to_log_in(account: Account, waited: float = 0) -> None:
    client = WireClient(account.daemon.port)
    with account.measured() as span:
        client.send(startup({"user": account.user, "database": account.database}))
        assert error(client.until_ready())["S"] == "FATAL"
        assert client.is_closed()
    account.took("wait", waited, span.seconds)
    account.add(received_bytes=client.bytes_sent, sent_bytes=client.bytes_received)


@load({"pool_size": 1})
def settings(scene: Scene) -> None:
    """Clients with settings of their own on one connection: some follow without a round trip, some take one."""
    account = scene.account
    with (account.client(dials=1) as plain, account.client(application_name="named") as named,
          account.client(search_path="pg_catalog") as hidden):
        # The login has left the connection with `hidden`'s settings; what is in the way may be gone by now, and is asked for.
        hidden.ask(query("select 1"))
        plain.ask(query("select 1"))
        account.add(settings_applied=1)
        named.ask(query("select 1"))
        account.add(settings_applied=1)
        named.ask(query("select 1"))
        assert hidden.ask(query("show search_path"))[-3].values == ["pg_catalog"]
        account.add(settings_confirmed=1)
        named.ask(query("set app.own = '1'"))
        account.add(settings_applied=1, session_inspections=1)
        named.ask(query("select pg_stat_clear_snapshot()"))
        plain.ask(query("select 1"))
        account.add(settings_applied=1, session_scrubs=1)
    client = WireClient(scene.daemon.port)
    client.send(startup({"user": "app", "database": account.database, "DateStyle": "nonsense"}))
    with account.measured() as span:
        assert error(client.until_ready())["C"] == "22023"
        assert client.is_closed()
    account.lent(span)
    account.add(received_bytes=client.bytes_sent, sent_bytes=client.bytes_received, checkins=1, server_assignments=-1,
                settings_confirmed=1)


@load({"pool_size": 1})
def losses(scene: Scene) -> None:
    """Server connections that are ended while idle, in a block, and under a query."""
    account = scene.account
    with account.client(dials=1) as client:
        backend = client.ask(query("select pg_backend_pid()"))[1].values[0]
        end(scene, backend)
        scene.reaches(sv_total=0)
        client.ask(query("begin"), dials=1)
        backend = client.ask(query("select pg_backend_pid()"))[1].values[0]
        end(scene, backend)
        scene.reaches(sv_total=0)
        client.lost()
        assert error(client.refused(query("select 'in a lost block'")))["C"] == "40001"
        assert error(client.refused(query("select 'still'")))["C"] == "25P02"
        assert kinds(client.refused(query("rollback"))) == "CZ"
        with account.measured() as span:
            client.wire.send(query("select pg_backend_pid(), pg_sleep(0)"), query("select pg_sleep(73)"))
            backend = client.wire.until_ready()[1].values[0]
        account.lent(span, dials=1)
        account.add(queries=1, transactions=1, checkins=1)
        account.took("query", 0, span.seconds)
        account.took("transaction", 0, span.seconds)
        wait_until(lambda: runs(scene.postgres, "pg_sleep(73)"), "the query runs")
        end(scene, backend)
        assert error(client.wire.until_ready())["C"] == "40003"
        account.add(invalidations=3, idle_losses=1)


def end(scene: Scene, backend: str) -> None:
    assert scene.postgres.psql(f"select pg_terminate_backend({backend}, 10000)") == "t"


@load({"pool_size": 1, "mode": "session"})
def sessions(scene: Scene) -> None:
    """Session mode: the connection stays with the client until it leaves, and is reset then."""
    for number in range(2):
        client = scene.account.client(dials=1 - number)
        client.shares = False
        client.ask(query("select 1"))
        client.ask(query("begin"))
        client.ask(query("commit"))
        time.sleep(0.1)
        client.ask(query("select 2"))
        client.close()
        scene.reaches(sv_idle=1, cl_active=0)


@load({"pool_size": 1, "mode": "statement"})
def statements(scene: Scene) -> None:
    """Statement mode: a block is rolled back by the daemon, and its BEGIN was a query and a transaction."""
    with scene.account.client(dials=1) as client:
        client.ask(query("select 1"))
        assert error(client.ask(query("begin")))["C"] == "0A000"
        client.ask(query("select 2"))


@load()
def users(scene: Scene) -> None:
    """Two users of one database have a pool each; SHOW STATS adds them up."""
    other = Account(scene.daemon, scene.account.database, "alice")
    scene.accounts.append(other)
    with scene.account.client(dials=1) as first, other.client(dials=1) as second:
        first.ask(query("select 1"))
        for _ in range(3):
            second.ask(query("select 2"))


@load({"pool_size": 2})
def orders(scene: Scene) -> None:
    """What an administrator has closed counts as invalidated. KILL cancels what runs: here, the client's ROLLBACK."""
    account = scene.account
    with account.client(dials=1) as client:
        command(scene.daemon, f"RECONNECT {account.database}")
        scene.reaches(sv_total=0)
        client.ask(query("select 1"), dials=1)
        command(scene.daemon, f"PAUSE {account.database}")
        command(scene.daemon, f"RESUME {account.database}")
        client.ask(query("begin"), dials=1)
        command(scene.daemon, f"KILL {account.database}")
        with contextlib.suppress(Closed):
            client.wire.until_ready()
        scene.reaches(sv_total=0, cl_active=0)
        command(scene.daemon, f"RESUME {account.database}")
        account.add(invalidations=3, cancels=1)


@load()
def logins(scene: Scene) -> None:
    """Every byte of a login counts, those before the StartupMessage and those that were sent ahead too."""
    account = scene.account
    account.client(dials=1).close()
    for request in (SSL_REQUEST, 80877104):
        wire = WireClient(scene.daemon.port)
        wire.send(startup_packet(request))
        assert wire.receive_bytes(1) == b"N"
        account.client(wire=wire).close()
    account.client().close()
    wire = WireClient(scene.daemon.port)
    with account.measured() as span:
        wire.send(startup({"user": "app", "database": account.database}), query("select 'sent ahead'"))
        assert kinds(wire.until_ready())[0] == "R"
        assert kinds(wire.until_ready()) == "TDCZ"
    account.lent(span)
    account.add(checkins=1, client_logins=1, queries=1, transactions=1, received_bytes=wire.bytes_sent,
                sent_bytes=wire.bytes_received)
    account.took("query", 0, span.seconds)
    account.took("transaction", 0, span.seconds)
    wire.close()


# MARK: counters and durations


class Stage:
    """A daemon with a database for each of some loads."""

    def __init__(self, lifeguard: Callable[..., Lifeguard], postgres: PostgreSQL, loads: list[Load],
                 stack: contextlib.ExitStack, **sections: dict) -> None:
        databases, servers = {}, {}
        for item in loads:
            port = postgres.port
            if item.server:
                servers[item.name] = stack.enter_context(item.server(port))
                port = servers[item.name].port
            databases[f"databases.{item.name}"] = {
                "upstream": postgres.conninfo(user=None, port=str(port), sslmode="disable"), **item.pool}
        self.daemon = lifeguard(**databases, **sections)
        self.scenes = [Scene(self.daemon, postgres, Account(self.daemon, item.name), servers.get(item.name))
                       for item in loads]
        self._loads = loads

    def run(self) -> list[Account]:
        """Runs the loads, and waits until the daemon says the truth of them."""
        for item, scene in zip(self._loads, self.scenes, strict=True):
            scene.accounts.append(scene.account)
            item.run(scene)
        accounts = [account for scene in self.scenes for account in scene.accounts]
        until_equal(lambda: differences(self.daemon, accounts))
        return accounts


@pytest.mark.parametrize("item", LOADS, ids=lambda item: item.name)
def test_every_place_tells_what_a_load_has_done(lifeguard, postgres: PostgreSQL, item: Load):
    with contextlib.ExitStack() as stack:
        Stage(lifeguard, postgres, [item], stack).run()


def test_all_loads_together_add_up_and_leave_no_metric_out(lifeguard, postgres: PostgreSQL):
    """One daemon has all of the loads, one after the other. Whatever /metrics shows has been compared with what is
    true; and each counter and each duration has been something else than 0."""
    with contextlib.ExitStack() as stack:
        stage = Stage(lifeguard, postgres, LOADS, stack)
        accounts = stage.run()
        compared = {f"lifeguard_pool_{name.partition('/')[0]}_total" for name in COUNTERS}
        compared |= {f"lifeguard_pool_{name}_seconds" for name in DURATIONS}
        compared |= {f"lifeguard_pool_{name}" for name in GAUGES} | set(OF_THE_DAEMON)
        scrape = Scrape(stage.daemon)
        assert set(scrape.families) == compared, "a metric that no comparison names, or one that is gone"
        total = sum((account.counts for account in accounts), Counter())
        # What reaches a time limit is counted in test_time_limits.py, what shards give each other in test_shards.py.
        elsewhere = ("limits_exceeded/", "read_fallbacks/", "shard_")
        assert [name for name in COUNTERS if not total[name] and not name.startswith(elsewhere)] == []
        assert [name for name in DURATIONS if not any(account.durations[name] for account in accounts)
                and not name.startswith(elsewhere)] == []
        for spelling in ("SHOW STATS", "SHOW STATS_TOTALS", "SHOW TOTALS", "SHOW POOLS", "SHOW LISTS"):
            check_spellings(stage.daemon, spelling)


def check_spellings(daemon: Lifeguard, text: str) -> None:
    """psql's rows, those of the admin socket and those of `lifeguard admin --json` are the same."""
    rows = command(daemon, text)
    printed = run([BINARY, "admin", "--socket", daemon.folder / "admin.sock", "--json", text]).stdout
    assert json.loads(printed) == rows
    shown = [{name: psql_value(value) for name, value in row.items()} for row in rows]
    # The console's own client is one of those that SHOW LISTS counts.
    if text != "SHOW LISTS":
        assert daemon.admin(text) == shown


def psql_value(value: Any) -> str:
    if value is None:
        return ""
    return {True: "t", False: "f"}[value] if isinstance(value, bool) else str(value)


def test_bytes_inside_of_tls_are_counted_without_what_tls_adds(lifeguard, postgres: PostgreSQL, certificates):
    shown = certificates.server
    for direct in (False, True):
        daemon = lifeguard(
            server={"tls_mode": "allow", "tls_cert": str(shown.certificate), "tls_key": str(shown.key)},
            **{"databases.app": {"upstream": postgres.conninfo(user=None, database="app"), "pool_pre_ping": False}})
        account = Account(daemon, "app")
        wire = WireClient(daemon.port)
        if direct:
            wire.socket = unverified("postgresql").wrap_socket(wire.socket)
        else:
            request_tls(wire)
            wire.socket = unverified().wrap_socket(wire.socket)
        with account.client(dials=1, wire=wire) as client:
            client.ask(query("select repeat('x', 100000)"))
            client.ask(query("select '" + "y" * 60000 + "'"))
            until_equal(lambda: differences(daemon, [account]))


# MARK: known states


@pytest.fixture
def pool_of(lifeguard, postgres: PostgreSQL):
    """Starts a daemon with database `app` alone: `pool_of(pool_size=2)`; `port` is that of the server."""

    def start(port: int | None = None, **pool: Any) -> Lifeguard:
        quiet = {"pool_pre_ping": False, "overflow_linger": "60s", "pool_size": 5, "max_overflow": 0}
        upstream = postgres.conninfo(user=None, port=str(port or postgres.port), sslmode="disable")
        return lifeguard(**{"databases.app": {"upstream": upstream, **quiet, **pool}})

    return start


def test_active_idle_and_waiting(pool_of):
    daemon = pool_of(pool_size=2, max_overflow=1)
    known = {"size": 2, "max_overflow": 1}
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(WireClient.app(daemon.port)) for _ in range(6)]
        check_state(daemon, "app", State({"idle": 6}, {"idle": 1}, **known))
        pids = set()
        for client in clients[:3]:
            client.ask(query("begin"))
            pids.add(int(client.rows("select pg_backend_pid()")[0][0]))
        check_state(daemon, "app", State({"active": 3, "idle": 3}, {"active": 3}, **known))
        assert {row["remote_pid"] for row in command(daemon, "SHOW SERVERS")} == pids
        for client in clients[3:5]:
            client.send(query("select 1"))
        wait_until(lambda: daemon.pool()["cl_waiting"] == "2", "two wait")
        time.sleep(0.2)
        check_state(daemon, "app", State({"active": 3, "waiting": 2, "idle": 1}, {"active": 3}, waited=0.2, **known))
        clients[0].send(query("select pg_sleep(60)"))
        check_state(daemon, "app", State({"active": 3, "waiting": 2, "idle": 1}, {"active": 3}, waited=0.2, **known))
        clients[0].close()
        clients[1].ask(query("commit"))
        clients[2].ask(query("commit"))
        for client in clients[3:5]:
            client.until_ready()
        check_state(daemon, "app", State({"idle": 5}, {"idle": 3}, **known))
    check_state(daemon, "app", State({}, {"idle": 3}, **known))


def test_clients_that_have_not_logged_in(pool_of):
    daemon = pool_of()
    with WireClient.app(daemon.port), WireClient(daemon.port) as silent:
        silent.send(startup({"user": "app"})[:5])
        check_state(daemon, "app", State({"idle": 1, "login": 1}, {"idle": 1}))


def test_dialing(pool_of, postgres: PostgreSQL):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        daemon = pool_of(silent.getsockname()[1], connect_timeout="60s")
        with WireClient(daemon.port) as client:
            client.send(startup({"user": "app", "database": "app"}))
            check_state(daemon, "app", State({"waiting": 1}, {"dialing": 1}, is_new=True))
            row = command(daemon, "SHOW SERVERS")[0]
            assert (row["addr"], row["remote_pid"], row["link"]) == (None, 0, "")


def test_tested_and_closing(pool_of, postgres: PostgreSQL):
    with Relay(postgres.port) as relay:
        daemon = pool_of(relay.port, pool_size=1, pool_pre_ping=True, pre_ping_idle=0, pre_ping_timeout="3s",
                         close_timeout="60s")
        with WireClient.app(daemon.port) as client:
            relay.stop()
            client.send(query("select 1"))
            check_state(daemon, "app", State({"waiting": 1}, {"testing": 1}, size=1))
            check_state(daemon, "app", State({"waiting": 1}, {"closing": 1}, size=1))
            relay.cut()
            client.until_ready()
            check_state(daemon, "app", State({"idle": 1}, {"idle": 1}, size=1))


def test_resetting(pool_of, postgres: PostgreSQL):
    with Relay(postgres.port) as relay:
        daemon = pool_of(relay.port, cancel_timeout="60s")
        with WireClient.app(daemon.port) as client:
            client.ask(query("begin"))
            relay.stop()
        check_state(daemon, "app", State({}, {"resetting": 1}))
        relay.resume()
        check_state(daemon, "app", State({}, {"idle": 1}))


def test_pinned(pool_of):
    daemon = pool_of()
    with WireClient.app(daemon.port) as client:
        client.ask(parse("select 1"), SYNC)
        check_state(daemon, "app", State({"active": 1}, {"active": 1}, pinned=1))
        client.ask(bind(), execute(), SYNC)
        check_state(daemon, "app", State({"idle": 1}, {"idle": 1}))


@pytest.mark.parametrize("name", ["", "app"])
def test_paused(pool_of, name: str):
    daemon = pool_of()
    with WireClient.app(daemon.port) as client:
        client.ask(query("select 1"))
        command(daemon, f"PAUSE {name}")
        check_state(daemon, "app", State({"idle": 1}, {}, paused=True))
        assert Scrape(daemon)("lifeguard_paused") == (name == "")
        client.send(query("select 2"))
        check_state(daemon, "app", State({"waiting": 1}, {}, paused=True))
        command(daemon, f"RESUME {name}")
        client.until_ready()
        check_state(daemon, "app", State({"idle": 1}, {"idle": 1}))


def test_outage(pool_of, own_postgres: PostgreSQL):
    daemon = pool_of(own_postgres.port, pool_timeout="60s")
    with WireClient.app(daemon.port) as client:
        own_postgres.stop()
        client.send(query("select 1"))
        wait_until(lambda: Scrape(daemon).pool(Account(daemon, "app"), "standing", standing="outage") == 1, "an outage")
        status = json.loads(daemon.http("/api/status")[1])["pools"][0]
        assert (status["standing"], status["waiting"], status["idle"]) == ("outage", 1, 0)
        assert "refused" in status["last_error"]
        own_postgres.start()
        client.until_ready()
        check_state(daemon, "app", State({"idle": 1}, {"idle": 1}))


def test_when_a_client_connected_and_when_its_last_request_came(pool_of):
    daemon = pool_of()

    def shown() -> dict[str, str | None]:
        row = command(daemon, "SHOW CLIENTS")[0]
        return {name: row[name] for name in ("connect_time", "request_time")}

    def text(moment: float) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))

    began = time.time()
    with WireClient.app(daemon.port) as client:
        connected = time.time()
        assert text(began) <= shown()["connect_time"] <= text(connected)
        assert shown()["request_time"] is None
        sent = time.time()
        client.ask(query("select pg_sleep(2)"))
        assert text(sent) <= shown()["request_time"] <= text(sent + 0.5)


def test_what_concerns_the_whole_daemon(pool_of):
    began = time.time()
    daemon = pool_of()
    ready = time.time()
    scrape = Scrape(daemon)
    state = {row["key"]: row["value"] for row in command(daemon, "SHOW STATE")}
    assert scrape("lifeguard_build_info", version=state["version"], event_loop=state["event_loop"]) == 1
    assert command(daemon, "SHOW VERSION")[0]["version"].endswith(state["version"])
    assert scrape("lifeguard_workers") == int(state["workers"]) == WORKERS
    assert scrape("lifeguard_max_client_connections") == int(state["max_clients"]) == 10000
    assert (scrape("lifeguard_paused"), scrape("lifeguard_draining")) == (0, 0)
    assert began - 0.1 <= scrape("process_start_time_seconds") <= ready
    assert 0 <= scrape("lifeguard_uptime_seconds") <= time.time() - began + 0.1
    assert scrape("lifeguard_client_connections") == scrape("lifeguard_login_client_connections") == 0
    compare_process(daemon, scrape)
    command(daemon, "PAUSE")
    assert Scrape(daemon)("lifeguard_paused") == 1
    command(daemon, "RESUME")
    with WireClient.app(daemon.port) as client:
        client.ask(query("begin"))
        daemon.terminate()
        wait_until(lambda: Scrape(daemon)("lifeguard_draining") == 1, "it drains")
        client.ask(query("commit"))


def compare_process(daemon: Lifeguard, scrape: Scrape) -> None:
    """The kernel's numbers, which change a little from moment to moment."""
    folder = Path(f"/proc/{daemon.pid}")
    assert abs(scrape("process_resident_memory_bytes") - resident_bytes(daemon.pid)) < 8e6
    virtual = int(re.search(r"VmSize:\s+(\d+)", (folder / "status").read_text())[1]) * 1024
    assert abs(scrape("process_virtual_memory_bytes") - virtual) < 300e6
    assert abs(scrape("process_cpu_seconds_total") - cpu_seconds(daemon.pid)) < 1
    assert abs(scrape("process_open_fds") - len(list((folder / "fd").iterdir()))) <= 4
    limit = int(re.search(r"Max open files\s+(\d+)", (folder / "limits").read_text())[1])
    assert scrape("process_max_fds") == limit - 32, "the last ones are no client's"
