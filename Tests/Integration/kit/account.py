"""What a load has done, written down by the load itself, to be compared with what the daemon says of it.

Counts are exact. A duration is known between two bounds, which the load has measured around what takes it: the daemon
cannot have measured less than what lies within, nor more than what lies around it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from collections.abc import Iterator

from .daemon import Lifeguard
from .wire import Message, WireClient

#: The daemon reads its clock once a turn: a duration may be off by how long a turn takes, now and then much (s).
SLACK = 0.05
#: And usually little.
USUAL_SLACK = 0.001

#: The durations that a pool keeps, as /metrics names them.
DURATIONS = ("wait", "connect", "ping", "query", "transaction", "idle_in_transaction", "shard_transfer")


class Account:
    """What was done to one pool."""

    def __init__(self, daemon: Lifeguard, database: str, user: str = "app") -> None:
        self.daemon, self.database, self.user = daemon, database, user
        self.clients: list[Client] = []
        self.durations: dict[str, list[tuple[float, float]]] = {name: [] for name in DURATIONS}
        self.holding = 0
        self._counts: Counter[str] = Counter()
        self._logins: set[frozenset] = set()

    def add(self, **counts: int) -> None:
        """So much more of these, by the names of the counters in /metrics."""
        self._counts.update(counts)

    def took(self, name: str, low: float, high: float, times: int = 1) -> None:
        """A duration (seconds) between two bounds."""
        assert high >= low, f"{name}: a test that measures {low} to {high} is wrong"
        self.durations[name] += [(low, high)] * times

    @property
    def counts(self) -> Counter[str]:
        """All counters; what is not in it is 0."""
        counts = self._counts.copy()
        counts["received_bytes"] += sum(client.wire.bytes_sent for client in self.clients)
        counts["sent_bytes"] += sum(client.wire.bytes_received for client in self.clients)
        return counts

    def client(self, *, dials: int = 0, pings: int = 0, wire: WireClient | None = None, **parameters: str) -> Client:
        """A client that has logged in. The first one with these parameters takes a server connection for that.

        - dials, pings: what of that the login causes.
        - wire: where a connection is there already, but has not started up.
        """
        client = Client(self, wire)
        startup = {"user": self.user, "database": self.database, **parameters}
        with self.measured() as span:
            client.wire.start_up(startup)
        self.add(client_logins=1)
        known = frozenset(parameters.items())
        if known not in self._logins:
            self._logins.add(known)
            self.lent(span, dials, pings)
            self.add(checkins=1, server_assignments=-1, settings_confirmed=1 if parameters else 0)
        return client

    def lent(self, span: Span, dials: int = 0, pings: int = 0, waited: float = 0) -> None:
        """A client got a server connection some time in a span, after a wait of at least so long."""
        self.add(checkouts=1, server_assignments=1, connects=dials)
        self.add(**{"pings/ok": pings, "checkout_proofs/ping": pings, "checkout_proofs/dial": dials,
                    "checkout_proofs/recent": 1 - pings - dials})
        self.took("wait", waited, span.seconds)
        self.took("connect", 0, span.seconds, dials)
        self.took("ping", 0, span.seconds, pings)

    @contextmanager
    def measured(self) -> Iterator[Span]:
        """Measures what is done in its block."""
        span = Span()
        yield span
        span.end = time.monotonic()


class Span:
    """From one moment to another."""

    def __init__(self) -> None:
        self.start = self.end = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Client:
    """A client that keeps the account of what it does."""

    def __init__(self, account: Account, wire: WireClient | None = None) -> None:
        self.account = account
        self.wire = wire or WireClient(account.daemon.port)
        #: Whether it gives its server connection back after each transaction.
        self.shares = True
        self.holds = False
        self._request: Span | None = None
        self._block: Span | None = None
        self._last: Span | None = None
        account.clients.append(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def ask(self, *messages: bytes, readies: int = 1, low: float = 0, waited: float = 0, dials: int = 0,
            pings: int = 0) -> list[Message]:
        """Sends messages in one write, and reads the answer up to the last of so many ReadyForQuery."""
        self.send(*messages)
        return self.finish(readies=readies, low=low, waited=waited, dials=dials, pings=pings)

    def send(self, *messages: bytes) -> None:
        """The first half of `ask`."""
        self._request = Span()
        self.wire.send(*messages)
        kinds = Counter(message[:1] for message in messages)
        self.account.add(client_parses=kinds[b"P"], server_parses=kinds[b"P"], binds=kinds[b"B"])

    def finish(self, *, readies: int = 1, low: float = 0, waited: float = 0, dials: int = 0,
               pings: int = 0) -> list[Message]:
        """The second half of `ask`: the server has answered.

        - low: what the first query took at least.
        - waited: what the client had to wait for its server connection at least.
        """
        answer: list[Message] = []
        for _ in range(readies):
            answer += self.wire.until_ready()
        request = self._request
        assert request
        request.end = time.monotonic()
        if not self.holds:
            self.account.lent(request, dials, pings, waited)
            self.account.holding += 1
        elif self._block and self._last:
            self.account.took("idle_in_transaction", max(0.0, request.start - self._last.end),
                              request.start - self._last.start)
        self._account_for(answer, request, low, waited)
        self._last = request
        return answer

    def _account_for(self, answer: list[Message], request: Span, low: float, waited: float) -> None:
        for message in answer:
            if message.kind != "Z":
                continue
            self.account.add(queries=1)
            self.account.took("query", low, request.seconds - waited)
            if message.text == "I":
                self.account.add(transactions=1)
                block = self._block or request
                inside = max(low, request.start - block.end if self._block else 0)
                self.account.took("transaction", inside, request.end - block.start - waited)
                self._block = None
            elif not self._block:
                self._block = request
            low = 0
        self.holds = not self.shares or self._block is not None
        if not self.holds:
            self._give_back()

    def _give_back(self) -> None:
        self.account.holding -= 1
        self.account.add(checkins=1)

    def lost(self) -> None:
        """Its server connection is gone, and with it whatever was under way."""
        assert self.holds
        self.holds, self._block = False, None
        self._give_back()

    def pinned(self) -> None:
        """It has kept its server connection after its transaction, as an exception."""
        self.holds = True
        self.account.holding += 1
        self.account.add(checkins=-1)

    def refused(self, *messages: bytes, waited: float | None = None) -> list[Message]:
        """As `ask`, but it is the daemon that answers; after a wait for a server connection, where that is given."""
        with self.account.measured() as span:
            answer = self.wire.ask(*messages)
        if waited is not None:
            self.account.took("wait", waited, span.seconds)
        return answer

    def close(self) -> None:
        """Closes its socket. A server connection that it has is cleaned and goes back."""
        if self.holds:
            self.lost()
        self.wire.close()


def until_equal(compare: Callable[[], list[str]], deadline: float = 10) -> None:
    """Waits until a comparison finds no difference; what it found last is the failure."""
    end = time.monotonic() + deadline
    while differences := compare():
        assert time.monotonic() < end, "\n" + "\n".join(differences)
        time.sleep(0.05)
