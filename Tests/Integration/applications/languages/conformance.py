"""What the programs in Python have in common.

A program has a function for each feature, named after it. The function raises if the driver or the daemon does wrong,
and returns why, if the driver has no interface for it. Programs in other languages print the same lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

FEATURES = ("query", "parameters", "prepared", "types", "transaction", "savepoint", "error", "copy_in", "copy_out",
            "cursor", "pipeline", "listen", "cancel", "lost")

PORT = int(os.environ["PGPORT"])


def run(program: Mapping[str, Any]) -> None:
    """Calls each feature's function, and prints `feature: ok` or `feature: none: why`."""
    for feature in FEATURES:
        reason = program[feature]()
        print(f"{feature}: none: {reason}" if reason else f"{feature}: ok", flush=True)


def fails(code: str, work: Any, *arguments: Any) -> None:
    """Fails unless `work` raises an error with this SQLSTATE somewhere in it."""
    try:
        work(*arguments)
    except Exception as error:  # noqa: BLE001
        found = [getattr(error, name, None) for name in ("sqlstate", "pgcode")] + [
            argument.get("C") if isinstance(argument, dict) else argument for argument in error.args]
        assert code in found, (code, found)
        return
    sys.exit(f"no error {code}")
