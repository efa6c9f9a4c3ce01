"""Every place that shows a number: compared with the account of a load, or with a state that is known."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .account import DURATIONS, SLACK, USUAL_SLACK, Account, until_equal
from .admin import command
from .daemon import Lifeguard

# MARK: counters and durations

#: Counters that SHOW STATS has too: their names in /metrics, in SHOW STATS, in SHOW STATS_TOTALS and in SHOW TOTALS.
IN_STATS = {
    "server_assignments": ("total_server_assignment_count", "server_assignment_count", "total_server_assignment_count"),
    "transactions": ("total_xact_count", "xact_count", "total_xact_count"),
    "queries": ("total_query_count", "query_count", "total_query_count"),
    "received_bytes": ("total_received", "bytes_received", "total_client_bytes"),
    "sent_bytes": ("total_sent", "bytes_sent", "total_server_bytes"),
    "client_parses": ("total_client_parse_count", "client_parse_count", "total_client_parse_count"),
    "server_parses": ("total_server_parse_count", "server_parse_count", "total_server_parse_count"),
    "binds": ("total_bind_count", "bind_count", "total_bind_count"),
    "client_logins": ("total_client_login_count", "client_login_count", "total_client_login_count"),
}

#: Durations that SHOW STATS has too, in microseconds.
TIMES_IN_STATS = {
    "transaction": ("total_xact_time", "xact_time", "total_xact_time"),
    "query": ("total_query_time", "query_time", "total_query_time"),
    "wait": ("total_wait_time", "wait_time", "total_wait_time"),
}

#: Counters that only /metrics has, and some of them the status page.
OTHER_COUNTERS = (
    "connects", "connect_failures", "checkouts", "checkins", "invalidations", "recycles", "overflow_dials",
    "overflow_closes", "timeouts", "limits_exceeded/query_timeout", "limits_exceeded/transaction_timeout",
    "limits_exceeded/idle_transaction_timeout", "limits_exceeded/client_idle_timeout", "read_fallbacks/lag", "read_fallbacks/unreachable",
    "read_fallbacks/role", "read_fallbacks/timeout", "read_fallbacks/rejected", "pings/ok", "pings/failed",
    "pings/timed_out", "checkout_proofs/recent",
    "checkout_proofs/ping", "checkout_proofs/dial", "idle_losses", "cancels", "settings_applied",
    "settings_confirmed", "session_inspections", "session_scrubs", "statement_heals",
    "shard_permits", "shard_connections",
)
COUNTERS = (*IN_STATS, *OTHER_COUNTERS)
IN_STATUS = ("transactions", "queries", "timeouts", "connect_failures")

#: What `check_state` compares.
GAUGES = ("clients", "server_connections", "pinned_server_connections", "pins", "size", "max_overflow", "overflow", "paused",
          "standing", "round_trip_seconds", "max_wait_seconds")

#: What concerns no pool.
OF_THE_DAEMON = (
    "lifeguard_build_info", "lifeguard_uptime_seconds", "lifeguard_workers", "lifeguard_client_connections",
    "lifeguard_login_client_connections", "lifeguard_max_client_connections", "lifeguard_paused", "lifeguard_draining",
    "lifeguard_host_state", "lifeguard_host_breaker", "lifeguard_host_role", "lifeguard_host_probes_total",
    "process_cpu_seconds_total", "process_start_time_seconds", "process_resident_memory_bytes",
    "process_virtual_memory_bytes", "process_open_fds", "process_max_fds",
)


class Scrape:
    """One answer of /metrics."""

    def __init__(self, daemon: Lifeguard) -> None:
        text = daemon.http("/metrics")[1]
        self.families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
        self._samples: dict[tuple[str, frozenset], float] = {}
        for name, labels, value in re.findall(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$", text, re.M):
            self._samples[name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))] = float(value)

    def __call__(self, name: str, **labels: str) -> float:
        """A sample; NaN, which equals nothing, where there is none."""
        return self._samples.get((name, frozenset(labels.items())), float("nan"))

    def pool(self, account: Account, name: str, **labels: str) -> float:
        return self("lifeguard_pool_" + name, database=account.database, user=account.user, **labels)

    def buckets(self, account: Account, name: str) -> list[tuple[float, float]]:
        """The bounds of a histogram, from the smallest on, and how many durations were at most so long."""
        own = {("database", account.database), ("user", account.user)}
        found = [(float(dict(labels)["le"]), value) for (sample, labels), value in self._samples.items()
                 if sample == f"lifeguard_pool_{name}_seconds_bucket" and own < labels]
        return sorted(found)


def differences(daemon: Lifeguard, accounts: list[Account]) -> list[str]:
    """Where the daemon's counters and durations are not what was done."""
    found: list[str] = []

    def expect(where: str, shown: Any, expected: Any) -> None:
        if shown != expected:
            found.append(f"{where}: {shown}, but {expected} is true")

    before = Scrape(daemon)
    status = json.loads(daemon.http("/api/status")[1])
    for account in accounts:
        compare_metrics(before, account, expect)
        compare_status(status, account, expect)
    compare_stats(daemon, accounts, before, expect)
    return found


def compare_metrics(scrape: Scrape, account: Account, expect: Callable) -> None:
    label, counts = f"{account.database}/{account.user}", account.counts
    assert set(counts) <= set(COUNTERS), set(counts) - set(COUNTERS)
    for name in COUNTERS:
        family, _, part = name.partition("/")
        labels = {"checkout_proofs": "proof", "limits_exceeded": "limit", "read_fallbacks": "reason"}
        label_name = labels.get(family, "outcome")
        shown = scrape.pool(account, f"{family}_total", **({label_name: part} if part else {}))
        expect(f"{label} {name}", shown, counts[name])
    expect(f"{label} checkouts - checkins",
           scrape.pool(account, "checkouts_total") - scrape.pool(account, "checkins_total"), account.holding)
    open_now = sum(scrape.pool(account, "server_connections", state=name) for name in SERVER_STATES)
    closed = sum(scrape.pool(account, f"{name}_total") for name in ("recycles", "overflow_closes", "invalidations"))
    expect(f"{label} connects - all that was closed", scrape.pool(account, "connects_total") - closed, open_now)
    for name in DURATIONS:
        spans = account.durations[name]
        shown = scrape.pool(account, f"{name}_seconds_sum")
        slack = SLACK + len(spans) * USUAL_SLACK
        low, high = sum(span[0] for span in spans) - slack, sum(span[1] for span in spans) + slack
        expect(f"{label} {name}: the count", scrape.pool(account, f"{name}_seconds_count"), len(spans))
        expect(f"{label} {name}: the sum {shown} is within {low:.3f} … {high:.3f}", low <= shown <= high, True)
        last = 0.0
        for bound, count in scrape.buckets(account, name):
            least = sum(span[1] + SLACK <= bound for span in spans)
            most = sum(span[0] - SLACK <= bound for span in spans)
            expect(f"{label} {name}: up to {bound} s there are {count:g}, from {least} to {most} and at least {last:g}",
                   max(least, last) <= count <= most, True)
            last = count
        expect(f"{label} {name}: the last bucket", scrape.buckets(account, name)[-1:], [(float("inf"), len(spans))])


def compare_status(status: dict, account: Account, expect: Callable) -> None:
    rows = [row for row in status["pools"] if (row["database"], row["user"]) == (account.database, account.user)]
    expect(f"/api/status has {account.database}/{account.user}", len(rows), 1)
    for row in rows:
        for name in IN_STATUS:
            expect(f"/api/status {account.database} {name}", row[name], account.counts[name])
        expect(f"/api/status {account.database} wait", sum(count for _, count in row["wait"]),
               len(account.durations["wait"]))


def compare_stats(daemon: Lifeguard, accounts: list[Account], scrape: Scrape, expect: Callable) -> None:
    """SHOW STATS adds up the pools of a database, SHOW TOTALS all of them."""
    stats = {row["database"]: row for row in command(daemon, "SHOW STATS")}
    plain = {row["database"]: row for row in command(daemon, "SHOW STATS_TOTALS")}
    totals = {row["name"]: row["value"] for row in command(daemon, "SHOW TOTALS")}
    databases = {account.database for account in accounts}
    expect("SHOW STATS: the databases", set(stats), databases)
    expect("SHOW STATS_TOTALS: the databases", set(plain), databases)
    sums: dict[str, Counter] = {name: Counter() for name in databases | {""}}
    for account in accounts:
        for name in IN_STATS:
            sums[account.database][name] += account.counts[name]
        for name in TIMES_IN_STATS:
            microseconds = round(scrape.pool(account, f"{name}_seconds_sum") * 1e6)
            sums[account.database][name] += microseconds
    for name in IN_STATS | TIMES_IN_STATS:
        in_stats, in_totals, in_all = (IN_STATS | TIMES_IN_STATS)[name]
        for database in databases & set(stats) & set(plain):
            expect(f"SHOW STATS {database} {in_stats}", stats[database][in_stats], sums[database][name])
            expect(f"SHOW STATS_TOTALS {database} {in_totals}", plain[database][in_totals], sums[database][name])
        expect(f"SHOW TOTALS {in_all}", totals[in_all], sum(sums[database][name] for database in databases))


# MARK: known states

#: The columns of SHOW POOLS that the states of server connections in SHOW SERVERS add up to.
POOLS_OF_SERVERS = {"sv_active": ("active",), "sv_idle": ("idle",), "sv_tested": ("testing", "resetting"),
                    "sv_login": ("dialing",), "sv_resetting": ("resetting",), "sv_closing": ("closing",)}
SERVER_STATES = ("active", "idle", "dialing", "testing", "resetting", "closing")
#: As SHOW SERVERS calls them.
SHOWN_STATES = {"dialing": "new", "testing": "tested", "resetting": "tested"}


@dataclass
class State:
    """What a pool looks like, in the words of /metrics. Clients: `active` (with a server connection), `idle`,
    `waiting`, `login` (not in the pool yet)."""

    clients: dict[str, int] = field(default_factory=dict)
    servers: dict[str, int] = field(default_factory=dict)
    pinned: int = 0
    paused: bool = False
    standing: str = "open"
    #: How long the first one has been waiting at least (s).
    waited: float = 0
    size: int = 5
    max_overflow: int = 0
    #: Nothing has been connected yet.
    is_new: bool = False

    @property
    def logged_in(self) -> int:
        return sum(self.clients.values()) - self.clients.get("login", 0)

    @property
    def overflow(self) -> int:
        return max(0, sum(self.servers.values()) - self.size)


def check_state(daemon: Lifeguard, database: str, state: State) -> None:
    """Compares every place that shows how a pool is; it is the only one of its daemon, and its only user is `app`."""
    until_equal(lambda: state_differences(daemon, database, state))


def state_differences(daemon: Lifeguard, database: str, state: State) -> list[str]:
    found: list[str] = []

    def expect(where: str, shown: Any, expected: Any) -> None:
        if shown != expected:
            found.append(f"{where}: {shown}, but {expected} is true")

    def one(what: str, **columns: str) -> dict[str, Any]:
        rows = [row for row in command(daemon, f"SHOW {what}") if all(row[key] == columns[key] for key in columns)]
        expect(f"SHOW {what} {columns}", len(rows), 1)
        return rows[0] if rows else {}

    compare_pool(one("POOLS", database=database, user="app"), state, expect)
    compare_connections(daemon, database, state, expect)
    row = one("DATABASES", name=database)
    for column, value in {"current_connections": sum(state.servers.values()), "paused": int(state.paused),
                          "current_client_connections": state.logged_in, "pool_size": state.size,
                          "max_overflow": state.max_overflow, "disabled": 0}.items():
        expect(f"SHOW DATABASES {column}", row.get(column), value)
    row = one("USERS", name="app")
    expect("SHOW USERS current_connections", row.get("current_connections"), sum(state.servers.values()))
    expect("SHOW USERS current_client_connections", row.get("current_client_connections"), state.logged_in)
    compare_lists(daemon, state, expect)
    compare_gauges(Scrape(daemon), Account(daemon, database), state, expect)
    compare_pages(daemon, database, state, expect)
    return found


def compare_pool(row: dict[str, Any], state: State, expect: Callable) -> None:
    columns = {name: sum(state.servers.get(part, 0) for part in parts) for name, parts in POOLS_OF_SERVERS.items()}
    columns |= {"cl_active": state.clients.get("active", 0) + state.clients.get("idle", 0),
                "cl_waiting": state.clients.get("waiting", 0), "sv_pinned": state.pinned, "paused": state.paused,
                "sv_total": sum(state.servers.values()), "overflow": state.overflow, "pool_size": state.size,
                "max_overflow": state.max_overflow}
    for name, value in columns.items():
        expect(f"SHOW POOLS {name}", row.get(name), value)
    if row:
        expect(f"SHOW POOLS maxwait {seconds(row, 'maxwait')}", is_wait(seconds(row, "maxwait"), state), True)


def seconds(row: dict[str, Any], name: str) -> float:
    return row[name] + row[f"{name}_us"] / 1e6


def is_wait(shown: float, state: State) -> bool:
    return state.waited <= shown < state.waited + 30 if state.clients.get("waiting") else shown == 0


def compare_connections(daemon: Lifeguard, database: str, state: State, expect: Callable) -> None:
    clients = [row for row in command(daemon, "SHOW CLIENTS") if row["database"] == database]
    expected = Counter(state.clients) - Counter(login=state.clients.get("login", 0))
    expect("SHOW CLIENTS states", Counter(row["state"] for row in clients), expected)
    expect("SHOW CLIENTS pinned", sum(row["pinned"] is not None for row in clients), state.pinned)
    for row in clients:
        if row["state"] == "waiting":
            expect(f"SHOW CLIENTS wait {seconds(row, 'wait')}", is_wait(seconds(row, "wait"), state), True)
        else:
            expect("SHOW CLIENTS wait", seconds(row, "wait"), 0)
    servers = [row for row in command(daemon, "SHOW SERVERS") if row["database"] == database]
    shown = Counter[str]()
    for name, count in state.servers.items():
        shown[SHOWN_STATES.get(name, name)] += count
    expect("SHOW SERVERS states", Counter(row["state"] for row in servers), +shown)
    links = {row["ptr"]: row["link"] for row in servers if row["link"]}
    expect("SHOW CLIENTS links", {row["link"]: row["ptr"] for row in clients if row["link"]}, links)
    expect("SHOW SERVERS links", len(links), state.servers.get("active", 0))
    sockets = command(daemon, "SHOW SOCKETS")
    expect("SHOW SOCKETS", Counter((row["type"], row["state"]) for row in sockets if row["database"] == database),
           Counter((row["type"], row["state"]) for row in clients + servers))


def compare_lists(daemon: Lifeguard, state: State, expect: Callable) -> None:
    lists = {row["list"]: row["items"] for row in command(daemon, "SHOW LISTS")}
    idle, total = state.servers.get("idle", 0), sum(state.servers.values())
    logging_in = state.clients.get("login", 0) + (state.logged_in if state.is_new else 0)
    for name, value in {"databases": 1, "pools": 1, "free_servers": idle, "used_servers": total - idle,
                        "used_clients": sum(state.clients.values()), "login_clients": logging_in}.items():
        expect(f"SHOW LISTS {name}", lists[name], value)
    maximum = {row["key"]: row["value"] for row in command(daemon, "SHOW STATE")}["max_clients"]
    expect("SHOW LISTS free_clients", lists["free_clients"], int(maximum) - sum(state.clients.values()))
    memory = {row["name"]: row["used"] for row in command(daemon, "SHOW MEM")}
    expect("SHOW MEM client", memory["client"], sum(state.clients.values()))
    expect("SHOW MEM server", memory["server"], total - state.servers.get("dialing", 0))
    expect("SHOW MEM pool", memory["pool"], 1)


def compare_gauges(scrape: Scrape, account: Account, state: State, expect: Callable) -> None:
    def gauge(name: str, value: float, **labels: str) -> None:
        expect(f"/metrics {name} {labels}", scrape.pool(account, name, **labels), value)

    gauge("clients", state.clients.get("active", 0) + state.clients.get("idle", 0), state="active")
    gauge("clients", state.clients.get("waiting", 0), state="waiting")
    for name in SERVER_STATES:
        gauge("server_connections", state.servers.get(name, 0), state=name)
    gauge("pinned_server_connections", state.pinned)
    gauge("size", state.size)
    gauge("max_overflow", state.max_overflow)
    gauge("overflow", state.overflow)
    gauge("paused", state.paused)
    for name in ("open", "exhausted", "outage", "rejected"):
        gauge("standing", state.standing == name, standing=name)
    waited = scrape.pool(account, "max_wait_seconds")
    expect(f"/metrics max_wait_seconds {waited}", is_wait(waited, state), True)
    expect("/metrics client_connections", scrape("lifeguard_client_connections"), sum(state.clients.values()))
    expect("/metrics login_client_connections", scrape("lifeguard_login_client_connections"),
           state.clients.get("login", 0) + (state.logged_in if state.is_new else 0))
    round_trip = scrape.pool(account, "round_trip_seconds")
    expect(f"/metrics round_trip_seconds {round_trip}", 0 < round_trip < 1, not state.is_new)


def compare_pages(daemon: Lifeguard, database: str, state: State, expect: Callable) -> None:
    status = json.loads(daemon.http("/api/status")[1])
    expect("/api/status clients", status["clients"], sum(state.clients.values()))
    health = json.loads(daemon.http(f"/health/{database}")[1])
    held = sum(state.servers.get(name, 0) for name in ("active", "testing", "resetting"))
    for row in status["pools"]:
        for name, value in {
            "clients": state.logged_in, "waiting": state.clients.get("waiting", 0), "checked_out": held,
            "idle": state.servers.get("idle", 0), "dialing": state.servers.get("dialing", 0),
            "closing": state.servers.get("closing", 0), "pinned": state.pinned, "overflow": state.overflow,
            "pool_size": state.size, "max_overflow": state.max_overflow, "paused": state.paused,
            "standing": state.standing,
        }.items():
            expect(f"/api/status {name}", row[name], value)
        expect(f"/api/status max_wait_us {row['max_wait_us']}", is_wait(row["max_wait_us"] / 1e6, state), True)
        expect(f"/api/status latency_us {row['latency_us']}", bool(row["latency_us"]), not state.is_new)
    expect(f"/health latency_ms {health['latency_ms']}", bool(health["latency_ms"]), not state.is_new)
    for name, value in {"pool_size": state.size, "pool_checked_out": held, "overflow": state.overflow,
                        "waiting": state.clients.get("waiting", 0)}.items():
        expect(f"/health {name}", health[name], value)
    status_word = "unknown" if state.is_new else "healthy"
    expect("/health status", health["status"], "unhealthy" if state.standing == "outage" else status_word)
