"""Prepared statements of the protocol with names, in transaction mode: shared, renamed, and made where they are missing."""

from __future__ import annotations

import asyncio

import asyncpg
import psycopg
import pytest

from kit.admin import command
from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.waiting import wait_until
from kit.wire import (
    FLUSH, SYNC, WireClient, bind, close_statement, describe_portal, describe_statement, error, execute, kinds, parse, query,
)

ON_SERVER = "select count(*) from pg_prepared_statements"


def rows(messages) -> list[list[str | None]]:
    return [message.values for message in messages if message.kind == "D"]


@pytest.fixture
def narrow(lifeguard) -> Lifeguard:
    """All clients share one connection."""
    return lifeguard(pool={"pool_size": 1, "max_overflow": 0})


def two_connections(daemon: Lifeguard) -> tuple[WireClient, WireClient]:
    """Two clients, of which the first holds one of the pool's two connections whenever it is in a transaction."""
    return WireClient.app(daemon.port), WireClient.app(daemon.port)


def test_clients_share_a_statement_and_each_calls_it_as_it_likes(narrow: Lifeguard):
    with WireClient.app(narrow.port) as one, WireClient.app(narrow.port) as two:
        for client, name in ((one, "a"), (two, "b")):
            assert kinds(client.ask(parse("select $1::int + 1", name), SYNC)) == "1Z"
        for client, name, value in ((one, "a", "1"), (two, "b", "2"), (one, "a", "3")):
            assert rows(client.ask(bind((value,), statement=name), execute(), SYNC)) == [[str(int(value) + 1)]]
        assert one.rows(ON_SERVER) == [["1"]]
        assert narrow.pool()["sv_pinned"] == "0"


def test_one_name_means_to_each_client_what_it_has_parsed(narrow: Lifeguard):
    with WireClient.app(narrow.port) as one, WireClient.app(narrow.port) as two:
        one.ask(parse("select 'one'", "s"), SYNC)
        two.ask(parse("select 'two'", "s"), SYNC)
        for _ in range(3):
            assert rows(one.ask(bind(statement="s"), execute(), SYNC)) == [["one"]]
            assert rows(two.ask(bind(statement="s"), execute(), SYNC)) == [["two"]]


def test_a_statement_is_made_on_whichever_connection_its_client_gets(lifeguard):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    one, two = two_connections(daemon)
    with one, two:
        two.ask(parse("select pg_backend_pid()", "s"), SYNC)
        first = rows(two.ask(bind(statement="s"), execute(), SYNC))
        one.ask(query("begin"))
        second = rows(two.ask(bind(statement="s"), execute(), SYNC))
        assert first != second, "the other connection"
        one.ask(query("rollback"))


def test_what_a_server_has_taken_once_needs_no_connection_to_be_prepared(narrow: Lifeguard):
    with WireClient.app(narrow.port) as one, WireClient.app(narrow.port) as two:
        one.ask(parse("select 1", "s"), SYNC)
        one.ask(query("begin"))
        assert kinds(two.ask(parse("select 1", "mine"), SYNC)) == "1Z"
        assert narrow.pool()["cl_waiting"] == "0"
        two.send(bind(statement="mine"), execute(), SYNC)
        wait_until(lambda: narrow.pool()["cl_waiting"] == "1", "its use waits")
        one.ask(query("commit"))
        assert rows(two.until_ready()) == [["1"]]


def test_a_pipeline_may_parse_and_use_before_its_sync(narrow: Lifeguard):
    with WireClient.app(narrow.port) as client:
        answer = client.ask(parse("select 1", "s"), bind(statement="s"), execute(), parse("select 2", "t"),
                            bind(statement="t"), execute(), close_statement("s"), SYNC)
        assert kinds(answer) == "12DC12DC3Z"
        assert error(client.ask(bind(statement="s"), SYNC))["C"] == "26000"
        assert rows(client.ask(bind(statement="t"), execute(), SYNC)) == [["2"]]


def test_the_second_parse_of_a_name_is_refused_as_by_postgresql(narrow: Lifeguard):
    with WireClient.app(narrow.port) as client:
        client.ask(parse("select 1", "s"), SYNC)
        fields = error(client.ask(parse("select 2", "s"), SYNC))
        assert (fields["C"], fields["M"]) == ("42P05", 'prepared statement "s" already exists')
        assert rows(client.ask(bind(statement="s"), execute(), SYNC)) == [["1"]]


def test_what_failed_to_parse_or_was_skipped_is_not_remembered(narrow: Lifeguard):
    with WireClient.app(narrow.port) as client:
        assert error(client.ask(parse("selec 1", "s"), SYNC))["C"] == "42601"
        assert error(client.ask(bind(statement="s"), SYNC))["C"] == "26000"
        answer = client.ask(parse("select 1", "s"), parse("selec 2", "t"), parse("select 3", "u"), SYNC)
        assert kinds(answer) == "1EZ"
        assert rows(client.ask(bind(statement="s"), execute(), SYNC)) == [["1"]]
        for name in ("t", "u"):
            assert error(client.ask(bind(statement=name), SYNC))["C"] == "26000"
        assert kinds(client.ask(parse("select 4", "u"), bind(statement="u"), execute(), SYNC)) == "12DCZ"
        assert kinds(client.ask(parse("selec", "v"), close_statement("s"), SYNC)) == "EZ"
        assert rows(client.ask(bind(statement="s"), execute(), SYNC)) == [["1"]], "its Close was skipped"


def test_a_statement_that_cannot_be_made_elsewhere_fails_where_it_is_used(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    postgres.psql("create table vanishing (a int); grant all on vanishing to app")
    one, two = two_connections(daemon)
    with one, two:
        two.ask(parse("select a from vanishing", "s"), SYNC)
        postgres.psql("drop table vanishing")
        one.ask(query("begin"))
        assert error(two.ask(bind(statement="s"), execute(), SYNC))["C"] == "42P01"
        assert kinds(two.ask(query("select 1"))) == "TDCZ"
        one.ask(query("rollback"))


def test_only_so_many_are_kept_on_a_connection_and_the_others_are_made_anew(lifeguard):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "max_prepared_statements": 3})
    with WireClient.app(daemon.port) as client:
        for number in range(10):
            client.ask(parse(f"select {number}", f"s{number}"), SYNC)
        for number in (0, 9, 4, 0, 7, 9, 2):
            assert rows(client.ask(bind(statement=f"s{number}"), execute(), SYNC)) == [[str(number)]]
            assert int(client.rows(ON_SERVER)[0][0]) <= 3


def test_deallocate_reaches_statements_of_the_protocol(narrow: Lifeguard):
    with WireClient.app(narrow.port) as client, WireClient.app(narrow.port) as other:
        for asking in (client, other):
            asking.ask(parse("select 1", "s"), SYNC)
        assert kinds(client.ask(query("deallocate s"))) == "CZ"
        assert error(client.ask(bind(statement="s"), SYNC))["C"] == "26000"
        assert error(client.ask(query("deallocate s")))["C"] == "26000"
        assert rows(other.ask(bind(statement="s"), execute(), SYNC)) == [["1"]]
        for everything in ("deallocate all", "discard all"):
            client.ask(parse("select 1", "s"), SYNC)
            assert kinds(client.ask(query(everything))).startswith("C")
            assert error(client.ask(bind(statement="s"), SYNC))["C"] == "26000"
            assert rows(other.ask(bind(statement="s"), execute(), SYNC)) == [["1"]], "it is made anew"


def test_rows_of_another_shape_than_described_never_reach_a_client(lifeguard, postgres: PostgreSQL):
    """What asyncpg relies on: it describes a statement once."""
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    postgres.psql("create table shaped (a int); insert into shaped values (1); grant all on shaped to app")
    one, two = two_connections(daemon)
    try:
        with one, two:
            two.ask(parse("select a from shaped", "s"), describe_statement("s"), SYNC)
            postgres.psql("alter table shaped alter a type float4")
            one.ask(query("begin"))
            fields = error(two.ask(bind(statement="s"), execute(), SYNC))
            assert (fields["C"], fields["M"]) == ("0A000", "cached plan must not change result type")
            one.ask(query("rollback"))
            two.ask(parse("select a from shaped", "again"), describe_statement("again"), SYNC)
            for _ in range(2):
                assert rows(two.ask(bind(statement="again"), execute(), SYNC)) == [["1"]]
    finally:
        postgres.psql("drop table shaped")


@pytest.mark.parametrize("text", ["select $1::text", "select $1::int / 0"])
def test_what_is_said_of_one_statement_is_not_taken_for_another(lifeguard, text: str):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        client.ask(parse("select 7", "s"), SYNC)
        client.ask(parse(text), describe_statement(), bind(("1",)), execute(), SYNC)
        whole = (bind(statement="s"), describe_portal(), execute(), SYNC)
        assert rows(client.ask(*whole)) == [["7"]]
        other.ask(query("begin"))
        # On another connection it is still the same statement.
        assert rows(client.ask(*whole)) == [["7"]]


def test_errors_tell_the_unnamed_statement_from_a_named_one_of_the_same_text(narrow: Lifeguard):
    with WireClient.app(narrow.port) as client, WireClient.app(narrow.port) as other:
        client.ask(parse("select $1::text", "s"), SYNC)
        client.ask(parse("select $1::text"), bind(("used",)), execute(), SYNC)
        for statement in ("", "s", ""):
            other.rows("select 1")
            assert error(client.ask(bind(statement=statement), SYNC))["M"] == \
                f'bind message supplies 0 parameters, but prepared statement "{statement}" requires 1'


def test_asyncpg_survives_an_altered_table(narrow: Lifeguard, postgres: PostgreSQL):
    postgres.psql("create table altered (a int); insert into altered values (1); grant all on altered to app")

    async def run() -> None:
        connection = await asyncpg.connect(host="127.0.0.1", port=narrow.port, user="app", database="app")
        try:
            assert await connection.fetchval("select a from altered") == 1
            postgres.psql("alter table altered alter a type text")
            for _ in range(3):
                try:
                    assert await connection.fetchval("select a from altered") == "1"
                except asyncpg.exceptions.InvalidCachedStatementError:
                    continue
            assert await connection.fetchval("select a from altered") == "1"
        finally:
            await connection.close()

    try:
        asyncio.run(run())
    finally:
        postgres.psql("drop table altered")


def test_settings_that_parsing_reads_keep_statements_apart(narrow: Lifeguard, postgres: PostgreSQL):
    postgres.psql("create schema if not exists elsewhere; create table elsewhere.named (a int); "
                  "create table public.named (a text); insert into elsewhere.named values (7); "
                  "insert into public.named values ('public'); grant usage on schema elsewhere to app; "
                  "grant select on elsewhere.named, public.named to app")
    try:
        with WireClient.app(narrow.port, search_path="public") as one, \
                WireClient.app(narrow.port, search_path="elsewhere") as two:
            for client in (one, two):
                client.ask(parse("select a from named", "s"), SYNC)
            for _ in range(3):
                assert rows(one.ask(bind(statement="s"), execute(), SYNC)) == [["public"]]
                assert rows(two.ask(bind(statement="s"), execute(), SYNC)) == [["7"]]
    finally:
        postgres.psql("drop schema elsewhere cascade; drop table public.named")


def test_a_prepared_begin_opens_a_block_also_where_another_client_has_parsed_it(narrow: Lifeguard):
    with WireClient.app(narrow.port) as one, WireClient.app(narrow.port) as two:
        for client in (one, two):
            client.ask(parse("begin", "b"), SYNC)
        answer = one.ask(bind(statement="b"), execute(), SYNC)
        assert answer[-1].payload == b"T"
        two.send(query("select 2"))
        wait_until(lambda: narrow.pool()["cl_waiting"] == "1", "the other client waits")
        assert one.ask(query("commit"))[-1].payload == b"I"
        assert rows(two.until_ready()) == [["2"]]


def test_a_begin_that_gets_no_connection_loses_its_block(lifeguard):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pool_timeout": "200ms"})
    with WireClient.app(daemon.port) as one, WireClient.app(daemon.port) as two:
        two.ask(parse("begin", "b"), SYNC)
        one.ask(query("begin"))
        answer = two.ask(bind(statement="b"), execute(), SYNC)
        assert error(answer)["C"] == "53300" and answer[-1].payload == b"E"
        one.ask(query("rollback"))
        assert error(two.ask(query("select 1")))["C"] == "25P02"
        assert two.ask(query("rollback"))[-1].payload == b"I"


def test_after_the_connection_died_a_client_has_what_it_was_told_that_it_has(own_postgres: PostgreSQL, lifeguard):
    daemon = lifeguard(upstream=own_postgres, pool={"pool_size": 1, "max_overflow": 0})
    with WireClient.app(daemon.port) as client:
        client.ask(parse("select 'kept'", "kept"), SYNC)
        pid = client.rows("select pg_backend_pid()")[0][0]
        client.send(parse("select 1", "s"), parse("select pg_sleep(30)"), bind(), execute(), SYNC)
        wait_until(lambda: own_postgres.psql("select count(*) from pg_stat_activity where query like "
                                             "'select pg_sleep(30)%'") == "1", "the query runs")
        own_postgres.psql(f"select pg_terminate_backend({pid})")
        answer = client.until_ready()
        assert error(answer)["C"] == "40003"
        made = b"" if kinds(answer).startswith("1") else parse("select 1", "s")
        assert rows(client.ask(made + bind(statement="s"), execute(), SYNC)) == [["1"]]
        assert rows(client.ask(bind(statement="kept"), execute(), SYNC)) == [["kept"]]


def test_a_bind_that_is_longer_than_what_is_examined_passes(narrow: Lifeguard):
    with WireClient.app(narrow.port) as client:
        client.ask(parse("select length($1::text)", "long"), SYNC)
        for length in (60_000, 70_000, 3_000_000):
            answer = client.ask(bind(("x" * length,), statement="long"), execute(), SYNC)
            assert rows(answer) == [[str(length)]]


def test_a_flush_in_the_middle_brings_the_replies_so_far(narrow: Lifeguard):
    with WireClient.app(narrow.port) as one, WireClient.app(narrow.port) as two:
        two.ask(parse("select 1", "s"), SYNC)
        one.send(parse("select 1", "mine"), FLUSH)
        assert one.receive().kind == "1"
        one.send(bind(statement="mine"), FLUSH)
        assert one.receive().kind == "2"
        assert kinds(one.ask(execute(), SYNC)) == "DCZ"


def test_names_of_the_daemon_mean_nothing_to_clients(narrow: Lifeguard):
    with WireClient.app(narrow.port) as one, WireClient.app(narrow.port) as two:
        one.ask(parse("select 'secret'", "s"), SYNC)
        for number in range(1, 5):
            assert error(two.ask(bind(statement=f"lifeguard_{number}"), SYNC))["C"] == "26000"
            two.ask(parse("select 'mine'", f"lifeguard_{number}"), SYNC)
            assert rows(two.ask(bind(statement=f"lifeguard_{number}"), execute(), SYNC)) == [["mine"]]
        assert rows(one.ask(bind(statement="s"), execute(), SYNC)) == [["secret"]]


def test_hundreds_of_clients_with_drivers_defaults_share_few_connections(lifeguard):
    daemon = lifeguard(pool={"pool_size": 3, "max_overflow": 0})

    async def one(number: int) -> None:
        connection = await asyncpg.connect(host="127.0.0.1", port=daemon.port, user="app", database="app")
        try:
            for value in range(5):
                assert await connection.fetchval("select $1::int * 10 + $2::int", number, value) == number * 10 + value
                async with connection.transaction():
                    assert await connection.fetchval(f"select {number % 7} + $1::int", value) == number % 7 + value
        finally:
            await connection.close()

    async def run() -> None:
        await asyncio.gather(*(one(number) for number in range(100)))

    asyncio.run(run())
    clients = [psycopg.connect(daemon.conninfo(), prepare_threshold=0) for _ in range(50)]
    for _ in range(3):
        for number, client in enumerate(clients):
            assert client.execute(f"select {number} + %s::int", [1]).fetchone() == (number + 1,)
            client.commit()
    for client in clients:
        client.close()
    assert command(daemon, "SHOW POOLS")[0]["sv_pinned"] == 0


def test_psycopg_evicts_its_statements_by_deallocate(narrow: Lifeguard):
    with psycopg.connect(narrow.conninfo(), autocommit=True, prepare_threshold=0) as connection:
        connection.prepared_max = 5
        for number in range(30):
            assert connection.execute(f"select {number} + %s::int", [1]).fetchone() == (number + 1,)


def test_the_texts_of_one_client_are_bounded(narrow: Lifeguard):
    with WireClient.app(narrow.port) as client:
        text = "select 1 -- " + "x" * 60_000
        for number in range(300):
            client.send(parse(text + str(number), f"s{number}"), SYNC)
            if kinds(answer := client.until_ready()) == "EZ":
                break
        assert error(answer)["C"] == "54000" and 270 < number < 290
        assert rows(client.ask(bind(statement="s0"), execute(), SYNC)) == [["1"]]


def test_a_client_keeps_its_statements_when_a_reload_ends_their_sharing(narrow: Lifeguard):
    with WireClient.app(narrow.port) as client:
        client.ask(parse("select 1", "s"), SYNC)
        command(narrow, "SET pool.max_prepared_statements = 0")
        for _ in range(2):
            assert rows(client.ask(bind(statement="s"), execute(), SYNC)) == [["1"]]


def test_session_mode_passes_statements_as_they_are(lifeguard):
    daemon = lifeguard(pool={"mode": "session", "pool_size": 1, "max_overflow": 0})
    with WireClient.app(daemon.port) as client:
        client.ask(parse("select 1", "s"), SYNC)
        assert client.rows("select name from pg_prepared_statements") == [["s"]]


# MARK: SQL and the protocol


def test_execute_reaches_statements_of_the_protocol(lifeguard):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    one, two = two_connections(daemon)
    with one, two:
        two.ask(parse("select $1::int + 1", "Add one"), SYNC)
        for asking in (one, two):
            asking.ask(query("rollback"))
        for _ in range(2):
            one.ask(query("begin"))
            assert two.rows('execute "Add one"(4)') == [["5"]]
            assert rows(two.ask(parse('execute "Add one"(5)'), bind(), execute(), SYNC)) == [["6"]]
            one.ask(query("rollback"))
        assert error(one.ask(query('execute "Add one"(4)')))["C"] == "26000"
        assert "Add one" in error(one.ask(query('execute "Add one"(4)')))["M"]
        assert error(two.ask(query('execute "Add one"(4, 5)')))["C"] == "42601"


def test_execute_of_what_pins_pins(lifeguard):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    with WireClient.app(daemon.port) as client:
        client.ask(parse("select pg_advisory_lock(5)", "s"), SYNC)
        client.ask(query("execute s"))
        wait_until(lambda: [row["reason"] for row in command(daemon, "SHOW PINS")] == ["advisory lock"], "the pin")


def test_deallocate_by_the_extended_protocol_reaches_statements_of_the_protocol(narrow: Lifeguard):
    with WireClient.app(narrow.port) as client, WireClient.app(narrow.port) as other:
        for asking in (client, other):
            asking.ask(parse("select 1", "s"), SYNC)
        deallocate = (parse("deallocate s"), bind(), execute(), SYNC)
        assert kinds(client.ask(*deallocate)) == "12CZ"
        assert error(client.ask(bind(statement="s"), SYNC))["C"] == "26000"
        assert error(client.ask(*deallocate))["C"] == "26000"
        assert rows(other.ask(bind(statement="s"), execute(), SYNC)) == [["1"]]
        other.ask(query("begin"))
        other.ask(query("selec"))
        assert error(other.ask(*deallocate))["C"] == "25P02"
        other.ask(query("rollback"))
        assert rows(other.ask(bind(statement="s"), execute(), SYNC)) == [["1"]]


def test_the_unnamed_statement_can_be_used_in_later_transactions(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    postgres.psql("create table reused (a int); insert into reused values (1); grant all on reused to app")
    one, two = two_connections(daemon)
    with one, two:
        assert rows(two.ask(parse("select a from reused"), bind(), execute(), SYNC)) == [["1"]]
        one.ask(parse("select 2"), bind(), execute(), SYNC)
        for _ in range(3):
            one.ask(query("begin"))
            assert rows(two.ask(bind(), execute(), SYNC)) == [["1"]]
            assert kinds(two.ask(describe_statement(), SYNC)) == "tTZ"
            assert 'prepared statement "" requires 0' in error(two.ask(bind(("1",)), SYNC))["M"]
            one.ask(query("rollback"))
            assert rows(two.ask(bind(), execute(), SYNC)) == [["1"]]
        assert error(one.ask(bind(), execute(), SYNC))["C"] == "26000", "a query drops it"
        two.ask(close_statement(), SYNC)
        assert error(two.ask(bind(), execute(), SYNC))["C"] == "26000"
        assert error(two.ask(parse("selec"), SYNC))["C"] == "42601"
        assert error(two.ask(bind(), execute(), SYNC))["C"] == "26000"


# MARK: healing


def heals(daemon: Lifeguard) -> float:
    return sum(value for name, value in daemon.metrics().items()
               if name.startswith("lifeguard_pool_statement_heals_total"))


def test_a_statement_that_is_gone_from_the_server_is_made_anew_unnoticed(narrow: Lifeguard, postgres: PostgreSQL):
    postgres.psql("create or replace function forget() returns void language plpgsql as "
                  "$$ begin execute 'deallocate all'; end $$")
    with WireClient.app(narrow.port) as client, WireClient.app(narrow.port) as other:
        client.ask(parse("select $1::int", "s"), SYNC)
        for number in range(3):
            other.ask(query("select forget()"))
            answer = client.ask(bind(("4",), statement="s"), describe_portal(), execute(), SYNC)
            assert kinds(answer) == "2TDCZ" and rows(answer) == [["4"]]
            assert heals(narrow) == number + 1
        other.ask(query("select forget()"))
        fields = error(client.ask(bind(("4",), statement="s"), execute(), SYNC))
        assert fields["C"] == "26000" and '"s"' in fields["M"], "without a description nothing is sent again"


def test_a_statement_on_a_temporary_table_is_nobody_elses(lifeguard):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 0})
    with WireClient.app(daemon.port) as one, WireClient.app(daemon.port) as two:
        assert kinds(one.ask(query("create temporary table fleeting (a int)"))) == "CZ"
        assert kinds(one.ask(parse("select * from fleeting", "s"), SYNC)) == "1Z"
        one.ask(query("drop table fleeting"))
        wait_until(lambda: daemon.pool()["sv_pinned"] == "0", "the pin has ended")
        assert error(two.ask(parse("select * from fleeting", "s"), SYNC))["C"] == "42P01"


def test_a_plan_that_no_longer_fits_its_table_is_made_anew_where_nobody_relies_on_it(
        narrow: Lifeguard, postgres: PostgreSQL):
    postgres.psql("create table altered (a int); insert into altered values (1); grant all on altered to app")
    with WireClient.app(narrow.port) as client:
        client.ask(parse("select * from altered", "s"), SYNC)
        whole = (bind(statement="s"), describe_portal(), execute(), SYNC)
        assert rows(client.ask(*whole)) == [["1"]]
        postgres.psql("alter table altered add b text default 'x'")
        assert rows(client.ask(*whole)) == [["1", "x"]] and heals(narrow) == 1
        postgres.psql("alter table altered add c text default 'y'")
        assert error(client.ask(bind(statement="s"), execute(), SYNC))["C"] == "0A000"
        postgres.psql("alter table altered add d text default 'z'")
        client.ask(query("begin"))
        assert error(client.ask(*whole))["C"] in ("0A000", "25P02"), "the transaction has failed"
        client.ask(query("rollback"))


def test_what_a_client_left_unfinished_is_never_sent_again_for_another(narrow: Lifeguard, postgres: PostgreSQL):
    postgres.psql("create table left_behind (a int); grant all on left_behind to app")
    with WireClient.app(narrow.port) as client:
        client.ask(parse("select * from left_behind", "s"), SYNC)
        assert rows(client.ask(bind(statement="s"), execute(), SYNC)) == []
        with WireClient.app(narrow.port) as leaving:
            leaving.ask(parse("select $1::text", "s"), SYNC)
            leaving.send(bind(("secret",), statement="s"))
            wait_until(lambda: narrow.pool()["sv_active"] == "1", "the Bind has a connection")
        wait_until(lambda: narrow.pool()["sv_idle"] == "1", "the connection is clean")
        postgres.psql("alter table left_behind add b text")
        answer = client.ask(parse("select 1"), describe_statement("s"), bind(), describe_portal(), execute(), SYNC)
        assert kinds(answer) == "1tEZ" and error(answer)["C"] == "0A000"


def test_psycopg_survives_an_altered_table(narrow: Lifeguard, postgres: PostgreSQL):
    postgres.psql("create table altered_too (a int); insert into altered_too values (1); "
                  "grant all on altered_too to app")
    with psycopg.connect(narrow.conninfo(), autocommit=True, prepare_threshold=0) as connection:
        assert connection.execute("select * from altered_too").fetchall() == [(1,)]
        postgres.psql("alter table altered_too add b text default 'x'")
        assert connection.execute("select * from altered_too").fetchall() == [(1, "x")]
