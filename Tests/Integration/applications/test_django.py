"""Django with its defaults, with persistent connections, and with psycopg's pool in it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from kit.daemon import Lifeguard
from kit.processes import run

PROJECT = Path(__file__).with_name("django_project.py")

#: What DATABASES has besides the address. Server-side binding uses the extended protocol and prepared statements.
OPTIONS = {
    "as it comes": {},
    "persistent": {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True},
    "server-side binding": {"CONN_MAX_AGE": 600, "OPTIONS": {"server_side_binding": True, "prepare_threshold": 0}},
}


def django(daemon: Lifeguard, task: str, options: dict) -> None:
    """Runs a task of the project to its end."""
    run([sys.executable, PROJECT, task], env={
        **os.environ, "PORT": str(daemon.port), "OPTIONS": json.dumps(options)})


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("task", ["orm", "transactions", "logins", "threads"])
def test_django(service: Lifeguard, task: str, options: str):
    django(service, task, OPTIONS[options])


def test_django_streams_without_server_side_cursors(service: Lifeguard):
    django(service, "streams", {"DISABLE_SERVER_SIDE_CURSORS": True})
