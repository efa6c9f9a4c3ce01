"""Who is compared: Lifeguard, Debian's PgBouncer, a direct connection; and where the figures are written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests/Integration"))

from kit.daemon import Lifeguard  # noqa: E402
from kit.postgres import PostgreSQL  # noqa: E402
from kit.processes import free_port, run, spawn  # noqa: E402

DEPS = ROOT / ".run/deps"
#: What each pooler lets in.
MAX_CLIENTS = 18_000


@dataclass
class Contestant:
    """Something that pgbench connects to; `pid` is the process whose time counts."""

    name: str
    conninfo: str
    pid: int | None = None
    #: Whether it offers TLS here.
    has_tls: bool = True
    #: Whether statements may be prepared in one transaction and used in another.
    has_prepared: bool = True
    #: By mode and clients, one for each round: transactions a second, µs a transaction, and the latency that one in a
    #: hundred transactions exceeds (ms).
    speed: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    cost: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    slowest: dict[tuple[str, int], list[float]] = field(default_factory=dict)


@dataclass
class Certificate:
    """A self-signed certificate (ECDSA, P-256) and its key, which both poolers show their clients."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        made = cls(folder / "server.crt", folder / "server.key")
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-keyout", made.key, "-out", made.certificate])
        return made


class PgBouncer:
    """Debian's PgBouncer with a pool of the same size."""

    def __init__(self, folder: Path, postgres: PostgreSQL, pool_size: int, certificate: Certificate) -> None:
        self.port = free_port()
        (folder / "users.txt").write_text('"app" ""\n')
        shutil.copy(certificate.certificate, folder)
        shutil.copy(certificate.key, folder)
        (folder / "pgbouncer.ini").write_text(f"""[databases]
app = host=127.0.0.1 port={postgres.port} dbname=app
session = host=127.0.0.1 port={postgres.port} dbname=app pool_mode=session
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
client_tls_sslmode = allow
client_tls_cert_file = {folder}/{certificate.certificate.name}
client_tls_key_file = {folder}/{certificate.key.name}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = {MAX_CLIENTS}
log_connections = 0
log_disconnections = 0
log_pooler_errors = 0
log_stats = 0
""")
        options: dict = {"cwd": folder}
        if os.getuid() == 0:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, "postgres", "postgres")
            options |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        binary = shutil.which("pgbouncer", path=f"{DEPS}/usr/sbin:/usr/sbin:{os.environ['PATH']}")
        if binary is None:
            raise SystemExit("bench: no pgbouncer; `make bench` unpacks one below .run/deps")
        # Copied, since user postgres cannot read a clone below /root.
        binary = shutil.copy(binary, folder)
        for library in (DEPS / "usr/lib").glob("*-linux-gnu*/*.so.*"):
            shutil.copy(library, folder)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
        with (folder / "pgbouncer.log").open("ab") as log:
            self.process = spawn(
                [binary, folder / "pgbouncer.ini"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                **options)
        version = run([binary, "--version"], env=environment).stdout
        self.version = version.split()[1]
        self.conninfo = f"host=127.0.0.1 port={self.port} user=app dbname=app"

    def stop(self) -> None:
        """Stops it and waits."""
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


def lifeguard(
    folder: Path, postgres: PostgreSQL, pool_size: int, binary: Path, certificate: Certificate | None
) -> Lifeguard:
    folder.mkdir()
    server: dict = {"max_clients": MAX_CLIENTS}
    if certificate:
        server |= {"tls_mode": "allow", "tls_cert": str(certificate.certificate), "tls_key": str(certificate.key)}
    return Lifeguard(folder, {
        "server": server,
        "pool": {"pool_size": pool_size, "max_overflow": 0},
        "databases.app": {"upstream": f"host=127.0.0.1 port={postgres.port} dbname=app"},
        "databases.session": {"upstream": f"host=127.0.0.1 port={postgres.port} dbname=app", "mode": "session"},
        "log": {"level": "warning", "connections": False},
    }, binary=binary)


def write(page: str, mark: str, text: str) -> None:
    """Puts the text between the marks `<!-- MARK:begin -->` and `<!-- MARK:end -->` of a page below docs."""
    path = ROOT / "docs" / page
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    before, rest = path.read_text().split(begin, 1)
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}")
    print(f"written into docs/{page}")
