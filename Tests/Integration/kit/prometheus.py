"""Prometheus' promtool, and what queries are made of."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from .processes import run

_ROOT = Path(__file__).resolve().parents[3]
PROMTOOL = _ROOT / ".run/deps/usr/bin/promtool"
RULES = _ROOT / "deploy/prometheus/lifeguard.rules.yml"
RULE_TESTS = _ROOT / "deploy/prometheus/lifeguard.rules.test.yml"
DASHBOARD = _ROOT / "deploy/grafana/lifeguard.json"

#: Labels and metrics that Prometheus itself adds to what it scrapes.
ADDED_LABELS = {"job", "instance"}
ADDED_METRICS = {"up"}

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_METRIC = re.compile(r"\b(up|(?:lifeguard|process)_\w+)")
_MATCHERS = re.compile(r"\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def promtool(*arguments: str | Path, input: str = "", check: bool = True) -> subprocess.CompletedProcess:
    """Runs promtool to its end."""
    assert PROMTOOL.exists(), f"{PROMTOOL} is missing; `make deps` unpacks it"
    return run([PROMTOOL, *arguments], input=input, check=check)


def metrics_of(query: str) -> set[str]:
    """The names of the metrics that a query reads."""
    return set(_METRIC.findall(_STRING.sub('""', query)))


def labels_of(query: str) -> set[str]:
    """The names of the labels that a query matches or groups by."""
    bare = _STRING.sub('""', query)
    names = {matcher.split("=")[0].rstrip("!~ ").strip() for part in _MATCHERS.findall(bare)
             for matcher in part.split(",")}
    names |= {name.strip() for part in _GROUPING.findall(bare) for name in part.split(",")}
    return names - {""}
