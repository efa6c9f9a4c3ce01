"""TLS between the daemon and PostgreSQL."""

from __future__ import annotations

import hashlib
import os
import threading

import psycopg
import pytest

from kit.certificates import Certificates
from kit.daemon import Lifeguard
from kit.logins import DRIVERS, parameters
from kit.postgres import PostgreSQL
from kit.waiting import wait_until
from kit.wire import WireClient, error, startup

#: How much `test_copy_is_intact_with_tls_on_both_sides` sends; LIFEGUARD_COPY_MB=1024 is the long form.
COPY_MEGABYTES = int(os.environ.get("LIFEGUARD_COPY_MB", "32"))

TLS_IN_USE = "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()"


def upstream(server: PostgreSQL, **more: str) -> dict[str, str]:
    """A database on the server."""
    return {"upstream": server.conninfo(**more)}


def refusal(daemon: Lifeguard, user: str = "app") -> dict[str, str]:
    """The error of a login whose server connection cannot be opened."""
    with WireClient(daemon.port) as client:
        client.send(startup({"user": user, "database": "app"}))
        return error(client.until(lambda message: message.kind == "E"))


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full"])
def test_server_connections_use_tls(lifeguard, tls_postgres: PostgreSQL, certificates: Certificates, mode: str):
    daemon = lifeguard(**{"databases.app": upstream(tls_postgres, **certificates.verify() | {"sslmode": mode})})
    for log_in in DRIVERS.values():
        assert log_in(parameters(daemon.port, "app")).user == "app"
    assert daemon.psql(TLS_IN_USE).stdout.strip() == "t|TLSv1.3"
    rows = [row for row in daemon.admin("SHOW SERVERS") if row["database"] == "app"]
    assert rows and all(row["tls"].startswith("TLSv1.3/") for row in rows)


def test_tls_1_2_works_too(lifeguard, tls_postgres: PostgreSQL):
    daemon = lifeguard(
        **{"databases.app": upstream(tls_postgres, sslmode="require", ssl_max_protocol_version="TLSv1.2")})
    assert daemon.psql(TLS_IN_USE).stdout.strip() == "t|TLSv1.2"


def test_channel_binding_and_a_client_certificate(lifeguard, tls_postgres: PostgreSQL, certificates: Certificates):
    guarded = {"user": "guarded", "password": "right one", "channel_binding": "require"}
    alice = {"user": "alice", **certificates.client(certificates.alice)}
    for more in (guarded, alice):
        daemon = lifeguard(**{"databases.app": upstream(tls_postgres, **certificates.verify(), **more)})
        assert daemon.psql("select current_user").stdout.strip() == more["user"]


@pytest.mark.parametrize("more,reason", [
    ({"host": "127.0.0.1", "authority": "foreign"}, "certificate verify failed"),
    ({"host": "localhost", "sslcert": "/dev/null/none", "user": "alice"}, "certificate"),
    ({"host": "localhost", "sslrootcert": "/nonexistent/ca.crt"}, 'root certificate file "/nonexistent/ca.crt" does not exist'),
])
def test_tls_that_is_not_to_be_had_is_told_at_once(
    lifeguard, tls_postgres: PostgreSQL, certificates: Certificates, more: dict[str, str], reason: str
):
    keys = certificates.verify() | more
    if keys.pop("authority", None):
        keys["sslrootcert"] = str(certificates.foreign_authority.certificate)
    daemon = lifeguard(pool={"pool_timeout": "60s"}, **{"databases.app": upstream(tls_postgres, **keys)})
    fields = refusal(daemon)
    assert fields["C"] in ("28000", "28P01") and reason in fields["D"], fields


def test_another_hosts_certificate_is_refused(lifeguard, certificates: Certificates):
    server = PostgreSQL(certificate=certificates.misnamed_server)
    try:
        daemon = lifeguard(pool={"pool_timeout": "60s"}, **{"databases.app": upstream(server, **certificates.verify())})
        fields = refusal(daemon)
        assert fields["C"] == "28000" and "does not match host name" in fields["D"]
        daemon.stop()
    finally:
        server.remove()


def test_a_server_without_tls(lifeguard, postgres: PostgreSQL):
    daemon = lifeguard(**{"databases.app": upstream(postgres, sslmode="prefer")})
    assert daemon.psql(TLS_IN_USE).stdout.strip() == "f|"
    daemon = lifeguard(pool={"pool_timeout": "60s"}, **{"databases.app": upstream(postgres, sslmode="require")})
    fields = refusal(daemon)
    assert fields["C"] == "28000" and "server does not support SSL, but SSL was required" in fields["D"]


def test_clients_outlive_a_server_connection_with_tls(lifeguard, tls_postgres: PostgreSQL):
    daemon = lifeguard(
        pool={"pool_size": 1, "max_overflow": 0}, **{"databases.app": upstream(tls_postgres, sslmode="require")})
    with psycopg.connect(daemon.conninfo(), autocommit=True) as connection:
        first = connection.execute("select pg_backend_pid()").fetchone()[0]
        tls_postgres.psql(f"select pg_terminate_backend({first})")
        wait_until(lambda: connection.execute("select pg_backend_pid()").fetchone()[0] != first, "another connection")
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("select pg_terminate_backend(pg_backend_pid())")
        assert caught.value.sqlstate == "40003"
        assert connection.execute("select 1").fetchone() == (1,)


def test_clients_outlive_a_crash_of_a_server_with_tls(lifeguard, certificates: Certificates):
    server = PostgreSQL(certificate=certificates.server)
    try:
        daemon = lifeguard(**{"databases.app": upstream(server, sslmode="require")})
        with psycopg.connect(daemon.conninfo(), autocommit=True) as connection:
            connection.execute("select 1")
            server.restart("immediate")
            assert connection.execute(TLS_IN_USE).fetchone() == (True, "TLSv1.3")
        daemon.stop()
    finally:
        server.remove()


def test_idle_connections_are_pinged_over_tls(lifeguard, tls_postgres: PostgreSQL):
    daemon = lifeguard(
        pool={"pre_ping_idle": "0s"}, **{"databases.app": upstream(tls_postgres, sslmode="require")})
    with psycopg.connect(daemon.conninfo(), autocommit=True) as connection:
        pids = {connection.execute("select pg_backend_pid()").fetchone()[0] for _ in range(20)}
    assert len(pids) == 1


def test_a_query_is_cancelled_on_a_connection_with_tls(lifeguard, tls_postgres: PostgreSQL):
    daemon = lifeguard(**{"databases.app": upstream(tls_postgres, sslmode="require")})
    with psycopg.connect(daemon.conninfo()) as connection:
        threading.Timer(0.3, connection.cancel).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(30)")


def test_two_hundred_clients_share_two_connections_with_tls_on_both_sides(
    lifeguard, tls_postgres: PostgreSQL, certificates: Certificates
):
    daemon = lifeguard(
        pool={"pool_size": 2, "max_overflow": 0}, server=certificates.settings("require"),
        **{"databases.app": upstream(tls_postgres, sslmode="require")})
    problems: list[Exception] = []

    def work() -> None:
        try:
            with psycopg.connect(daemon.conninfo(sslmode="require"), autocommit=True) as connection:
                for number in range(5):
                    text = str(number) * 3000
                    assert connection.execute("select %s", (text,), prepare=False).fetchone() == (text,)
        except Exception as problem:  # noqa: BLE001
            problems.append(problem)

    threads = [threading.Thread(target=work) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems[:3]


def test_copy_is_intact_with_tls_on_both_sides(lifeguard, tls_postgres: PostgreSQL, certificates: Certificates):
    daemon = lifeguard(
        server=certificates.settings("require"), **{"databases.app": upstream(tls_postgres, sslmode="require")})
    tls_postgres.psql("drop table if exists copied; create table copied (n int, t text); grant all on copied to app")
    rows = COPY_MEGABYTES * 1_048_576 // 3975
    sent, received = hashlib.sha256(), hashlib.sha256()
    with psycopg.connect(daemon.conninfo(sslmode="require")) as connection:
        with connection.cursor().copy("copy copied from stdin") as copy:
            for number in range(rows):
                row = f"{number}\t{hashlib.sha256(str(number).encode()).hexdigest() * 62}\n".encode()
                sent.update(row)
                copy.write(row)
        with connection.cursor().copy("copy (select * from copied order by n) to stdout") as copy:
            for block in copy:
                received.update(block)
    assert sent.hexdigest() == received.hexdigest()
