"""Child processes that cannot outlive the test run, and free ports."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_handed_out: set[int] = set()


def spawn(command: list[str | Path], *, death_signal: int = signal.SIGKILL, **options) -> subprocess.Popen:
    """Starts a process that gets `death_signal` when this one is gone, however that happens."""

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))

    return subprocess.Popen([str(part) for part in command], preexec_fn=die_with_parent, **options)


def run(command: list[str | Path], *, input: str = "", timeout: float = 60, check: bool = True,
        **options) -> subprocess.CompletedProcess:
    """Runs a process to its end; its output is text. A failure shows what it printed."""
    process = spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                    **options)
    try:
        out, err = process.communicate(input, timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{command} did not end within {timeout} s\n{out}\n{err}") from None
    if check and process.returncode != 0:
        raise AssertionError(f"{command} ended with {process.returncode}\n{out}\n{err}")
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def free_port() -> int:
    """A port on the loopback address that nobody uses, below those that the kernel takes for outgoing connections."""
    while True:
        port = random.randrange(20000, 32000)
        if port in _handed_out:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _handed_out.add(port)
        return port


def resident_bytes(pid: int) -> int:
    """Memory of a process that lies in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Processor time that all threads of a process have used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
