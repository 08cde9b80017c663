"""Small SVG charts by hand: text stays text, colours follow the page, one panel is as wide as a phone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH = 360  # user units of every panel; about the width of a phone, so that text is legible unscaled

# Colours for a chart that stands alone as a file. In the page, the page's own style rules.
ALONE = """<style>
.chart{--ink:#1d2327;--soft:#5c666d;--line:#d5dadd;--accent:#0b6a75;--bad:#a33a2c;font:11px system-ui,sans-serif}
@media(prefers-color-scheme:dark){.chart{--ink:#e4e7e8;--soft:#9aa4aa;--line:#3a4247;--accent:#5fc2cd;--bad:#ee8f80}}
.t{fill:var(--ink)}.s{fill:var(--soft)}.grid{stroke:var(--line)}.rest{stroke:var(--soft)}
.soft{fill:none;stroke:var(--soft)}
.raw{fill:none;stroke:var(--accent);opacity:.4}.main{fill:none;stroke:var(--accent);stroke-width:2}
.other{fill:none;stroke:var(--ink);opacity:.75}.dashed{stroke-dasharray:6 3}.dotted{stroke-dasharray:1.5 3}
.whisker{stroke:var(--accent);stroke-width:2}.dot{fill:var(--accent);stroke:var(--accent)}
.hollow{fill:none;stroke:var(--soft);stroke-width:1.5}.link{stroke:var(--soft)}
.weak{stroke:var(--soft);fill:var(--soft)}.bad{stroke:var(--bad);fill:var(--bad)}
</style>"""


def chart(body: Sequence[str], height: float, label: str) -> str:
    """An inline SVG; `label` is what a screen reader says."""
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label, quote=True)}">'
        + "".join(body)
        + "</svg>"
    )


def alone(svg: str) -> str:
    """The same chart as a file of its own, with its colours and its namespace."""
    head, rest = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}">{ALONE}{rest}\n'


def text(x: float, y: float, content: str, *, style: str = "t", anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def dot(x: float, y: float, style: str, radius: float = 4) -> str:
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'


def path(points: Sequence[tuple[float, float]], style: str) -> str:
    return f'<path class="{style}" d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in points)}"/>'


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) that cover low ... high without leaving it."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    raw = span / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    return f"{value:g}".replace("-", "−")
