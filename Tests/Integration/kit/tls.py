"""TLS as tests need it: around a client's socket, in between two sides, and byte by byte."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from .certificates import Certificate
from .waiting import wait_until
from .wire import SSL_REQUEST, WireClient, startup_packet


def unverified(*alpn: str) -> ssl.SSLContext:
    """TLS that takes any certificate, with the protocols to offer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def request_tls(client: WireClient) -> None:
    """Sends an SSLRequest, which must be granted."""
    client.send(startup_packet(SSL_REQUEST))
    assert client.receive_bytes(1) == b"S"


def tls_client(port: int, parameters: dict[str, str] | None, context: ssl.SSLContext | None = None) -> WireClient:
    """A client inside of TLS; with `parameters` it has started up, where nobody asks for a password."""
    client = WireClient(port)
    request_tls(client)
    client.socket = (context or unverified()).wrap_socket(client.socket)
    if parameters is not None:
        client.start_up(parameters)
    return client


def client_hello() -> bytes:
    """The first bytes of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        unverified().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


@contextlib.contextmanager
def man_in_the_middle(port: int, shown: Certificate) -> Iterator[int]:
    """A port that ends TLS with a certificate of its own, and speaks TLS of its own to `port`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)

    def serve(victim: socket.socket) -> None:
        with contextlib.suppress(OSError), victim:
            assert victim.recv(8) == startup_packet(SSL_REQUEST)
            victim.sendall(b"S")
            with context.wrap_socket(victim, server_side=True) as inside, tls_client(port, None) as server:
                others = {inside: server.socket, server.socket: inside}
                while True:
                    pending = [end for end in others if end.pending()]
                    for end in pending or select.select(list(others), [], [])[0]:
                        if not (data := end.recv(65536)):
                            return
                        others[end].sendall(data)

    with _listening(serve) as own_port:
        yield own_port


@contextlib.contextmanager
def bytewise(port: int) -> Iterator[int]:
    """A port that passes on what clients send byte by byte: the next one follows when the last one has been read."""

    def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", port)) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            own_port = server.getsockname()[1]
            while True:
                for end in select.select([client, server], [], [])[0]:
                    if not (data := end.recv(65536)):
                        return
                    if end is server:
                        client.sendall(data)
                        continue
                    for byte in data:
                        server.sendall(bytes([byte]))
                        wait_until(lambda: _unread(port, own_port) == 0, "the byte is read", every=0)

    with _listening(serve) as own_port:
        yield own_port


def _unread(port: int, peer_port: int) -> int | None:
    """Bytes that lie in the receive queue of a connection on the loopback address; None where there is none."""
    local, peer = f"0100007F:{port:04X}", f"0100007F:{peer_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines():
        fields = line.split()
        if fields[1:3] == [local, peer]:
            return int(fields[4].split(":")[1], 16)
    return None


@contextlib.contextmanager
def _listening(serve) -> Iterator[int]:
    """Calls `serve` with each connection to a port, on a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
