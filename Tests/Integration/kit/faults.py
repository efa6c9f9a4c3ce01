"""Ways in which a server connection dies, behind a relay."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from .daemon import Lifeguard
from .postgres import PostgreSQL
from .relay import Relay
from .waiting import wait_until

_OF_CLIENTS = "from pg_stat_activity where usename = 'app'"


def terminate(postgres: PostgreSQL, _: Relay) -> None:
    """pg_terminate_backend for each backend of user app: a FATAL error, then a FIN."""
    postgres.psql(f"select pg_terminate_backend(pid, 10000) {_OF_CLIENTS}")


def crash(postgres: PostgreSQL, _: Relay) -> None:
    """SIGKILL for a backend of user app: the server throws all others out, and recovers."""
    ready = "ready to accept connections"
    before = postgres.log.read_text().count(ready)
    os.kill(int(postgres.psql(f"select pid {_OF_CLIENTS} limit 1")), signal.SIGKILL)
    wait_until(lambda: postgres.log.read_text().count(ready) > before, "the server has recovered", deadline=30)


def fin(_: PostgreSQL, relay: Relay) -> None:
    """The connection is closed on the way."""
    relay.end(with_reset=False)


def rst(_: PostgreSQL, relay: Relay) -> None:
    """The connection is reset on the way."""
    relay.end(with_reset=True)


#: Ends all server connections that go through the relay.
Death = Callable[[PostgreSQL, Relay], None]
DEATHS: list[Death] = [terminate, crash, fin, rst]


def strike(death: Death, daemon: Lifeguard, postgres: PostgreSQL, relay: Relay) -> None:
    """Lets all server connections of pool app/app die, and waits until the daemon knows."""
    before = _losses(daemon)
    death(postgres, relay)
    wait_until(lambda: _losses(daemon) > before, "the daemon knows of the loss")


def _losses(daemon: Lifeguard) -> int:
    return int(daemon.metrics().get('lifeguard_pool_invalidations_total{database="app",user="app"}', 0))
