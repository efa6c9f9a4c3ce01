"""`[server] event_loop`: which driver runs, and what happens where io_uring is refused."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable

import psycopg
import pytest

from kit import seccomp
from kit.daemon import Lifeguard


def has_io_uring() -> bool:
    """This machine lets us have it."""
    probe = "import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(120)) < 0)"
    return subprocess.run(["python3", "-c", probe]).returncode == 0


needs_io_uring = pytest.mark.skipif(not has_io_uring(), reason="no io_uring on this machine")
DRIVERS = [pytest.param("io_uring", marks=needs_io_uring), "epoll"]


def event_loop(daemon: Lifeguard) -> str:
    return next(row["value"] for row in daemon.admin("SHOW STATE") if row["key"] == "event_loop")


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_can_be_forced_and_is_shown(lifeguard: Callable[..., Lifeguard], driver: str):
    daemon = lifeguard(server={"event_loop": driver})
    assert f"event_loop={driver}" in daemon.log()
    assert event_loop(daemon) == driver
    assert f'event_loop="{driver}"' in daemon.http("/metrics")[1]


@needs_io_uring
def test_auto_takes_io_uring_where_it_can_be_had(lifeguard: Callable[..., Lifeguard]):
    daemon = lifeguard(server={"event_loop": "auto"})
    assert event_loop(daemon) == "io_uring"


@pytest.mark.parametrize("call, error", [
    (seccomp.IO_URING_SETUP, errno.EPERM), (seccomp.IO_URING_SETUP, errno.ENOSYS),
    (seccomp.IO_URING_REGISTER, errno.EPERM), (seccomp.IO_URING_ENTER, errno.EPERM),
])
def test_auto_falls_back_to_epoll_with_one_line_where_the_kernel_refuses(
        lifeguard: Callable[..., Lifeguard], call: int, error: int):
    daemon = lifeguard(server={"event_loop": "auto"}, launcher=seccomp.launcher(call, error))
    assert event_loop(daemon) == "epoll"
    assert daemon.log().count("io_uring cannot be had, so epoll it is") == 1
    with psycopg.connect(daemon.conninfo()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("call, error, reason", [
    (seccomp.IO_URING_SETUP, errno.EPERM, "Operation not permitted"),
    (seccomp.IO_URING_SETUP, errno.ENOSYS, "Function not implemented"),
    (seccomp.IO_URING_ENTER, errno.EPERM, "Operation not permitted"),
])
def test_forced_io_uring_that_is_refused_ends_the_start(
        lifeguard: Callable[..., Lifeguard], call: int, error: int, reason: str):
    daemon = lifeguard(server={"event_loop": "io_uring"}, launcher=seccomp.launcher(call, error), wait=False)
    daemon.expected_exit = 1
    assert daemon.process.wait(20) == 1
    assert f"io_uring cannot be had: {reason}" in daemon.log()
