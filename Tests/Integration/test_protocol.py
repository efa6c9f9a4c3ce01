"""The protocol at its edges: what drivers never do, and what nobody should."""

from __future__ import annotations

import socket
import struct
import threading
import time

import pytest

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import resident_bytes
from kit.waiting import wait_until
from kit.wire import (
    COPY_DONE, FLUSH, GSSENC_REQUEST, SSL_REQUEST, SYNC, TERMINATE, Closed, WireClient, bind, close_portal,
    close_statement, copy_data, copy_fail, describe_portal, describe_statement, error, execute, frame, function_call,
    kinds, parse, query, startup, startup_packet,
)


@pytest.fixture
def client(daemon: Lifeguard):
    with WireClient.app(daemon.port) as client:
        yield client


@pytest.fixture
def table(postgres: PostgreSQL):
    postgres.psql("create table wire (a int primary key, b text); grant all on wire to app")
    yield "wire"
    postgres.psql("drop table wire")


# MARK: startup


@pytest.mark.parametrize("request_code", [SSL_REQUEST, GSSENC_REQUEST])
def test_encryption_is_declined_and_the_startup_goes_on(daemon: Lifeguard, request_code: int):
    with WireClient(daemon.port) as client:
        client.send(startup_packet(request_code))
        assert client.receive_bytes(1) == b"N"
        client.send(startup({"user": "app", "database": "app"}))
        assert kinds(client.until_ready()).startswith("R")


def test_both_encryption_requests_in_turn(daemon: Lifeguard):
    with WireClient(daemon.port) as client:
        for code in (GSSENC_REQUEST, SSL_REQUEST):
            client.send(startup_packet(code))
            assert client.receive_bytes(1) == b"N"
        client.send(startup({"user": "app", "database": "app"}))
        client.until_ready()


def test_a_newer_minor_version_and_unknown_protocol_options_are_negotiated(daemon: Lifeguard):
    with WireClient(daemon.port) as client:
        client.send(startup({"user": "app", "database": "app", "_pq_.compression": "zstd"}, version=196608 + 2))
        answer = client.until_ready()
        negotiations = [message for message in answer if message.kind == "v"]
        assert len(negotiations) == 1
        newest, count = struct.unpack_from("!II", negotiations[0].payload)
        assert newest in (0, 196608) and count == 1
        assert negotiations[0].payload[8:] == b"_pq_.compression\0"
        assert client.rows("select 1") == [["1"]]


def test_the_database_defaults_to_the_user(daemon: Lifeguard):
    with WireClient(daemon.port, {"user": "app"}) as client:
        assert client.rows("select current_database()") == [["app"]]


@pytest.mark.parametrize("packet, words", [
    pytest.param(startup({"database": "app"}), "user", id="no user"),
    pytest.param(startup({"user": "app"}, version=4 << 16), "protocol", id="protocol 4"),
    pytest.param(startup({"user": "app", "replication": "database"}), "replication", id="replication"),
])
def test_a_startup_that_cannot_be_served_is_refused_with_words(daemon: Lifeguard, packet: bytes, words: str):
    with WireClient(daemon.port) as client:
        client.send(packet)
        assert words in error(client.until_ready())["M"].lower()
        assert client.is_closed()


def test_a_startup_in_single_bytes(daemon: Lifeguard):
    with WireClient(daemon.port) as client:
        for byte in startup({"user": "app", "database": "app"}):
            client.send(bytes([byte]))
        client.until_ready()
        for byte in query("select 1"):
            client.send(bytes([byte]))
        assert kinds(client.until_ready()) == "TDCZ"


@pytest.mark.parametrize("garbage", [
    pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="http"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200, id="tls"),
    pytest.param(b"\0\0\0\0", id="length 0"),
    pytest.param(b"\0\0\0\x07\0\0\0", id="length 7"),
    pytest.param(b"\x7f\xff\xff\xff", id="length 2 GB"),
    pytest.param(b"\xff\xff\xff\xff", id="length -1"),
    pytest.param(startup_packet(196608, b"user\0app"), id="no terminator"),
    pytest.param(startup_packet(196608, b"x" * 12000), id="too long"),
    pytest.param(bytes(range(256)) * 64, id="noise"),
    # PostgreSQL answers it in the format of its protocol 2.
    pytest.param(startup({"user": "app"}, version=2 << 16), id="protocol 2"),
])
def test_garbage_on_the_port_is_closed_and_harms_nobody(daemon: Lifeguard, client: WireClient, garbage: bytes):
    for _ in range(20):
        with WireClient(daemon.port) as bad:
            bad.send(garbage)
            assert bad.is_closed()
    assert client.rows("select 1") == [["1"]]


def test_half_open_connections_are_reaped_and_block_nobody(lifeguard):
    daemon = lifeguard(server={"client_login_timeout": "1s"})
    half_open = [WireClient(daemon.port) for _ in range(100)]
    for number, client in enumerate(half_open):
        client.send(startup({"user": "app", "database": "app"})[:number % 20])
    with WireClient.app(daemon.port) as client:
        assert client.rows("select 1") == [["1"]]
    for client in half_open:
        assert client.is_closed()


# MARK: requests


def test_a_pipeline_of_simple_queries(client: WireClient):
    client.send(*(query(f"select {number}") for number in range(200)))
    for number in range(200):
        answer = client.until_ready()
        assert [message.values for message in answer if message.kind == "D"] == [[str(number)]]


def test_a_pipeline_of_extended_queries_with_errors(client: WireClient):
    def one(number: int) -> bytes:
        divisor = 0 if number % 7 == 3 else 1
        return parse(f"select {number} / $1::int") + bind((str(divisor),)) + describe_portal() + execute() + SYNC

    client.send(*(one(number) for number in range(100)))
    for number in range(100):
        answer = client.until_ready()
        if number % 7 == 3:
            assert error(answer)["C"] == "22012"
        else:
            assert kinds(answer) == "12TDCZ"
            assert [message.values for message in answer if message.kind == "D"] == [[str(number)]]


def test_everything_after_an_error_is_skipped_until_sync(client: WireClient):
    bad = parse("select 1/0") + bind() + execute()
    good = parse("select 1") + bind() + execute()
    answer = client.ask(good, bad, good, describe_portal(), close_portal(), FLUSH, good, SYNC)
    # The division fails while Bind plans it.
    assert kinds(answer) == "12DC1EZ"
    assert kinds(client.ask(good, SYNC)) == "12DCZ"


def test_flush_brings_answers_without_a_sync(client: WireClient):
    client.send(parse("select 1"), describe_statement(), FLUSH)
    assert kinds(client.until(lambda message: message.kind == "T")) == "1tT"
    client.send(bind(), execute(), FLUSH)
    assert kinds(client.until(lambda message: message.kind == "C")) == "2DC"
    assert kinds(client.ask(SYNC)) == "Z"


def test_a_portal_with_a_row_limit(client: WireClient):
    client.ask(query("begin"))
    client.send(parse("select generate_series(1, 10)"), bind(portal="p"), execute("p", 4), FLUSH)
    assert kinds(client.until(lambda message: message.kind == "s")) == "12DDDDs"
    assert kinds(client.ask(execute("p", 4), SYNC)) == "DDDDsZ"
    assert kinds(client.ask(execute("p", 0), close_portal("p"), SYNC)) == "DDC3Z"
    client.ask(query("commit"))


def test_an_empty_query_and_an_empty_statement(client: WireClient):
    assert kinds(client.ask(query(""))) == "IZ"
    assert kinds(client.ask(parse(""), bind(), execute(), SYNC)) == "12IZ"
    assert kinds(client.ask(SYNC)) == "Z"


def test_named_statements_within_one_transaction(client: WireClient):
    client.ask(query("begin"))
    answer = client.ask(parse("select $1::int", "mine"), SYNC)
    if kinds(answer) == "EZ":
        assert error(answer)["C"] == "0A000" and "prepared statement" in error(answer)["M"]
        return
    for number in range(5):
        answer = client.ask(bind((str(number),), "mine"), execute(), SYNC)
        assert [message.values for message in answer if message.kind == "D"] == [[str(number)]]
    assert kinds(client.ask(close_statement("mine"), SYNC)) == "3Z"
    client.ask(query("commit"))


def test_a_function_call(client: WireClient, postgres: PostgreSQL):
    oid = int(postgres.psql("select 'int4pl(int,int)'::regprocedure::oid"))
    answer = client.ask(function_call(oid, (struct.pack("!i", 40), struct.pack("!i", 2))))
    assert kinds(answer) == "VZ"
    assert struct.unpack("!ii", answer[0].payload) == (4, 42)
    assert kinds(client.ask(function_call(oid, (struct.pack("!i", 2**31 - 1), struct.pack("!i", 1))))) == "EZ"
    assert client.rows("select 1") == [["1"]]


@pytest.mark.parametrize("bad", [
    pytest.param(frame(b"y", b"what"), id="unknown type"), pytest.param(frame(b"Z"), id="a server's type"),
    pytest.param(b"Q\0\0\0\3", id="length 3"), pytest.param(b"Q\xff\xff\xff\xff", id="length -1"),
])
def test_a_message_that_is_none_ends_the_connection_with_words(daemon: Lifeguard, bad: bytes):
    with WireClient.app(daemon.port) as client:
        client.rows("select 1")
        client.send(bad)
        message = client.receive()
        assert message.kind == "E" and message.fields["V"] == "FATAL" and message.fields["C"] == "08P01"
        assert client.is_closed()
    assert daemon.psql("select 1").stdout == "1\n"


def test_terminate_and_a_bare_close_free_the_client(daemon: Lifeguard):
    clients = [WireClient.app(daemon.port) for _ in range(10)]
    for number, client in enumerate(clients):
        client.rows("select 1")
        if number % 2:
            client.send(TERMINATE)
        client.close()
    wait_until(lambda: daemon.pool()["cl_active"] == "0", "all are gone")


# MARK: clients that leave at the wrong moment


@pytest.mark.parametrize("last", [
    pytest.param(query("select pg_sleep(60)"), id="running"),
    pytest.param(query("select pg_sleep(60)")[:9], id="half a message"),
    pytest.param(parse("insert into wire values (1)") + bind() + execute(), id="no sync"),
    pytest.param(parse("insert into wire values (1)") + bind() + execute() + FLUSH, id="flush, no sync"),
    pytest.param(query("copy wire from stdin") + copy_data(b"1\tx\n"), id="in copy in"),
    pytest.param(query("copy wire from stdin") + copy_data(b"1\tx\n")[:7], id="half of a copy message"),
    pytest.param(query("copy (select * from generate_series(1, 10000000)) to stdout"), id="in copy out"),
    pytest.param(query("begin; insert into wire values (1)"), id="in a transaction"),
    pytest.param(query("select repeat('x', 100000000)"), id="in a large result"),
])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_at_the_wrong_moment_harms_nobody(
        lifeguard, table: str, last: bytes, how: str, postgres: PostgreSQL):
    daemon = lifeguard(pool={"pool_size": 1, "max_overflow": 0})
    leaving = WireClient.app(daemon.port)
    with WireClient.app(daemon.port) as staying:
        staying.rows("select 1")
        leaving.send(last)
        wait_until(lambda: daemon.pool()["sv_active"] == "1" or daemon.pool()["sv_idle"] == "1", "it has arrived")
        getattr(leaving, how)()
        assert staying.rows("select count(*) from wire") == [["0"]]
        wait_until(lambda: postgres.backends() <= 1, "no connection too many is left")


# MARK: COPY


def test_copy_in_by_hand(client: WireClient, table: str):
    client.send(query("copy wire from stdin"))
    assert client.receive().kind == "G"
    # Sync and Flush within COPY IN are swallowed by the server.
    client.send(copy_data(b"1\tone\n2\t"), SYNC, FLUSH, copy_data(b"two\n"), COPY_DONE)
    assert kinds(client.until_ready()) == "CZ"
    assert client.rows("select b from wire order by a") == [["one"], ["two"]]


def test_copy_in_by_the_extended_protocol(client: WireClient, table: str):
    client.send(parse("copy wire from stdin"), bind(), execute())
    client.send(FLUSH)
    assert kinds(client.until(lambda message: message.kind == "G")) == "12G"
    client.send(copy_data(b"1\tone\n"), COPY_DONE, SYNC)
    assert kinds(client.until_ready()) == "CZ"


def test_copy_fail(client: WireClient, table: str):
    client.send(query("copy wire from stdin"))
    assert client.receive().kind == "G"
    client.send(copy_data(b"1\tone\n"), copy_fail("changed my mind"))
    fields = error(client.until_ready())
    assert fields["C"] == "57014" and "changed my mind" in fields["M"]
    assert client.rows("select count(*) from wire") == [["0"]]


def test_copy_data_after_an_error_is_dropped(client: WireClient, table: str):
    client.send(query("copy wire from stdin"))
    assert client.receive().kind == "G"
    client.send(copy_data(b"no number\tx\n"), *(copy_data(b"1\tx\n" * 1000) for _ in range(200)), COPY_DONE)
    assert error(client.until_ready())["C"] == "22P02"
    assert client.rows("select count(*) from wire") == [["0"]]


def test_copy_sent_before_it_is_known_whether_it_starts(client: WireClient, table: str):
    """A client may send its data without waiting for CopyInResponse, even where the COPY then fails."""
    client.send(query("copy wire from stdin"), copy_data(b"1\tone\n"), COPY_DONE, query("select 'next'"))
    assert kinds(client.until_ready()) == "GCZ"
    assert [m.values for m in client.until_ready() if m.kind == "D"] == [["next"]]
    client.send(query("copy missing from stdin"), copy_data(b"1\tone\n"), COPY_DONE, query("select 'next'"))
    assert error(client.until_ready())["C"] == "42P01"
    assert [m.values for m in client.until_ready() if m.kind == "D"] == [["next"]]


def test_a_query_with_two_copies_and_rows(client: WireClient, table: str):
    client.send(query("copy wire from stdin; select 5; copy wire from stdin; copy wire to stdout"))
    client.send(copy_data(b"1\tone\n"), COPY_DONE, copy_data(b"2\ttwo\n"), COPY_DONE)
    assert kinds(client.until_ready()) == "GCTDCGCHddcCZ"


# MARK: flow


def test_a_slow_reader_costs_no_memory_and_stalls_nobody(daemon: Lifeguard):
    with WireClient.app(daemon.port) as quick, WireClient.app(daemon.port) as slow:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        quick.rows("select 1")
        before = resident_bytes(daemon.pid)
        slow.send(query("select repeat(md5(n::text), 320) from generate_series(1, 10240) n"))
        slow.receive()
        for _ in range(300):
            assert quick.rows("select 1") == [["1"]]
        blocked = "select count(*) from pg_stat_activity where wait_event = 'ClientWrite'"
        wait_until(lambda: quick.rows(blocked) == [["1"]], "the server waits for the slow client")
        assert resident_bytes(daemon.pid) - before < 8 * 1024 * 1024
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        total = sum(len(message.payload) for message in slow.until_ready() if message.kind == "D")
        assert total > 100 * 1024 * 1024


def test_a_large_message_streams_to_the_server(daemon: Lifeguard, client: WireClient):
    client.rows("select 1")
    before = resident_bytes(daemon.pid)
    value = b"x" * (64 * 1024 * 1024)
    client.send(frame(b"Q", b"select length('" + value + b"')\0"))
    answer = client.until_ready()
    assert [message.values for message in answer if message.kind == "D"] == [[str(len(value))]]
    assert resident_bytes(daemon.pid) - before < 8 * 1024 * 1024


def test_a_client_that_sends_without_reading_is_held_back(daemon: Lifeguard):
    """Both directions full at once: no deadlock, no memory, and the answers are all there in the end."""
    text = "x" * 10_000
    with WireClient.app(daemon.port) as client, WireClient.app(daemon.port) as other:
        other.rows("select 1")
        before = resident_bytes(daemon.pid)
        client.socket.setblocking(False)
        pending = query(f"select '{text}'") * 2000
        sent = 0
        stalled_since = time.monotonic()
        while sent < len(pending) and time.monotonic() - stalled_since < 1:
            try:
                sent += client.socket.send(pending[sent:sent + 65536])
                stalled_since = time.monotonic()
            except BlockingIOError:
                assert other.rows("select 1") == [["1"]]
        assert resident_bytes(daemon.pid) - before < 8 * 1024 * 1024
        client.socket.settimeout(20)
        rest = threading.Thread(target=lambda: client.socket.sendall(pending[sent:]))
        rest.start()
        for _ in range(2000):
            answer = client.until_ready()
            assert [len(message.values[0]) for message in answer if message.kind == "D"] == [len(text)]
        rest.join()


def test_pings_and_idle_clients_are_told_nothing(daemon: Lifeguard, postgres: PostgreSQL):
    """Nothing is ever sent to a client that has no request in flight."""
    with WireClient.app(daemon.port) as client:
        client.rows("select 1")
        postgres.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
        wait_until(lambda: postgres.backends() == 0, "the backend is gone")
        client.socket.settimeout(0.3)
        with pytest.raises((TimeoutError, Closed)) as raised:
            client.receive()
        assert raised.type is not Closed
        client.socket.settimeout(20)
        assert client.rows("select 2") == [["2"]]
