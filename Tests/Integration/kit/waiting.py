"""Waiting for conditions, never for time to pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, deadline: float = 10.0, every: float = 0.01) -> T:
    """The first true value of `condition`; fails after `deadline` seconds, saying what was waited for.

    An exception of the condition counts as "not yet"; the last one is shown if time runs out.
    """
    end = time.monotonic() + deadline
    value: object = None
    while True:
        problem = None
        try:
            value = condition()
            if value:
                return value
        except Exception as error:  # noqa: BLE001
            problem = error
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what} (last: {problem or value!r})") from problem
        time.sleep(every)
