"""The report's charts: loss curves, differences with their intervals, entropies before and after rectification."""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.report.figures import count
from components.report.results import Difference
from components.svg import WIDTH, chart, dot, line, path, text, tick_text, ticks

MAX_POINTS = 400  # of a curve; more cannot be seen at this width
SMOOTHING = 0.08  # share of the curve that one point of the smooth line averages


Points = list[tuple[float, float]]  # step, loss


def loss_chart(log: Sequence[dict[str, float]], name: str, validation: Sequence[dict[str, float]] = ()) -> str | None:
    """Loss over optimiser steps: each step faintly, the running mean on top, validation as dots.

    None without two finite losses.
    """
    points, checked = _finite(log, "loss"), _finite(validation, "validation_loss")
    if len(points) < 2:
        return None
    first, last = points[0][0], points[-1][0]
    ceiling = _high_quantile([loss for _, loss in points] + [loss for _, loss in checked])
    left, right, top, bottom, height = 34, WIDTH - 8, 30, 186, 222

    def place(step: float, loss: float) -> tuple[float, float]:
        return (
            left + (right - left) * (step - first) / max(last - first, 1e-9),
            bottom - (bottom - top) * min(loss, ceiling) / ceiling,
        )

    body = _loss_legend(bool(checked))
    for tick in ticks(0, ceiling):
        y = place(first, tick)[1]
        body += [line(left, y, right, y, "grid"), text(left - 6, y + 4, tick_text(tick), style="s", anchor="end")]
    for tick in ticks(first, last, 5):
        body.append(text(place(tick, 0)[0], bottom + 16, count(tick), style="s", anchor="middle"))
    body += [text(right, bottom + 31, "step of the optimiser", style="s", anchor="end"), text(0, 12, "loss", style="s")]
    body.append(path([place(*point) for point in _thin(points)], "raw"))
    body.append(path([place(*point) for point in _thin(smooth(points))], "main"))
    if checked:
        body.append(path([place(*point) for point in checked], "soft"))
        body += [dot(*place(*point), "hollow", 3) for point in _thin(checked)]
    held_out = f"; validation loss from {checked[0][1]:.2f} to {checked[-1][1]:.2f}" if checked else ""
    losses = f"from {points[0][1]:.2f} to {points[-1][1]:.2f}{held_out}"
    return chart(body, height, f"Loss of {name} over {count(last)} steps, {losses}")


def _loss_legend(has_validation: bool) -> list[str]:
    body = [path([(44, 8), (60, 8)], "raw"), text(65, 12, "step"), path([(98, 8), (114, 8)], "main")]
    body.append(text(119, 12, "running mean"))
    if has_validation:
        body += [path([(206, 8), (222, 8)], "soft"), dot(214, 8, "hollow", 3), text(227, 12, "validation")]
    return body


def _finite(log: Sequence[dict[str, float]], name: str) -> Points:
    return [(row["step"], row[name]) for row in log if "step" in row and math.isfinite(row.get(name, math.nan))]


def _high_quantile(losses: Sequence[float]) -> float:
    """A top for the axis that one spike does not push up."""
    ordered = sorted(losses)
    return max(ordered[int(0.99 * (len(ordered) - 1))] * 1.08, 1e-9)


def window(steps: int) -> int:
    """How many steps the running mean takes."""
    return 2 * max(1, round(SMOOTHING * steps / 2)) + 1


def smooth(points: Sequence[tuple[float, float]]) -> Points:
    """The mean over `window` steps around each; towards an end the window stops there and keeps at least half."""
    half = window(len(points)) // 2
    means = []
    for place, (step, _) in enumerate(points):
        taken = points[max(0, place - half) : place + half + 1]
        means.append((step, sum(loss for _, loss in taken) / len(taken)))
    return means


def _thin(points: Sequence[tuple[float, float]]) -> Points:
    every = math.ceil(len(points) / MAX_POINTS)
    return [*points[:-1:every], points[-1]]


def difference_chart(entries: Sequence[Difference]) -> str | None:
    """One dot and whisker per difference on one axis in printed points.

    Ratios and differences without an interval have no place on it.
    """
    shown = [
        (entry, entry.low, entry.high)
        for entry in entries
        if not entry.ratio and entry.low is not None and entry.high is not None
    ]
    if not shown:
        return None
    low = min(0.0, *(low for _, low, _ in shown))
    high = max(0.0, *(high for _, _, high in shown))
    margin = 0.04 * (high - low or 1)
    low, high = low - margin, high + margin
    left, right, step = 6, WIDTH - 6, 40

    def place(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    bottom = step * len(shown) + 4
    marks = ticks(low, high, 5)
    body = [text(place(tick), bottom + 15, tick_text(tick), style="s", anchor="middle") for tick in marks]
    for row, (entry, from_, to) in enumerate(shown):
        y = row * step + 34
        style = {True: "", False: " bad", None: " weak"}[entry.good]
        # Short pieces of the axis' lines, so that none runs through a label.
        body += [line(place(tick), y - 9, place(tick), y + 9, "rest" if tick == 0 else "grid") for tick in marks]
        body.append(text(left, y - 13, entry.label + ("" if entry.higher_is_better else " ↓")))
        body.append(text(right, y - 13, entry.text, anchor="end"))
        body.append(line(place(from_), y, place(to), y, f"whisker{style}"))
        body += [line(place(end), y - 4, place(end), y + 4, f"whisker{style}") for end in (from_, to)]
        body.append(dot(place(entry.value), y, f"dot{style}"))
    body.append(text(right, bottom + 31, "points; 0: no difference", style="s", anchor="end"))
    said = "; ".join(f"{entry.label} {entry.text}, {entry.interval}" for entry, _, _ in shown)
    return chart(body, bottom + 38, f"Differences with intervals: {said}")
