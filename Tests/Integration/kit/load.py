"""A load of transactions like TPC-B's that keeps the account of each of them, for outages.

Unlike pgbench, a client goes on after an error; a connection that is closed is counted, and ends its client unless it is
told to connect again.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

from .postgres import PostgreSQL
from .wire import Closed, Message, WireClient, error, query

BRANCHES, TELLERS, ACCOUNTS = 20, 200, 2000

#: What a client may be told of a transaction that an outage has cost.
ROLLED_BACK, UNKNOWN = "40001", "40003"


def create_tables(postgres: PostgreSQL) -> None:
    """The tables of TPC-B, small, and an audit: a row for each transaction."""
    postgres.psql(
        "create table branches (id int primary key, balance bigint not null);"
        "create table tellers (id int primary key, balance bigint not null);"
        "create table accounts (id int primary key, balance bigint not null);"
        "create table audit (client int not null, number int not null, delta bigint not null);"
        f"insert into branches select n, 0 from generate_series(1, {BRANCHES}) n;"
        f"insert into tellers select n, 0 from generate_series(1, {TELLERS}) n;"
        f"insert into accounts select n, 0 from generate_series(1, {ACCOUNTS}) n;"
        "grant all on branches, tellers, accounts, audit to app")


def drop_tables(postgres: PostgreSQL) -> None:
    postgres.psql("drop table branches, tellers, accounts, audit")


@dataclass
class Account:
    """What became of the transactions of one client, by number."""

    committed: list[int] = field(default_factory=list)
    #: An error that says that nothing was done.
    failed: list[int] = field(default_factory=list)
    #: An error that says that it may have been done, or not.
    unknown: list[int] = field(default_factory=list)
    #: Other errors, with their SQLSTATE.
    errors: list[str] = field(default_factory=list)
    #: The number of the latest transaction.
    last: int = 0
    #: The transaction whose outcome the client has not been told.
    pending: int | None = None
    #: Connections that were closed.
    losses: int = 0


class Load:
    """Clients that work until they are told to stop."""

    def __init__(self, port: int, clients: int = 50, *, database: str = "app", user: str = "app",
                 reconnects: bool = False) -> None:
        self.accounts = [Account() for _ in range(clients)]
        self._startup = {"user": user, "database": database}
        self._port = port
        self._reconnects = reconnects
        self._stop = threading.Event()
        #: When each commit was acknowledged (s, monotonic).
        self._commits: list[float] = []
        self._problems: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(number,), name=f"client {number}", daemon=True)
                         for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        """Lets all clients finish their transaction."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"
        assert not self._problems, self._problems

    # MARK: what has been seen

    @property
    def commits(self) -> int:
        return len(self._commits)

    @property
    def failures(self) -> int:
        """Transactions that an outage has cost."""
        return sum(len(account.failed) + len(account.unknown) for account in self.accounts)

    @property
    def lost(self) -> int:
        """Client connections that were closed."""
        return sum(account.losses for account in self.accounts)

    @property
    def errors(self) -> list[str]:
        """SQLSTATEs of errors that no outage explains."""
        return [code for account in self.accounts for code in account.errors]

    def first_commit_after(self, moment: float) -> float | None:
        """When the first commit since then was acknowledged; None before there is one."""
        return next((commit for commit in list(self._commits) if commit > moment), None)

    def differences(self, postgres: PostgreSQL) -> list[str]:
        """Where the audit is not what the clients were told."""
        rows = [line.split("|") for line in postgres.psql("select client, number, count(*) from audit group by 1, 2")
                .splitlines()]
        written = {(int(client), int(number)): int(count) for client, number, count in rows}
        found = []
        for client, account in enumerate(self.accounts):
            for number in account.committed:
                if (count := written.pop((client, number), 0)) != 1:
                    found.append(f"client {client} transaction {number}: committed, and there {count} times")
            for number in account.unknown:
                if (count := written.pop((client, number), 0)) > 1:
                    found.append(f"client {client} transaction {number}: of unknown outcome, and there {count} times")
            for number in account.failed:
                if count := written.pop((client, number), 0):
                    found.append(f"client {client} transaction {number}: failed, and there {count} times")
        found += [f"client {client} transaction {number}: there, and nobody knows of it" for client, number in written]
        sums = postgres.psql("select (select sum(balance) from branches), (select sum(balance) from tellers), "
                             "(select sum(balance) from accounts), (select coalesce(sum(delta), 0) from audit)")
        if len(set(sums.split("|"))) != 1:
            found.append(f"half a transaction was committed: {sums}")
        return found

    # MARK: a client

    def _run(self, number: int) -> None:
        account, chance = self.accounts[number], random.Random(number)
        try:
            self._work(account, number, chance)
            while self._reconnects and not self._stop.wait(0.02):
                self._work(account, number, chance)
        except BaseException as problem:  # noqa: BLE001
            self._problems.append(problem)

    def _work(self, account: Account, number: int, chance: random.Random) -> None:
        """One connection, up to its end. One that is refused at the login, and may try again, is no loss."""
        try:
            client = WireClient(self._port, self._startup, timeout=60)
        except (AssertionError, Closed, ConnectionError):
            if self._reconnects:
                return
            raise
        try:
            with client:
                while not self._stop.is_set():
                    account.pending = account.last = account.last + 1
                    self._transact(client, account, number, account.last, chance)
        except (Closed, ConnectionError, TimeoutError):
            account.losses += 1
            if account.pending is not None:
                account.unknown.append(account.pending)

    def _transact(self, client: WireClient, account: Account, number: int, transaction: int,
                  chance: random.Random) -> None:
        delta = chance.randrange(-5000, 5000)
        for sql in (
            "begin",
            f"update accounts set balance = balance + {delta} where id = {chance.randrange(ACCOUNTS) + 1}",
            f"select balance from accounts where id = {chance.randrange(ACCOUNTS) + 1}",
            f"update tellers set balance = balance + {delta} where id = {chance.randrange(TELLERS) + 1}",
            f"update branches set balance = balance + {delta} where id = {chance.randrange(BRANCHES) + 1}",
            f"insert into audit values ({number}, {transaction}, {delta})",
            "commit",
        ):
            if self._failed(client.ask(query(sql)), client, account, transaction, is_commit=sql == "commit"):
                return
        self._commits.append(time.monotonic())
        account.committed.append(transaction)
        account.pending = None

    def _failed(self, answer: list[Message], client: WireClient, account: Account, transaction: int, *,
                is_commit: bool) -> bool:
        if all(message.kind != "E" for message in answer):
            return False
        code = error(answer)["C"]
        if code == ROLLED_BACK:
            account.failed.append(transaction)
        elif code == UNKNOWN:
            account.unknown.append(transaction)
        else:
            account.errors.append(code)
            # What it says of a commit is not known.
            (account.unknown if is_commit else account.failed).append(transaction)
        account.pending = None
        if answer[-1].text != "I":
            client.ask(query("rollback"))
        return True
