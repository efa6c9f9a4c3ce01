#!/usr/bin/env python3
"""All benchmarks, or one of them.

    bench.py                        all, with their defaults, into docs/benchmarks.md
    bench.py SECTION [OPTION …]     one; it writes where it is told to (--write), and `--help` lists its options
    bench.py --OPTION …             transactions, with options

SECTION is transactions, bulk, fairness, memory, crowd, health or scaling.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

SECTIONS = ["transactions", "bulk", "fairness", "memory", "crowd", "health", "scaling"]


def program(section: str, options: list[str]) -> int:
    """Runs it; its exit status."""
    return subprocess.run([sys.executable, Path(__file__).with_name(f"{section}.py"), *options]).returncode


def main() -> None:
    match sys.argv[1:]:
        case []:
            failed = []
            for section in SECTIONS:
                began = time.monotonic()
                if program(section, ["--write"]):
                    failed.append(section)
                print(f"{section}: {time.monotonic() - began:.0f} s", file=sys.stderr)
            sys.exit(f"bench: failed: {', '.join(failed)}" if failed else 0)
        case ["-h" | "--help"]:
            print(__doc__)
        case [section, *options] if section in SECTIONS:
            sys.exit(program(section, options))
        case [first, *_] as options if first.startswith("-"):
            sys.exit(program("transactions", options))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
