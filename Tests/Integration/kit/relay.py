"""Ports in the place of PostgreSQL's: one passes bytes on until it is told otherwise, one ends connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from abc import ABC, abstractmethod

from .wire import frame


class _Port(ABC):
    """A port on the loopback address, which does something with each connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        #: Connections that were made to it.
        self.accepted = 0
        threading.Thread(target=self._accept, name="port", daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self.accepted += 1
                self._serve(client)

    @abstractmethod
    def _serve(self, client: socket.socket) -> None: ...


class Refuser(_Port):
    """Ends every connection: at once, or when it has let the user in."""

    def __init__(self, *, after_login: bool = False) -> None:
        self._after_login = after_login
        super().__init__()

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self._after_login:
                client.recv(65536)
                client.sendall(frame(b"R", bytes(4)) + frame(b"Z", b"I"))
                client.recv(65536)


class Relay(_Port):
    """Between a daemon and its server. What is open at the moment can be stopped, and cut; what comes later passes."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._links: list[_Link] = []
        super().__init__()

    def __exit__(self, *_) -> None:
        super().__exit__()
        for link in self._links:
            link.close()

    def stop(self) -> None:
        """From now on nothing passes on the connections that are open, in either direction."""
        for link in self._links:
            link.passes.clear()

    def resume(self) -> None:
        """What has been stopped goes on."""
        for link in self._links:
            link.passes.set()

    def cut(self) -> None:
        """Closes what has been stopped, both ends of each connection."""
        for link in self._links:
            if not link.passes.is_set():
                link.close()

    def _serve(self, client: socket.socket) -> None:
        self._links.append(_Link(client, socket.create_connection(("127.0.0.1", self._server_port))))


class _Link:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._ends = (client, server)
        self.passes = threading.Event()
        self.passes.set()
        for source, target in ((client, server), (server, client)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass, args=(source, target), name="relay", daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.passes.wait()
                target.sendall(data)
        self.close()

    def close(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.passes.set()
