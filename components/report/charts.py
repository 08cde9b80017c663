"""The report's charts: loss curves, differences with their intervals, entropies before and after rectification."""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.report.figures import count
from components.report.results import Difference
from components.svg import WIDTH, chart, dot, line, path, text, tick_text, ticks

MAX_POINTS = 400  # of a curve; more cannot be seen at this width
SMOOTHING = 0.08  # share of the curve that one point of the smooth line averages


def loss_chart(log: Sequence[dict[str, float]], name: str) -> str | None:
    """Loss over optimiser steps: each step faintly, the running mean on top. None without two finite losses."""
    points = [(row["step"], row["loss"]) for row in log if math.isfinite(row.get("loss", math.nan)) and "step" in row]
    if len(points) < 2:
        return None
    left, right, top, bottom, height = 34, WIDTH - 8, 12, 168, 200
    first, last = points[0][0], points[-1][0]
    ceiling = _high_quantile([loss for _, loss in points])

    def place(step: float, loss: float) -> tuple[float, float]:
        return (
            left + (right - left) * (step - first) / max(last - first, 1e-9),
            bottom - (bottom - top) * min(loss, ceiling) / ceiling,
        )

    body = []
    for tick in ticks(0, ceiling):
        y = place(first, tick)[1]
        body += [line(left, y, right, y, "grid"), text(left - 6, y + 4, tick_text(tick), style="s", anchor="end")]
    for tick in ticks(first, last, 5):
        body.append(text(place(tick, 0)[0], bottom + 16, count(tick), style="s", anchor="middle"))
    body.append(text(right, bottom + 30, "step", style="s", anchor="end"))
    body.append(path([place(*point) for point in _thin(points)], "raw"))
    body.append(path([place(*point) for point in _thin(_smooth(points))], "main"))
    return chart(
        body, height, f"Loss of {name} over {count(last)} steps, from {points[0][1]:.2f} to {points[-1][1]:.2f}"
    )


def _high_quantile(losses: Sequence[float]) -> float:
    """A top for the axis that one spike does not push up."""
    ordered = sorted(losses)
    return max(ordered[int(0.99 * (len(ordered) - 1))] * 1.08, 1e-9)


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    half = max(1, round(SMOOTHING * len(points) / 2))
    smooth = []
    for place, (step, _) in enumerate(points):
        reach = min(half, place, len(points) - 1 - place)  # symmetric, so that the ends do not lag
        window = points[place - reach : place + reach + 1]
        smooth.append((step, sum(loss for _, loss in window) / len(window)))
    return smooth


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    every = math.ceil(len(points) / MAX_POINTS)
    return [*points[::every], points[-1]]


def difference_chart(entries: Sequence[Difference]) -> str | None:
    """One dot and whisker per difference on one axis in printed points; ratios have no place on it."""
    shown = [entry for entry in entries if not entry.ratio]
    if not shown:
        return None
    low = min(0.0, *(entry.low for entry in shown))
    high = max(0.0, *(entry.high for entry in shown))
    margin = 0.04 * (high - low or 1)
    low, high = low - margin, high + margin
    left, right, step = 6, WIDTH - 6, 40

    def place(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    bottom = step * len(shown) + 4
    marks = ticks(low, high, 5)
    body = [text(place(tick), bottom + 15, tick_text(tick), style="s", anchor="middle") for tick in marks]
    for row, entry in enumerate(shown):
        y = row * step + 34
        style = {True: "", False: " bad", None: " weak"}[entry.good]
        # Short pieces of the axis' lines, so that none runs through a label.
        body += [line(place(tick), y - 9, place(tick), y + 9, "rest" if tick == 0 else "grid") for tick in marks]
        body.append(text(left, y - 13, entry.label + ("" if entry.higher_is_better else " ↓")))
        body.append(text(right, y - 13, entry.text, anchor="end"))
        body.append(line(place(entry.low), y, place(entry.high), y, f"whisker{style}"))
        body += [line(place(end), y - 4, place(end), y + 4, f"whisker{style}") for end in (entry.low, entry.high)]
        body.append(dot(place(entry.value), y, f"dot{style}"))
    said = "; ".join(f"{entry.label} {entry.text}, {entry.interval}" for entry in shown)
    return chart(body, bottom + 24, f"Differences with intervals: {said}")
