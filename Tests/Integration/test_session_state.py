"""Settings follow the client through a pool of shared connections."""

from __future__ import annotations

import os

import psycopg
import pytest

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import run
from kit.wire import Closed, WireClient, error, query, startup

FOLLOWING = {
    "application_name": ("first app", "second app"),
    "TimeZone": ("Europe/Berlin", "Asia/Tokyo"),
    "DateStyle": ("German, DMY", "SQL, MDY"),
    "client_encoding": ("LATIN1", "UTF8"),
    "IntervalStyle": ("iso_8601", "sql_standard"),
    "search_path": ("pg_catalog", "information_schema"),
    "extra_float_digits": ("0", "2"),
    "statement_timeout": ("5s", "7s"),
}


@pytest.fixture
def one(lifeguard) -> Lifeguard:
    """A daemon with a single server connection, so that every other client leaves its traces on it."""
    return lifeguard(pool={"pool_size": 1, "max_overflow": 0})


@pytest.mark.parametrize("name", FOLLOWING)
def test_startup_parameters_follow_the_client(one: Lifeguard, name: str):
    values = FOLLOWING[name]
    with (WireClient.app(one.port, **{name: values[0]}) as first,
          WireClient.app(one.port, **{name: values[1]}) as second,
          WireClient.app(one.port) as plain):
        default = plain.rows(f"show {name}")
        for _ in range(3):
            assert first.rows(f"show {name}") == [[values[0]]]
            assert second.rows(f"show {name}") == [[values[1]]]
            assert plain.rows(f"show {name}") == default


@pytest.mark.parametrize("name", ["application_name", "TimeZone", "DateStyle", "client_encoding", "IntervalStyle"])
def test_reported_settings_that_are_set_follow_the_client(one: Lifeguard, name: str):
    values = FOLLOWING[name]
    with WireClient.app(one.port) as first, WireClient.app(one.port) as second, WireClient.app(one.port) as plain:
        default = plain.rows(f"show {name}")
        first.rows(f"set {name} = {literal(name, values[0])}")
        second.rows(f"set {name} = {literal(name, values[1])}")
        for _ in range(3):
            assert first.rows(f"show {name}") == [[values[0]]]
            assert second.rows(f"show {name}") == [[values[1]]]
            assert plain.rows(f"show {name}") == default
        first.rows(f"reset {name}")
        assert first.rows(f"show {name}") == default


def literal(name: str, value: str) -> str:
    return value if name == "DateStyle" else f"'{value}'"


def test_what_a_rollback_takes_back_does_not_follow(one: Lifeguard):
    with WireClient.app(one.port, application_name="start") as client, WireClient.app(one.port) as other:
        client.ask(query("begin"))
        client.ask(query("set application_name = 'rolled back'"))
        client.ask(query("rollback"))
        other.rows("select 1")
        assert client.rows("show application_name") == [["start"]]
        client.ask(query("begin; set local application_name = 'local'; commit"))
        other.rows("select 1")
        assert client.rows("show application_name") == [["start"]]


def test_options_of_the_command_line_follow_the_client(one: Lifeguard):
    environment = {"PGOPTIONS": "-c search_path=pg_catalog -c statement_timeout=3s --work-mem=5MB"}
    with WireClient.app(one.port) as other:
        out = run(["psql", "-X", "-A", "-t", "-d", one.conninfo(), "-c", "show search_path", "-c",
                   "show statement_timeout", "-c", "show work_mem"], env={**os.environ, **environment}).stdout
        assert out == "pg_catalog\n3s\n5MB\n"
        assert other.rows("show search_path") == [['"$user", public']]


def test_parameters_of_any_name_are_accepted(one: Lifeguard):
    with WireClient.app(one.port, **{"myapp.tenant": "seven", "geqo": "off"}) as client:
        assert client.rows("show myapp.tenant") == [["seven"]]
        assert client.rows("show geqo") == [["off"]]
    assert one.psql("select current_setting('myapp.tenant', true)").stdout in ("\n", "")


@pytest.mark.parametrize("name, value, words", [
    ("no_such_parameter", "1", "no_such_parameter"),
    ("DateStyle", "nonsense", "DateStyle"),
    ("shared_buffers", "1MB", "shared_buffers"),
])
def test_a_parameter_that_postgresql_would_refuse_is_refused_by_name(
        one: Lifeguard, postgres: PostgreSQL, name: str, value: str, words: str):
    texts = []
    for port in (postgres.port, one.port):
        with WireClient(port) as client:
            client.send(startup({"user": "app", "database": "app", name: value}))
            try:
                answer = client.until_ready()
                if all(message.kind != "E" for message in answer):
                    answer = client.ask(query("select 1"))
            except Closed:
                pytest.fail("a refusal has words")
            texts.append(error(answer))
    assert words in texts[0]["M"] and words in texts[1]["M"]
    assert one.psql("select 1").stdout == "1\n"


def test_parameter_status_says_what_the_client_set(one: Lifeguard):
    with WireClient.app(one.port, TimeZone="Asia/Tokyo", application_name="mine") as client:
        assert client.parameters["TimeZone"] == "Asia/Tokyo"
        assert client.parameters["application_name"] == "mine"
        answer = client.ask(query("set TimeZone = 'Europe/Paris'"))
        assert any(message.kind == "S" and message.payload == b"TimeZone\0Europe/Paris\0" for message in answer)


def test_drivers_keep_their_encoding_and_zone(lifeguard):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    connections = [psycopg.connect(daemon.conninfo(options=f"-c TimeZone={zone}"), autocommit=True,
                                   prepare_threshold=None)
                   for zone in ("Asia/Tokyo", "Europe/Berlin", "America/New_York", "UTC")]
    for _ in range(20):
        hours = [connection.execute("select extract(hour from timestamptz '2026-01-01 12:00+00')::int").fetchone()[0]
                 for connection in connections]
        assert hours == [21, 13, 7, 12]
    for connection in connections:
        connection.close()


def test_application_name_is_seen_in_pg_stat_activity(one: Lifeguard, postgres: PostgreSQL):
    with (WireClient.app(one.port, application_name="left") as left,
          WireClient.app(one.port, application_name="right") as right):
        for client, name in ((left, "left"), (right, "right")) * 2:
            client.ask(query("begin"))
            seen = postgres.psql("select application_name from pg_stat_activity where usename = 'app'")
            assert seen == name
            client.ask(query("commit"))
