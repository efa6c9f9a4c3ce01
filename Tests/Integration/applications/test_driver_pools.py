"""asyncpg's own pool, which cleans a connection with statements of its own whenever it comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from kit.daemon import Lifeguard


async def nothing(_: asyncpg.Connection) -> None:
    """What docs/applications.md has for `reset`."""


@pytest.mark.parametrize("options", [{}, {"reset": nothing}], ids=["as it comes", "without its reset"])
def test_asyncpg_pool(service: Lifeguard, options: dict[str, Any]):
    async def work() -> None:
        async with asyncpg.create_pool(service.address(), min_size=20, max_size=40, **options) as pool:
            async def one(number: int) -> int:
                async with pool.acquire() as connection, connection.transaction():
                    return await connection.fetchval("select $1::int + 1", number)

            for _ in range(3):
                assert await asyncio.gather(*(one(number) for number in range(100))) == list(range(1, 101))

    asyncio.run(work())
    assert service.pool()["sv_pinned"] == "0"


def test_asyncpg_pool_takes_back_what_a_task_has_set(service: Lifeguard):
    """Its reset is RESET ALL and more: the next task on the same connection sees nothing of the last one."""
    async def work() -> None:
        async with asyncpg.create_pool(service.address(), min_size=1, max_size=1) as pool:
            async with pool.acquire() as connection:
                await connection.execute("set statement_timeout = '7s'")
                assert await connection.fetchval("show statement_timeout") == "7s"
            async with pool.acquire() as connection:
                assert await connection.fetchval("show statement_timeout") == "0"

    asyncio.run(work())
