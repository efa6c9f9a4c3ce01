"""The admin socket of a daemon."""

from __future__ import annotations

import json
import socket
from typing import Any

from .daemon import Lifeguard


class Refused(Exception):
    """The daemon's answer was an error; `sqlstate` says which."""

    def __init__(self, error: dict[str, str]) -> None:
        super().__init__(f"{error['sqlstate']}: {error['message']}")
        self.sqlstate = error["sqlstate"]
        self.message = error["message"]


class AdminSocket:
    """A connection to the admin socket: one line after the other, each with its answer."""

    def __init__(self, daemon: Lifeguard, timeout: float = 20) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(str(daemon.folder / "admin.sock"))

    def __enter__(self) -> AdminSocket:
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def send(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\n")

    def rest(self) -> str:
        """Everything up to the end of the connection, after our side has ended."""
        self.socket.shutdown(socket.SHUT_WR)
        text = b""
        while part := self.socket.recv(65536):
            text += part
        return text.decode()


def command(daemon: Lifeguard, text: str, timeout: float = 20) -> Any:
    """The answer to a command over the admin socket: rows as dictionaries, or the command's tag."""
    with AdminSocket(daemon, timeout) as admin:
        admin.send("json " + text)
        answer = json.loads(admin.rest())
    if isinstance(answer, dict):
        if "error" in answer:
            raise Refused(answer["error"])
        return answer.get("command")
    return answer
