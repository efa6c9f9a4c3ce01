"""PostgreSQL's own regression tests: directly, then through the daemon, and what is not the same.

PostgreSQL's pg_regress runs the schedule each time, against a new server. A test differs in a mode where its output there
is not the direct run's, byte for byte. What PostgreSQL expects is counted too, but does not decide: its files do not know
every locale and every load.

The differences that docs/compatibility.md explains are in EXPLAINED; any other makes this fail.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit.daemon import Lifeguard  # noqa: E402
from kit.postgres import PostgreSQL, server_binaries  # noqa: E402
from kit.processes import free_port, run  # noqa: E402

DIRECT = "direct"
#: Pools are large: a test group has up to 20 sessions, and a pinned one keeps its connection.
MODES: dict[str, dict] = {
    "session": {"mode": "session", "pool_size": 40, "max_overflow": 20},
    "transaction": {"mode": "transaction", "session_state": "pin", "pool_size": 40, "max_overflow": 20},
    # The connection that was idle for longest is next: hardly a transaction has the connection of the one before.
    "rotating": {"mode": "transaction", "session_state": "pin", "pool_size": 40, "max_overflow": 20,
                 "use_lifo": False},
}
# What follows from a server connection that has served others before, in every mode.
_USED_BEFORE = {
    "guc": "LOAD finds plpgsql loaded by an earlier client",
    "temp": "the connection's temporary schema is there already, so that nothing is created in the transaction",
    "stats": "\\c gets a connection that is there, so that pg_stat_database.sessions does not grow",
}
# Where several tests of a group run at once, a client may get another connection for its next transaction.
_SEQUENCES = dict.fromkeys(["sequence", "limit"], "currval() may ask another connection than nextval() did")
_RESET = "RESET DateStyle gives the server's value, not the one that the client logged in with"
#: By mode and test: why its output is another one. docs/compatibility.md says more.
EXPLAINED: dict[str, dict[str, str]] = {
    "session": _USED_BEFORE | dict.fromkeys(["date", "timestamp", "timestamptz", "horology"], _RESET) | {
        "guc": f"{_USED_BEFORE['guc']}; {_RESET}",
    },
    "transaction": _USED_BEFORE | _SEQUENCES,
    "rotating": _USED_BEFORE | _SEQUENCES | {
        "guc": f"{_USED_BEFORE['guc']}; a custom setting that was reset is unknown to other connections, not empty",
        "stats": f"{_USED_BEFORE['stats']}; a connection reports its counts late, and the next statement asks another",
        "triggers": "set_ttdummy() keeps its switch in a variable of its C library",
        "brin_multi": "settings that a DO block made stay where it ran, though the client has reset them elsewhere",
    },
}
#: As pg_regress sets them on the database that it makes.
DATABASE_SETTINGS = {
    "lc_messages": "C", "lc_monetary": "C", "lc_numeric": "C", "lc_time": "C", "bytea_output": "hex",
    "timezone_abbreviations": "Default",
}
#: The longest that a run may take (s).
DEADLINE = 1800
_VERDICT = re.compile(r"^(?:test|    ) (\S+)\s+\.\.\. (ok|FAILED|failed)", re.M)


@dataclass
class Outcome:
    """A run's output of each test, and which tests PostgreSQL's expected files agree with."""

    outputs: dict[str, bytes]
    as_expected: set[str]


def scheduled(schedule: Path) -> list[str]:
    """The tests of a schedule, in its order."""
    groups = re.findall(r"^test:(.*)$", schedule.read_text(), re.M)
    return [test for group in groups for test in group.split()]


def run_tests(mode: str, options: argparse.Namespace) -> None:
    """One run on a new server; leaves the outputs and pg_regress' report in the mode's folder."""
    kept = options.results / mode
    shutil.rmtree(kept, ignore_errors=True)
    # As pg_regress starts its own server, where that is not the kit's default anyway.
    server = PostgreSQL(settings={"max_prepared_transactions": "2"})
    daemon = None
    try:
        make_database(server)
        # The server reads from the tests' folder and writes to the results'.
        tests = server.folder / "tests"
        shutil.copytree(options.tests, tests)
        shutil.copytree(options.library, server.folder / "lib")
        results = server.make_folder("results")
        host, port = server.folder, server.port
        if mode != DIRECT:
            daemon = start_daemon(server, MODES[mode])
            host, port = daemon.folder, daemon.port
        done = server.run_as_owner(
            # Ends the whole group of processes when time is up.
            ["timeout", "--kill-after=10", str(DEADLINE), options.pg_regress, "--use-existing", f"--host={host}",
             f"--port={port}", "--user=postgres", "--dbname=regression", f"--bindir={server.bin}",
             f"--inputdir={tests}", f"--outputdir={results}", f"--dlpath={server.folder / 'lib'}",
             f"--schedule={tests / 'parallel_schedule'}"],
            timeout=DEADLINE + 30, check=False,
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")})
        shutil.copytree(results / "results", kept)
        (kept / "pg_regress.report").write_text(done.stdout + done.stderr)
        shutil.copy(server.log, kept / "postgresql.log")
    finally:
        try:
            if daemon:
                (options.results / f"{mode}.metrics").write_text(daemon.http("/metrics")[1])
                daemon.stop()
                shutil.copy(daemon.log_file, options.results / f"{mode}.lifeguard.log")
                daemon.check()
        finally:
            server.remove()


def make_database(server: PostgreSQL) -> None:
    """The database of the tests, as pg_regress makes it."""
    server.psql("create database regression template template0", database="postgres")
    for name, value in DATABASE_SETTINGS.items():
        server.psql(f"alter database regression set {name} to '{value}'", database="postgres")


def start_daemon(server: PostgreSQL, pool: dict) -> Lifeguard:
    """A daemon for any database and any role, on a socket that the server's user can reach."""
    folder = server.make_folder("lifeguard")
    port = free_port()
    return Lifeguard(folder, {
        "server": {"listen": [f"127.0.0.1:{port}", str(folder / f".s.PGSQL.{port}")]},
        "pool": pool,
        'databases."*"': {"upstream": f"host={server.folder} port={server.port}"},
    }, port=port)


def outcome(mode: str, options: argparse.Namespace) -> Outcome:
    """What a run has left, this time or earlier."""
    kept = options.results / mode
    verdicts = dict(_VERDICT.findall((kept / "pg_regress.report").read_text()))
    missing = [test for test in scheduled(options.tests / "parallel_schedule")
               if test not in verdicts or not (kept / f"{test}.out").exists()]
    if missing:
        raise SystemExit(f"{mode}: these tests did not run: {' '.join(missing)}\n"
                         f"{(kept / 'pg_regress.report').read_text()[-2000:]}")
    return Outcome({test: (kept / f"{test}.out").read_bytes() for test in verdicts},
                   {test for test, verdict in verdicts.items() if verdict == "ok"})


def compare(mode: str, direct: Outcome, options: argparse.Namespace) -> bool:
    """Prints and writes down how a mode differs from the direct run; false where a difference is not explained."""
    through = outcome(mode, options)
    different = [test for test, output in direct.outputs.items() if through.outputs.get(test) != output]
    print(f"{mode}: {len(direct.outputs) - len(different)} equal, {len(different)} different; "
          f"{len(through.as_expected)} as PostgreSQL expects")
    diffs = options.results / f"{mode}.diffs"
    with diffs.open("w") as file:
        for test in different:
            print(f"  {test}: {EXPLAINED[mode].get(test, f'NOT EXPLAINED, see {diffs}')}")
            file.writelines(difflib.unified_diff(
                *(text(output) for output in (direct.outputs[test], through.outputs.get(test, b""))),
                f"{DIRECT}/{test}.out", f"{mode}/{test}.out"))
    return set(different) <= set(EXPLAINED[mode])


def text(output: bytes) -> list[str]:
    """Lines of an output, whatever encoding it is in."""
    return output.decode(errors="backslashreplace").splitlines(keepends=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=Path, required=True, help="PostgreSQL's src/test/regress")
    parser.add_argument("--library", type=Path, required=True, help="folder of regress.so, autoinc.so and refint.so")
    parser.add_argument("--pg-regress", type=Path, required=True, help="the program that runs the schedule")
    parser.add_argument("--results", type=Path, required=True, help="where the runs' outputs are kept")
    parser.add_argument("runs", nargs="*", metavar="RUN", choices=[[], DIRECT, *MODES],
                        help="run only these anew (direct, session, transaction); the others stand as they were left")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    for mode in options.runs or [DIRECT, *MODES]:
        print(f"running: {mode}", flush=True)
        run_tests(mode, options)
    direct = outcome(DIRECT, options)
    version = run([server_binaries() / "postgres", "--version"]).stdout.strip()
    print(f"{version}: {len(direct.outputs)} tests, {len(direct.as_expected)} directly as PostgreSQL expects")
    agree = [compare(mode, direct, options) for mode in MODES if (options.results / mode).exists()]
    sys.exit(0 if all(agree) else 1)


if __name__ == "__main__":
    main()
