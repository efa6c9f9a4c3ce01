"""TLS between clients and the daemon."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from kit import secrets
from kit.certificates import Certificate, Certificates
from kit.daemon import BINARY, Lifeguard
from kit.logins import DRIVERS, Login, code_in, parameters
from kit.postgres import PostgreSQL
from kit.processes import free_port, run
from kit.tls import request_tls, tls_client, unverified
from kit.waiting import wait_until
from kit.wire import GSSENC_REQUEST, SSL_REQUEST, WireClient, error, frame, query, startup, startup_packet


@pytest.fixture
def secured(lifeguard, postgres: PostgreSQL, certificates: Certificates, tmp_path: Path):
    """Starts a daemon with a tls_mode and SCRAM."""
    userlist = secrets.write_userlist(tmp_path / "users", {
        "app": secrets.GOOD, "alice": secrets.GOOD, "postgres": secrets.GOOD})

    def start(mode: str, method: str = "scram-sha-256", server: dict | None = None, **sections: dict) -> Lifeguard:
        sections.setdefault("databases.app", {"upstream": postgres.conninfo()})
        daemon = lifeguard(
            server=certificates.settings(mode) | (server or {}),
            auth={"method": method, "file": userlist}, admin={"users": ["postgres", "alice"]}, **sections)
        daemon.console = {"password": secrets.GOOD} | certificates.client(certificates.alice)
        if method == "cert":
            daemon.console |= {"user": "alice"}
        return daemon
    return start


def started(daemon: Lifeguard, context: ssl.SSLContext | None = None, *, direct: bool = False) -> WireClient:
    """A client that has started up inside of TLS, as far as the first request for a proof."""
    if direct:
        client = WireClient(daemon.port)
        client.socket = (context or unverified()).wrap_socket(client.socket)
    else:
        client = tls_client(daemon.port, None, context)
    client.send(startup({"user": "app", "database": "app"}))
    return client


# MARK: who gets TLS


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_tls_is_had_as_both_sides_want_it(secured, certificates: Certificates, mode: str, driver: str):
    daemon = secured(mode)
    log_in = DRIVERS[driver]

    def attempt(**more: str) -> Login:
        return log_in(parameters(daemon.port, "app", secrets.GOOD, **more))

    plain = attempt(sslmode="disable")
    if mode == "require":
        assert code_in(plain, "28000", 'connections without TLS are not allowed here'), plain
    else:
        assert plain.user == "app"
    for client_mode in ({"sslmode": "require"}, certificates.verify()):
        login = attempt(**client_mode)
        assert (login.user == "app") == (mode != "disable"), login
    foreign = certificates.verify() | {"sslrootcert": str(certificates.foreign_authority.certificate)}
    assert attempt(**foreign).user is None


def test_the_version_and_cipher_are_shown(secured):
    daemon = secured("require", server={"workers": 2})
    for minimum, version in (("TLSv1.2", "TLSv1.3"), ("TLSv1.2", "TLSv1.2")):
        more = {"ssl_max_protocol_version": version, "ssl_min_protocol_version": minimum}
        with psycopg.connect(**parameters(daemon.port, "app", secrets.GOOD, sslmode="require", **more)):
            console = parameters(daemon.port, "postgres", secrets.GOOD, database="lifeguard", sslmode="require")
            with psycopg.connect(**console, autocommit=True, row_factory=psycopg.rows.dict_row) as connection:
                rows = connection.execute("SHOW CLIENTS").fetchall()
            assert [row["tls"].split("/")[0] for row in rows if row["database"] == "app"] == [version]
    assert "tls=TLSv1.3/TLS_AES_256_GCM_SHA384" in daemon.log()


def test_old_versions_are_refused(secured):
    daemon = secured("require")
    context = unverified()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        started(daemon, context)
    wait_until(lambda: "TLS handshake failed" in daemon.log(), "the log")


def test_unix_sockets_are_exempt(secured, tmp_path: Path):
    port = free_port()
    path = tmp_path / f".s.PGSQL.{port}"
    daemon = secured("require", server={"listen": [f"127.0.0.1:{port}", str(path)]}, wait=False)
    daemon.port = port
    wait_until(lambda: daemon.http("/livez")[0] == 200, "the daemon is ready")
    assert DRIVERS["psycopg"](parameters(port, "app", secrets.GOOD, host=str(tmp_path))).user == "app"
    assert DRIVERS["psycopg"](parameters(port, "app", secrets.GOOD)).user is None


# MARK: the handshake


def test_direct_tls_needs_alpn(secured):
    daemon = secured("require")
    with started(daemon, unverified("postgresql"), direct=True) as client:
        assert client.receive().kind == "R"
        assert client.socket.selected_alpn_protocol() == "postgresql"
    for protocols in ([], ["http/1.1"]):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            started(daemon, unverified(*protocols), direct=True).receive()
    with started(daemon, unverified("postgresql")) as client:
        assert client.receive().kind == "R"


@pytest.mark.parametrize("rest", [startup({"user": "app", "database": "app"}), b"\x16", b"x"])
def test_bytes_behind_an_ssl_request_are_somebody_elses(secured, rest: bytes):
    daemon = secured("prefer")
    with WireClient(daemon.port) as client:
        client.send(startup_packet(SSL_REQUEST) + rest)
        answer = error(client.until(lambda message: message.kind == "E"))
        assert answer["C"] == "08P01" and "unencrypted data after SSL request" in answer["M"]


def test_encryption_is_asked_for_in_any_order(secured):
    daemon = secured("prefer")
    with WireClient(daemon.port) as client:
        client.send(startup_packet(GSSENC_REQUEST))
        assert client.receive_bytes(1) == b"N"
        request_tls(client)
        client.socket = unverified().wrap_socket(client.socket)
        client.send(startup_packet(GSSENC_REQUEST))
        assert client.receive_bytes(1) == b"N"
        client.send(startup_packet(SSL_REQUEST))
        assert error(client.until(lambda message: message.kind == "E"))["C"] == "08P01"


@pytest.mark.parametrize("garbage", [
    b"\x16\x03\x01\xff\xff" + b"x" * 1000, b"\x16" * 600, b"\x15\x03\x03\x00\x02\x02\x28", b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n"])
def test_garbage_in_a_handshake_ends_that_connection_only(secured, garbage: bytes):
    daemon = secured("prefer")
    for direct in (False, True):
        with WireClient(daemon.port) as client:
            if not direct:
                client.send(startup_packet(SSL_REQUEST))
                assert client.receive_bytes(1) == b"S"
            client.send(garbage)
            client.socket.shutdown(socket.SHUT_WR)
            assert client.is_closed()
    assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD, sslmode="require")).user == "app"


def test_a_client_that_stops_in_the_handshake_is_timed_out(secured):
    daemon = secured("require", server={"client_login_timeout": "300ms"})
    for sent in (b"", b"\x16\x03\x01\x02\x00"):
        with WireClient(daemon.port) as client:
            client.send(startup_packet(SSL_REQUEST))
            assert client.receive_bytes(1) == b"S"
            client.send(sent)
            assert client.is_closed()


# MARK: bytes


@contextlib.contextmanager
def relay(port: int, at_once: int) -> Iterator[int]:
    """A port that passes bytes on in pieces of a few bytes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                for start in range(0, len(data), at_once):
                    target.sendall(data[start:start + at_once])
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize("at_once", [1, 3, 17])
def test_records_may_be_split_anywhere(secured, at_once: int):
    daemon = secured("require")
    with relay(daemon.port, at_once) as port:
        with psycopg.connect(**parameters(port, "app", secrets.GOOD, sslmode="require")) as connection:
            for length in (1, 1000, 20_000):
                assert connection.execute("select repeat('x', %s), %s", (length, "y" * length)).fetchone() == (
                    "x" * length, "y" * length)


def test_large_data_is_intact_both_ways(secured, postgres: PostgreSQL):
    daemon = secured("require")
    postgres.psql("create table tls_copied (a bytea); grant all on tls_copied to app")
    try:
        sent, received = hashlib.sha256(), hashlib.sha256()
        with psycopg.connect(**parameters(daemon.port, "app", secrets.GOOD, sslmode="require")) as connection:
            with connection.cursor().copy("copy tls_copied from stdin") as copy:
                for number in range(400):
                    line = hashlib.sha256(bytes([number % 251])).hexdigest() * 1000
                    sent.update(line.encode())
                    copy.write(f"\\\\x{line}\n")
            with connection.cursor().copy("copy tls_copied to stdout") as copy:
                for row in copy.rows():
                    received.update(row[0][2:].encode())
        assert sent.hexdigest() == received.hexdigest()
    finally:
        postgres.psql("drop table tls_copied")


def test_a_half_closed_client_gets_its_answer(secured):
    daemon = secured("require", method="password")
    with started(daemon) as client:
        client.receive()
        client.send(frame(b"p", secrets.GOOD.encode() + b"\0"))
        client._finish_startup()
        client.send(query("select repeat('x', 200000)"))
        assert [len(message.values[0]) for message in client.until_ready() if message.kind == "D"] == [200_000]
        client.socket.unwrap()
        assert client.is_closed()
    wait_until(lambda: daemon.pool()["cl_active"] == "0", "the client is gone")


def test_a_password_message_and_the_first_query_may_come_in_one_record(secured):
    for workers in (1, 2, 4):
        daemon = secured("require", method="password", server={"workers": workers})
        for _ in range(8):
            with started(daemon) as client:
                client.receive()
                client.send(frame(b"p", secrets.GOOD.encode() + b"\0") + query("select 41") + query("select 42"))
                client._finish_startup()
                answers = [client.until_ready(), client.until_ready()]
                assert [message.values for answer in answers for message in answer if message.kind == "D"] == [["41"], ["42"]]


def test_many_tls_clients_share_few_connections(secured):
    daemon = secured("require", pool={"pool_size": 2, "max_overflow": 0})
    errors: list[Exception] = []

    def work() -> None:
        try:
            with psycopg.connect(**parameters(daemon.port, "app", secrets.GOOD, sslmode="require"),
                                 autocommit=True) as connection:
                for number in range(5):
                    assert connection.execute("select %s::int", (number,), prepare=False).fetchone() == (number,)
        except Exception as problem:  # noqa: BLE001
            errors.append(problem)

    threads = [threading.Thread(target=work) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[:3]


def test_a_query_is_cancelled_over_tls_and_in_clear(secured):
    daemon = secured("require")
    with psycopg.connect(**parameters(daemon.port, "app", secrets.GOOD, sslmode="require")) as connection:
        timer = threading.Timer(0.3, connection.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(30)")


# MARK: certificates


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_clients_need_a_certificate_of_the_right_authority(secured, certificates: Certificates, mode: str, driver: str):
    daemon = secured(mode)

    def attempt(**more: str) -> Login:
        return DRIVERS[driver](parameters(daemon.port, "app", secrets.GOOD, sslmode="require") | more)

    assert attempt(**certificates.client(certificates.alice)).user == "app"
    assert attempt(**certificates.client(certificates.foreign_alice)).user is None
    assert attempt(sslcert="/nonexistent").user is None if driver != "asyncpg" else attempt().user is None
    assert attempt(sslmode="disable").user is None


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_certificate_is_a_proof_for_its_own_name(secured, certificates: Certificates, driver: str):
    daemon = secured("verify-full", method="cert")
    alice = certificates.client(certificates.alice)
    assert DRIVERS[driver](parameters(daemon.port, "alice", sslmode="require", **alice)).user == "app"
    login = DRIVERS[driver](parameters(daemon.port, "app", sslmode="require", **alice))
    assert code_in(login, "28000", 'certificate authentication failed for user "app"'), login


def test_a_reload_takes_a_new_certificate(secured, certificates: Certificates, tmp_path: Path):
    shown = Certificate(tmp_path / "shown.crt", tmp_path / "shown.key")
    certificates.server.copy_to(shown)
    daemon = secured("require", server={"tls_cert": str(shown.certificate), "tls_key": str(shown.key)})
    old = psycopg.connect(**parameters(daemon.port, "app", secrets.GOOD, **certificates.verify()), autocommit=True)
    certificates.foreign_server.copy_to(shown)
    daemon.reload()
    foreign = certificates.verify() | {"sslrootcert": str(certificates.foreign_authority.certificate)}
    wait_until(lambda: DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD, **foreign)).user == "app",
               "the new certificate")
    assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD, **certificates.verify())).user is None
    assert old.execute("select 1").fetchone() == (1,)
    old.close()
    # One without its key changes nothing.
    shutil.copy(certificates.server.certificate, shown.certificate)
    daemon.reload()
    wait_until(lambda: "settings not reloaded: [server] tls_key" in daemon.log(), "the log")
    assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD, **foreign)).user == "app"


def test_check_names_the_file_that_is_at_fault(certificates: Certificates, tmp_path: Path):
    def check(**keys: str) -> str:
        settings = certificates.settings("verify-ca") | keys
        path = tmp_path / "l.toml"
        path.write_text("[server]\n" + "".join(f'{key} = "{value}"\n' for key, value in settings.items())
                        + '[auth]\nmethod = "trust"\n[databases.app]\nupstream = "host=h"\n')
        out = run([BINARY, "check", "--config", path], check=False)
        assert out.returncode == 1, out
        return out.stderr

    assert "[server] tls_cert: /nonexistent: " in check(tls_cert="/nonexistent")
    assert "[server] tls_key: " in check(tls_key=str(certificates.other_server.key))
    assert "[server] tls_ca: " in check(tls_ca=str(certificates.server.key))


# MARK: channel binding


@pytest.mark.parametrize("driver", ["psql", "psycopg", "psycopg2"])
def test_scram_is_bound_to_the_certificate(secured, driver: str):
    daemon = secured("require")
    bound = parameters(daemon.port, "app", secrets.GOOD, sslmode="require", channel_binding="require")
    assert DRIVERS[driver](bound).user == "app"
    assert DRIVERS[driver](bound | {"sslmode": "disable"}).user is None


@pytest.mark.parametrize("method", ["password", "md5"])
def test_a_client_that_wants_channel_binding_gives_its_password_to_no_other_method(secured, method: str):
    daemon = secured("require", method=method)
    for driver in ("psql", "psycopg"):
        login = DRIVERS[driver](
            parameters(daemon.port, "app", secrets.GOOD, sslmode="require", channel_binding="require"))
        assert login.user is None and "channel binding" in login.text, login
