"""Drivers of other languages: each has a program that uses what its interface has, and `docs/compatibility.md` says
what came out. LIFEGUARD_WRITE_COMPATIBILITY=1 writes that page; without it, it must say what is so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from compatibility import PAGE, Outcome, column, table
from drivers import DRIVERS, Driver

from kit.daemon import Lifeguard
from kit.processes import run

#: By driver, filled by the tests.
outcomes: dict[str, Outcome] = {}


@pytest.fixture
def narrow(lifeguard, empty: None) -> Lifeguard:
    """A daemon with two server connections, so that a client that goes on while the other one is held changes them."""
    return lifeguard(pool={"pool_size": 2, "max_overflow": 0})


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
def test_the_program_of_a_driver_runs_to_its_end(narrow: Lifeguard, driver: Driver, tmp_path: Path):
    if not driver.is_there():
        is_promised = driver.is_installed_by_tests and shutil.which("dpkg-query")
        assert not is_promised, f"`make deps` installs {driver.package}"
        pytest.skip(f"needs {driver.package}")
    done = run(driver.command(tmp_path), check=False, env={
        **os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(narrow.port), "PGUSER": "app", "PGDATABASE": "app",
        "PGSSLMODE": "disable", **driver.environment})
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    outcomes[driver.name] = Outcome.read(done.stdout)
    assert narrow.pool()["sv_pinned"] == "0"


def test_the_page_says_what_came_out():
    if not outcomes:
        pytest.skip("no program has been run")
    if os.environ.get("LIFEGUARD_WRITE_COMPATIBILITY"):
        assert set(outcomes) == {driver.name for driver in DRIVERS}, "it takes all of the drivers"
        PAGE.write(table(outcomes))
    written = PAGE.read()
    for name, outcome in outcomes.items():
        assert column(written, name) == column(table({name: outcome}), name), (
            f"{PAGE.path.name} has something else for {name}")
