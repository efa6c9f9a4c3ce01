"""Ports in the place of PostgreSQL's: one passes bytes on until it is told otherwise, one ends connections."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from .wire import frame


class _Port(ABC):
    """A port on the loopback address, or a listener's, which does something with each connection."""

    def __init__(self, listener: socket.socket | None = None) -> None:
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
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
    """Between a daemon and its server. What is open at the moment can be stopped, cut, half closed, broken off and
    ended; what comes later passes. What the server sends can be delayed, and damaged once."""

    def __init__(self, port: int, listener: socket.socket | None = None) -> None:
        self._server_port = port
        self._links: list[_Link] = []
        #: How long each piece of what the server sends is kept (s).
        self.delay = 0.0
        self._damage = threading.Event()
        super().__init__(listener)

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

    def half_close(self) -> None:
        """Ends what the servers send on the connections that are open; what the daemon sends still arrives."""
        for link in self._links:
            link.half_close()

    def break_off(self, *, messages: int = 0, more: int = 0) -> None:
        """Of what the servers send from now on, on the connections that are open, only so many messages arrive, and so
        many bytes more. What comes behind is lost."""
        for link in self._links:
            link.break_off(messages, more)

    @property
    def lost(self) -> bytes:
        """What has come behind the place at which the connections were broken off."""
        return b"".join(link.lost for link in self._links)

    def end(self, *, with_reset: bool) -> None:
        """Closes the connections that are open, with a RST or with a FIN for both ends."""
        for link in self._links:
            link.close(with_reset=with_reset)

    @property
    def is_holding(self) -> bool:
        """Bytes have come for a connection that is stopped."""
        return any(link.is_holding for link in self._links)

    def damage(self) -> None:
        """The next piece that a server sends has its first byte inverted."""
        self._damage.set()

    @property
    def is_damaging(self) -> bool:
        """The piece to be damaged has not come yet."""
        return self._damage.is_set()

    def altered(self, data: bytes) -> bytes:
        """What a server has sent, as it is passed on; after the delay."""
        time.sleep(self.delay)
        if not self._damage.is_set():
            return data
        self._damage.clear()
        return bytes([data[0] ^ 0xFF]) + data[1:]

    def _serve(self, client: socket.socket) -> None:
        self._links.append(_Link(client, socket.create_connection(("127.0.0.1", self._server_port)), self.altered))


class _Link:
    def __init__(self, client: socket.socket, server: socket.socket, altered: Callable[[bytes], bytes]) -> None:
        self._ends = (client, server)
        self._closing = threading.Lock()
        self.passes = threading.Event()
        self.passes.set()
        self.is_holding = False
        self._break: _Break | None = None
        def changed(data: bytes) -> bytes:
            return self._cut(altered(data))

        for source, target, change in ((client, server, bytes), (server, client, changed)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass, args=(source, target, change), name="relay", daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.passes.is_set():
                    self.is_holding = True
                    self.passes.wait()
                    self.is_holding = False
                target.sendall(change(data))
        self.close()

    def _cut(self, data: bytes) -> bytes:
        return self._break.before(data) if self._break else data

    def break_off(self, messages: int, more: int) -> None:
        self._break = _Break(messages, more)

    @property
    def lost(self) -> bytes:
        return self._break.behind if self._break else b""

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self._ends[0].shutdown(socket.SHUT_WR)

    def close(self, *, with_reset: bool = False) -> None:
        """Closes both ends. The first call says how: a thread that waits for bytes is woken by it, and calls again."""
        with self._closing:
            for end in self._ends:
                with contextlib.suppress(OSError):
                    if with_reset:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RD if with_reset else socket.SHUT_RDWR)
                end.close()
            self.passes.set()


class _Break:
    """A place in a stream of messages: behind so many of them, and so many bytes of the next."""

    def __init__(self, messages: int, more: int) -> None:
        self._messages, self._more = messages, more
        self._stream = bytearray()

    def before(self, data: bytes) -> bytes:
        """What of the next piece of the stream comes before the place."""
        start = len(self._stream)
        self._stream += data
        return bytes(self._stream[start:max(start, self._offset)])

    @property
    def behind(self) -> bytes:
        """What has come behind the place."""
        return bytes(self._stream[self._offset:])

    @property
    def _offset(self) -> int:
        """Where the place is, as far as the stream tells yet."""
        offset = 0
        for _ in range(self._messages):
            if offset + 5 > len(self._stream):
                return len(self._stream)
            offset += 1 + int.from_bytes(self._stream[offset + 1:offset + 5])
        return offset + self._more
