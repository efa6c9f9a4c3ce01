"""Servers that answer nothing and say nothing: frozen ones, and networks that lose every packet (no RST, no FIN)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.cable import Cable, why_not
from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.relay import Relay
from kit.standby import hosts
from kit.waiting import wait_until
from kit.wire import Closed, Message, WireClient, error, kinds, query

PRE_PING_TIMEOUT, CLOSE_TIMEOUT, POOL_TIMEOUT = 0.5, 1.0, 6.0
POOL = {"pool_size": 5, "max_overflow": 0, "pre_ping_idle": "0s", "pre_ping_timeout": f"{PRE_PING_TIMEOUT * 1000:g}ms",
        "close_timeout": f"{CLOSE_TIMEOUT:g}s", "connect_timeout": "2s", "pool_timeout": f"{POOL_TIMEOUT:g}s"}
#: Clients of the pool whose server is away; more than it has connections.
CLIENTS = 20
#: What a busy machine may add to a time-out (s).
SLACK = 2.0


@pytest.fixture(scope="module")
def distant() -> Iterator[PostgreSQL]:
    """The server that cannot be reached for a while. It notices that a client is gone while it runs a statement."""
    server = PostgreSQL(settings={"client_connection_check_interval": "50ms"})
    yield server
    server.remove()


@pytest.fixture
def frozen(distant: PostgreSQL) -> Iterator[PostgreSQL]:
    """`distant`, which goes on after the test if the test has stopped it."""
    yield distant
    distant.thaw()


@pytest.fixture
def cable() -> Iterator[Cable]:
    """A cable to another host."""
    if reason := why_not():
        pytest.skip(reason)
    cable = Cable()
    yield cable
    cable.remove()


@pytest.fixture
def far(cable: Cable, distant: PostgreSQL) -> Iterator[Relay]:
    """`distant`, reached over the cable: the daemon's TCP connections end in the other namespace."""
    with Relay(distant.port, cable.listener()) as relay:
        yield relay


@pytest.fixture
def marks(distant: PostgreSQL) -> Iterator[PostgreSQL]:
    """`distant` with an empty table `marks`."""
    distant.psql("create table marks (mark text); grant all on marks to app")
    yield distant
    # A backend whose client has gone without a word may still run something.
    distant.psql("select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'app'")
    distant.psql("drop table marks")


class Bystander:
    """A client of the healthy pool `other` that notes how long each of its requests takes. With one worker the pools
    share a thread."""

    def __init__(self, daemon: Lifeguard) -> None:
        self._client = WireClient(daemon.port, {"user": "app", "database": "other"})
        self._ask()
        self.seconds: list[float] = []

    def _ask(self) -> None:
        assert self._client.rows("select 'bystander'") == [["bystander"]]

    def work_until(self, is_over: Callable[[], bool]) -> None:
        """Asks until something is over, for some hundred requests at least."""
        while not is_over() or len(self.seconds) < 300:
            began = time.monotonic()
            self._ask()
            self.seconds.append(time.monotonic() - began)
        self._client.close()

    def was_never_delayed(self) -> bool:
        """No request has waited for a time-out of the other pool, the shortest of which is the ping's."""
        return max(self.seconds) < PRE_PING_TIMEOUT / 2


class Crowd:
    """Clients of pool `app`, which has all of its connections open, and a bystander."""

    def __init__(self, daemon: Lifeguard) -> None:
        self.daemon = daemon
        self.clients = [WireClient.app(daemon.port) for _ in range(CLIENTS)]
        for client in self.clients:
            client.send(query("select pg_sleep(0.05)"))
        for client in self.clients:
            client.until_ready()
        assert daemon.pool()["sv_idle"] == str(POOL["pool_size"])
        self._bystander = Bystander(daemon)
        #: When the last client had its answer, in seconds from the moment at which all asked.
        self.seconds = 0.0

    def ask(self, sql: str) -> list[list[Message]]:
        """The answers to a query that all send at once, while the bystander is served as ever."""
        began = time.monotonic()

        def answer(client: WireClient) -> list[Message]:
            messages = client.ask(query(sql))
            self.seconds = max(self.seconds, time.monotonic() - began)
            return messages

        with ThreadPoolExecutor(len(self.clients)) as threads:
            answers = [threads.submit(answer, client) for client in self.clients]
            self._bystander.work_until(lambda: all(each.done() for each in answers))
            answered = [each.result() for each in answers]
        assert self._bystander.was_never_delayed(), sorted(self._bystander.seconds)[-3:]
        return answered

    def is_served(self) -> None:
        """Each client gets the answer to its own question on the connection that it has had all along."""
        for number, client in enumerate(self.clients):
            wait_until(lambda: client.rows(f"select 'client {number}'") == [[f"client {number}"]], "it is served")
            client.close()


def databases(upstream: str, healthy: PostgreSQL) -> dict:
    """A pool that leads to `upstream`, and a healthy one."""
    return {"databases.app": {"upstream": upstream},
            "databases.other": {"upstream": healthy.conninfo(database="other")}}


def over_cable(cable: Cable, far: Relay, **more: str) -> str:
    """The connection string of the server at the other end."""
    parts = {"host": cable.address, "port": str(far.port), "user": "app", "dbname": "app", "sslmode": "disable", **more}
    return " ".join(f"{name}={value}" for name, value in parts.items())


def all_timed_out(answers: list[list[Message]]) -> bool:
    """All were told, once, that no connection was to be had in time, outside of any transaction."""
    return all(error(answer)["C"] == "53300" and answer[-1].text == "I" for answer in answers)


def values(answers: list[list[Message]]) -> list[str | None]:
    """The first value of each answer; an error has none."""
    return [next((message.values[0] for message in answer if message.kind == "D"), None) for answer in answers]


# MARK: a server that is stopped, whose kernel still takes connections and data


def test_clients_of_a_frozen_server_are_told_in_time_and_no_other_pool_is_delayed(
        lifeguard, frozen: PostgreSQL, postgres: PostgreSQL):
    crowd = Crowd(lifeguard(pool=POOL, **databases(frozen.conninfo(), postgres)))
    frozen.freeze()
    assert all_timed_out(crowd.ask("select 1"))
    assert crowd.seconds < POOL_TIMEOUT + SLACK
    frozen.thaw()
    crowd.is_served()


def test_clients_of_a_frozen_server_get_the_other_host_in_time(lifeguard, frozen: PostgreSQL, postgres: PostgreSQL):
    crowd = Crowd(lifeguard(pool=POOL, **databases(hosts(frozen, postgres), postgres)))
    frozen.freeze()
    assert values(crowd.ask("select inet_server_port()")) == [str(postgres.port)] * CLIENTS
    assert crowd.seconds < POOL_TIMEOUT + SLACK
    crowd.is_served()


def test_a_frozen_host_does_not_hold_back_dials_to_the_other(lifeguard, frozen: PostgreSQL, postgres: PostgreSQL):
    """Its connections count there until their ends have been waited for, which is longer than clients wait."""
    settings = POOL | {"close_timeout": "60s", "pool_timeout": "20s"}
    crowd = Crowd(lifeguard(pool=settings, **databases(hosts(frozen, postgres), postgres)))
    frozen.freeze()
    assert values(crowd.ask("select inet_server_port()")) == [str(postgres.port)] * CLIENTS
    assert postgres.backends() <= POOL["pool_size"] + 1, "the bystander's included"
    assert crowd.daemon.pool()["sv_closing"] == str(POOL["pool_size"])
    frozen.thaw()
    wait_until(lambda: crowd.daemon.pool()["sv_closing"] == "0", "the ends have come")
    crowd.is_served()


def test_no_host_gets_more_connections_than_the_bound_while_one_is_frozen(
        lifeguard, frozen: PostgreSQL, postgres: PostgreSQL):
    """The frozen one comes back while its connections are still being closed and clients wait for more."""
    settings = POOL | {"close_timeout": "60s", "pool_timeout": "20s"}
    crowd = Crowd(lifeguard(pool=settings, **databases(hosts(frozen, postgres), postgres)))
    frozen.freeze()
    with ThreadPoolExecutor(1) as thread:
        answers = thread.submit(crowd.ask, "select pg_sleep(0.2)")
        wait_until(lambda: int(crowd.daemon.pool()["sv_closing"]) > 0, "the pings have failed")
        frozen.thaw()
        while not answers.done():
            assert frozen.backends() <= POOL["pool_size"]
            assert postgres.backends() <= POOL["pool_size"] + 1, "the bystander's included"
        assert [kinds(answer) for answer in answers.result()] == ["TDCZ"] * CLIENTS
    crowd.is_served()


def test_connections_that_swallow_everything_are_replaced_after_one_ping(
        lifeguard, distant: PostgreSQL, postgres: PostgreSQL):
    """And not before their end has been waited for: for the server they may still be there, and count."""
    with Relay(distant.port) as relay:
        upstream = f"host=127.0.0.1 port={relay.port} user=app dbname=app sslmode=disable"
        crowd = Crowd(lifeguard(pool=POOL, **databases(upstream, postgres)))
        relay.stop()
        assert values(crowd.ask("select 'served'")) == ["served"] * CLIENTS
        assert PRE_PING_TIMEOUT + CLOSE_TIMEOUT <= crowd.seconds < POOL_TIMEOUT
        crowd.is_served()


# MARK: a network that loses packets


def test_an_unplugged_idle_server_is_found_out_by_ping_and_no_other_pool_is_delayed(
        lifeguard, cable: Cable, far: Relay, postgres: PostgreSQL):
    crowd = Crowd(lifeguard(pool=POOL, **databases(over_cable(cable, far), postgres)))
    cable.unplug()
    assert all_timed_out(crowd.ask("select 1"))
    assert crowd.seconds < POOL_TIMEOUT + SLACK
    cable.plug_in()
    crowd.is_served()


def test_clients_of_an_unplugged_server_get_the_other_host_in_time(
        lifeguard, cable: Cable, far: Relay, postgres: PostgreSQL):
    upstream = over_cable(cable, far, host=f"{cable.address},127.0.0.1", port=f"{far.port},{postgres.port}")
    crowd = Crowd(lifeguard(pool=POOL, **databases(upstream, postgres)))
    cable.unplug()
    assert values(crowd.ask("select inet_server_port()")) == [str(postgres.port)] * CLIENTS
    assert crowd.seconds < POOL_TIMEOUT + SLACK
    crowd.is_served()


def test_without_pings_tcp_user_timeout_finds_out_and_the_request_has_not_run(
        lifeguard, cable: Cable, far: Relay, marks: PostgreSQL):
    """What the daemon has sent is not acknowledged. It cannot know whether it arrived, so the answer is 40003."""
    daemon = lifeguard(pool=POOL | {"pool_pre_ping": False},
                       **databases(over_cable(cable, far, tcp_user_timeout="1000"), marks))
    with WireClient.app(daemon.port) as client:
        client.rows("select 1")
        cable.unplug()
        answer = client.ask(query("insert into marks values ('once')"))
        assert kinds(answer) == "EZ" and error(answer)["C"] == "40003" and answer[-1].text == "I"
        cable.plug_in()
        assert client.rows("select count(*) from marks") == [["0"]]
        client.rows("insert into marks values ('once')")
        assert marks.psql("select mark from marks") == "once"


#: TCP asks for a sign of life after a second without data, and gives up after two without one.
KEEPALIVES = {"keepalives_idle": "1", "keepalives_interval": "1", "tcp_user_timeout": "2000"}


def test_a_server_unplugged_in_mid_query_is_given_up_by_keepalives(
        lifeguard, cable: Cable, far: Relay, marks: PostgreSQL):
    daemon = lifeguard(pool=POOL, **databases(over_cable(cable, far, **KEEPALIVES), marks))
    with WireClient.app(daemon.port) as client:
        client.send(query("insert into marks select 'slow' from pg_sleep(60)"))
        until_running(marks, "slow")
        cable.unplug()
        answer = client.until_ready()
        assert kinds(answer) == "EZ" and error(answer)["C"] == "40003" and answer[-1].text == "I"
        cable.plug_in()
        assert client.rows("select 'own reply'") == [["own reply"]]
        assert client.rows("select count(*) from marks") == [["0"]]


@pytest.mark.parametrize("is_running", [True, False], ids=["in mid-query", "while idle"])
def test_a_block_that_is_unplugged_is_lost_until_rollback(
        lifeguard, cable: Cable, far: Relay, marks: PostgreSQL, is_running: bool):
    daemon = lifeguard(pool=POOL, **databases(over_cable(cable, far, **KEEPALIVES), marks))
    with WireClient.app(daemon.port) as client:
        client.rows("begin")
        client.rows("insert into marks values ('in the block')")
        if is_running:
            client.send(query("select pg_sleep(60)"))
            until_running(marks, "pg_sleep")
            cable.unplug()
        else:
            cable.unplug()
            client.send(query("insert into marks values ('into the void')"))
        answer = client.until_ready()
        assert kinds(answer) == "EZ" and error(answer)["C"] == "40001" and answer[-1].text == "E"
        cable.plug_in()
        answer = client.ask(query("insert into marks values ('after it')"))
        assert error(answer)["C"] == "25P02" and answer[-1].text == "E"
        answer = client.ask(query("commit"))
        assert kinds(answer) == "CZ" and answer[0].text == "ROLLBACK" and answer[-1].text == "I"
        assert client.rows("select 'own reply'") == [["own reply"]]
        assert client.rows("select count(*) from marks") == [["0"]]


def test_a_network_that_loses_packets_for_a_moment_costs_nobody_anything(
        lifeguard, cable: Cable, far: Relay, marks: PostgreSQL):
    """The reply is sent into the gap, and comes when TCP sends it again: no error, no second run."""
    patient = over_cable(cable, far, **KEEPALIVES | {"tcp_user_timeout": "20000"})
    daemon = lifeguard(pool=POOL, **databases(patient, marks))
    with WireClient.app(daemon.port) as client:
        client.send(query("insert into marks select 'slow' from pg_sleep(0.5) returning mark"))
        until_running(marks, "slow")
        cable.unplug()
        wait_until(lambda: marks.psql("select state from pg_stat_activity where usename = 'app'") == "idle",
                   "the server is done")
        cable.plug_in()
        answer = client.until_ready()
        assert values([answer]) == ["slow"] and kinds(answer) == "TDCZ"
        assert client.rows("select count(*) from marks") == [["1"]]


# MARK: a server that freezes just after it was proven, before it has answered the daemon's own question

#: One connection at a time, which is never pinged because it has just answered.
PROVEN = POOL | {"pool_size": 1, "pre_ping_idle": "1h", "cancel_timeout": "1s"}


@pytest.fixture
def relay(marks: PostgreSQL) -> Iterator[Relay]:
    """Before `marks`. Connections on which it is stopped swallow everything; new ones pass."""
    with Relay(marks.port) as relay:
        yield relay


def through(relay: Relay) -> dict:
    """A pool whose connections go through the relay."""
    return {"databases.app": {"upstream": f"host=127.0.0.1 port={relay.port} user=app dbname=app sslmode=disable"}}


def test_settings_that_are_not_confirmed_in_time_send_the_client_to_another_connection(lifeguard, relay: Relay):
    """Nothing of its request had been sent."""
    daemon = lifeguard(pool=PROVEN, **through(relay))
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        client.rows("set my.own = 'kept'")
        other.rows("select 1")
        relay.stop()
        client.send(query("insert into marks values (current_setting('my.own')) returning mark"))
        wait_until(lambda: relay.is_holding, "the settings are under way")
        assert values([client.until_ready()]) == ["kept"]
        assert other.rows("select mark from marks") == [["kept"]]


def test_startup_settings_that_are_not_answered_in_time_are_tried_on_another_connection(lifeguard, relay: Relay):
    daemon = lifeguard(pool=PROVEN, **through(relay))
    with WireClient.app(daemon.port) as first:
        first.rows("select 1")
        relay.stop()
        with WireClient(daemon.port, {"user": "app", "database": "app", "search_path": "pg_catalog"}) as client:
            assert client.rows("show search_path") == [["pg_catalog"]]


def test_a_request_behind_settings_that_are_not_answered_gets_its_error(lifeguard, relay: Relay):
    """It may have been run, so nobody runs it again."""
    daemon = lifeguard(pool=PROVEN, **through(relay))
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        client.rows("set application_name = 'client'")
        other.rows("set application_name = 'other'")
        client.rows("select 1")
        other.rows("select 1")
        relay.stop()
        answer = client.ask(query("insert into marks values ('once')"))
        assert kinds(answer) == "EZ" and error(answer)["C"] == "40003" and answer[-1].text == "I"
        assert "did not answer in time" in error(answer)["D"]
        assert client.rows("select count(*), current_setting('application_name') from marks") == [["0", "client"]]


def test_a_request_behind_a_discard_that_is_not_answered_gets_its_error(lifeguard, relay: Relay):
    daemon = lifeguard(pool=PROVEN, **through(relay))
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        client.rows("select 1")
        other.rows("select 1")
        relay.stop()
        answer = client.ask(query("select lastval()"))
        assert kinds(answer) == "EZ" and error(answer)["C"] == "40003" and answer[-1].text == "I"
        assert error(client.ask(query("select lastval()")))["C"] == "55000"


def test_a_held_begin_that_is_not_answered_in_time_opens_the_block_elsewhere(lifeguard, relay: Relay):
    settings = through(relay)["databases.app"]
    daemon = lifeguard(pool=PROVEN, **{"databases.app": settings | {"read_upstream": settings["upstream"]}})
    with WireClient.app(daemon.port) as client:
        client.rows("insert into marks values ('before')")
        relay.stop()
        client.rows("begin")
        assert values([client.ask(query("insert into marks values ('inside') returning mark"))]) == ["inside"]
        client.rows("rollback")
        assert client.rows("select mark from marks") == [["before"]]


def test_a_session_that_cannot_be_asked_about_is_lost_with_its_client(lifeguard, relay: Relay):
    daemon = lifeguard(pool=PROVEN | {"pool_size": 2}, **through(relay))
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        client.rows("select 1")
        relay.break_off(messages=len("TDCZ"))
        assert kinds(client.ask(query("select pg_advisory_lock(1)"))) == "TDCZ"
        client.send(query("select 2"))
        assert error([client.receive()])["C"] == "08006"
        with pytest.raises(Closed):
            client.receive()
        assert other.rows("select 'own reply'") == [["own reply"]]


def test_a_block_in_statement_mode_that_cannot_be_rolled_back_is_refused_as_ever(lifeguard, relay: Relay):
    daemon = lifeguard(pool=PROVEN | {"mode": "statement"}, **through(relay))
    with WireClient.app(daemon.port) as client:
        usual = client.ask(query("begin"))
        relay.break_off(messages=len("CZ"))
        assert [kinds(each) for each in (usual, client.ask(query("begin")))] == ["CEZ", "CEZ"]
        assert client.rows("select 'own reply'") == [["own reply"]]


def until_running(server: PostgreSQL, text: str) -> None:
    """Waits until user app runs a statement with this text."""
    running = ("select count(*) from pg_stat_activity where usename = 'app' and state = 'active' "
               f"and query like '%{text}%'")
    wait_until(lambda: server.psql(running) == "1", f"{text} runs")
