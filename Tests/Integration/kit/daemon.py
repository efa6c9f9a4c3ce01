"""The daemon under test."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import secrets, systemd
from .processes import free_port, run, spawn
from .waiting import wait_until

#: `[server] workers` of all daemons of a run, for running the tests with one and with several.
WORKERS = int(os.environ.get("LIFEGUARD_WORKERS") or 1)

#: `[server] event_loop` of all daemons of a run, for running the tests with each driver.
EVENT_LOOP = os.environ.get("LIFEGUARD_EVENT_LOOP") or "auto"

BINARY = Path(os.environ.get("LIFEGUARD") or Path(__file__).resolve().parents[3] / ".build/release/lifeguard")

# What a Swift program prints when it dies of a bug, and what the sanitizers print.
_CRASH = re.compile(r"Fatal error|fatal error|Precondition failed|Assertion failed|Program crashed|Backtrace|"
                    r"Illegal instruction|Segmentation fault|AddressSanitizer|ThreadSanitizer")


def toml(sections: dict[str, dict[str, Any]]) -> str:
    """Sections with their keys as TOML."""
    lines = []
    for section, keys in sections.items():
        lines += ["", f"[{section}]"]
        lines += [f"{key} = {_toml_value(value)}" for key, value in keys.items()]
    return "\n".join(lines[1:]) + "\n"


def _toml_value(value: Any) -> str:
    """JSON's strings, numbers, booleans and lists are TOML's; its objects are not."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(member)}" for key, member in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


class Lifeguard:
    """A running daemon with its settings, log and admin socket in a folder of its own."""

    def __init__(self, folder: Path, sections: dict[str, dict[str, Any]], *, environment: dict[str, str] | None = None,
                 wait: bool = True, binary: Path = BINARY, descriptors: int | None = None, port: int | None = None,
                 sockets: Sequence[socket.socket] = (), launcher: Sequence[str] = ()) -> None:
        """`port` is where clients connect; `sockets` are passed as systemd does; `launcher` stands before the command."""
        self.folder = folder
        self.port = port or free_port()
        self.http_port = free_port()
        self.config = folder / "lifeguard.toml"
        self.log_file = folder / "lifeguard.log"
        self._base: dict[str, dict[str, Any]] = {
            "server": {"listen": [f"127.0.0.1:{self.port}"], "shutdown_timeout": "10s", "workers": WORKERS,
                       "event_loop": EVENT_LOOP},
            "auth": {"method": "trust"},
            "admin": {"socket": str(folder / "admin.sock")},
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
            # A prober has a connection to each server, which tests that count connections would have to count too.
            "health": {"interval": "off"},
        }
        self.write_settings(sections)
        limit = [] if descriptors is None else ["prlimit", f"--nofile={descriptors}:{descriptors}", "--"]
        with self.log_file.open("ab") as log:
            self.process = spawn(
                [*limit, *launcher, *systemd.launcher(sockets), binary, "serve", "--config", self.config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                pass_fds=[each.fileno() for each in sockets],
                env={**os.environ, "SWIFT_BACKTRACE": "color=no", **(environment or {})})
        # What the test itself expects of the end; a test that kills the daemon sets this to None.
        self.expected_exit: int | None = 0
        #: What user `postgres` needs besides its name to get into the console.
        self.console: dict[str, str] = {}
        if wait:
            wait_until(self._is_ready, "the daemon is ready", deadline=20)

    # MARK: settings

    def write_settings(self, sections: dict[str, dict[str, Any]]) -> None:
        """Writes the settings file, with addresses and trust filled in. A running daemon needs `reload` then."""
        merged = {name: dict(keys) for name, keys in self._base.items()}
        for name, keys in sections.items():
            merged.setdefault(name, {}).update(keys)
        self.config.write_text(toml(merged))

    def reload(self) -> None:
        """Sends SIGHUP. What follows from it is for the test to wait for."""
        self.process.send_signal(signal.SIGHUP)

    # MARK: its end

    def terminate(self) -> None:
        """Sends SIGTERM: the daemon drains, and stops at once at the second."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self, timeout: float = 30) -> None:
        """Drains and waits for the end; connections that are still open are cut by a second SIGTERM."""
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(1)
            except subprocess.TimeoutExpired:
                self.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(30)
            raise AssertionError(f"the daemon did not stop within {timeout} s; its log:\n{self.log_tail()}") from None

    def check(self) -> None:
        """Fails unless the daemon ended as expected and its log has no trace of a crash."""
        crash = _CRASH.search(self.log())
        assert not crash, f"the daemon's log:\n{self.log_tail()}"
        shown = [secret for secret in secrets.ALL if secret in self.log()]
        assert not shown, f"the log shows {shown}:\n{self.log_tail()}"
        if self.expected_exit is not None:
            code = self.process.returncode
            assert code == self.expected_exit, f"the daemon ended with {code}; its log:\n{self.log_tail()}"

    def check_secrets(self) -> None:
        """Fails if anything that the daemon shows while it runs holds a password of the tests."""
        settings = self.config.read_text()
        if self.process.poll() is not None or not re.search("^(file|password|upstream = .*password)", settings, re.M):
            return
        pages = ("/metrics", "/readyz", "/api/status", *(f"/health/{name}" for name in ("app", "other", "guarded")))
        shown = "".join(self.http(page)[1] for page in pages)
        if self.console or 'method = "trust"' in settings:
            shown += "".join(str(self.admin(f"SHOW {what}")) for what in ("CONFIG", "DATABASES", "SERVERS", "POOLS"))
        found = [secret for secret in secrets.ALL if secret in shown]
        assert not found, f"shown: {found}"

    # MARK: looking at it

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def log(self) -> str:
        """All that it has written."""
        return self.log_file.read_text(errors="replace")

    def log_tail(self, lines: int = 60) -> str:
        """The last lines that it has written."""
        return "\n".join(self.log().splitlines()[-lines:])

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"it ended with {self.process.returncode}:\n{self.log_tail()}")
        socket.create_connection(("127.0.0.1", self.port), 1).close()
        return self.http("/livez")[0] == 200

    def http(self, path: str) -> tuple[int, str]:
        """Status and text of a page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics, by name with labels as they stand there."""
        samples = {}
        for line in self.http("/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    # MARK: talking to it

    def conninfo(self, *, user: str = "app", database: str = "app", **more: str) -> str:
        """libpq connection string through the daemon."""
        from .postgres import quoted

        parts = {"host": "127.0.0.1", "port": str(self.port), "user": user, "dbname": database, **more}
        return " ".join(f"{name}={quoted(value)}" for name, value in parts.items())

    def url(self, driver: str, *, user: str = "app", database: str = "app") -> str:
        """SQLAlchemy's URL through the daemon."""
        return f"postgresql+{driver}://{user}@127.0.0.1:{self.port}/{database}"

    def address(self, *, user: str = "app", database: str = "app") -> str:
        """URI through the daemon."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def psql(self, sql: str, *, user: str = "app", database: str = "app", check: bool = True, options: list[str] = [],
             environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        """Runs psql with one command; rows are lines, columns separated by `|`."""
        return run(
            ["psql", "-X", "-A", "-t", "-v", "VERBOSITY=verbose", *options, "-d",
             self.conninfo(user=user, database=database), "-c", sql],
            check=check, env={**os.environ, **(environment or {})})

    def admin(self, command: str) -> list[dict[str, str]]:
        """Rows of a console command, through psql, by column name."""
        out = run(["psql", "-X", "-A", "-P", "footer=off", "-F", "\t", "-d",
                   self.conninfo(**{"user": "postgres", "database": "lifeguard"} | self.console), "-c", command]).stdout
        header, *rows = out.splitlines()
        return [dict(zip(header.split("\t"), row.split("\t"), strict=True)) for row in rows]

    def pool(self, label: str = "app/app") -> dict[str, str]:
        """The row of SHOW POOLS of a pool, by its label `database/user`."""
        database, user = label.split("/")
        for row in self.admin("SHOW POOLS"):
            if (row["database"], row["user"]) == (database, user):
                return row
        raise AssertionError(f"SHOW POOLS has no {label}")
