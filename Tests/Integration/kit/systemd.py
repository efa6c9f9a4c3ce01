"""The service manager's side: a socket for sd_notify, listeners passed as systemd does, single threads that stop."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

# Puts the descriptors of the first argument at 3 and up, says so to the process that this becomes, and becomes it.
_LAUNCH = """
import fcntl, os, sys
descriptors = [fcntl.fcntl(int(text), fcntl.F_DUPFD, 100) for text in sys.argv[1].split(",")]
for place, descriptor in enumerate(descriptors, 3):
    os.dup2(descriptor, place)
    os.close(descriptor)
os.environ["LISTEN_FDS"] = str(len(descriptors))
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def launcher(sockets: Sequence[socket.socket]) -> list[str]:
    """What stands before a command so that it gets these sockets (sd_listen_fds(3)). They have to be inheritable."""
    return [sys.executable, "-c", _LAUNCH, ",".join(str(each.fileno()) for each in sockets)] if sockets else []


class NotifySocket:
    """Where a service sends its states (sd_notify(3)): a datagram socket with a path or, with "@", an abstract name."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def receive(self, deadline: float = 10) -> dict[str, str]:
        """The next message, by variable."""
        self._socket.settimeout(deadline)
        return dict(line.split("=", 1) for line in self._socket.recv(8192).decode().splitlines())

    def until(self, condition: Callable[[dict[str, str]], object], what: str, deadline: float = 15) -> dict[str, str]:
        """The first message from now on for which the condition is true."""
        end, last = time.monotonic() + deadline, None
        while (left := end - time.monotonic()) > 0:
            try:
                last = self.receive(left)
            except TimeoutError:
                break
            if condition(last):
                return last
        raise AssertionError(f"not within {deadline:g} s: {what} (last: {last})")

    def drop_all(self) -> None:
        """Forgets what has come."""
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(8192)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Closes it and removes its file."""
        self._socket.close()
        if not self.address.startswith("@"):
            os.unlink(self.address)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_ulong, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_PTRACE_DETACH, _PTRACE_SEIZE, _PTRACE_INTERRUPT, _WALL = 17, 0x4206, 0x4207, 0x40000000


@contextmanager
def stopped_thread(pid: int, name: str) -> Iterator[None]:
    """Stops one thread of a process, as a debugger does, while the others run."""
    threads = Path(f"/proc/{pid}/task")
    tid = next(int(each.name) for each in threads.iterdir() if (each / "comm").read_text().strip() == name)

    def ptrace(request: int) -> None:
        if _libc.ptrace(request, tid, None, None) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    try:
        ptrace(_PTRACE_SEIZE)
    except PermissionError:
        pytest.skip("no debugger is allowed here")
    ptrace(_PTRACE_INTERRUPT)
    os.waitpid(tid, _WALL)
    try:
        yield
    finally:
        ptrace(_PTRACE_DETACH)
