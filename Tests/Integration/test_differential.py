"""Random conversations through the daemon and directly: the client must see the same, message by message."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.conversations import Conversation
from kit.postgres import PostgreSQL
from kit.wire import Closed, WireClient

# DIFFERENTIAL_SEED replays a run or, as "random", takes another one each time.
SEED = os.environ.get("DIFFERENTIAL_SEED", "20261125")
ROUNDS = int(os.environ.get("DIFFERENTIAL_ROUNDS", "40"))
CLIENTS = 4


@pytest.fixture(scope="module", autouse=True)
def tables(postgres: PostgreSQL):
    for number in range(CLIENTS):
        postgres.psql(f"create table difference_{number} (a int primary key, b text); "
                      f"grant all on difference_{number} to app")
    postgres.psql("create role difference_role; grant difference_role to app; "
                  + "".join(f"grant all on difference_{number} to difference_role;" for number in range(CLIENTS)))
    yield
    for number in range(CLIENTS):
        postgres.psql(f"drop table difference_{number}")
    postgres.psql("drop role difference_role")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["transaction", "pins", "session"])
def test_conversations_look_the_same_through_the_daemon(lifeguard, postgres: PostgreSQL, mode: str):
    """Four conversations at a time share two connections. In session mode each has its own, and where clients pin
    connections one is left for those that do not."""
    seed = random.SystemRandom().randrange(2**32) if SEED == "random" else int(SEED)
    print(f"DIFFERENTIAL_SEED={seed}")
    size = {"transaction": 2, "pins": CLIENTS + 1, "session": CLIENTS}[mode]
    daemon = lifeguard(pool={"mode": "session" if mode == "session" else "transaction", "pool_size": size,
                             "max_overflow": 0})

    def hold(port: int, conversation: Conversation) -> list[str] | None:
        """What the client saw; nothing where PostgreSQL itself could not go on (it cannot always, after a SAVEPOINT in
        an implicit transaction)."""
        with WireClient.app(port) as client:
            try:
                return conversation.hold(client)
            except (Closed, BrokenPipeError, ConnectionResetError):
                if port != postgres.port:
                    raise
                return None

    compared = 0
    with ThreadPoolExecutor(CLIENTS) as threads:
        for round_number in range(ROUNDS):
            conversations = [Conversation(seed + round_number * CLIENTS + number, f"difference_{number}",
                                          changes_session=mode != "transaction")
                             for number in range(CLIENTS)]
            seen = {}
            for name, port in (("directly", postgres.port), ("through the daemon", daemon.port)):
                postgres.psql("truncate " + ", ".join(f"difference_{number}" for number in range(CLIENTS)))
                seen[name] = dict(zip(conversations, threads.map(hold, [port] * len(conversations), conversations),
                                      strict=True))
                conversations = [conversation for conversation, lines in seen[name].items() if lines is not None]
            for conversation in conversations:
                compare(seen["directly"][conversation], seen["through the daemon"][conversation], str(conversation))
            compared += len(conversations)
    print(f"{compared} of {ROUNDS * CLIENTS} conversations compared")
    assert compared > ROUNDS * CLIENTS * 0.9


def compare(direct: list[str], through: list[str], name: str) -> None:
    for line, (expected, got) in enumerate(zip(direct, through, strict=False)):
        if expected != got:
            context = "\n".join(direct[max(0, line - 12):line])
            pytest.fail(f"{name}, line {line}\n{context}\n"
                        f"  directly:           {expected}\n  through the daemon: {got}")
    assert len(direct) == len(through), name
