"""A throwaway PostgreSQL. Needs nothing but the standard library."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from .certificates import Certificate
from .processes import free_port, run, spawn
from .waiting import wait_until


def server_binaries() -> Path:
    """The folder of the newest server that is installed the way Debian does."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if not found:
        raise RuntimeError("no PostgreSQL server below /usr/lib/postgresql; `make deps` installs one")
    return found[-1].parent


class PostgreSQL:
    """A server with its data, socket and log in a temporary folder.

    User `postgres` (superuser) and anybody else get in through the socket, which only the server's own user and root
    can reach. On the loopback address the other roles get in: `app` and `alice` without a password, `guarded` with the
    password `right one` (SCRAM). Databases: `app`, owned by `app`, and `other`.

    With `certificate` it offers TLS. Lines in `hba` come before those of the loopback address.

    All servers of a process are copies of one, which takes a third of the time that making each anew does; so they have
    one system identifier.
    """

    #: The data that the servers of this process begin with.
    _template: Path | None = None

    def __init__(self, *, max_connections: int = 200, settings: dict[str, str] | None = None,
                 certificate: Certificate | None = None, authority: Path | None = None, hba: str = "") -> None:
        self._take_place({"max_connections": str(max_connections)} | (settings or {}))
        if PostgreSQL._template is None:
            self._make_template()
        # Its owner copies it, and so owns the copy.
        run(["cp", "-R", "-p", "--reflink=auto", PostgreSQL._template, self.data], **self._as_user)
        if certificate:
            self._settings |= {"ssl": "on"} | {
                name: str(self._own(path)) for name, path in [
                    ("ssl_cert_file", certificate.certificate), ("ssl_key_file", certificate.key),
                    ("ssl_ca_file", authority)] if path}
        (self.data / "pg_hba.conf").write_text(
            "local all all trust\n"
            "local replication postgres trust\n"
            f"{hba}"
            "host all postgres 127.0.0.1/32 reject\n"
            "host all guarded 127.0.0.1/32 scram-sha-256\n"
            "host all all 127.0.0.1/32 trust\n")
        self.start()

    def _make_template(self) -> None:
        """Makes the data in this server's place, and puts them into a folder that goes with the process."""
        run([self.bin / "initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-E", "UTF8",
             "--locale=C.UTF-8", "-N"], **self._as_user)
        self.start()
        for sql in (
            "create role app login", "create role alice login", "create role guarded login password 'right one'",
            "create database app owner app", "create database other",
        ):
            self.psql(sql, database="postgres")
        self.psql("grant create on schema public to public")
        self.stop()
        folder = Path(tempfile.mkdtemp(prefix="lifeguard-pg-", dir="/tmp"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        PostgreSQL._template = folder / "data"
        shutil.move(self.data, PostgreSQL._template)

    def _take_place(self, settings: dict[str, str]) -> None:
        """Folder, port and settings, with nothing in the folder yet."""
        self.bin = server_binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="lifeguard-pg-", dir="/tmp"))
        self.data = self.folder / "data"
        self.log = self.folder / "postgresql.log"
        self.port = free_port()
        self._settings = {
            "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder), "port": str(self.port),
            "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_wal_size": "2GB",
            "shared_buffers": "128MB",
        } | settings
        self._as_user: dict = {"cwd": self.folder}
        if os.getuid() == 0:
            self._as_user |= {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self.folder, "postgres", "postgres")
        self._process: subprocess.Popen | None = None

    def make_folder(self, name: str) -> Path:
        """A folder beside the data that the server's user may write to."""
        folder = self.folder / name
        folder.mkdir()
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        return folder

    def run_as_owner(self, command: list[str | Path], **options) -> subprocess.CompletedProcess:
        """Runs a process to its end as the server's user."""
        return run(command, **self._as_user, **options)

    def _own(self, path: Path) -> Path:
        """A copy that the server's user can read, and nobody else."""
        copy = Path(shutil.copy(path, self.folder))
        copy.chmod(0o600)
        if os.getuid() == 0:
            shutil.chown(copy, "postgres", "postgres")
        return copy

    # MARK: its life

    def start(self) -> None:
        """Starts the server and waits until it lets clients in."""
        command: list[str | Path] = [self.bin / "postgres", "-D", self.data]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            # SIGQUIT is PostgreSQL's immediate shutdown.
            self._process = spawn(
                command, death_signal=signal.SIGQUIT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **self._as_user)
        wait_until(self._accepts, "PostgreSQL accepts connections", deadline=60, every=0.05)

    def stop(self, how: str = "fast") -> None:
        """Stops the server: `smart` waits for clients, `fast` sends them away, `immediate` is a crash."""
        if self._process is None:
            return
        self._process.send_signal({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[how])
        self._process.wait(60)
        self._process = None

    def restart(self, how: str = "fast") -> None:
        """Stops and starts it."""
        self.stop(how)
        self.start()

    def kill(self) -> None:
        """SIGKILL for all of its processes, as if the machine were gone; its connections end with a reset."""
        assert self._process is not None
        self._signal(signal.SIGKILL)
        self._process.wait(60)
        self._process = None

    def freeze(self) -> None:
        """SIGSTOP: from now on it answers nobody, though the kernel still accepts connections for it."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Ends `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """To the postmaster first, so that it starts no further process."""
        os.kill(self.pid, number)
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)

    def remove(self) -> None:
        """Stops it and removes its folder."""
        if self._process is not None:
            self.thaw()
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def _accepts(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"PostgreSQL ended:\n{self.log.read_text()[-2000:]}")
        command = [self.bin / "pg_isready", "-q", "-h", self.folder, "-p", str(self.port)]
        return run(command, check=False).returncode == 0

    def wait_for_replay(self, standby: PostgreSQL) -> None:
        """Waits until a standby shows all that has been committed here."""
        # Commits are asynchronous here but for this one, which takes the earlier ones along.
        self.psql("set synchronous_commit = on; select pg_logical_emit_message(true, '', '')", database="postgres")
        position = self.psql("select pg_current_wal_flush_lsn()", database="postgres")
        wait_until(lambda: standby.psql(f"select pg_last_wal_replay_lsn() >= '{position}'", database="postgres") == "t",
                   "the standby has replayed all", deadline=30)

    # MARK: talking to it

    def conninfo(self, *, user: str | None = "app", database: str | None = "app", **more: str) -> str:
        """libpq connection string over the loopback address; None leaves the user or the database open."""
        parts = {"host": "127.0.0.1", "port": str(self.port), "user": user, "dbname": database, **more}
        return " ".join(f"{name}={quoted(value)}" for name, value in parts.items() if value is not None)

    def superuser(self, database: str = "app") -> str:
        """libpq connection string of the superuser, over the socket."""
        return f"host={self.folder} port={self.port} user=postgres dbname={database}"

    def psql(self, sql: str, *, database: str = "app") -> str:
        """What the superuser gets for `sql`: rows as lines, columns separated by `|`."""
        command = [self.bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.superuser(database)]
        return run([*command, "-c", sql]).stdout.strip()

    def backends(self, user: str = "app") -> int:
        """Connections of a user that the server has."""
        return int(self.psql(f"select count(*) from pg_stat_activity where usename = '{user}'"))


def quoted(value: str) -> str:
    """A value as a libpq connection string wants it."""
    if value and not any(character in value for character in " '\\"):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
