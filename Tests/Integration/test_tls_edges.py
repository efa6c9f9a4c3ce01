"""TLS between clients and the daemon, where one of them does not do what the other one hopes for."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import asyncpg
import psycopg
import psycopg2
import pytest

from kit import secrets
from kit.certificates import Certificate, Certificates
from kit.daemon import BINARY, Lifeguard
from kit.logins import DRIVERS, code_in, parameters
from kit.postgres import PostgreSQL
from kit.processes import resident_bytes, run, spawn
from kit.tls import bytewise, client_hello, man_in_the_middle, request_tls, tls_client, unverified
from kit.waiting import wait_until
from kit.wire import SSL_REQUEST, WireClient, cancel_request, copy_data, error, query, startup, startup_packet

APP = {"user": "app", "database": "app"}
#: libpq's, from the one that never asks for TLS to the one that trusts least.
CLIENT_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@pytest.fixture
def encrypted(lifeguard, certificates: Certificates) -> Callable[..., Lifeguard]:
    """Starts a daemon with TLS that trusts everybody: `encrypted("require", pool={"pool_size": 1})`."""

    def start(mode: str = "require", *, shown: Certificate | None = None, server: dict | None = None,
              **sections: dict) -> Lifeguard:
        daemon = lifeguard(server=certificates.settings(mode, shown) | (server or {}), **sections)
        daemon.console = certificates.client(certificates.alice)
        return daemon

    return start


def running(postgres: PostgreSQL, text: str) -> bool:
    return postgres.psql(f"select count(*) from pg_stat_activity where state = 'active' and query like $$%{text}%$$ "
                         "and usename = 'app'") != "0"


def serves(daemon: Lifeguard) -> bool:
    with tls_client(daemon.port, APP) as client:
        return client.rows("select 1") == [["1"]]


# MARK: what both sides want


def outcome(mode: str, client_mode: str) -> str:
    """`TLS`, `plain`, or what an error says."""
    if mode == "disable":
        return "plain" if client_mode in ("disable", "allow", "prefer") else "SSL"
    if client_mode == "disable":
        return "plain" if mode in ("allow", "prefer") else f'tls_mode "{mode}"'
    if client_mode == "allow" and mode in ("allow", "prefer"):
        return "plain"
    return "TLS"


def attempted(driver: str, daemon: Lifeguard, wanted: dict[str, str]) -> str:
    """The outcome as the daemon tells it while the connection is open, or the driver's error."""

    def seen() -> str:
        (row,) = [row for row in daemon.admin("SHOW CLIENTS") if row["application_name"] == "attempt"]
        return "TLS" if row["tls"].startswith("TLSv1.3/") else row["tls"] or "plain"

    async def by_asyncpg() -> str:
        connection = await asyncpg.connect(
            f"postgresql:///?{urlencode(wanted)}", statement_cache_size=0,
            server_settings={"application_name": "attempt"})
        try:
            return await asyncio.to_thread(seen)
        finally:
            await connection.close()

    try:
        if driver == "asyncpg":
            return asyncio.run(by_asyncpg())
        module = {"psycopg": psycopg, "psycopg2": psycopg2}[driver]
        connection = module.connect(**wanted, application_name="attempt")
    except (psycopg.Error, psycopg2.Error, asyncpg.PostgresError, OSError) as refusal:
        return str(refusal)
    try:
        return seen()
    finally:
        connection.close()


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_every_sslmode_meets_every_tls_mode(encrypted, certificates: Certificates, mode: str, driver: str):
    daemon = encrypted(mode)
    for client_mode in CLIENT_MODES:
        wanted = {"host": "127.0.0.1", "port": str(daemon.port), "user": "app", "dbname": "app", "sslmode": client_mode,
                  **certificates.client(certificates.alice)}
        if client_mode.startswith("verify"):
            wanted["sslrootcert"] = str(certificates.authority.certificate)
        expected, got = outcome(mode, client_mode), attempted(driver, daemon, wanted)
        assert got == expected if expected in ("TLS", "plain") else expected in got, (client_mode, got)


def test_psql_says_what_was_agreed_on(encrypted, certificates: Certificates):
    for mode in ("disable", "require"):
        daemon = encrypted(mode)
        for client_mode in CLIENT_MODES:
            trusted = {"sslrootcert": str(certificates.authority.certificate)} if "verify" in client_mode else {}
            out = run(["psql", "-X", "-d", daemon.conninfo(sslmode=client_mode, **trusted), "-c", "\\conninfo"],
                      check=False)
            expected = outcome(mode, client_mode)
            if expected in ("TLS", "plain"):
                assert ("SSL connection (protocol: TLSv1.3" in out.stdout) == (expected == "TLS"), (client_mode, out)
            else:
                assert expected in out.stderr, (client_mode, out)


def test_a_refused_downgrade_has_its_sqlstate(encrypted):
    daemon = encrypted("require")
    with WireClient(daemon.port) as client:
        client.send(startup(APP))
        fields = error(client.until_ready())
        assert (fields["S"], fields["C"]) == ("FATAL", "28000") and "tls_mode" in fields["M"]
        assert client.is_closed()


def test_tls_1_1_is_refused_by_the_daemon_itself(encrypted):
    daemon = encrypted("require")
    hello = bytearray(client_hello())
    # Without the extensions, which are what offers TLS 1.3, the version in the body counts; 3.2 is TLS 1.1.
    assert hello[0] == 22 and hello[5] == 1
    session = 5 + 4 + 2 + 32
    ciphers = session + 1 + hello[session]
    compressions = ciphers + 2 + struct.unpack_from("!H", hello, ciphers)[0]
    body = hello[9:compressions + 1 + hello[compressions]]
    body[0:2] = b"\x03\x02"
    message = b"\x01" + struct.pack("!I", len(body))[1:] + bytes(body)
    with WireClient(daemon.port) as client:
        request_tls(client)
        client.send(b"\x16\x03\x01" + struct.pack("!H", len(message)) + message)
        alert = client.receive_bytes(7)
        # protocol_version (RFC 8446, section 6.2)
        assert alert[0] == 21 and alert[5:] == b"\x02\x46", alert
        assert client.is_closed()
    wait_until(lambda: "TLS handshake failed" in daemon.log(), "the log")


@pytest.mark.skipif(psycopg.pq.version() < 170000, reason="sslnegotiation came with libpq 17")
def test_libpq_negotiates_directly(encrypted, certificates: Certificates):
    daemon = encrypted("require")
    with psycopg.connect(daemon.conninfo(sslnegotiation="direct", **certificates.verify())) as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("select 1").fetchone() == (1,)
    refusing = encrypted("disable")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(refusing.conninfo(sslnegotiation="direct", sslmode="require"))
    assert refusing.psql("select 1").stdout == "1\n"


# MARK: handshakes that come to nothing


@pytest.mark.parametrize("next_bytes", [
    pytest.param(startup_packet(SSL_REQUEST), id="SSLRequest"), pytest.param(startup(APP), id="StartupMessage"),
    pytest.param(query("select 1"), id="Query"),
])
def test_plaintext_in_the_place_of_a_handshake_is_never_taken_for_a_message(encrypted, next_bytes: bytes):
    daemon = encrypted("prefer")
    with WireClient(daemon.port) as client:
        request_tls(client)
        client.send(next_bytes)
        client.socket.settimeout(10)
        answer = b""
        while data := _received(client.socket):
            answer += data
        # At most an alert, never a message of PostgreSQL's.
        assert answer == b"" or answer[0] == 21, answer
    assert serves(daemon)


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(65536)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("how", ["close", "reset"])
def test_clients_that_vanish_in_the_handshake_are_forgotten(encrypted, how: str):
    daemon = encrypted("require")
    hello = client_hello()
    with tls_client(daemon.port, APP) as staying:
        descriptors = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
        for cut in (0, 1, 4, 5, 6, len(hello) // 2, len(hello) - 1, len(hello)):
            for _ in range(5):
                client = WireClient(daemon.port)
                request_tls(client)
                client.send(hello[:cut])
                getattr(client, how)()
            assert staying.rows("select 1") == [["1"]]
        wait_until(lambda: len(list(Path(f"/proc/{daemon.pid}/fd").iterdir())) <= descriptors + 1,
                   "their sockets are closed")


def test_handshakes_that_never_end_block_nobody_and_are_timed_out(encrypted):
    daemon = encrypted("require", server={"client_login_timeout": "1s"})
    hanging = [WireClient(daemon.port) for _ in range(100)]
    hello = client_hello()
    for number, client in enumerate(hanging):
        request_tls(client)
        client.send(hello[:number * 3])
    assert serves(daemon)
    for client in hanging:
        assert client.is_closed()
        client.close()


# MARK: ends


def test_close_notify_is_answered(encrypted):
    daemon = encrypted("require")
    with tls_client(daemon.port, APP) as client:
        client.rows("select 1")
        # Returns only after the other side's close_notify.
        with client.socket.unwrap() as plain:
            assert plain.recv(1) == b""
    wait_until(lambda: daemon.pool()["cl_active"] == "0", "the client is gone")


@pytest.mark.parametrize("how", ["close", "reset", "half close", "half a record"])
def test_a_tls_client_that_leaves_amid_a_result_harms_nobody(encrypted, postgres: PostgreSQL, how: str):
    daemon = encrypted("require", pool={"pool_size": 1, "max_overflow": 0})
    leaving = tls_client(daemon.port, APP)
    with tls_client(daemon.port, APP) as staying:
        staying.rows("select 1")
        leaving.send(query("select pg_sleep(60), 'left alone'"))
        wait_until(lambda: running(postgres, "left alone"), "the query runs")
        bare = socket.socket(fileno=leaving.socket.detach())
        if how == "half close":
            bare.shutdown(socket.SHUT_WR)
        if how == "half a record":
            bare.sendall(b"\x17\x03\x03\x01\x00" + b"x" * 100)
        if how == "reset":
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "half close":
            bare.close()
        assert staying.rows("select 2") == [["2"]]
        bare.close()
    wait_until(lambda: daemon.pool()["cl_active"] == "0", "both are gone")


def test_a_forged_record_ends_that_connection_only(encrypted):
    daemon = encrypted("require")
    with tls_client(daemon.port, APP) as client, tls_client(daemon.port, APP) as other:
        client.rows("select 1")
        bare = socket.socket(fileno=client.socket.detach())
        bare.settimeout(10)
        with bare:
            bare.sendall(b"\x17\x03\x03\x00\x40" + b"\0" * 64)
            while _received(bare):
                pass
        assert other.rows("select 2") == [["2"]]


# MARK: bytes


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_byte_may_come_alone(encrypted, version: ssl.TLSVersion):
    """From the ClientHello on, each byte is read before the next one is sent."""
    daemon = encrypted("require")
    context = unverified()
    context.minimum_version = context.maximum_version = version
    with bytewise(daemon.port) as port, tls_client(port, APP, context) as client:
        for length in (1, 100):
            assert client.rows(f"select '{'x' * length}'") == [["x" * length]]


def test_a_slow_tls_reader_costs_no_memory_and_stalls_nobody(encrypted):
    daemon = encrypted("require")
    with tls_client(daemon.port, APP) as quick, tls_client(daemon.port, APP) as slow:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        quick.rows("select 1")
        before = resident_bytes(daemon.pid)
        slow.send(query("select repeat(md5(n::text), 320) from generate_series(1, 5120) n"))
        slow.receive()
        blocked = "select count(*) from pg_stat_activity where wait_event = 'ClientWrite'"
        wait_until(lambda: quick.rows(blocked) == [["1"]], "the server waits for the slow client")
        assert resident_bytes(daemon.pid) - before < 8 * 1024 * 1024
        total = sum(len(message.payload) for message in slow.until_ready() if message.kind == "D")
        assert total > 50 * 1024 * 1024


def test_copy_in_is_held_back_by_a_server_that_does_not_read(encrypted, postgres: PostgreSQL):
    """The server waits for a lock before it reads a byte of the data."""
    postgres.psql("create table held_back (a text); grant all on held_back to app")
    try:
        daemon = encrypted("require")
        with psycopg.connect(postgres.superuser()) as locker, tls_client(daemon.port, APP) as client:
            locker.execute("lock table held_back in access exclusive mode")
            client.send(query("copy held_back from stdin"))
            before = resident_bytes(daemon.pid)
            block = copy_data(b"x" * 8000 + b"\n") * 100
            client.socket.settimeout(0.5)
            sent = 0
            with pytest.raises(TimeoutError):
                while sent < 100:
                    client.send(block)
                    sent += 1
            assert resident_bytes(daemon.pid) - before < 8 * 1024 * 1024
    finally:
        postgres.psql("drop table held_back")


# MARK: cancels


def test_a_cancel_counts_in_clear_and_inside_of_tls(encrypted, postgres: PostgreSQL):
    daemon = encrypted("require")
    with tls_client(daemon.port, APP) as client:
        for canceller in (lambda: WireClient(daemon.port), lambda: tls_client(daemon.port, None)):
            client.send(query("select pg_sleep(60), 'over tls'"))
            wait_until(lambda: running(postgres, "over tls"), "the query runs")
            with canceller() as sender:
                sender.send(cancel_request(client.pid, client.secret))
                assert sender.is_closed()
            assert error(client.until_ready())["C"] == "57014"
        assert client.rows("select 1") == [["1"]]


@pytest.mark.parametrize("how", ["cancel", "cancel_safe"])
def test_both_cancels_of_psycopg(encrypted, postgres: PostgreSQL, how: str):
    """The old one is plaintext; with a libpq from 17 on the safe one is encrypted as its connection is."""
    daemon = encrypted("require")
    with psycopg.connect(daemon.conninfo(sslmode="require"), autocommit=True) as connection:
        def cancel() -> None:
            wait_until(lambda: running(postgres, "by psycopg"), "the query runs")
            getattr(connection, how)()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(60), 'by psycopg'")
        thread.join()
        assert connection.execute("select 1").fetchone() == (1,)


def test_ctrl_c_in_psql_over_tls(encrypted, postgres: PostgreSQL):
    daemon = encrypted("require")
    psql = spawn(["psql", "-X", "-d", daemon.conninfo(sslmode="require"), "-c", "select pg_sleep(60), 'by psql'"],
                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: running(postgres, "by psql"), "the query runs")
    psql.send_signal(signal.SIGINT)
    _, err = psql.communicate(timeout=10)
    assert "canceling statement due to user request" in err


# MARK: certificates


@pytest.mark.parametrize("shown, alert, logged", [
    pytest.param(None, "certificate required", "certificate", id="none"),
    pytest.param("foreign_alice", "unknown ca", "certificate verify failed", id="foreign"),
    pytest.param("expired_alice", "certificate expired", "certificate has expired", id="expired"),
])
def test_a_client_certificate_that_does_not_do_is_named_to_both_sides(
        encrypted, certificates: Certificates, shown: str | None, alert: str, logged: str):
    daemon = encrypted("verify-ca")
    more = certificates.client(getattr(certificates, shown)) if shown else {"sslcert": "/nonexistent"}
    login = DRIVERS["psql"](parameters(daemon.port, "app", sslmode="require", **more))
    assert login.user is None and alert in login.text, login
    wait_until(lambda: "TLS handshake failed" in daemon.log() and logged in daemon.log(), "the log")


@pytest.mark.parametrize("shown, user, is_in", [
    ("alice", "alice", True), ("mallory", "alice", False), ("mallory", "mallory", True), ("alice", "ALICE", False),
    ("alice", "alic", False), ("foreign_alice", "alice", False), ("expired_alice", "alice", False),
])
def test_the_common_name_is_the_user_to_the_letter(
        encrypted, certificates: Certificates, postgres: PostgreSQL, shown: str, user: str, is_in: bool):
    daemon = encrypted("verify-ca", auth={"method": "cert"},
                       **{"databases.app": {"upstream": postgres.conninfo()}})
    login = DRIVERS["psycopg"](
        parameters(daemon.port, user, sslmode="require", **certificates.client(getattr(certificates, shown))))
    assert (login.user == "app") == is_in, login
    if not is_in and shown in ("alice", "mallory"):
        assert code_in(login, "28000", f'certificate authentication failed for user "{user}"'), login


@pytest.mark.parametrize("broken", ["certificate", "key"])
def test_a_broken_file_at_a_reload_changes_nothing(encrypted, certificates: Certificates, tmp_path: Path, broken: str):
    shown = Certificate(tmp_path / "shown.crt", tmp_path / "shown.key")
    certificates.server.copy_to(shown)
    daemon = encrypted("require", shown=shown)
    with tls_client(daemon.port, APP) as old:
        before = old.socket.getpeercert(binary_form=True)
        getattr(shown, broken).write_text("-----BEGIN NONSENSE-----\n")
        daemon.reload()
        key = {"certificate": "tls_cert", "key": "tls_key"}[broken]
        wait_until(lambda: f"[server] {key}: {getattr(shown, broken)}: " in daemon.log(), "the log names key and file")
        assert old.rows("select 1") == [["1"]]
        with tls_client(daemon.port, APP) as new:
            assert new.socket.getpeercert(binary_form=True) == before
        certificates.other_server.copy_to(shown)
        daemon.reload()

        def is_replaced() -> bool:
            with tls_client(daemon.port, APP) as newer:
                return newer.socket.getpeercert(binary_form=True) != before

        wait_until(is_replaced, "a good file counts")
        assert old.rows("select 2") == [["2"]]


@pytest.mark.parametrize("key", ["tls_cert", "tls_key", "tls_ca"])
def test_check_names_a_tls_file_that_is_missing_or_nonsense(certificates: Certificates, tmp_path: Path, key: str):
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no PEM at all\n")
    for bad in (nonsense, tmp_path / "missing.pem", tmp_path):
        settings = certificates.settings("verify-full") | {key: str(bad)}
        path = tmp_path / "lifeguard.toml"
        path.write_text("[server]\n" + "".join(f'{name} = "{value}"\n' for name, value in settings.items())
                        + '[auth]\nmethod = "trust"\n[databases.app]\nupstream = "host=127.0.0.1"\n')
        done = run([BINARY, "check", "--config", path], check=False)
        assert done.returncode == 1 and f"[server] {key}: {bad}: " in done.stdout + done.stderr, done


# MARK: channel binding


@pytest.fixture
def guarded(lifeguard, postgres: PostgreSQL, certificates: Certificates, tmp_path: Path) -> Callable[..., Lifeguard]:
    """Starts a daemon with TLS and SCRAM for user app: `guarded(certificates.rsa_server)`."""
    userlist = secrets.write_userlist(tmp_path / "users", {"app": secrets.GOOD, "postgres": secrets.GOOD})

    def start(shown: Certificate) -> Lifeguard:
        daemon = lifeguard(
            server=certificates.settings("prefer", shown), auth={"method": "scram-sha-256", "file": userlist},
            admin={"users": ["postgres"]}, **{"databases.app": {"upstream": postgres.conninfo()}})
        daemon.console = {"password": secrets.GOOD}
        return daemon

    return start


@pytest.mark.parametrize("driver", ["psql", "psycopg", "psycopg2"])
def test_channel_binding_uses_the_hash_of_the_certificates_signature(guarded, certificates, driver: str):
    daemon = guarded(certificates.rsa_server)
    bound = parameters(daemon.port, "app", secrets.GOOD, channel_binding="require", **certificates.verify())
    assert DRIVERS[driver](bound).user == "app"
    assert DRIVERS[driver](bound | {"password": secrets.WRONG}).user is None


@pytest.mark.parametrize("driver", ["psql", "psycopg", "psycopg2"])
def test_channel_binding_is_what_betrays_somebody_in_between(guarded, certificates: Certificates, driver: str):
    daemon = guarded(certificates.server)
    with man_in_the_middle(daemon.port, certificates.foreign_server) as port:
        victim = parameters(port, "app", secrets.GOOD, sslmode="require")
        # The one in between works: whoever does without channel binding notices nothing.
        assert DRIVERS[driver](victim | {"channel_binding": "disable"}).user == "app"
        for binding in ("require", "prefer"):
            login = DRIVERS[driver](victim | {"channel_binding": binding})
            assert code_in(login, "28000", "channel binding"), login
    assert DRIVERS[driver](parameters(daemon.port, "app", secrets.GOOD, sslmode="require")).user == "app"
