"""Metrics, alert rules and the dashboard belong together: what they name, a real scrape has."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.prometheus import (
    ADDED_LABELS, ADDED_METRICS, DASHBOARD, RULE_TESTS, RULES, labels_of, metrics_of, promtool)
from kit.wire import WireClient, query, startup

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/monitoring.md"


@pytest.fixture
def busy(lifeguard) -> Iterator[Lifeguard]:
    """A daemon in whose pool everything there is has happened: work, waiting, a time-out."""
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pool_timeout": "100ms", "pre_ping_idle": "0s"})
    with WireClient.app(daemon.port) as holder, WireClient.app(daemon.port) as other:
        holder.ask(query("begin"))
        holder.ask(query("select 1"))
        assert "timed out" in str(other.ask(query("select 1")))
        holder.ask(query("commit"))
        other.ask(query("select 1"))
        yield daemon


def samples(text: str) -> dict[str, set[str]]:
    """The names of the labels of each metric of a scrape; histograms also by `_bucket`, `_sum` and `_count`."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name = re.match(r"\w+", line).group()
            found.setdefault(name, set()).update(re.findall(r'[{,](\w+)="', line))
    return found


def queries_of_rules() -> dict[str, str]:
    """The expression of each alert by its name, folded lines joined."""
    rules = re.split(r"- alert: ", RULES.read_text())[1:]
    return {re.match(r"\w+", rule).group(): re.search(r"expr: (?:>-\n)?(.*?)\n +(?:for|labels):", rule, re.S).group(1)
            for rule in rules}


def queries_of_dashboard() -> list[str]:
    """All expressions of panels, annotations and variables."""
    found = []

    def look(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("expr", "definition"):
                    found.append(value)
                look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    look(json.loads(DASHBOARD.read_text()))
    return found


def check_against(scraped: dict[str, set[str]], expression: str) -> None:
    metrics = metrics_of(expression)
    assert metrics, f"no metric in: {expression}"
    unknown = metrics - scraped.keys() - ADDED_METRICS
    assert not unknown, f"{unknown} are not scraped: {expression}"
    known = ADDED_LABELS.union(*(scraped.get(name, set()) for name in metrics))
    assert labels_of(expression) <= known, f"{labels_of(expression) - known} are no labels: {expression}"


def test_promtool_has_nothing_to_say_about_the_metrics(busy: Lifeguard):
    checked = promtool("check", "metrics", input=busy.http("/metrics")[1])
    assert checked.stdout == "" and checked.stderr == ""


def test_the_alert_rules_do_what_they_promise():
    done = promtool("test", "rules", RULE_TESTS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = re.findall(r"- alertname: (\w+)\n", RULE_TESTS.read_text())
    assert sorted(set(tested)) == sorted(queries_of_rules()), "each alert has a test in which it comes"


def test_the_rules_and_the_dashboard_ask_for_what_a_scrape_has(busy: Lifeguard):
    # Only a standby has these.
    scraped = samples(busy.http("/metrics")[1]) | {f"lifeguard_host_lag_{unit}": {"host"} for unit in ("bytes", "seconds")}
    rules, dashboard = queries_of_rules(), queries_of_dashboard()
    assert len(rules) >= 10 and len(dashboard) >= 25
    for expression in [*rules.values(), *dashboard]:
        check_against(scraped, expression)


def test_the_dashboard_explains_lines_by_labels_that_its_queries_keep():
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = labels_of(" ".join(re.findall(r"by \([^)]*\)", target["expr"])))
            assert named <= kept | ADDED_LABELS, f'{panel["title"]}: {target["legendFormat"]}'


def test_the_document_names_every_metric_and_every_alert(busy: Lifeguard):
    text = DOCUMENT.read_text()
    families = re.findall(r"^# TYPE (\w+) ", busy.http("/metrics")[1], re.M)
    assert len(families) > 40
    missing = [name for name in [*families, *queries_of_rules()] if f"`{name}`" not in text]
    assert not missing, f"docs/monitoring.md does not explain {missing}"


def test_names_that_clients_make_up_do_not_make_the_metrics_grow(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(**{'databases."*"': {"upstream": postgres.conninfo(user=None, database="app")}})
    daemon.psql("select 1")

    def make_pools(first: int) -> None:
        for number in range(first, first + 175):
            with WireClient(daemon.port) as client:
                client.send(startup({"user": f"nobody{number}", "database": "app"}))
                client.is_closed()

    threads = [threading.Thread(target=make_pools, args=(first,)) for first in range(0, 700, 175)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sizes = [name for name in daemon.metrics() if name.startswith("lifeguard_pool_size{")]
    assert 400 < len(sizes) <= 501
    # The one pool that works is among those with a name.
    assert 'lifeguard_pool_size{database="app",user="app"}' in sizes
    assert promtool("check", "metrics", input=daemon.http("/metrics")[1]).stdout == ""
