"""Holds idle clients, in a process of its own so that its memory and descriptors are nobody else's.

    holder.py PORT COUNT plain|tls

Each client logs in, runs one `select 1` and then says nothing. A line `ready` on standard output follows the last one.
With each line on standard input all of them run another one, and `ready` follows again; they leave when it ends.
"""

from __future__ import annotations

import resource
import socket
import ssl
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Integration"))

from kit import wire  # noqa: E402


def await_ready(stream: socket.socket) -> None:
    """Reads up to a ReadyForQuery, which is the last of the answer."""
    received = b""
    while not received.endswith(b"Z\0\0\0\5I"):
        piece = stream.recv(65536)
        if not piece:
            raise SystemExit(f"holder: the connection was closed after {received!r}")
        received += piece


def client(port: int, context: ssl.SSLContext | None) -> socket.socket:
    """A client that has been served once."""
    stream = socket.create_connection(("127.0.0.1", port))
    # As drivers do.
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context:
        stream.sendall(wire.startup_packet(wire.SSL_REQUEST))
        if stream.recv(1) != b"S":
            raise SystemExit("holder: no TLS here")
        stream = context.wrap_socket(stream)
    stream.sendall(wire.startup({"user": "app", "database": "app"}))
    await_ready(stream)
    stream.sendall(wire.query("select 1"))
    await_ready(stream)
    return stream


def main() -> None:
    port, count, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    context = None
    if kind == "tls":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    clients = [client(port, context) for _ in range(count)]
    print("ready", flush=True)
    for _ in sys.stdin:
        for each in clients:
            each.sendall(wire.query("select 1"))
        for each in clients:
            await_ready(each)
        print("ready", flush=True)
    for each in clients:
        each.close()


if __name__ == "__main__":
    main()
