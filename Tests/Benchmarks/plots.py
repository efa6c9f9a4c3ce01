"""Line charts as SVG, in the colours of the reader: light or dark."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

#: Light and dark. Told apart by those who see few colours, too; a second line of a colour is dashed.
COLOURS = {"PgBouncer": ("#c2410c", "#fb923c"), "direct": ("#71717a", "#a1a1aa")}
OURS = ("#1d4ed8", "#60a5fa")
OTHERS = [("#15803d", "#4ade80"), ("#a21caf", "#e879f9"), ("#a16207", "#facc15")]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, GAP = 320, 210, 46, 14, 74, 40, 12


@dataclass
class Line:
    """A value for each place on the horizontal axis, or nothing."""

    name: str
    values: list[float | None]


@dataclass
class Panel:
    """A chart. The places on its horizontal axis are equally far apart."""

    title: str
    places: list[str]
    lines: list[Line]
    is_logarithmic: bool = False


def draw(title: str, panels: list[Panel]) -> str:
    """Panels side by side, under one title and one legend."""
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    width = len(panels) * (WIDTH + GAP) + GAP
    height = TOP + HEIGHT + BOTTOM
    styles = _styles(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">',
        f"<style>{styles}</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="6"/>',
        f'<text class="title" x="{GAP + 4}" y="22">{escape(title)}</text>',
    ]
    x = GAP + 4
    for number, name in enumerate(names):
        parts.append(f'<path class="line l{number}" d="M{x} 38h22"/>'
                     f'<text class="name" x="{x + 28}" y="42">{escape(name)}</text>')
        x += 48 + 7 * len(name)
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({GAP + number * (WIDTH + GAP)} {TOP})">{_panel(panel, names)}</g>')
    return "\n".join(parts) + "\n</svg>\n"


def _styles(names: list[str]) -> str:
    light, dark, dashes = [], [], []
    others = iter(OTHERS * len(names))
    ours = 0
    for number, name in enumerate(names):
        if name in COLOURS:
            pair = COLOURS[name]
        elif name.startswith("Lifeguard"):
            pair = OURS
            dashes.append(f".l{number}{{stroke-dasharray:{('none', '5 4', '2 3')[min(ours, 2)]}}}")
            ours += 1
        else:
            pair = next(others)
        for rules, colour in zip((light, dark), pair):
            rules.append(f".l{number}{{stroke:{colour}}}.d{number}{{fill:{colour}}}")
    return ("text{font:12px system-ui,sans-serif}.title{font-size:14px;font-weight:600}.panel{font-weight:600}"
            ".tick{font-size:11px}.line{fill:none;stroke-width:2}.d{stroke:none}"
            ".page{fill:#fff}text{fill:#18181b}.tick{fill:#52525b}.grid{stroke:#e4e4e7}"
            + "".join(light) + "".join(dashes)
            + "@media(prefers-color-scheme:dark){.page{fill:#18181b}text{fill:#f4f4f5}.tick{fill:#a1a1aa}.grid{stroke:#3f3f46}"
            + "".join(dark) + "}")


def _panel(panel: Panel, names: list[str]) -> str:
    values = [value for line in panel.lines for value in line.values if value]
    ticks = _powers(values) if panel.is_logarithmic else _steps(max(values, default=1))
    scale = math.log10 if panel.is_logarithmic else float
    low, high = scale(ticks[0]), scale(ticks[-1])

    def height(value: float) -> float:
        return round(HEIGHT - (scale(value) - low) / (high - low) * HEIGHT, 1)

    step = (WIDTH - LEFT - RIGHT) / max(len(panel.places) - 1, 1)
    parts = [f'<text class="panel" x="4" y="-12">{escape(panel.title)}</text>']
    for tick in ticks:
        y = height(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
                     f'<text class="tick" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{_short(tick)}</text>')
    for number, place in enumerate(panel.places):
        parts.append(f'<text class="tick" x="{LEFT + number * step:.1f}" y="{HEIGHT + 18}" '
                     f'text-anchor="middle">{escape(place)}</text>')
    for line in panel.lines:
        number = names.index(line.name)
        points = [(round(LEFT + place * step, 1), height(value))
                  for place, value in enumerate(line.values) if value]
        if points:
            parts.append(f'<path class="line l{number}" d="M{"L".join(f"{x} {y}" for x, y in points)}"/>')
            parts += [f'<circle class="d d{number}" cx="{x}" cy="{y}" r="3"/>' for x, y in points]
    return "".join(parts)


def _steps(most: float) -> list[float]:
    """From 0 to above the greatest value, four to seven of them."""
    power = 10 ** math.floor(math.log10(most))
    step = next(step for step in (power / 5, power / 2, power, power * 2) if most / step <= 6)
    return [number * step for number in range(math.ceil(most / step) + 1)]


def _powers(values: list[float]) -> list[float]:
    """Powers of ten around the values."""
    low, high = (math.log10(value) for value in (min(values, default=1), max(values, default=10)))
    return [10.0 ** power for power in range(math.floor(low), max(math.ceil(high), math.floor(low) + 1) + 1)]


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
