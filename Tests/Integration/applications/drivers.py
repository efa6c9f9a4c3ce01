"""The drivers that have a program in `languages`: how it is run, what it needs, and where that comes from."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kit.processes import run

PROGRAMS = Path(__file__).with_name("languages")
#: Where `deploy/dev/deps.sh` unpacks packages.
UNPACKED = Path(__file__).resolve().parents[3] / ".run/deps/usr"


def unpacked(pattern: str) -> str:
    """The path of what a package has there, whatever the machine's kind; empty if it is not there."""
    return str(next(UNPACKED.glob(pattern), ""))


def libraries() -> str:
    return os.path.dirname(unpacked("lib/*/libodbcinst.so.2"))


@dataclass
class Driver:
    """A program, and what it takes to run it."""

    name: str
    #: The command line, made in a folder for what has to be compiled.
    command: Callable[[Path], list[str | Path]]
    #: Whether all that it needs is there, and where that comes from.
    is_there: Callable[[], object] = lambda: True
    package: str = "Tests/Integration/requirements.txt"
    environment: dict[str, str] = field(default_factory=dict)
    #: `make test` installs what it needs, if the machine is a Debian.
    is_installed_by_tests: bool = True


def python(program: str) -> Callable[[Path], list[str | Path]]:
    return lambda folder: [sys.executable, PROGRAMS / program]


def script(interpreter: str, program: str) -> Callable[[Path], list[str | Path]]:
    return lambda folder: [interpreter, PROGRAMS / program]


def compiled_c(folder: Path) -> list[str | Path]:
    flags = run(["pkg-config", "--cflags", "--libs", "libpq"]).stdout.split()
    run(["gcc", "-Wall", "-Werror", "-o", folder / "libpq", PROGRAMS / "libpq.c", *flags])
    return [folder / "libpq"]


#: Go's compiler and libraries, unpacked or installed, without modules: nothing is downloaded. What has been compiled is
#: kept, as a compiler that begins from nothing takes half a minute.
GO = {
    "GOROOT": unpacked("lib/go-*"), "GOPATH": unpacked("share/gocode") or "/usr/share/gocode", "GO111MODULE": "off",
    "GOCACHE": str(UNPACKED.parent / "go-cache"), "GOFLAGS": "-p=2", "CGO_ENABLED": "0",
}


def compiled_go(program: str) -> Callable[[Path], list[str | Path]]:
    def command(folder: Path) -> list[str | Path]:
        go = unpacked("lib/go-*/bin/go") or "go"
        settings = {name: value for name, value in GO.items() if value}
        run([go, "build", "-o", folder / program, "."], cwd=PROGRAMS / program, timeout=300,
            env={**os.environ, **settings})
        return [folder / program]

    return command


def has_go(library: str) -> bool:
    return bool((unpacked("lib/go-*/bin/go") or shutil.which("go"))
                and (Path(GO["GOPATH"]) / "src/github.com" / library).exists())


#: Debian's interpreters, whatever else is in the PATH: the drivers are compiled for them.
PERL, PHP, RUBY = "/usr/bin/perl", "/usr/bin/php", "/usr/bin/ruby"


def php_has(module: str) -> bool:
    return os.path.exists(PHP) and module in run([PHP, "-m"]).stdout.split()


def ruby_has_pg() -> bool:
    return os.path.exists(RUBY) and run([RUBY, "-e", 'require "pg"'], check=False).returncode == 0


DRIVERS = [
    Driver("psycopg 3", python("with_psycopg.py")),
    Driver("psycopg2", python("with_psycopg2.py")),
    Driver("asyncpg", python("with_asyncpg.py")),
    Driver("pg8000", python("with_pg8000.py")),
    Driver("pgjdbc", python("with_pgjdbc.py"), lambda: unpacked("share/java/postgresql.jar") and shutil.which("java"),
           "libpostgresql-jdbc-java, default-jre-headless", {"PGJDBC": unpacked("share/java/postgresql.jar")}),
    Driver("libpq (C)", compiled_c, lambda: shutil.which("gcc"), "libpq-dev, gcc"),
    Driver("psqlODBC", python("with_odbc.py"), lambda: unpacked("lib/*/odbc/psqlodbcw.so"), "odbc-postgresql",
           {"PSQLODBC": unpacked("lib/*/odbc/psqlodbcw.so"), "LD_LIBRARY_PATH": libraries()}),
    Driver("DBD::Pg (Perl)", script(PERL, "dbd_pg.pl"), lambda: unpacked("lib/*/perl5/*/DBD/Pg.pm"),
           "libdbd-pg-perl, libdbi-perl", {"PERL5LIB": unpacked("lib/*/perl5/*")}),
    Driver("pg (Ruby)", script(RUBY, "ruby_pg.rb"), ruby_has_pg, "ruby-pg"),
    Driver("pgsql (PHP)", script(PHP, "php_pgsql.php"), lambda: php_has("pgsql"), "php-cli, php-pgsql"),
    Driver("PDO (PHP)", script(PHP, "php_pdo.php"), lambda: php_has("pdo_pgsql"), "php-cli, php-pgsql"),
    Driver("pg (Node)", script("node", "node_pg.js"), lambda: unpacked("share/nodejs/pg") and shutil.which("node"),
           "node-pg, nodejs", {"NODE_PATH": unpacked("share/nodejs")}, is_installed_by_tests=False),
    Driver("lib/pq (Go)", compiled_go("lib_pq"), lambda: has_go("lib/pq"), "golang-go, golang-github-lib-pq-dev",
           is_installed_by_tests=False),
    Driver("pgx (Go)", compiled_go("pgx"), lambda: has_go("jackc/pgx"), "golang-go, golang-github-jackc-pgx-v4-dev",
           is_installed_by_tests=False),
]
