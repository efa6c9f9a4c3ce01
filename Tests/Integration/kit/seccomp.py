"""Starts a command without io_uring, as container runtimes do: its system calls fail with EPERM or ENOSYS."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER = 425, 426, 427
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2


def launcher(call: int, error: int) -> list[str]:
    """What stands before a command that shall have this system call refused."""
    return [sys.executable, str(Path(__file__).resolve()), str(call), str(error)]


def _refuse(call: int, error: int) -> None:
    # The number of the system call is the first word of what the filter sees (seccomp(2)).
    program = [
        struct.pack("HBBI", _LOAD, 0, 0, 0),
        struct.pack("HBBI", _EQUAL, 0, 1, call),
        struct.pack("HBBI", _RETURN, 0, 0, _ERRNO | error),
        struct.pack("HBBI", _RETURN, 0, 0, _ALLOW),
    ]
    instructions = ctypes.create_string_buffer(b"".join(program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    _refuse(int(sys.argv[1]), int(sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])
