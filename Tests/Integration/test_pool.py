"""The pool as its clients see it: the bound, the order, the wait."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.sampling import Sampler
from kit.waiting import wait_until
from kit.wire import SYNC, WireClient, bind, error, execute, frame, kinds, parse, query, startup


@pytest.mark.slow
def test_1000_clients_pass_on_15_connections(daemon: Lifeguard, postgres: PostgreSQL):
    clients = [WireClient.app(daemon.port, application_name=f"client {n}") for n in range(1000)]
    with Sampler(postgres) as sampler:
        for repetition in range(3):
            for number, client in enumerate(clients):
                client.send(query(f"select {number}, {repetition}"))
            for number, client in enumerate(clients):
                answer = client.until_ready()
                assert kinds(answer).endswith("TDCZ"), answer
                assert [message.values for message in answer if message.kind == "D"] == [[str(number), str(repetition)]]
    assert sampler.highest <= 15
    for client in clients:
        client.close()
    wait_until(lambda: daemon.pool()["cl_active"] == "0", "all clients are gone")


def test_a_wait_that_ran_out_is_an_error_and_the_same_client_works_afterwards(lifeguard):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 1, "pool_timeout": "1s"})
    busy = [WireClient.app(daemon.port) for _ in range(2)]
    for client in busy:
        client.ask(query("begin"))
    with WireClient.app(daemon.port) as waiting:
        began = time.monotonic()
        answer = waiting.ask(query("select 1"))
        waited = time.monotonic() - began
        assert kinds(answer) == "EZ"
        assert answer[-1].text == "I"
        fields = error(answer)
        assert fields["C"] == "53300"
        assert fields["S"] == fields["V"] == "ERROR"
        assert fields["M"] == ('pool "app/app" limit of size 1 overflow 1 reached, connection timed out, '
                               'timeout 1.00 s')
        assert 0.95 <= waited < 3
        busy[0].ask(query("commit"))
        assert waiting.rows("select 2") == [["2"]]
    for client in busy:
        client.close()


def test_the_wait_that_ran_out_reaches_psycopg_as_a_usable_connection(lifeguard):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pool_timeout": "250ms"})
    with psycopg.connect(daemon.conninfo()) as busy, psycopg.connect(daemon.conninfo(), autocommit=True) as waiting:
        busy.execute("select 1")
        with pytest.raises(psycopg.errors.TooManyConnections, match="timeout 0.25 s"):
            waiting.execute("select 1")
        assert not waiting.closed
        busy.commit()
        assert waiting.execute("select 2").fetchone() == (2,)


def test_a_begin_that_got_no_connection_does_not_let_the_rest_of_the_transaction_run_on_its_own(lifeguard, postgres):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pool_timeout": "250ms"})
    postgres.psql("create table half (a int); grant all on half to app")
    try:
        with WireClient.app(daemon.port) as busy, WireClient.app(daemon.port) as client:
            busy.ask(query("begin"))
            assert error(client.ask(query("begin")))["C"] == "53300"
            busy.ask(query("commit"))
            answer = client.ask(query("insert into half values (1)"))
            assert error(answer)["C"] == "25P02", answer
            answer = client.ask(query("commit"))
            assert kinds(answer) == "CZ" and answer[0].text == "ROLLBACK" and answer[1].text == "I"
            assert client.rows("select count(*) from half") == [["0"]]
    finally:
        postgres.psql("drop table half")


def test_waiters_are_served_in_the_order_in_which_they_came(lifeguard):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0})
    holder = WireClient.app(daemon.port)
    holder.ask(query("begin"))
    clients = [WireClient.app(daemon.port) for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(query("select clock_timestamp()"))
        wait_until(lambda: int(daemon.pool()["cl_waiting"]) == number + 1, f"client {number} waits")
    holder.ask(query("commit"))
    times = []
    for client in clients:
        times += [message.values[0] for message in client.until_ready() if message.kind == "D"]
        client.close()
    assert times == sorted(times) and len(times) == 20
    holder.close()


def test_overflow_is_closed_again_and_pool_size_stays(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(pool={"pool_size": 2, "max_overflow": 4, "overflow_linger": "100ms"})
    clients = [WireClient.app(daemon.port) for _ in range(6)]
    for client in clients:
        client.ask(query("begin"))
    assert postgres.backends() == 6
    for client in clients:
        client.ask(query("commit"))
    wait_until(lambda: postgres.backends() == 2, "the overflow is closed")
    assert daemon.pool()["sv_idle"] == "2"
    for client in clients:
        client.close()


def test_the_pool_starts_empty_and_min_size_fills_it(lifeguard, postgres: PostgreSQL):
    lifeguard()
    assert postgres.backends() == 0
    daemon = lifeguard(pool={"min_size": 3})
    daemon.psql("select 1")
    wait_until(lambda: postgres.backends() == 3, "min_size connections are open")


def test_lifo_takes_the_newest_and_fifo_the_oldest(lifeguard):
    for lifo, distinct in ((True, 1), (False, 3)):
        daemon = lifeguard(pool={"pool_size": 3, "max_overflow": 0, "use_lifo": lifo})
        clients = [WireClient.app(daemon.port) for _ in range(3)]
        for client in clients:
            client.ask(query("begin"))
        for client in clients:
            client.ask(query("commit"))
        pids = {clients[0].rows("select pg_backend_pid()")[0][0] for _ in range(9)}
        assert len(pids) == distinct
        for client in clients:
            client.close()


def test_old_connections_are_replaced(lifeguard):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pool_recycle": "300ms"})
    with WireClient.app(daemon.port) as client:
        first = client.rows("select pg_backend_pid()")
        wait_until(lambda: client.rows("select pg_backend_pid()") != first, "another backend answers")


def test_transaction_mode_shares_and_session_mode_does_not(lifeguard):
    for mode in ("transaction", "session"):
        daemon = lifeguard(pool={"mode": mode, "pool_size": 1, "max_overflow": 0, "pool_timeout": "200ms"})
        with WireClient.app(daemon.port) as first:
            first.rows("select 1")
            if mode == "transaction":
                with WireClient.app(daemon.port) as second:
                    assert second.rows("select 2") == [["2"]]
            else:
                done = daemon.psql("select 2", check=False)
                assert "limit of size 1 overflow 0 reached" in done.stderr
        if mode == "session":
            wait_until(lambda: daemon.psql("select 2", check=False).stdout == "2\n", "the session is over")


def test_session_mode_resets_what_a_session_leaves(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(pool={"mode": "session", "pool_size": 1, "max_overflow": 0})
    with WireClient.app(daemon.port) as first:
        first.rows("set search_path = pg_catalog; set statement_timeout = '7s'; create temp table left_over (a int); "
                   "prepare left_over as select 1; select pg_advisory_lock(4711); listen left_over")
        backend = first.rows("select pg_backend_pid()")
    with WireClient.app(daemon.port) as second:
        assert second.rows("select pg_backend_pid()") == backend
        assert second.rows("show search_path") == [['"$user", public']]
        assert second.rows("show statement_timeout") == [["0"]]
        assert second.rows("select count(*) from pg_prepared_statements") == [["0"]]
        assert second.rows("select count(*) from pg_class where relname = 'left_over'") == [["0"]]
        assert second.rows("select count(*) from pg_locks where locktype = 'advisory'") == [["0"]]
        assert second.rows("select count(*) from pg_listening_channels()") == [["0"]]


def test_a_reset_that_fails_closes_the_connection(lifeguard):
    daemon = lifeguard(pool={"mode": "session", "pool_size": 1, "max_overflow": 0, "reset_query": "select 1/0"})
    with WireClient.app(daemon.port) as first:
        backend = first.rows("select pg_backend_pid()")
    with WireClient.app(daemon.port) as second:
        assert second.rows("select pg_backend_pid()") != backend


def test_statement_mode_serves_statements_and_refuses_blocks(lifeguard):
    daemon = lifeguard(pool={"mode": "statement"})
    with WireClient.app(daemon.port) as client:
        assert client.rows("select 1") == [["1"]]
        try:
            answer = client.ask(query("begin"))
        except Exception as problem:  # noqa: BLE001
            pytest.fail(f"a refused block must be an error with words, not {problem!r}")
        fields = error(answer)
        assert "statement" in fields["M"]
        if answer[-1].kind == "Z":
            assert answer[-1].text == "I"
            assert client.rows("select 2") == [["2"]]
    assert daemon.psql("select 3").stdout == "3\n"


def test_a_client_that_leaves_inside_a_transaction_rolls_it_back(lifeguard, postgres: PostgreSQL):
    postgres.psql("create table abandoned (a int); grant all on abandoned to app")
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0})
    try:
        with WireClient.app(daemon.port) as client:
            client.ask(query("begin"))
            client.ask(query("insert into abandoned values (1)"))
        with WireClient.app(daemon.port) as client:
            assert client.rows("select count(*) from abandoned") == [["0"]]
    finally:
        postgres.psql("drop table abandoned")


def test_limits_of_a_database_and_of_a_user_hold(lifeguard, postgres: PostgreSQL):
    upstream = postgres.conninfo(user=None, database="app")
    daemon = lifeguard(**{"databases.app": {"upstream": upstream, "max_connections": 3},
                          "users.alice": {"max_connections": 1}})

    def load(user: str) -> None:
        with psycopg.connect(daemon.conninfo(user=user), autocommit=True) as connection:
            for _ in range(20):
                connection.execute("select pg_sleep(0.002)")

    with Sampler(postgres, "app") as app, Sampler(postgres, "alice") as alice, ThreadPoolExecutor(20) as threads:
        list(threads.map(load, ["app", "alice"] * 10))
    assert app.highest <= 3
    assert alice.highest == 1


def test_more_clients_than_max_clients_are_refused(lifeguard):
    daemon = lifeguard(server={"max_clients": 3})
    clients = [WireClient.app(daemon.port) for _ in range(3)]
    with WireClient(daemon.port) as refused:
        refused.send(startup({"user": "app", "database": "app"}))
        assert error(refused.until_ready())["C"] == "53300"
    clients.pop().close()
    wait_until(lambda: _connects(daemon), "there is room again")
    for client in clients:
        client.close()


def _connects(daemon: Lifeguard) -> bool:
    with WireClient.app(daemon.port):
        return True


def test_clients_of_several_users_have_pools_of_their_own(daemon: Lifeguard):
    for user in ("app", "alice"):
        for database in ("app", "other"):
            assert daemon.psql("select current_user || current_database()", user=user, database=database).stdout == (
                f"{user}{database}\n")
    assert {(row["database"], row["user"]) for row in daemon.admin("SHOW POOLS")} >= {
        (database, user) for user in ("app", "alice") for database in ("app", "other")}


def test_clients_that_come_and_go_at_random_leak_nothing(daemon: Lifeguard, postgres: PostgreSQL):
    """Clients connect, work and vanish at every stage; afterwards the pool is whole."""
    generator = random.Random(20261125)

    with Sampler(postgres) as sampler, ThreadPoolExecutor(40) as threads:
        list(threads.map(lambda seed: _erratic(daemon.port, seed), [generator.getrandbits(32) for _ in range(120)]))
    assert sampler.highest <= 15
    wait_until(lambda: daemon.pool()["sv_active"] == "0" and daemon.pool()["cl_active"] == "0", "all came back")
    assert daemon.psql("select 1").stdout == "1\n"


def _erratic(port: int, seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(5):
        client = WireClient.app(port)
        for _ in range(generator.randrange(4)):
            client.ask(query("select 1"))
        whole = generator.choice([
            query("select pg_sleep(0.05)"), query("begin; select 1"), parse("select 1") + bind() + execute() + SYNC,
            parse("select 1") + bind() + execute(), query("select generate_series(1, 100000)"),
            query("copy (select 1) to stdout"), frame(b"P", b"broken"),
        ])
        client.send(whole[: generator.randrange(1, len(whole) + 1)])
        if generator.random() < 0.3:
            client.reset()
        else:
            client.close()


def test_the_longest_wait_is_not_spent_while_connections_are_dialed(lifeguard, postgres: PostgreSQL):
    """A burst onto an empty pool is served by as many connections as the bound allows, at once."""
    daemon = lifeguard(pool={"pool_size": 5, "max_overflow": 10, "pool_timeout": "5s"})
    barrier = threading.Barrier(15)
    pids: set[str] = set()

    def work() -> None:
        with WireClient.app(daemon.port) as client:
            barrier.wait()
            client.ask(query("begin"))
            pids.add(client.rows("select pg_backend_pid()")[0][0])
            barrier.wait(10)
            client.ask(query("commit"))

    threads = [threading.Thread(target=work) for _ in range(15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 15


def test_a_database_that_a_reload_takes_away_is_gone_for_those_who_come_again(lifeguard, postgres: PostgreSQL):
    both = {"databases.app": {"upstream": postgres.conninfo()}, "databases.other": {"upstream": postgres.conninfo()}}
    daemon = lifeguard(**both)

    def is_served() -> bool:
        try:
            with psycopg.connect(daemon.conninfo()) as client:
                return client.execute("select 1").fetchone() == (1,)
        except psycopg.OperationalError as error:
            assert 'database "app" does not exist' in str(error)
            return False

    assert all(is_served() for _ in range(3))
    daemon.write_settings({"databases.other": both["databases.other"]})
    daemon.reload()
    wait_until(lambda: not is_served(), "the database is gone")
    daemon.write_settings(both)
    daemon.reload()
    wait_until(is_served, "it is there again")
