"""Logins message by message: what must look the same, what must not be accepted twice, and who leaves in between."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kit import secrets
from kit.daemon import Lifeguard
from kit.logins import DRIVERS, code_in, parameters
from kit.postgres import PostgreSQL
from kit.scram import (
    CLEARTEXT, MD5, OK, SASL, SASL_FINAL, Scram, asked, attributes, begun, md5_answer, password_message, request,
    sasl_initial,
)
from kit.waiting import wait_until
from kit.wire import WireClient, error, frame, kinds, query, startup

#: What SASLprep makes `IX` of: soft hyphen, full-width letters, a Roman numeral.
PREPARED_ALIKE = ("I\u00adX", "\uff29\uff38", "\u2168")


@pytest.fixture
def userlist(tmp_path: Path) -> Path:
    """Users by the kind of their secret."""
    path = tmp_path / "userlist.txt"
    secrets.write_userlist(path, {
        "app": secrets.GOOD, "postgres": secrets.GOOD, "alice": secrets.scram_secret(secrets.GOOD),
        "md": secrets.md5_secret("md", secrets.GOOD), "alike": "IX",
        "umlaut": "p\u00e4ss-\u65e5\u672c\u8a9e", "quoted": 'a"b\\c;\'d'})
    return path


@pytest.fixture
def guard(lifeguard, postgres: PostgreSQL, userlist: Path):
    """Starts a daemon with a method and the userlist. Whoever logs in, the server's user is `app`."""
    def start(method: str, **sections: dict) -> Lifeguard:
        daemon = lifeguard(auth={"method": method, "file": str(userlist)}, admin={"users": ["postgres"]},
                           **{"databases.app": {"upstream": postgres.conninfo()}} | sections)
        daemon.console = {"password": secrets.GOOD}
        return daemon
    return start


def refusal(client: WireClient) -> dict[str, str]:
    """The error that ends the login, which ends the connection too."""
    fields = error(client.until(lambda message: message.kind == "E"))
    assert fields["S"] == "FATAL"
    assert client.is_closed()
    return fields


def transcript(daemon: Lifeguard, user: str, password: str) -> list[tuple]:
    """What a client that tries a password is sent, without what is random."""
    client, code, data = asked(daemon.port, user)
    seen: list[tuple] = [(code, len(data) if code == MD5 else data)]
    with client:
        if code == SASL:
            scram = Scram(password)
            client.send(sasl_initial(scram.first))
            code, server_first = request(client.receive())
            fields = attributes(server_first)
            seen.append((code, sorted(fields), len(fields["r"]), len(fields["s"]), fields["i"]))
            client.send(frame(b"p", scram.final(server_first)))
        elif code == MD5:
            client.send(md5_answer(user, password, data))
        else:
            client.send(password_message(password))
        fields = refusal(client)
    seen.append(tuple(
        (name, re.sub(r"connection \d+", "connection NUMBER", fields[name].replace(user, "USER")))
        for name in sorted(fields)))
    return seen


# MARK: what must look the same


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_an_unknown_user_is_sent_what_a_wrong_password_is_sent(guard, method: str):
    daemon = guard(method)
    known = transcript(daemon, "app", secrets.WRONG)
    assert known[-1] == (
        ("C", "28P01"), ("D", "Client connection NUMBER."), ("M", 'password authentication failed for user "USER"'),
        ("S", "FATAL"), ("V", "FATAL"))
    assert transcript(daemon, "nobody", secrets.WRONG) == known
    # The name is repeated in the answer, so it must be a name with strange characters that comes back unharmed.
    assert transcript(daemon, 'no"body; --', secrets.WRONG) == known


def test_each_kind_of_secret_is_asked_for_in_its_own_way(guard):
    for method, expected in [
        ("password", {"app": CLEARTEXT, "alice": CLEARTEXT, "md": CLEARTEXT, "nobody": CLEARTEXT}),
        ("md5", {"app": MD5, "md": MD5, "alice": SASL, "nobody": MD5}),
        ("scram-sha-256", {"app": SASL, "md": SASL, "alice": SASL, "nobody": SASL}),
    ]:
        daemon = guard(method)
        for user, code in expected.items():
            client, got, _ = asked(daemon.port, user)
            client.close()
            assert got == code, (method, user)


def test_salts_of_users_do_not_change_and_nonces_do(guard):
    daemon = guard("scram-sha-256")
    for user in ("app", "alice", "md", "nobody"):
        seen = []
        for _ in range(3):
            client, server_first = begun(daemon.port, user, Scram(secrets.GOOD))
            client.close()
            seen.append(attributes(server_first))
        assert len({fields["s"] for fields in seen}) == 1, user
        assert len({fields["r"] for fields in seen}) == 3, user
        assert len(base64.b64decode(seen[0]["r"].removeprefix(Scram("").nonce))) >= 18


def test_the_server_proves_itself_too(guard):
    daemon = guard("scram-sha-256")
    for user in ("app", "alice"):
        scram = Scram(secrets.GOOD)
        client, server_first = begun(daemon.port, user, scram)
        with client:
            client.send(frame(b"p", scram.final(server_first)))
            code, server_final = request(client.receive())
            assert code == SASL_FINAL and scram.is_proven(server_final)
            assert request(client.receive()) == (OK, b"")
            client._finish_startup()
            assert client.rows("select 1") == [["1"]]


def test_the_name_inside_of_scram_counts_for_nothing(guard):
    daemon = guard("scram-sha-256")
    scram = Scram(secrets.GOOD, name="alice")
    client, server_first = begun(daemon.port, "nobody", scram)
    with client:
        client.send(frame(b"p", scram.final(server_first)))
        assert refusal(client)["M"] == 'password authentication failed for user "nobody"'


@pytest.mark.parametrize("method", ["password", "scram-sha-256"])
def test_passwords_of_any_script_and_with_any_quotes(guard, method: str):
    daemon = guard(method)
    for name, log_in in DRIVERS.items():
        for password in PREPARED_ALIKE:
            if method == "scram-sha-256":
                assert log_in(parameters(daemon.port, "alike", password)).user == "app", (name, password)
        for user, password in (("umlaut", "p\u00e4ss-\u65e5\u672c\u8a9e"), ("quoted", 'a"b\\c;\'d')):
            assert log_in(parameters(daemon.port, user, password)).user == "app", (name, user)
            assert code_in(log_in(parameters(daemon.port, user, password + "x")), "28P01", "failed for user"), name


# MARK: what must not be accepted


def test_an_answer_that_was_overheard_is_worth_nothing(guard):
    daemon = guard("md5")
    client, _, salt = asked(daemon.port, "app")
    answer = md5_answer("app", secrets.GOOD, salt)
    with client:
        client.send(answer)
        assert request(client.receive()) == (OK, b"")
    client, _, other_salt = asked(daemon.port, "app")
    with client:
        assert salt != other_salt
        client.send(answer)
        assert refusal(client)["C"] == "28P01"

    scram = Scram(secrets.GOOD)
    client, server_first = begun(daemon.port, "alice", scram)
    final = frame(b"p", scram.final(server_first))
    with client:
        client.send(final)
        assert request(client.receive())[0] == SASL_FINAL
    client, _ = begun(daemon.port, "alice", scram)
    with client:
        client.send(final)
        assert refusal(client)["C"] in ("08P01", "28P01")


def test_what_a_server_keeps_is_no_password(guard):
    for method, user, kept in [
        ("password", "md", secrets.md5_secret("md", secrets.GOOD)),
        ("password", "alice", secrets.scram_secret(secrets.GOOD)),
        ("md5", "md", secrets.md5_secret("md", secrets.GOOD)),
        ("scram-sha-256", "alice", secrets.scram_secret(secrets.GOOD)),
    ]:
        assert transcript(guard(method), user, kept)[-1][0] == ("C", "28P01"), (method, user)


GOOD_FINAL = "c=biws,r={nonce},p=" + base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize("final,code", [
    (GOOD_FINAL, "28P01"),
    ("", "08P01"),
    ("garbage", "08P01"),
    ("c=biws,r={nonce}", "08P01"),
    ("c=biws,r={nonce},p=", "08P01"),
    ("c=biws,r={nonce},p=AAAA", "08P01"),
    ("c=biws,r={nonce},p=!!!not base64!!!", "08P01"),
    ("c=eSws,r={nonce},p=" + base64.b64encode(bytes(32)).decode(), "08P01"),
    ("c=,r={nonce},p=" + base64.b64encode(bytes(32)).decode(), "08P01"),
    ("c=biws,r={nonce}x,p=" + base64.b64encode(bytes(32)).decode(), "08P01"),
    ("c=biws,r=,p=" + base64.b64encode(bytes(32)).decode(), "08P01"),
    ("c=biws,r={nonce},p=" + base64.b64encode(bytes(33)).decode(), "08P01"),
    (GOOD_FINAL + ",x=1", "08P01"),
    ("c=biws,r={nonce},x=" + "y" * 60_000 + ",p=" + base64.b64encode(bytes(32)).decode(), "08P01"),
    (GOOD_FINAL + "\0", "08P01"),
], ids=lambda value: value[:40].replace("\0", "NUL"))
def test_a_damaged_last_message_of_scram_is_refused(guard, final: str, code: str):
    daemon = guard("scram-sha-256")
    for user in ("app", "nobody"):
        client, server_first = begun(daemon.port, user, Scram(secrets.GOOD))
        with client:
            client.send(frame(b"p", final.format(nonce=attributes(server_first)["r"]).encode()))
            assert refusal(client)["C"] == code, user
    assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD)).user == "app"


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_nothing_runs_before_the_proof(guard, postgres: PostgreSQL, method: str):
    daemon = guard(method)
    postgres.psql("create table before_proof (a int); alter table before_proof owner to app")
    attack = query("insert into before_proof values (1)")
    try:
        # Instead of a proof; behind a wrong one; in the same packet as the startup.
        client, _, _ = asked(daemon.port, "app")
        with client:
            client.send(attack)
            assert refusal(client)["C"] == "08P01"
        client, code, data = asked(daemon.port, "app")
        with client:
            if code == SASL:
                scram = Scram(secrets.WRONG)
                client.send(sasl_initial(scram.first))
                proof = frame(b"p", scram.final(request(client.receive())[1]))
            else:
                proof = password_message(secrets.WRONG) if code == CLEARTEXT else md5_answer("app", secrets.WRONG, data)
            client.send(proof, attack)
            assert refusal(client)["C"] == "28P01"
        with WireClient(daemon.port) as client:
            client.send(startup({"user": "app", "database": "app"}), attack, attack)
            assert client.receive().kind == "R"
            assert refusal(client)["C"] == "08P01"
        assert postgres.psql("select count(*) from before_proof") == "0"
    finally:
        postgres.psql("drop table before_proof")


def test_no_proof_is_asked_for_twice(guard):
    daemon = guard("password")
    client, _, _ = asked(daemon.port, "app")
    with client:
        client.send(password_message(secrets.WRONG), password_message(secrets.GOOD))
        assert refusal(client)["C"] == "28P01"


@pytest.mark.parametrize("length", [100_000, 1_000_000])
def test_a_password_message_of_any_length_costs_one_error(guard, length: int):
    daemon = guard("password")
    client, _, _ = asked(daemon.port, "app")
    with client:
        # The daemon closes at the header; the rest of the message may find nobody any more.
        with contextlib.suppress(ConnectionError):
            client.send(password_message("x" * length))
        assert client.is_closed()
    assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD)).user == "app"


def test_a_client_that_sends_a_byte_now_and_then_is_timed_out_too(guard):
    daemon = guard("scram-sha-256", server={"client_login_timeout": "500ms"})
    client, _, _ = asked(daemon.port, "app")
    message = sasl_initial(Scram(secrets.GOOD).first)
    with client:
        client.socket.settimeout(0.1)
        for start in range(len(message) - 1):
            client.send(message[start:start + 1])
            with contextlib.suppress(TimeoutError):
                answer = client.socket.recv(4096)
                break
        else:
            pytest.fail("the client was not timed out")
    assert b"client_login_timeout" in answer


# MARK: clients that leave in between


@pytest.mark.parametrize("method", ["password", "scram-sha-256"])
def test_the_verdict_on_a_client_that_left_is_nobody_elses(guard, method: str):
    """Checking a password takes a while, on another thread: who has the place of the client then is somebody else."""
    daemon = guard(method)

    def leave(right: bool) -> None:
        client, code, _ = asked(daemon.port, "alice")
        if code == SASL:
            client.send(sasl_initial(Scram(secrets.GOOD).first))
        else:
            client.send(password_message(secrets.GOOD if right else secrets.WRONG))
        client.reset()

    def stay(right: bool) -> str | None:
        login = DRIVERS["psycopg"](parameters(daemon.port, "alice", secrets.GOOD if right else secrets.WRONG))
        return login.user

    with ThreadPoolExecutor(12) as threads:
        leavers, outcomes = [], []
        for number in range(240):
            leavers.append(threads.submit(leave, number % 3 != 0))
            outcomes.append((number % 2 == 0, threads.submit(stay, number % 2 == 0)))
        for leaver in leavers:
            leaver.result()
        for right, outcome in outcomes:
            assert outcome.result() == ("app" if right else None)
    wait_until(lambda: daemon.pool("app/app")["cl_active"] == "0", "they are gone")


def test_a_reload_in_the_middle_of_a_login_ends_well(guard, userlist: Path):
    daemon = guard("scram-sha-256")
    kept, changed = Scram(secrets.GOOD), Scram(secrets.GOOD)
    kept_client, kept_first = begun(daemon.port, "alice", kept)
    changed_client, changed_first = begun(daemon.port, "app", changed)
    secrets.write_userlist(userlist, {
        "alice": secrets.scram_secret(secrets.GOOD), "app": secrets.OTHER, "postgres": secrets.GOOD})
    daemon.reload()
    wait_until(lambda: DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.OTHER)).user == "app", "the reload")
    with kept_client, changed_client:
        kept_client.send(frame(b"p", kept.final(kept_first)))
        assert request(kept_client.receive())[0] == SASL_FINAL
        assert request(kept_client.receive()) == (OK, b"")
        changed_client.send(frame(b"p", changed.final(changed_first)))
        answer = changed_client.until(lambda message: message.kind in "EZ")
        assert kinds(answer)[-1] in "EZ"
    # Whoever began before: from now on only the new password counts.
    assert DRIVERS["psycopg"](parameters(daemon.port, "app", secrets.GOOD)).user is None


def test_a_stop_does_not_wait_for_logins(guard):
    daemon = guard("scram-sha-256")
    waiting = [begun(daemon.port, "app", Scram(secrets.GOOD))[0] for _ in range(20)]
    waiting += [asked(daemon.port, "app")[0] for _ in range(20)]
    silent = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(20)]
    daemon.terminate()
    assert daemon.process.wait(5) == 0
    for client in waiting:
        assert client.is_closed()
        client.close()
    for connection in silent:
        connection.close()
