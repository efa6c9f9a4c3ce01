"""The rules of session state in transaction mode: limits, policies, hand-over, and what no text shows."""

from __future__ import annotations

import itertools
import random
import threading

import psycopg
import pytest

from kit.admin import command
from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.waiting import wait_until
from kit.wire import SYNC, WireClient, bind, error, execute, function_call, parse, query

LOCKS = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
TENANT = "select nullif(current_setting('app.tenant', true), '')"


@pytest.fixture
def one(lifeguard) -> Lifeguard:
    return lifeguard(pool={"pool_size": 1, "max_overflow": 0})


@pytest.fixture
def two(lifeguard) -> Lifeguard:
    return lifeguard(pool={"pool_size": 2, "max_overflow": 0, "max_pinned": 1})


@pytest.fixture(scope="session", autouse=True)
def objects(postgres: PostgreSQL) -> None:
    postgres.psql("""
        create schema rules; grant all on schema rules to app; set search_path = rules;
        create function login_tenant(name text) returns void language plpgsql as
            $$ begin perform set_config('app.tenant', name, false); perform pg_advisory_lock(77); end $$;
        create function move_to(zone text) returns void language plpgsql as
            $$ begin perform set_config('TimeZone', zone, false); end $$;
        create table numbers (n serial, text text); grant all on numbers to app; grant all on numbers_n_seq to app;
        create sequence mine; grant all on mine to app""")


def reasons(daemon: Lifeguard) -> list[str]:
    return [row["reason"] for row in command(daemon, "SHOW PINS")]


def counter(daemon: Lifeguard, name: str) -> float:
    return sum(value for key, value in daemon.metrics().items() if key.startswith(f"lifeguard_pool_{name}_total{{"))


def run(client: WireClient, sql: str) -> list:
    """By the extended protocol."""
    return client.ask(parse(sql) + bind() + execute() + SYNC)


def as_superuser(server: PostgreSQL) -> dict:
    """Settings for a pool whose connections are a superuser's."""
    return {"databases.app": {"upstream": server.superuser()}}


def code(answer: list) -> str:
    return error(answer)["C"]


# MARK: policies


PINNING = ["create temp table mine (n int)", "select 1 as n into temp mine", "listen mine",
           "select pg_advisory_lock(3)", "declare c cursor with hold for select 1", "prepare mine as select 1",
           "load 'auto_explain'"]


@pytest.mark.parametrize("sql", PINNING)
@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_what_would_pin_is_rejected_by_name_where_that_is_wanted(lifeguard, sql: str, protocol: str):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0, "session_state": "reject"})
    numbers = itertools.count()
    with WireClient.app(daemon.port) as client:
        send = {"simple": lambda: client.ask(query(sql)), "extended": lambda: run(client, sql),
                "prepared": lambda: client.ask(parse(sql, name := f"s{next(numbers)}") + bind(statement=name) + execute()
                                               + SYNC)}[protocol]
        fields = error(send())
        assert fields["C"] == "0A000" and fields["M"].startswith('pool "app/app" rejects session state')
        assert fields["D"].startswith(f"Statement: {sql}")
        client.ask(query("begin"))
        assert error(send())["C"] == "0A000"
        assert code(client.ask(query("select 1"))) == "25P02"
        client.ask(query("rollback"))
        assert client.rows("select 1") == [["1"]]
        client.ask(query("set app.tenant = '1'"))
        assert client.rows(TENANT) == [["1"]]
    assert reasons(daemon) == []


@pytest.mark.parametrize("sql", ["create temp table mine (n int)", "select pg_advisory_lock(3)", "listen mine"])
def test_what_would_pin_is_neither_kept_nor_left_to_others_where_it_is_ignored(lifeguard, sql: str):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "session_state": "ignore"})
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        client.ask(query(sql))
        assert reasons(daemon) == []
        assert other.rows(LOCKS) == [["0"]]
        assert other.rows("select count(*) from pg_class where relnamespace = pg_my_temp_schema()") == [["0"]]
        assert other.rows("select pg_listening_channels()") == []


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_a_pin_beyond_max_pinned_is_refused_with_its_reason(two: Lifeguard, protocol: str):
    with WireClient.app(two.port) as first, WireClient.app(two.port) as second:
        first.ask(query("select pg_advisory_lock(1)"))
        wait_until(lambda: reasons(two) == ["advisory lock"], "the pin")
        sql = "create temp table mine (n int)"
        fields = error(second.ask(query(sql)) if protocol == "simple" else run(second, sql))
        assert fields["C"] == "53300" and "max_pinned 1" in fields["M"] and "temporary table" in fields["M"]
        assert fields["D"].startswith(f"Statement: {sql}")
        second.ask(query("begin; create temp table mine (n int) on commit drop; commit"))
        assert second.rows("select 1") == [["1"]]
        first.ask(query("listen too; select pg_advisory_lock(2)"))
        wait_until(lambda: reasons(two) == ["LISTEN, advisory lock"], "what is pinned already may pin more")
        first.ask(query("unlisten *; select pg_advisory_unlock_all()"))
        wait_until(lambda: reasons(two) == [], "the end of the pin")
        assert not any(message.kind == "E" for message in second.ask(query(sql)))


def test_a_time_out_says_that_connections_are_pinned(lifeguard):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0, "max_pinned": 1, "pool_timeout": 0.2})
    with (WireClient.app(daemon.port) as first, WireClient.app(daemon.port) as second,
          WireClient.app(daemon.port) as third):
        first.ask(query("listen mine"))
        wait_until(lambda: reasons(daemon) == ["LISTEN"], "the pin")
        second.ask(query("begin"))
        fields = error(third.ask(query("select 1")))
        assert fields["C"] == "53300" and "timeout" in fields["M"]
        assert "1 of at most 2 server connections are pinned" in fields["D"]


def test_pins_are_counted_by_reason(two: Lifeguard):
    with WireClient.app(two.port) as client:
        client.ask(query("create temp table mine (n int); listen mine"))
        wait_until(lambda: reasons(two) == ["temporary table, LISTEN"], "the pin")
        metrics = two.metrics()
        for reason, count in (("temporary table", 1), ("LISTEN", 1), ("advisory lock", 0)):
            assert metrics[f'lifeguard_pool_pins{{database="app",user="app",reason="{reason}"}}'] == count
        row = command(two, "SHOW PINS")[0]
        assert row["statement"] == "create temp table mine (n int); listen mine" and row["age_us"] >= 0
        assert command(two, "SHOW POOLS")[0]["sv_pinned"] == 1


# MARK: LISTEN


def test_notifications_reach_an_idle_listener_and_nobody_else(two: Lifeguard, postgres: PostgreSQL):
    with psycopg.connect(two.conninfo(), autocommit=True) as listener, WireClient.app(two.port) as other:
        listener.execute("listen news")
        for number in range(5):
            other.ask(query(f"notify news, 'number {number}'"))
            notice = next(listener.notifies(timeout=5))
            assert (notice.channel, notice.payload) == ("news", f"number {number}")
        listener.execute("notify news, 'own'")
        assert [notice.payload for notice in listener.notifies(timeout=5, stop_after=1)] == ["own"]
        listener.execute("unlisten news")
        wait_until(lambda: reasons(two) == [], "the end of the pin")
        listener.execute("select 1")
        postgres.psql("notify news, 'nobody'")
        assert all(message.kind != "A" for message in other.ask(query("select 1")))


def test_what_the_server_would_not_tell_keeps_its_client_until_it_tells(two: Lifeguard, postgres: PostgreSQL):
    postgres.psql("revoke execute on function pg_listening_channels() from public")
    with WireClient.app(two.port) as listener, WireClient.app(two.port) as other:
        pid = "select pg_backend_pid()"
        try:
            listener.ask(query("listen silent"))
            wait_until(lambda: reasons(two) == ["unknown state"], "the pin")
            own = listener.rows(pid)
            # Asked again, the server still does not say.
            assert reasons(two) == ["unknown state"] and other.rows(pid) != own
        finally:
            postgres.psql("grant execute on function pg_listening_channels() to public")
        assert listener.rows(pid) == own
        wait_until(lambda: reasons(two) == ["LISTEN"], "the server's answer")
        listener.ask(query("unlisten silent"))
        wait_until(lambda: reasons(two) == [], "the end of the pin")


def test_a_listen_that_is_rolled_back_pins_nothing(two: Lifeguard):
    with WireClient.app(two.port) as client:
        client.ask(query("begin; listen mine"))
        client.ask(query("rollback"))
        wait_until(lambda: counter(two, "session_inspections") == 1, "the server is asked")
        assert reasons(two) == []


# MARK: what no text shows


def test_what_a_function_has_changed_never_reaches_another_client(one: Lifeguard):
    with WireClient.app(one.port) as client, WireClient.app(one.port) as other:
        for number in range(3):
            client.ask(query(f"select rules.login_tenant('{number}')"))
            assert client.rows(TENANT) == [[str(number)]]
            assert client.rows(LOCKS) == [["1"]]
            assert other.rows(TENANT) == [[None]]
            assert other.rows(LOCKS) == [["0"]]
        assert counter(one, "session_scrubs") == 3
        client.rows("select 1")
        other.rows("select 1")
        assert counter(one, "session_scrubs") == 3


def test_a_setting_that_the_server_reports_follows_also_where_a_function_has_changed_it(one: Lifeguard):
    zone = "select current_setting('timezone')"
    with WireClient.app(one.port) as client, WireClient.app(one.port) as other:
        own = other.rows(zone)
        for name in ("Asia/Tokyo", "Europe/Paris"):
            client.ask(query(f"select rules.move_to('{name}')"))
            assert other.rows(zone) == own
            assert client.rows(zone) == [[name]]


@pytest.mark.parametrize("how, scrubs, leaks", [("off", 0, True), ("full", 2, False)])
def test_the_scrub_can_be_had_always_or_never(lifeguard, how: str, scrubs: int, leaks: bool):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "hand_over_reset": how})
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        client.ask(query("select rules.login_tenant('7')"))
        assert (other.rows(TENANT) == [["7"]]) == leaks
        client.rows("select 1")
        assert counter(daemon, "session_scrubs") == scrubs


def test_a_scrub_leaves_the_next_client_its_own_settings(one: Lifeguard):
    with (WireClient.app(one.port) as client,
          WireClient.app(one.port, TimeZone="Asia/Tokyo", search_path="pg_catalog") as other):
        other.ask(query("set app.other = 'mine'"))
        for _ in range(3):
            client.ask(query("select rules.login_tenant('7')"))
            assert other.rows("select current_setting('timezone'), current_setting('search_path'), "
                              "current_setting('app.other')") == [["Asia/Tokyo", "pg_catalog", "mine"]]
            assert client.rows("select current_setting('timezone'), nullif(current_setting('app.other', true), '')"
                               )[0][1] is None


def test_a_function_that_is_called_by_number_may_lock(two: Lifeguard, postgres: PostgreSQL):
    oid = int(postgres.psql("select 'pg_advisory_lock(bigint)'::regprocedure::oid"))
    with WireClient.app(two.port) as client, WireClient.app(two.port) as other:
        client.ask(function_call(oid, (b"\0" * 7 + b"\x05",)))
        wait_until(lambda: reasons(two) == ["advisory lock"], "the pin")
        assert other.rows(LOCKS) == [["0"]] and client.rows(LOCKS) == [["1"]]


def test_a_text_beyond_what_is_examined_is_asked_about(two: Lifeguard):
    with WireClient.app(two.port) as client, WireClient.app(two.port) as other:
        client.ask(query(f"select '{'x' * 70_000}'; create temp table mine (n int); select pg_advisory_lock(9)"))
        wait_until(lambda: reasons(two) == ["temporary table, advisory lock"], "the pins")
        assert other.rows(LOCKS) == [["0"]]
        client.ask(query(f"select '{'x' * 70_000}'"))
        client.ask(query("drop table mine; select pg_advisory_unlock_all()"))
        wait_until(lambda: reasons(two) == [], "the end of the pins")


@pytest.mark.parametrize("sql", ["listen mine", "select pg_advisory_lock(4)", "create temp table mine (n int)"])
def test_an_unnamed_statement_pins_when_it_is_used(two: Lifeguard, sql: str):
    with WireClient.app(two.port) as client:
        client.ask(parse(sql) + SYNC)
        client.ask(bind() + execute() + SYNC)
        wait_until(lambda: reasons(two) and "unnamed" not in reasons(two)[0], "the pin")


@pytest.mark.parametrize("sql", ["listen mine", "select pg_advisory_lock(4)", "create temp table mine (n int)"])
def test_a_prepared_statement_pins_whenever_it_is_used(two: Lifeguard, sql: str):
    with WireClient.app(two.port) as client, WireClient.app(two.port) as other:
        client.ask(parse(sql, "s") + SYNC)
        assert reasons(two) == []
        for _ in range(2):
            client.ask(bind(statement="s") + execute() + SYNC)
            wait_until(lambda: len(reasons(two)) == 1, "the pin")
            other.rows("select 1")
            client.ask(query("discard temp; unlisten *; select pg_advisory_unlock_all()"))
            wait_until(lambda: reasons(two) == [], "the end of the pin")


def test_a_library_that_was_loaded_goes_with_its_connection(own_postgres: PostgreSQL, lifeguard):
    daemon = lifeguard(**as_superuser(own_postgres), pool={"pool_size": 2, "max_overflow": 0})
    with WireClient.app(daemon.port) as other:
        with WireClient.app(daemon.port) as client:
            client.ask(query("load 'auto_explain'"))
            wait_until(lambda: reasons(daemon) == ["LOAD"], "the pin")
            [[pid]] = client.rows("select pg_backend_pid()")
        wait_until(lambda: own_postgres.psql(f"select count(*) from pg_stat_activity where pid = {pid}") == "0",
                   "the end of the connection")
        assert other.rows("select count(*) from pg_settings where name = 'auto_explain.log_nested_statements'") \
            == [["0"]]


# MARK: sequences


def test_sequence_values_are_ones_own_or_none(one: Lifeguard):
    with WireClient.app(one.port) as client, WireClient.app(one.port) as other:
        other.ask(query("select nextval('rules.mine')"))
        # In the transaction that used the sequence.
        client.ask(query("begin"))
        [[own]] = client.rows("insert into rules.numbers (text) values ('a') returning n")
        assert client.rows("select lastval()") == [[own]]
        assert client.rows("select currval('rules.numbers_n_seq')") == [[own]]
        client.ask(query("commit"))
        other.ask(query("select nextval('rules.mine')"))
        # Never somebody else's.
        assert code(client.ask(query("select currval('rules.mine')"))) == "55000"
        wait_until(lambda: reasons(one) == [], "one connection cannot be pinned")


def test_what_a_client_left_on_a_connection_before_it_had_another_is_out_of_date(lifeguard):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0, "use_lifo": False, "min_size": 2, "max_pinned": 0})
    with WireClient.app(daemon.port) as client:
        wait_until(lambda: daemon.pool()["sv_idle"] == "2", "both connections")
        backends = [client.rows("select pg_backend_pid()")[0][0] for _ in range(4)]
        assert backends[:2] == backends[2:] and backends[0] != backends[1], "they take turns"
        for _ in range(3):
            client.ask(query("select nextval('rules.mine')"))
        assert code(client.ask(query("select currval('rules.mine')"))) == "55000"
        client.ask(query("do $$ begin set work_mem = '7MB'; end $$"))
        assert [client.rows("show work_mem") for _ in range(4)] == [[["4MB"]]] * 4


def test_who_asks_for_sequence_values_outside_of_a_transaction_keeps_its_connection(two: Lifeguard):
    with WireClient.app(two.port) as client, WireClient.app(two.port) as other:
        other.ask(query("select nextval('rules.mine')"))
        client.ask(query("select currval('rules.mine')"))
        wait_until(lambda: reasons(two) == ["currval, lastval"], "the pin")
        for _ in range(3):
            [[own]] = client.rows("select nextval('rules.mine')")
            other.ask(query("select nextval('rules.mine')"))
            assert client.rows("select lastval()") == [[own]]
        client.ask(query("discard sequences"))
        wait_until(lambda: reasons(two) == [], "the end of the pin")


# MARK: roles


def test_a_role_that_was_dropped_lets_nothing_run_as_another(own_postgres: PostgreSQL, lifeguard):
    own_postgres.psql("create role short; grant short to app; create table ran (who text);"
                      "grant all on ran to app, short")
    daemon = lifeguard(upstream=own_postgres, pool={"pool_size": 1, "max_overflow": 0})
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        client.ask(query("set role short"))
        assert client.rows("select current_user::text") == [["short"]]
        assert other.rows("select current_user::text") == [["app"]]
        own_postgres.psql("drop owned by short; drop role short")
        for sql in ("insert into ran values (current_user)", "begin", "rollback", "select 1"):
            answer = client.ask(query(sql))
            assert sql == "rollback" or code(answer) == "22023"
        assert code(run(client, "insert into ran values (current_user)")) == "22023"
        assert other.rows("select count(*) from ran") == [["0"]]
        own_postgres.psql("create role short; grant short to app; grant all on ran to short")
        client.ask(query("insert into ran values (current_user)"))
        assert other.rows("select who from ran") == [["short"]]


def test_session_authorization_follows_the_client(own_postgres: PostgreSQL, lifeguard):
    own_postgres.psql("create role reader; grant reader to alice")
    daemon = lifeguard(**as_superuser(own_postgres), pool={"pool_size": 2, "max_overflow": 0})
    who = "select session_user || '/' || current_user || '/' || current_setting('is_superuser')"
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        client.ask(query("set session authorization alice"))
        client.ask(query("set role reader"))
        client.ask(query("set app.tenant = '7'"))
        for _ in range(3):
            assert client.rows(who) == [["alice/reader/off"]]
            assert other.rows(who) == [["postgres/postgres/on"]]
            other.ask(query("begin"))
            assert client.rows(who) == [["alice/reader/off"]]
            assert client.rows(TENANT) == [["7"]]
            other.ask(query("rollback"))
        client.ask(query("reset session authorization"))
        for _ in range(2):
            assert client.rows(who) == [["postgres/postgres/on"]]
            other.ask(query("begin"))
            assert client.rows(who) == [["postgres/postgres/on"]]
            other.ask(query("rollback"))


@pytest.mark.parametrize("sql", [
    "reset session authorization", "set session authorization default", "set session authorization alice",
    "select set_config('session_authorization', 'alice', false)",
])
def test_a_role_ends_with_the_session_authorization_that_took_it(own_postgres: PostgreSQL, lifeguard, sql: str):
    own_postgres.psql("create role rule_maker")
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0}, **as_superuser(own_postgres))
    ask = "select current_user, current_setting('role')"
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        client.ask(query("set role rule_maker"))
        client.ask(query(sql))
        at_once = client.rows(ask)
        assert at_once == [["alice" if "alice" in sql else "postgres", "none"]]
        # The only connection becomes the other client's in between.
        assert other.rows(ask) == [["postgres", "none"]]
        assert client.rows(ask) == at_once


def test_privileged_settings_survive_a_change_of_role(own_postgres: PostgreSQL, lifeguard):
    daemon = lifeguard(**as_superuser(own_postgres), pool={"pool_size": 1, "max_overflow": 0})
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        client.ask(query("set log_min_duration_statement = 1234"))
        client.ask(query("set role alice"))
        for _ in range(3):
            assert other.rows("select current_user::text, current_setting('log_min_duration_statement')") \
                == [["postgres", "-1"]]
            assert client.rows("select current_user::text, current_setting('log_min_duration_statement')") \
                == [["alice", "1234ms"]]


# MARK: settings


def test_a_reset_goes_back_to_what_the_client_logged_in_with(one: Lifeguard):
    with (WireClient.app(one.port, search_path="pg_catalog", TimeZone="Asia/Tokyo", work_mem="5MB") as client,
          WireClient.app(one.port) as other):
        show = "select current_setting('search_path'), current_setting('timezone'), current_setting('work_mem')"
        own = [["pg_catalog", "Asia/Tokyo", "5MB"]]
        for reset in ("reset all", "reset search_path; reset timezone; reset work_mem", "discard all",
                      "set search_path to default; set timezone to default; set work_mem to default"):
            for statement in ("set search_path = public", "set timezone = 'UTC'", "set work_mem = '6MB'"):
                client.ask(query(statement))
            assert client.rows(show) == [["public", "UTC", "6MB"]]
            client.ask(query(reset))
            assert client.rows(show) == own
            other.rows("select 1")
            assert client.rows(show) == own
        client.ask(query("set search_path = public"))
        client.ask(query("begin; reset all; rollback"))
        other.rows("select 1")
        assert client.rows(show) == [["public", "Asia/Tokyo", "5MB"]]


def test_settings_cost_no_round_trip_where_they_match_or_cannot_be_refused(one: Lifeguard):
    with WireClient.app(one.port) as client, WireClient.app(one.port) as other:
        client.ask(query("set statement_timeout = 5000"))
        client.ask(query("set timezone = 'Asia/Tokyo'"))
        confirmed = counter(one, "settings_confirmed")
        applied = counter(one, "settings_applied")
        for _ in range(5):
            assert client.rows("show statement_timeout") == [["5s"]]
        assert (counter(one, "settings_confirmed"), counter(one, "settings_applied")) == (confirmed, applied)
        for _ in range(5):
            assert other.rows("show statement_timeout") == [["0"]]
            assert client.rows("show statement_timeout") == [["5s"]]
        assert counter(one, "settings_confirmed") == confirmed
        assert counter(one, "settings_applied") == applied + 10
        client.ask(query("set app.tenant = '7'"))
        other.rows("select 1")
        client.rows("select 1")
        assert counter(one, "settings_confirmed") == confirmed + 1
        inspections = counter(one, "session_inspections")
        client.ask(query("begin; set local work_mem = '5MB'; select set_config('app.tenant', '8', true); commit"))
        assert counter(one, "session_inspections") == inspections
        assert client.rows(TENANT) == [["7"]]


def test_thousands_of_interleaved_transactions_see_their_own_settings(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    postgres.psql("do $$ begin create role tenant; exception when duplicate_object then null; end $$;"
                  "grant tenant to app")
    show = ("select current_setting('search_path'), current_setting('timezone'), current_setting('application_name'),"
            " current_user::text, nullif(current_setting('app.tenant', true), '')")
    zones = ["Asia/Tokyo", "Europe/Berlin", "America/New_York", "UTC"]
    problems: list[str] = []

    def work(number: int) -> None:
        random_ = random.Random(number)
        own = [f'"schema {number}"', zones[number % 4], f"app {number}", "app", None]
        try:
            with WireClient.app(daemon.port, TimeZone=own[1], application_name=own[2]) as client:
                client.ask(query(f"set search_path = {own[0]}"))
                if number % 2:
                    client.ask(query("set role tenant"))
                    own[3] = "tenant"
                for _ in range(1250):
                    match random_.randrange(10):
                        case 0:
                            own[4] = str(random_.randrange(1000))
                            client.ask(query(f"set app.tenant = '{own[4]}'"))
                        case 1:
                            client.ask(query("begin; set app.tenant = 'lost'; set timezone = 'GMT'; rollback"))
                        case 2:
                            client.ask(query("begin; set local app.tenant = 'local'; set local role none; commit"))
                        case 3:
                            answer = [message.values for message in run(client, show) if message.kind == "D"]
                            assert answer == [own], f"{answer} instead of {own}"
                        case _:
                            answer = client.rows(show)
                            assert answer == [own], f"{answer} instead of {own}"
        except Exception as problem:  # noqa: BLE001
            problems.append(f"client {number}: {problem!r}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
