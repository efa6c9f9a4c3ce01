"""The table of drivers and features in `docs/compatibility.md`, between its two marks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: What each feature is called on the page.
FEATURES = {
    "query": "several statements in one query",
    "parameters": "parameters (extended protocol)",
    "prepared": "prepared statements, from transaction to transaction",
    "types": "values of many types, there and back",
    "transaction": "transactions",
    "savepoint": "savepoints, after an error too",
    "error": "errors with SQLSTATE; the connection goes on",
    "copy_in": "COPY FROM",
    "copy_out": "COPY TO",
    "cursor": "results in portions or row by row",
    "pipeline": "pipelines or batches",
    "listen": "LISTEN and NOTIFY",
    "cancel": "cancelling a running query",
    "lost": "server connection lost: one error, then on",
}


@dataclass
class Outcome:
    """What a program said: for each feature None if it works, or why the driver has none."""

    reasons: dict[str, str | None]

    @staticmethod
    def read(printed: str) -> Outcome:
        """From `feature: ok` and `feature: none: why`, one line each; none may be missing."""
        reasons: dict[str, str | None] = {}
        for line in printed.splitlines():
            feature, _, rest = line.partition(": ")
            assert rest == "ok" or rest.startswith("none: "), line
            reasons[feature] = None if rest == "ok" else rest.removeprefix("none: ")
        assert list(reasons) == list(FEATURES), reasons
        return Outcome(reasons)


def table(outcomes: dict[str, Outcome]) -> str:
    """Features as rows, drivers as columns, and a list of what drivers do not have."""
    lines = ["| | " + " | ".join(outcomes) + " |", "| --- |" + " :-: |" * len(outcomes)]
    for feature, words in FEATURES.items():
        marks = ["yes" if outcome.reasons[feature] is None else "–" for outcome in outcomes.values()]
        lines.append(f"| {words} | " + " | ".join(marks) + " |")
    lines += ["", "Where there is a dash, the driver has no interface for it:", ""]
    for name, outcome in outcomes.items():
        reasons = [f"{FEATURES[feature]}: {reason}" for feature, reason in outcome.reasons.items() if reason]
        lines += [f"- {name}: " + "; ".join(reasons)] if reasons else []
    return "\n".join(lines) + "\n"


def column(text: str, driver: str) -> tuple[list[str], list[str]]:
    """What a table says of one driver: its marks, and its line of the list."""
    lines = text.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells and driver in cells[0], f"there is no {driver}"
    place = cells[0].index(driver)
    return [row[place] for row in cells if len(row) == len(cells[0])], [
        line for line in lines if line.startswith(f"- {driver}: ")]


class Page:
    """The page, of which the part between the marks is made by the tests."""

    BEGIN, END = "<!-- made by the tests: begin -->\n", "<!-- end -->\n"

    def __init__(self, path: Path) -> None:
        self.path = path

    def _parts(self) -> tuple[str, str, str]:
        before, rest = self.path.read_text().split(self.BEGIN)
        made, after = rest.split(self.END)
        return before, made, after

    def read(self) -> str:
        return self._parts()[1]

    def write(self, made: str) -> None:
        before, _, after = self._parts()
        self.path.write_text(f"{before}{self.BEGIN}{made}{self.END}{after}")


PAGE = Page(Path(__file__).resolve().parents[3] / "docs/compatibility.md")
