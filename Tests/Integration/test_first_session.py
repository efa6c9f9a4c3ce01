"""What somebody does first: psql."""

from __future__ import annotations

import psycopg
import pytest

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import run
from kit.wire import WireClient, error, startup


def test_the_printed_psql_line_works(daemon: Lifeguard):
    out = run(["psql", "-X", "-h", "127.0.0.1", "-p", str(daemon.port), "-U", "app", "app", "-A", "-t", "-c",
               "select current_user, current_database()"]).stdout
    assert out == "app|app\n"


def test_several_statements_notices_and_errors_reach_psql(daemon: Lifeguard):
    script = """\\set VERBOSITY verbose
select 1;
do $$ begin raise notice 'hello'; end $$;
select 1/0;
select 'still here';
begin; create temp table t on commit drop as select 1 as a; select * from t; rollback;
"""
    done = run(["psql", "-X", "-A", "-t", "-d", daemon.conninfo()], input=script)
    assert "still here" in done.stdout
    assert "22012: division by zero" in done.stderr
    assert "NOTICE:  00000: hello" in done.stderr


def test_conninfo_and_describe_work_in_psql(daemon: Lifeguard):
    done = run(["psql", "-X", "-d", daemon.conninfo()], input="\\conninfo\n\\d\n\\l\n\\du\n")
    assert f'port "{daemon.port}"' in done.stdout
    assert "alice" in done.stdout
    assert "ERROR" not in done.stderr


def test_an_unknown_database_is_refused_by_name(daemon: Lifeguard):
    done = daemon.psql("select 1", database="nowhere", check=False)
    assert done.returncode == 2
    assert 'FATAL' in done.stderr
    assert 'database "nowhere"' in done.stderr
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(daemon.conninfo(database="nowhere"))
    with WireClient(daemon.port) as client:
        client.send(startup({"user": "app", "database": "nowhere"}))
        assert error(client.until_ready())["C"] == "3D000"


def test_a_database_that_the_server_does_not_have_is_refused_with_its_own_words(
        lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(**{"databases.app": {"upstream": postgres.conninfo(user=None, database="missing")}})
    done = daemon.psql("select 1", check=False)
    assert done.returncode != 0
    assert 'database "missing" does not exist' in done.stderr


def test_a_user_that_the_server_does_not_have_is_refused_with_its_own_words(daemon: Lifeguard):
    done = daemon.psql("select 1", user="nobody", check=False)
    assert done.returncode != 0
    assert 'role "nobody" does not exist' in done.stderr


def test_the_servers_password_is_used_and_never_shown(lifeguard, postgres: PostgreSQL):
    upstream = postgres.conninfo(user="guarded", database="app", password="right one")
    daemon = lifeguard(**{"databases.app": {"upstream": upstream}}, log={"level": "debug"})
    assert daemon.psql("select current_user", user="anybody").stdout == "guarded\n"
    assert "right one" not in daemon.log()


def test_a_wrong_password_for_the_server_fails_at_once_and_is_never_shown(lifeguard, postgres: PostgreSQL):
    upstream = postgres.conninfo(user="guarded", database="app", password="wrong one")
    daemon = lifeguard(**{"databases.app": {"upstream": upstream}}, log={"level": "debug"})
    done = daemon.psql("select 1", check=False)
    assert done.returncode != 0
    assert "password authentication failed" in done.stderr
    assert "wrong one" not in done.stderr + daemon.log()


def test_the_servers_own_parameters_reach_the_client(daemon: Lifeguard, postgres: PostgreSQL):
    with WireClient.app(daemon.port) as through, WireClient.app(postgres.port) as direct:
        assert through.parameters == direct.parameters


def test_connecting_again_and_again_leaks_nothing(daemon: Lifeguard):
    done = run(["/bin/sh", "-c", f"for i in $(seq 50); do psql -X -q -A -t -d '{daemon.conninfo()}' -c 'select 1' || "
                "exit 1; done"])
    assert done.stdout == "1\n" * 50
    assert daemon.admin("SHOW CLIENTS")[0]["database"] in ("lifeguard", "pgbouncer")
    assert daemon.pool()["cl_active"] == "0"
