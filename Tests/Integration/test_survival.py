"""Clients whose server connection dies, message by message: in every situation, in every way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kit.admin import command
from kit.daemon import Lifeguard
from kit.faults import DEATHS, Death, rst, strike, terminate
from kit.postgres import PostgreSQL
from kit.relay import Relay
from kit.waiting import wait_until
from kit.wire import (
    COPY_DONE, FLUSH, READY, SYNC, Closed, Message, WireClient, bind, close_statement, copy_data, copy_fail,
    describe_portal, describe_statement, execute, function_call, parse, query, told,
)

#: Nothing of its answer comes before its end.
FOREVER = "insert into survived select 'forever' from pg_sleep(600)"
PG_SLEEP = 2626  # pg_proc's oid of pg_sleep(float8), fixed since there is PostgreSQL.
INSERT = query("insert into survived values ('in the block')")
#: Runs in whichever transaction the client believes to be in.
STRAY = query("insert into survived values ('stray')")
BEGIN = query("begin")
ROWS = query("select n, repeat('x', 300) from generate_series(1, 3) n")
FAILS = query("select 1/0")
COPY_OUT = query("copy (select n, repeat('x', 300) from generate_series(1, 3) n) to stdout")
COPY_IN = query("copy survived from stdin")


def cycle(sql: str, end: bytes = SYNC) -> bytes:
    """A statement by the extended protocol. Of one that takes time, three messages come at once."""
    return parse(sql) + bind() + describe_portal() + FLUSH + execute() + end


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """A PostgreSQL that the tests may crash. What it has acknowledged it has after a crash."""
    server = PostgreSQL(settings={"synchronous_commit": "on", "max_prepared_transactions": "2"})
    server.psql("create table survived (word text); grant all on survived to app")
    server.psql("create procedure nothing() language sql as 'select 1'")
    yield server
    server.remove()


@pytest.fixture
def relay(server: PostgreSQL) -> Iterator[Relay]:
    server.psql("truncate survived")
    with Relay(server.port) as relay:
        yield relay
    server.psql("select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'app'")


@pytest.fixture
def daemon(lifeguard, relay: Relay) -> Lifeguard:
    """Behind the relay, with one server connection at a time."""
    return lifeguard(pool={"pool_size": 1, "max_overflow": 0, "pool_pre_ping": False}, **{
        "databases.app": {"upstream": f"host=127.0.0.1 port={relay.port} user=app dbname=app sslmode=disable"}})


def messages(client: WireClient, count: int) -> list[Message]:
    return [client.receive() for _ in range(count)]


def check_in_step(client: WireClient) -> None:
    """Every reply is the one to its request, by each protocol, also when several are under way."""
    for number in range(3):
        assert told(client.ask(query(f"select '{number}'"))) == ["T", f"D {number}", "C SELECT 1", "Z I"]
        assert told(client.ask(cycle(f"select 'cycle {number}'"))) == [
            "1", "2", "T", f"D cycle {number}", "C SELECT 1", "Z I"]
    client.send(*(query(f"select '{number}'") for number in range(10, 20)))
    for number in range(10, 20):
        assert told(client.until_ready()) == ["T", f"D {number}", "C SELECT 1", "Z I"]


def leave(client: WireClient) -> None:
    """In a lost block nothing runs until it ends."""
    assert told(client.ask(STRAY)) == ["E 25P02", "Z E"]
    assert told(client.ask(cycle("insert into survived values ('stray')"))) == ["E 25P02", "Z E"]
    assert told(client.ask(query("savepoint s"))) == ["E 25P02", "Z E"]
    assert told(client.ask(query("rollback"))) == ["C ROLLBACK", "Z I"]


def client_id(daemon: Lifeguard) -> int:
    """The number of the only client's connection."""
    (row,) = command(daemon, "SHOW CLIENTS")
    return row["id"]


# MARK: the matrix


@dataclass
class Situation:
    """What a client has under way when its server connection dies, and what it is told of that."""

    name: str
    #: Answered before, one after the other.
    before: tuple[bytes, ...] = ()
    #: Under way.
    sent: bytes = b""
    #: Messages of the answer that come before the loss.
    seen: int = 0
    #: The server's further messages get lost on the way.
    breaks: bool = False
    #: What is told of the loss, without any further request.
    told: tuple[str, ...] = ()
    #: Sent afterwards, and what that is answered.
    then: bytes = b""
    told_then: tuple[str, ...] = ()
    #: What the server did before it died, although its client cannot be told so.
    done: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


UNKNOWN, UNDONE, LOST = ("E 40003", "Z I"), ("E 40001", "Z E"), ("E 40003", "Z E")
IN_BLOCK = (BEGIN, INSERT)
WAITS = cycle("select 'it is another connection'")
ANOTHER = ("1", "2", "T", "D it is another connection", "C SELECT 1", "Z I")

SITUATIONS = [
    Situation("idle", before=(query("select 1"),)),
    Situation("idle in a transaction", IN_BLOCK, then=STRAY, told_then=UNDONE),
    Situation("idle in a transaction, then a cycle", IN_BLOCK, then=cycle("select 1"), told_then=UNDONE),
    Situation("idle in a transaction, then a COMMIT", IN_BLOCK, then=query("commit"),
              told_then=("E 40001", "Z I")),
    Situation("idle in a transaction, then a COMMIT in a cycle", IN_BLOCK, then=cycle("commit"),
              told_then=("1", "2", "n", "E 40001", "Z I")),
    Situation("idle in a transaction, then a ROLLBACK", IN_BLOCK, then=query("rollback"),
              told_then=("C ROLLBACK", "Z I")),
    Situation("idle in a transaction, then a Sync", IN_BLOCK, then=SYNC + STRAY, told_then=("Z E", *UNDONE)),
    Situation("idle in a failed transaction", (BEGIN, FAILS), then=STRAY, told_then=UNDONE),

    Situation("a query", sent=query(FOREVER), told=UNKNOWN),
    Situation("a query in a transaction", IN_BLOCK, query(FOREVER), told=UNDONE),
    Situation("a cycle", sent=cycle(FOREVER), seen=3, told=UNKNOWN),
    Situation("a cycle in a transaction", IN_BLOCK, cycle(FOREVER), seen=3, told=UNDONE),
    Situation("a named statement", (parse(FOREVER, "s") + SYNC,), bind(statement="s") + FLUSH + execute() + SYNC,
              seen=1, told=UNKNOWN),
    Situation("a named statement in a transaction", (parse(FOREVER, "s") + SYNC, *IN_BLOCK),
              bind(statement="s") + FLUSH + execute() + SYNC, seen=1, told=UNDONE),
    Situation("a function call", sent=function_call(PG_SLEEP, (b"\x40\x82\xc0\0\0\0\0\0",)), told=UNKNOWN),
    Situation("several statements in a query", sent=query(f"insert into survived values ('in the query'); {FOREVER}"),
              breaks=True, told=UNKNOWN),
    Situation("several statements in a query, one of them a COMMIT", IN_BLOCK,
              query(f"insert into survived values ('in the query'); {FOREVER}; commit"), breaks=True, told=LOST),
    Situation("a BEGIN whose answer is lost", sent=BEGIN, breaks=True, told=LOST),
    Situation("a COMMIT whose answer is lost", IN_BLOCK, query("commit"), breaks=True, told=UNKNOWN,
              done=("in the block",)),
    Situation("a CALL in a transaction whose answer is lost", IN_BLOCK, query("call nothing()"), breaks=True,
              told=LOST),
    Situation("an INSERT whose answer is lost", sent=INSERT, breaks=True, told=UNKNOWN, done=("in the block",)),

    Situation("a cycle without its Sync", sent=cycle(FOREVER, FLUSH), seen=3, then=SYNC + WAITS,
              told_then=(*UNKNOWN, *ANOTHER)),
    Situation("a cycle without its Sync in a transaction", IN_BLOCK, cycle(FOREVER, FLUSH), seen=3, then=SYNC,
              told_then=UNDONE),
    Situation("a cycle that goes on", sent=cycle(FOREVER, FLUSH), seen=3,
              then=cycle("insert into survived values ('stray')") + WAITS, told_then=(*UNKNOWN, *ANOTHER)),
    Situation("an answered cycle without its Sync", sent=parse("select 1") + FLUSH, seen=1, then=bind() + SYNC + WAITS,
              told_then=(*UNKNOWN, *ANOTHER)),
    Situation("a cycle that waits for a second one's Sync", sent=cycle(FOREVER) + cycle("select 1", FLUSH),
              seen=3, told=UNKNOWN, then=SYNC, told_then=UNKNOWN),

    Situation("queries in a pipeline", sent=query("select 1") + INSERT + STRAY, seen=4, breaks=True, told=UNKNOWN * 2,
              done=("in the block", "stray")),
    Situation("queries in a pipeline in a transaction", IN_BLOCK, query("select 1") + STRAY * 3, seen=4, breaks=True,
              told=UNDONE * 3),
    Situation("a transaction in a pipeline", sent=BEGIN + STRAY + query("commit"), seen=2, breaks=True,
              told=UNKNOWN * 2, done=("stray",)),
    Situation("a COMMIT and a BEGIN in a pipeline", IN_BLOCK, query("commit") + BEGIN + STRAY, breaks=True,
              told=LOST * 3, done=("in the block",)),
    Situation("a COMMIT in a cycle", IN_BLOCK, cycle("commit"), breaks=True, told=UNKNOWN, done=("in the block",)),
    Situation("a COMMIT that is only prepared", IN_BLOCK, parse("commit") + SYNC, breaks=True, told=LOST),
    Situation("a COMMIT by a named statement", (parse("commit", "c") + SYNC, *IN_BLOCK),
              bind(statement="c") + execute() + SYNC, breaks=True, told=UNKNOWN, done=("in the block",)),
    Situation("a ROLLBACK whose answer is lost", IN_BLOCK, query("rollback"), breaks=True, told=("E 40001", "Z I")),
    Situation("cycles in a pipeline", sent=cycle("select 1") + cycle(FOREVER) * 3, seen=9, told=UNKNOWN * 3),
    Situation("cycles in a pipeline in a transaction", IN_BLOCK, cycle("select 1") + cycle(FOREVER) * 3, seen=9,
              told=UNDONE * 3),
    Situation("Syncs alone in a pipeline", sent=cycle(FOREVER) + SYNC * 2, seen=3, told=UNKNOWN * 3),

    Situation("COPY IN", sent=COPY_IN + copy_data(b"copied\n"), seen=1, told=UNKNOWN,
              then=copy_data(b"copied\n" * 1000) * 20 + COPY_DONE),
    Situation("COPY IN in a transaction", IN_BLOCK, COPY_IN + copy_data(b"copied\n"), seen=1, told=UNDONE,
              then=copy_data(b"copied\n" * 1000) * 20 + COPY_DONE),
    Situation("COPY IN that is given up", sent=COPY_IN + copy_data(b"copied\n"), seen=1, told=UNKNOWN,
              then=copy_data(b"copied\n") + copy_fail("enough")),
    Situation("COPY IN by the extended protocol", sent=parse("copy survived from stdin") + bind() + execute() + SYNC
              + copy_data(b"copied\n"), seen=3, then=copy_data(b"copied\n") + COPY_DONE + SYNC, told_then=UNKNOWN),
    Situation("COPY OUT between rows", sent=COPY_OUT, seen=2, breaks=True, told=UNKNOWN),
    Situation("COPY OUT between rows in a transaction", IN_BLOCK, COPY_OUT, seen=3, breaks=True, told=UNDONE),
    Situation("COPY OUT whose ReadyForQuery is lost", sent=COPY_OUT, seen=6, breaks=True, told=UNKNOWN),

    Situation("between rows", sent=ROWS, seen=2, breaks=True, told=UNKNOWN),
    Situation("between rows in a transaction", IN_BLOCK, ROWS, seen=3, breaks=True, told=UNDONE),
    Situation("between rows of a cycle", sent=cycle("select generate_series(1, 3)"), seen=5, breaks=True, told=UNKNOWN),
    Situation("before ReadyForQuery", sent=ROWS, seen=5, breaks=True, told=UNKNOWN),

    Situation("an error before its ReadyForQuery", sent=FAILS, seen=1, breaks=True, told=("Z I",)),
    Situation("an error before its ReadyForQuery in a transaction", IN_BLOCK, FAILS + STRAY, seen=1, breaks=True,
              told=("Z E", *UNDONE)),
    Situation("an error in a cycle before its ReadyForQuery", sent=cycle("select 1/0") + cycle(FOREVER), seen=2,
              breaks=True, told=("Z I", *UNKNOWN)),
    Situation("an error in a cycle before its Sync", sent=cycle("select 1/0", FLUSH), seen=2,
              then=bind() + SYNC + WAITS, told_then=("Z I", *ANOTHER)),
]


@pytest.fixture(params=DEATHS, ids=lambda death: death.__name__)
def death(request: pytest.FixtureRequest) -> Death:
    return request.param


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_a_client_survives(daemon: Lifeguard, server: PostgreSQL, relay: Relay, death: Death, situation: Situation):
    with WireClient.app(daemon.port) as client:
        number = client_id(daemon)
        for request in situation.before:
            client.ask(request)
        bring_about(client, relay, server, situation)
        strike(death, daemon, server, relay)
        answer = messages(client, len(situation.told))
        assert told(answer) == list(situation.told)
        check_silent(client)
        client.send(situation.then)
        answer += messages(client, len(situation.told_then))
        assert told(answer) == [*situation.told, *situation.told_then]
        assert all(message.fields["M"].startswith('pool "app/app"') for message in answer if message.kind == "E")
        if [message for message in answer if message.kind == "Z"][-1:] == [Message("Z", b"E")]:
            leave(client)
        check_in_step(client)
        assert client_id(daemon) == number
    assert written(server) == sorted(situation.done)


def bring_about(client: WireClient, relay: Relay, server: PostgreSQL, situation: Situation) -> None:
    """Sends what is to be under way, and waits until the server has got to it."""
    if not situation.sent:
        return
    if situation.breaks:
        relay.break_off(messages=situation.seen)
    client.send(situation.sent)
    messages(client, situation.seen)
    if FOREVER.encode() in situation.sent or situation.sent.startswith(b"F"):
        busy = "select count(*) from pg_stat_activity where usename = 'app' and wait_event = 'PgSleep'"
        wait_until(lambda: server.psql(busy) == "1", "the server is busy")
    elif situation.breaks:
        ends = len([each for each in situation.told if each.startswith("Z")])
        wait_until(lambda: relay.lost.count(READY) == ends, "the server has done it all")


def check_silent(client: WireClient) -> None:
    """Nothing more has come. What is sent for a loss is sent at once, and the daemon knows of it."""
    client.socket.setblocking(False)
    try:
        with pytest.raises(BlockingIOError):
            client.receive()
    finally:
        client.socket.settimeout(20)


def written(server: PostgreSQL) -> list[str]:
    return server.psql("select word from survived order by word").splitlines()


# MARK: in the middle of a message

INSIDE = [
    pytest.param((), ROWS, 2, id="a row"),
    pytest.param(IN_BLOCK, ROWS, 2, id="a row in a transaction"),
    pytest.param((), cycle("select repeat('x', 300)"), 3, id="a row of a cycle"),
    pytest.param((), ROWS, 0, id="what the columns are"),
    pytest.param((), COPY_OUT, 1, id="COPY OUT"),
]


@pytest.mark.parametrize("before,sent,whole", INSIDE)
def test_a_client_that_has_got_half_of_a_message_is_closed_without_a_word(
        daemon: Lifeguard, server: PostgreSQL, relay: Relay, death: Death, before: tuple[bytes, ...], sent: bytes,
        whole: int):
    """It would take an error for the rest of that message."""
    with WireClient.app(daemon.port) as client:
        for request in before:
            client.ask(request)
        relay.break_off(messages=whole, more=40)
        client.send(sent)
        messages(client, whole)
        client.receive_bytes(40)
        strike(death, daemon, server, relay)
        check_closed_without_a_word(client)
    assert written(server) == []
    with WireClient.app(daemon.port) as other:
        check_in_step(other)


def check_closed_without_a_word(client: WireClient) -> None:
    with pytest.raises(Closed, match="after b''"):
        client.receive()


@pytest.mark.parametrize("order", ["KILL_CLIENT {}", "KILL app"])
def test_a_client_that_is_killed_in_half_of_a_message_is_closed_without_a_word(
        daemon: Lifeguard, relay: Relay, order: str):
    with WireClient.app(daemon.port) as client:
        client.ask(query("select 1"))
        relay.break_off(messages=1, more=40)
        client.send(ROWS)
        messages(client, 1)
        client.receive_bytes(40)
        command(daemon, order.format(client_id(daemon)))
        check_closed_without_a_word(client)


def test_half_a_header_is_not_passed_on(daemon: Lifeguard, server: PostgreSQL, relay: Relay, death: Death):
    """So the client is between messages, and goes on."""
    with WireClient.app(daemon.port) as client:
        client.ask(query("select 1"))
        relay.break_off(messages=2, more=3)
        client.send(ROWS)
        messages(client, 2)
        wait_until(lambda: relay.lost, "half a header is on its way")
        strike(death, daemon, server, relay)
        assert told(messages(client, 2)) == list(UNKNOWN)
        check_in_step(client)


HALF_QUERY = query(f"select '{'x' * 200_000}'")[:100_000]


@pytest.mark.parametrize("sent,seen", [
    pytest.param(HALF_QUERY, 0, id="a query"),
    pytest.param(COPY_IN + copy_data(b"copied\n" * 10)[:30], 1, id="COPY IN"),
])
def test_a_client_that_has_sent_half_of_a_message_is_told_why_it_is_closed(
        daemon: Lifeguard, server: PostgreSQL, relay: Relay, death: Death, sent: bytes, seen: int):
    with WireClient.app(daemon.port) as client:
        client.ask(query("select 1"))
        client.send(sent)
        messages(client, seen)
        wait_until(lambda: daemon.pool()["sv_active"] == "1", "it is being passed on")
        strike(death, daemon, server, relay)
        fields = client.receive().fields
        assert (fields["S"], fields["C"]) == ("FATAL", "08006")
        assert fields["M"] == 'pool "app/app" lost the server connection in the middle of a message'
        check_closed_without_a_word(client)
    assert written(server) == []


def test_half_of_a_small_query_holds_no_connection_and_is_not_lost(
        daemon: Lifeguard, server: PostgreSQL, relay: Relay, death: Death):
    with WireClient.app(daemon.port) as client:
        client.ask(query("select 1"))
        whole = query("select 'whole'")
        client.send(whole[:9])
        strike(death, daemon, server, relay)
        check_silent(client)
        assert told(client.ask(whole[9:])) == ["T", "D whole", "C SELECT 1", "Z I"]


# MARK: the end of a lost block

#: Each ends a transaction block, and has a name of its own that it may be prepared by.
EXITS = ["rollback", "Rollback Work;", "abort", "commit", "end transaction", "/* that is */ commit -- it",
         "prepare transaction 'never'"]


@pytest.fixture
def lost(daemon: Lifeguard, server: PostgreSQL, relay: Relay) -> Iterator[WireClient]:
    """A client that has prepared all of EXITS, by their number, and has lost its block afterwards."""
    with WireClient.app(daemon.port) as client:
        for number, text in enumerate(EXITS):
            assert told(client.ask(parse(text, f"exit {number}") + SYNC)) == ["1", "Z I"]
        for request in IN_BLOCK:
            client.ask(request)
        strike(rst, daemon, server, relay)
        assert told(client.ask(STRAY)) == list(UNDONE)
        yield client
        check_in_step(client)
    assert written(server) == []


@pytest.mark.parametrize("text", EXITS)
def test_a_lost_block_ends_by_a_query(lost: WireClient, text: str):
    assert told(lost.ask(query(text))) == ["C ROLLBACK", "Z I"]


@pytest.mark.parametrize("text", EXITS)
def test_a_lost_block_ends_by_a_cycle(lost: WireClient, text: str):
    assert told(lost.ask(parse(text) + bind() + describe_portal() + execute() + SYNC)) == [
        "1", "2", "n", "C ROLLBACK", "Z I"]


@pytest.mark.parametrize("number", range(len(EXITS)))
def test_a_lost_block_ends_by_a_statement_that_was_prepared_before(lost: WireClient, number: int):
    name = f"exit {number}"
    assert told(lost.ask(describe_statement(name) + bind(statement=name) + execute() + SYNC)) == [
        "t", "n", "2", "C ROLLBACK", "Z I"]


@pytest.mark.parametrize("text", EXITS)
def test_a_statement_that_was_prepared_in_a_lost_block_is_there_afterwards(lost: WireClient, text: str):
    assert told(lost.ask(parse(text, "late") + SYNC)) == ["1", "Z E"]
    assert told(lost.ask(bind(statement="late") + execute() + SYNC)) == ["2", "C ROLLBACK", "Z I"]
    lost.ask(BEGIN)
    assert told(lost.ask(STRAY)) == ["C INSERT 0 1", "Z T"]
    lost.ask(FAILS)
    assert told(lost.ask(bind(statement="late") + execute() + SYNC)) == ["2", "C ROLLBACK", "Z I"]


def test_a_name_that_is_taken_cannot_be_given_in_a_lost_block(lost: WireClient):
    assert told(lost.ask(parse("rollback", "exit 0") + SYNC)) == ["E 25P02", "Z E"]
    assert told(lost.ask(close_statement("exit 0") + parse("abort", "exit 0") + SYNC)) == ["3", "1", "Z E"]
    assert told(lost.ask(bind(statement="exit 0") + execute() + SYNC)) == ["2", "C ROLLBACK", "Z I"]


@pytest.mark.parametrize("text", ["rollback to savepoint s", "release s", "commit and chain", "commit; " + FOREVER,
                                  "begin", "select 1", "commit prepared 'x'"])
def test_nothing_else_ends_a_lost_block(lost: WireClient, text: str):
    for request in (query(text), cycle(text), parse(text, "other") + SYNC):
        assert told(lost.ask(request)) == ["E 25P02", "Z E"]
    assert told(lost.ask(query("") + query("rollback"))) == ["I", "Z E"]
    assert told(lost.until_ready()) == ["C ROLLBACK", "Z I"]


def test_an_unnamed_statement_of_before_a_lost_block_is_not_what_was_parsed_in_it(
        daemon: Lifeguard, server: PostgreSQL, relay: Relay):
    with WireClient.app(daemon.port) as client:
        client.ask(BEGIN)
        client.ask(parse("insert into survived values ('stray')") + SYNC)
        strike(terminate, daemon, server, relay)
        assert told(client.ask(parse("rollback") + bind() + execute() + SYNC)) == ["1", "2", "C ROLLBACK", "Z I"]
        assert told(client.ask(bind() + execute() + SYNC)) == ["E 26000", "Z I"]
        check_in_step(client)
    assert written(server) == []


# MARK: what is dropped


def test_the_rest_of_a_lost_copy_takes_no_connection(daemon: Lifeguard, server: PostgreSQL, relay: Relay):
    with WireClient.app(daemon.port) as client:
        client.send(COPY_IN)
        messages(client, 1)
        strike(rst, daemon, server, relay)
        assert told(messages(client, 2)) == list(UNKNOWN)
        before = checkouts(daemon)
        client.send(copy_data(b"copied\n" * 100) * 50, COPY_DONE, SYNC)
        assert told(messages(client, 1)) == ["Z I"]
        assert checkouts(daemon) == before
        check_in_step(client)
    assert written(server) == []


def checkouts(daemon: Lifeguard) -> int:
    return int(daemon.metrics()['lifeguard_pool_checkouts_total{database="app",user="app"}'])


def test_a_request_that_never_reached_the_server_is_not_sent_again(
        daemon: Lifeguard, server: PostgreSQL, relay: Relay):
    """Nobody can tell that from a server that died after it."""
    with WireClient.app(daemon.port) as client:
        client.ask(query("select 1"))
        relay.stop()
        client.send(INSERT)
        wait_until(lambda: relay.is_holding, "it is on its way")
        strike(rst, daemon, server, relay)
        assert told(client.until_ready()) == list(UNKNOWN)
        check_in_step(client)
    assert written(server) == []
