"""Random conversations with a PostgreSQL server, and what a client sees of them.

A conversation is made from a seed alone, so the same one can be held through the daemon and directly. It stays within
what transaction mode must carry: portals live no longer than their batch, statements with names as long as the client.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

from .wire import (
    COPY_DONE, FLUSH, SYNC, Message, WireClient, bind, close_portal, close_statement, copy_data, copy_fail,
    describe_portal, describe_statement, execute, function_call, parse, query,
)

_INT4PL = 177  # pg_proc's oid of int4pl(int, int), fixed since there is PostgreSQL.


@dataclass
class Step:
    """Bytes that are sent together, and how many ReadyForQuery answer them."""

    data: bytes
    ready: int
    #: Where the bytes are cut, so that messages arrive in pieces.
    cuts: list[int] = field(default_factory=list)


class Conversation:
    """The steps of one client on the table `table` (a int primary key, b text).

    - changes_session: what it does is also what keeps a client on its connection.
    """

    def __init__(self, seed: int, table: str, length: int = 25, changes_session: bool = False) -> None:
        self._seed = seed
        self._changes_session = changes_session
        self._random = random.Random(seed)
        self._unnamed_is_known = False
        self._table = table
        self._names = ("s0", "s1", "s2")
        self.steps = [self._step() for _ in range(length)]
        # However it went, the transaction is over at the end.
        self.steps.append(Step(query("rollback"), 1))
        self.steps.append(Step(query(f"select count(*), sum(a), md5(string_agg(b, ',' order by a)) from {table}"), 1))

    def __str__(self) -> str:
        return f"seed {self._seed}"

    def hold(self, client: WireClient) -> list[str]:
        """Holds the conversation; what the client saw, a line a message."""
        seen: list[str] = []
        known = dict(client.parameters)
        for number, step in enumerate(self.steps):
            seen.append(f"-- step {number}: {step.data[:300]!r}")
            start = 0
            for end in [*step.cuts, len(step.data)]:
                client.send(step.data[start:end])
                start = end
            for _ in range(step.ready):
                seen += [line for message in client.until_ready() if (line := _shown(message, known))]
        return seen

    # MARK: steps

    def _step(self) -> Step:
        parts = [self._part() for _ in range(self._random.choice((1, 1, 1, 2, 3, 6)))]
        data = b"".join(part for part, _ in parts)
        cuts = sorted(self._random.sample(range(1, len(data)), min(len(data) - 1, self._random.choice((0, 0, 1, 3)))))
        return Step(data, sum(ready for _, ready in parts), cuts)

    def _part(self) -> tuple[bytes, int]:
        kind = self._random.randrange(12)
        if kind == 11:
            return self._unnamed(), 1
        if kind < 4:
            return query(self._text()), 1
        if kind == 10:
            name = self._random.choice(self._names)
            text = self._random.choice((f"deallocate {name}", f"DEALLOCATE PREPARE {name};", "deallocate all",
                                        f'deallocate "{name}"', f"execute {name}", f" Execute {name.upper()};"))
            if self._random.random() < 0.3:
                self._unnamed_is_known = False
                return parse(text) + bind() + execute() + SYNC, 1
            return query(text), 1
        if kind < 8:
            return self._batch(), 1
        if kind == 8:
            return self._copy(), 1
        numbers = (self._random.choice((1, 2**31 - 1)), self._random.randrange(3))
        return function_call(_INT4PL, tuple(struct.pack("!i", number) for number in numbers)), 1

    def _text(self) -> str:
        return "; ".join(self._statement() for _ in range(self._random.choice((1, 1, 1, 2, 4))))

    def _statement(self) -> str:
        if self._random.random() < (0.4 if self._changes_session else 0.1):
            return self._random.choice(self._of_the_session() if self._changes_session else self._settings())
        key, many = self._random.randrange(20), self._random.choice((0, 1, 3, 500))
        return self._random.choice([
            f"select {key}",
            f"select n, repeat('x', n) from generate_series(1, {many}) n",
            "select 1/0",
            "selec 1",
            "select * from missing",
            "",
            "begin", "begin", "begin isolation level read committed", "commit", "commit", "rollback",
            "savepoint s", "rollback to s", "release s",
            f"insert into {self._table} values ({key}, 'value {key}')",
            f"insert into {self._table} values ({key}, 'value {key}') on conflict do nothing returning a",
            f"update {self._table} set b = b || '!' where a < {key}",
            f"delete from {self._table} where a = {key}",
            f"select * from {self._table} order by a",
            f"copy {self._table} to stdout",
            "do $$ begin raise notice 'noticed'; end $$",
            "do $$ begin raise warning 'warned'; end $$",
            f"set application_name = 'name {key}'",
            f"set local application_name = 'local {key}'",
            f"set TimeZone = '{self._random.choice(('Asia/Tokyo', 'Europe/Paris', 'UTC'))}'",
            f"set DateStyle = {self._random.choice(('German', 'ISO, DMY', 'SQL, MDY'))}",
            "reset TimeZone",
            "set no_such_parameter = 1",
            "show application_name", "show TimeZone", "select timestamptz '2026-02-03 04:05:06+00'",
            f"select repeat('y', {self._random.choice((10, 10_000, 300_000))})",
        ])

    def _settings(self) -> list[str]:
        """What follows the client to other connections."""
        value = self._random.randrange(100, 900)
        name = self._random.choice(("app.one", "app.two"))
        return [
            f"set {name} = '{value}'", f"set session {name} to {value}", f"set local {name} = 'local {value}'",
            f"select set_config('{name}', 'it''s {value}', {self._random.choice(('true', 'false'))})",
            f"reset {name}", f"set {name} to default", "reset all",
            f"set work_mem = {value}", "reset work_mem", f"set local work_mem = {value}",
            "set search_path = public, pg_catalog", "set search_path to default", "set role difference_role",
            "set local role none", "reset role", "set role none",
            "set session characteristics as transaction isolation level repeatable read",
            "reset default_transaction_isolation",
            *[f"select nullif(current_setting('{name}', true), ''), current_setting('work_mem'), "
              "current_setting('search_path'), current_user, current_setting('default_transaction_isolation')"] * 6,
        ]

    def _of_the_session(self) -> list[str]:
        """What stays on a connection, and what shows it."""
        key = self._random.randrange(3)
        return [
            *self._settings(),
            f"create temp table temporary_{key} as select {key} as n",
            f"create temp table temporary_{key} on commit drop as select {key} as n",
            f"select n into temp temporary_{key} from generate_series(1, 3) n", f"drop table temporary_{key}",
            f"drop table if exists temporary_{key}", f"select * from temporary_{key}",
            f"insert into temporary_{key} values (7)",
            f"listen channel_{key}", f"unlisten channel_{key}", "unlisten *",
            "select pg_listening_channels() order by 1",
            f"select pg_advisory_lock_shared({key})", f"select pg_advisory_unlock_shared({key})",
            f"select pg_try_advisory_lock_shared({key}), n from generate_series(1, 2) n",
            f"select pg_advisory_xact_lock_shared({key})", "select pg_advisory_unlock_all()",
            "select objid from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() order by 1",
            f"declare held_{key} cursor with hold for select n from generate_series(1, 5) n",
            f"declare plain_{key} cursor for select n from generate_series(1, 5) n",
            f"fetch 2 from held_{key}", f"close held_{key}", f"fetch 2 from plain_{key}", "close all",
            "select name from pg_cursors where is_holdable order by 1",
            f"prepare sql_{key}(int) as select $1 + {key}", f"execute sql_{key}({key})", f"deallocate sql_{key}",
            "discard temp", "discard all", "discard plans",
        ]

    def _batch(self) -> bytes:
        """Extended protocol up to a Sync."""
        out = b""
        # The statement without a name that a batch leaves may be any, also one that reads COPY data.
        self._unnamed_is_known = False
        has_unnamed = False
        for number in range(self._random.choice((1, 1, 2, 5))):
            portal = self._random.choice(("", f"p{number}"))
            if self._random.random() < 0.4:
                out += self._named(portal)
            elif self._random.random() < 0.3:
                has_unnamed = True
                out += parse("select n, $1::text from generate_series(1, 20) n") + bind(("text",), portal=portal)
                if self._random.random() < 0.5:
                    out += describe_portal(portal)
                for _ in range(self._random.randrange(1, 4)):
                    out += execute(portal, self._random.choice((0, 1, 7)))
            elif self._random.random() < 0.2:
                has_unnamed = True
                divisor = str(self._random.randrange(3))
                out += parse("select 10 / $1::int") + bind((divisor,), portal=portal) + execute(portal)
            else:
                has_unnamed = True
                out += self._parse()
                if self._random.random() < 0.5:
                    out += describe_statement()
                out += bind(portal=portal)
                if self._random.random() < 0.3:
                    out += describe_portal(portal)
                out += execute(portal)
            again = bind(("too many",)) if has_unnamed else b""
            out += self._random.choice((b"", b"", FLUSH, close_portal(portal), close_statement(), again))
        return out + SYNC

    def _unnamed(self) -> bytes:
        """A statement without a name, or something with the one that is there, if there is one."""
        if not self._unnamed_is_known or self._random.random() < 0.3:
            self._unnamed_is_known = True
            return parse(self._random.choice(("select $1::int + 1", "select $1::text", "selec $1"))) + SYNC
        return self._random.choice((
            bind(("7",)) + execute(), bind(("seven",)) + describe_portal() + execute(), describe_statement(), bind(),
            describe_statement() + bind(("8",)) + execute(), close_statement())) + SYNC

    def _parse(self, name: str = "") -> bytes:
        text = self._statement()
        # A Parse behind DISCARD ALL, in the same cycle, would have to know that names are free again; and one whose
        # statement the server has already is not what makes it too late for an isolation level.
        text = text.replace("discard all", "discard temp").replace("begin isolation level read committed", "begin")
        return parse(text, name)

    def _named(self, portal: str) -> bytes:
        """Something with a statement that has a name, whether there is one of that name or not."""
        name = self._random.choice(self._names)
        kind = self._random.randrange(10)
        if kind < 3:
            return self._parse(name)
        if kind < 4:
            return close_statement(name) + self._parse(name) + bind(statement=name, portal=portal) + execute(portal)
        if kind < 5:
            return close_statement(name)
        if kind < 6:
            # Alone, in a failed transaction, it would need the connection to have the statement.
            return close_statement(name) + self._parse(name) + describe_statement(name)
        return bind(statement=name, portal=portal) + self._random.choice((b"", describe_portal(portal))) + \
            execute(portal)

    def _copy(self) -> bytes:
        self._unnamed_is_known = False
        key = self._random.randrange(20, 40)
        good = copy_data(f"{key}\tcopied\n".encode())
        data = self._random.choice([
            good + COPY_DONE,
            COPY_DONE,
            copy_data(b"\\.\n") + COPY_DONE,
            copy_data(f"{key}\t".encode()) + copy_data(b"in two\n") + COPY_DONE,
            copy_data(b"no number\tbad\n") + good * 50 + COPY_DONE,
            good + copy_fail("changed my mind"),
            good + FLUSH + good + COPY_DONE,
        ])
        table = self._random.choice((self._table, self._table, "missing"))
        if self._random.random() < 0.5:
            return query(f"copy {table} from stdin") + data
        return parse(f"copy {table} from stdin") + bind() + execute() + data + SYNC


def _shown(message: Message, known: dict[str, str]) -> str | None:
    """A message as a line; None for a ParameterStatus that tells the client what it knows."""
    if message.kind == "S":
        name, value, _ = (part.decode() for part in message.payload.split(b"\0"))
        if known.get(name) == value:
            return None
        known[name] = value
        return f"S {name} = {value}"
    if message.kind in "EN":
        # Where in a server's source an error comes from means nothing to a client.
        return f"{message.kind} { {kind: text for kind, text in message.fields.items() if kind not in 'FLR'} }"
    payload = _without_tables(message.payload) if message.kind == "T" else message.payload
    return f"{message.kind} {len(payload)} {payload[:80]!r}"


def _without_tables(description: bytes) -> bytes:
    """A RowDescription without the numbers of the tables, which are others each time that a table is made."""
    (count,) = struct.unpack_from("!H", description)
    out, offset = description[:2], 2
    for _ in range(count):
        end = description.index(b"\0", offset) + 1
        out += description[offset:end] + b"\0" * 4 + description[end + 4:end + 18]
        offset = end + 18
    return out
