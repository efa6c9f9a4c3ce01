"""The daemon's log, read back."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_FIELD = re.compile(r' ([a-z_]+)=("(?:[^"\\]|\\.)*"|\S+)')


@dataclass(frozen=True)
class Line:
    """One message of a log in text."""

    level: str
    #: Everything behind the level; a message ends where its first field begins.
    text: str
    fields: dict[str, str]


def lines(log: str) -> list[Line]:
    """The messages of a log in text; quoted values without their quotes, escapes as they are."""
    found = []
    for line in log.splitlines():
        _, level, rest = line.split(" ", 2)
        fields = {name: value[1:-1] if value.startswith('"') else value for name, value in _FIELD.findall(rest)}
        found.append(Line(level, rest, fields))
    return found


def objects(log: str) -> list[dict[str, str]]:
    """The messages of a log in JSON."""
    return [json.loads(line) for line in log.splitlines()]


def count(log: str, message: str, **fields: str) -> int:
    """How often something was logged, what was only counted among it."""
    return sum(int(line.fields.get("repeated", 1)) for line in lines(log)
               if line.text.startswith(message) and fields.items() <= line.fields.items())
