"""Clients that read COPY without end, in one process.

    streamer.py PORT DATABASE COUNT MEGABYTES

They read MEGABYTES a second, all of them together, or as fast as they can where that is 0. A line `ready` on standard output
follows the first bytes of the last one. When standard input ends they stop, and a line says how many megabytes they have
read since `ready`, and in how many seconds.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Integration"))

from kit import wire  # noqa: E402

# In the select list the series is made row by row; in FROM it is written to a file first, which fills the disk.
#: Without end and without a disk: rows of generate_series in FROM would all be kept in a temporary file first.
COPY = f"copy (select '{'x' * 990}', generate_series(1, 2000000000)) to stdout"


def main() -> None:
    port, database, count, pace = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) * 1e6
    clients = [wire.WireClient(port, {"user": "app", "database": database}, timeout=60) for _ in range(count)]
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    silent: set[socket.socket] = set()
    for client in clients:
        client.send(wire.query(COPY))
        client.socket.setblocking(False)
        selector.register(client.socket, selectors.EVENT_READ)
        silent.add(client.socket)
    buffer, received, began = bytearray(1 << 18), 0, 0.0
    while True:
        ahead = received / pace - (time.monotonic() - began) if pace and not silent else 0
        if ahead > 0:
            # Not for shorter: many small reads would take the machine more time than they are worth.
            time.sleep(max(ahead, 0.005))
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                print(f"{received / 1e6:.3f} {time.monotonic() - began:.3f}", flush=True)
                return
            length = key.fileobj.recv_into(buffer)
            if not length:
                raise SystemExit("streamer: a connection was closed")
            received += length
            if silent:
                silent.discard(key.fileobj)
                if not silent:
                    print("ready", flush=True)
                    received, began = 0, time.monotonic()


if __name__ == "__main__":
    main()
