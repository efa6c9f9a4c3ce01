"""Random conversations through the daemon and directly: the client must see the same, message by message."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.conversations import Conversation
from kit.postgres import PostgreSQL
from kit.wire import WireClient

# DIFFERENTIAL_SEED replays a run or, as "random", takes another one each time.
SEED = os.environ.get("DIFFERENTIAL_SEED", "20261125")
ROUNDS = int(os.environ.get("DIFFERENTIAL_ROUNDS", "40"))
CLIENTS = 4


@pytest.fixture(scope="module", autouse=True)
def tables(postgres: PostgreSQL):
    for number in range(CLIENTS):
        postgres.psql(f"create table difference_{number} (a int primary key, b text); "
                      f"grant all on difference_{number} to app")
    yield
    for number in range(CLIENTS):
        postgres.psql(f"drop table difference_{number}")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_conversations_look_the_same_through_the_daemon(lifeguard, postgres: PostgreSQL, mode: str):
    """Four conversations at a time share two connections (in session mode each has its own)."""
    seed = random.SystemRandom().randrange(2**32) if SEED == "random" else int(SEED)
    print(f"DIFFERENTIAL_SEED={seed}")
    pool = {"pool_size": 2, "max_overflow": 0} if mode == "transaction" else {"pool_size": 4, "max_overflow": 0}
    daemon = lifeguard(pool={"mode": mode, **pool})

    def hold(port: int, conversation: Conversation) -> list[str]:
        with WireClient.app(port) as client:
            return conversation.hold(client)

    with ThreadPoolExecutor(CLIENTS) as threads:
        for round_number in range(ROUNDS):
            conversations = [Conversation(seed + round_number * CLIENTS + number, f"difference_{number}")
                             for number in range(CLIENTS)]
            seen = {}
            for name, port in (("directly", postgres.port), ("through the daemon", daemon.port)):
                postgres.psql("truncate " + ", ".join(f"difference_{number}" for number in range(CLIENTS)))
                seen[name] = list(threads.map(hold, [port] * CLIENTS, conversations))
            for number, (direct, through) in enumerate(zip(*seen.values(), strict=True)):
                compare(direct, through, f"seed {seed + round_number * CLIENTS + number}")


def compare(direct: list[str], through: list[str], name: str) -> None:
    for line, (expected, got) in enumerate(zip(direct, through, strict=False)):
        if expected != got:
            context = "\n".join(direct[max(0, line - 12):line])
            pytest.fail(f"{name}, line {line}\n{context}\n"
                        f"  directly:           {expected}\n  through the daemon: {got}")
    assert len(direct) == len(through), name
