"""Who is compared: Lifeguard, Debian's PgBouncer, a direct connection, others; and where the figures are written."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests/Integration"))

from kit.daemon import BINARY, Lifeguard  # noqa: E402
from kit.postgres import PostgreSQL  # noqa: E402
from kit.processes import cpu_seconds, free_port, run, spawn  # noqa: E402
from kit.waiting import wait_until  # noqa: E402

DEPS = ROOT / ".run/deps"
#: What each pooler lets in.
MAX_CLIENTS = 18_000


@dataclass
class Contestant:
    """Something that clients connect to; `pid` is the process whose time counts."""

    name: str
    conninfo: str
    pid: int | None = None
    #: Whether it offers TLS here.
    has_tls: bool = True
    #: Whether statements may be prepared in one transaction and used in another.
    has_prepared: bool = True
    #: Whether a failure ends the benchmark; a pooler that is named on the command line may lack what is measured.
    must_succeed: bool = True
    #: Figures by what was measured and their name, one for each round.
    figures: dict[tuple[object, str], list[float]] = field(default_factory=dict)

    def note(self, key: object, **figures: float) -> None:
        """The figures of a round."""
        for name, figure in figures.items():
            self.figures.setdefault((key, name), []).append(figure)

    def median(self, key: object, name: str) -> float | None:
        """Over the rounds; nothing where nothing was measured."""
        figures = self.figures.get((key, name))
        return statistics.median(figures) if figures else None

    def ratio(self, other: Contestant, key: object, name: str) -> float | None:
        """Median of the rounds' ratios to another one's."""
        pairs = zip(self.figures.get((key, name), []), other.figures.get((key, name), []))
        ratios = [mine / theirs for mine, theirs in pairs if theirs]
        return statistics.median(ratios) if ratios else None

    def cpu_seconds(self) -> float:
        """Processor time until now; 0 where there is no pooler."""
        return cpu_seconds(self.pid) if self.pid else 0


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

    def __init__(self, folder: Path, postgres: PostgreSQL, pool_size: int, certificate: Certificate,
                 settings: str = "") -> None:
        """`settings` are further lines."""
        self.port = free_port()
        (folder / "users.txt").write_text('"app" ""\n')
        shutil.copy(certificate.certificate, folder)
        shutil.copy(certificate.key, folder)
        (folder / "pgbouncer.ini").write_text(f"""[databases]
app = host=127.0.0.1 port={postgres.port} dbname=app
session = host=127.0.0.1 port={postgres.port} dbname=app pool_mode=session
bulk = host=127.0.0.1 port={postgres.port} dbname=app
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
{settings}""")
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
    folder: Path, postgres: PostgreSQL, pool_size: int, binary: Path, certificate: Certificate | None,
    server: dict | None = None, pool: dict | None = None,
) -> Lifeguard:
    """A daemon with the same databases; `server` and `pool` are further settings of these sections."""
    folder.mkdir()
    server = {"max_clients": MAX_CLIENTS, "workers": "auto"} | (server or {})
    if certificate:
        server |= {"tls_mode": "allow", "tls_cert": str(certificate.certificate), "tls_key": str(certificate.key)}
    upstream = f"host=127.0.0.1 port={postgres.port} dbname=app"
    return Lifeguard(folder, {
        "server": server,
        "pool": {"pool_size": pool_size, "max_overflow": 0} | (pool or {}),
        "databases.app": {"upstream": upstream},
        "databases.session": {"upstream": upstream, "mode": "session"},
        "databases.bulk": {"upstream": upstream},
        "log": {"level": "warning", "connections": False},
    }, binary=binary)


def add_arguments(parser: argparse.ArgumentParser, rounds: int) -> None:
    """Options that all benchmarks of contestants have."""
    parser.add_argument("--rounds", type=int, default=rounds, help="%(default)s")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME",
                        help="leave out: direct, PgBouncer, Lifeguard, 'Lifeguard epoll'")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=BINARY",
                        help="a further build of Lifeguard to compare with")
    parser.add_argument("--without-tls", action="append", default=[], metavar="NAME",
                        help="a further build that knows no TLS")
    parser.add_argument("--pooler", action="append", default=[], metavar="NAME=COMMAND",
                        help="another pooler: COMMAND PORT UPSTREAM_PORT POOL_SIZE FOLDER writes its settings into FOLDER, "
                        "and becomes (exec) a pooler that listens on PORT of 127.0.0.1 and lets user app in without a password")
    parser.add_argument("--write", action="store_true", help="put the result into docs/benchmarks.md")


class Contest:
    """A PostgreSQL with all contestants in front of it, from the beginning to the end of a `with`."""

    def __init__(self, options: argparse.Namespace, *, pool_size: int, max_connections: int, server: dict | None = None,
                 epoll: bool = True) -> None:
        """`server` are further settings of Lifeguard; `epoll` is whether it runs a second time with that event loop."""
        self.options, self.pool_size, self.server, self.epoll = options, pool_size, server or {}, epoll
        self.max_connections = max_connections
        self.contestants: list[Contestant] = []
        self._stops: list = []

    def __enter__(self) -> Contest:
        self.folder = Path(tempfile.mkdtemp(prefix="lifeguard-bench-", dir="/tmp"))
        self.folder.chmod(0o755)
        self._stops.append(lambda: shutil.rmtree(self.folder, ignore_errors=True))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        while self._stops:
            self._stops.pop()()

    def _start(self) -> None:
        options = self.options
        self.postgres = PostgreSQL(max_connections=self.max_connections)
        self._stops.append(self.postgres.remove)
        certificate = Certificate.make(self.folder)
        if "direct" not in options.skip:
            self.contestants.append(Contestant("direct", self.postgres.conninfo(), has_tls=False))
        if "PgBouncer" not in options.skip:
            (self.folder / "pgbouncer").mkdir()
            bouncer = PgBouncer(self.folder / "pgbouncer", self.postgres, self.pool_size, certificate)
            self._stops.append(bouncer.stop)
            self.bouncer_version = bouncer.version
            self.contestants.append(Contestant(
                "PgBouncer", bouncer.conninfo, bouncer.process.pid, has_prepared=bouncer.version >= "1.21"))
        loops = {"Lifeguard": {}} | ({"Lifeguard epoll": {"event_loop": "epoll"}} if self.epoll else {})
        builds = [(name, str(BINARY), keys) for name, keys in loops.items() if name not in options.skip]
        builds += [(*also.split("=", 1), {}) for also in options.also]
        for number, (name, binary, keys) in enumerate(builds):
            has_tls = name not in options.without_tls
            daemon = lifeguard(self.folder / f"lifeguard{number}", self.postgres, self.pool_size, Path(binary),
                               certificate if has_tls else None, server=self.server | keys)
            self._stops.append(daemon.stop)
            self.contestants.append(Contestant(name, daemon.conninfo(), daemon.pid, has_tls=has_tls))
        for pooler in options.pooler:
            self._start_other(*pooler.split("=", 1))
        for contestant in self.contestants:
            wait_until(lambda: run(["psql", "-X", "-d", contestant.conninfo, "-c", "select 1"]), contestant.name)

    def _start_other(self, name: str, command: str) -> None:
        """A pooler of the command line."""
        folder, port = self.folder / f"other{len(self.contestants)}", free_port()
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        with (folder / "log").open("ab") as log:
            process = spawn([*shlex.split(command), str(port), str(self.postgres.port), str(self.pool_size), folder],
                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
        self._stops.append(lambda: (process.kill(), process.wait(10)))
        self.contestants.append(Contestant(
            name, f"host=127.0.0.1 port={port} user=app dbname=app", process.pid, has_tls=False, must_succeed=False))

    def order(self, round_number: int) -> Iterable[Contestant]:
        """Turned round every time, and rotated, so that nobody is always after the same one."""
        shift = round_number % len(self.contestants)
        order = self.contestants[shift:] + self.contestants[:shift]
        return order if round_number % 2 == 0 else reversed(order)

    def named(self, name: str) -> Contestant | None:
        """The contestant of that name, if it takes part."""
        return next((contestant for contestant in self.contestants if contestant.name == name), None)

    def machine(self) -> str:
        """On what all of it ran, and when."""
        model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        versions = f"PostgreSQL {self.postgres.psql('show server_version').split()[0]}"
        if self.named("PgBouncer"):
            versions += f", PgBouncer {self.bouncer_version}"
        return (f"everything on one machine: {model[1].strip() if model else platform.machine()}, {os.cpu_count()} cores, "
                f"Linux {platform.release()}, {versions}, {datetime.date.today().isoformat()}")


def cell(figure: float | None, digits: int = 0) -> str:
    """A figure for a table."""
    return "" if figure is None else f"{figure:.{digits}f}"


def markdown(header: list[str], rows: list[list[str]], texts: int = 1) -> str:
    """A table, whose first columns are text and the others numbers."""
    rules = ["---"] * texts + ["--:"] * (len(header) - texts)
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rules, *rows])


def write(page: str, mark: str, text: str) -> None:
    """Puts the text between the marks `<!-- MARK:begin -->` and `<!-- MARK:end -->` of a page below docs."""
    path = ROOT / "docs" / page
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    before, rest = path.read_text().split(begin, 1)
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}")
    print(f"written into docs/{page}")
