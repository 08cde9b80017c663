"""A search in four pictures: what was tried, what mattered, how fast it got better, what size buys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from components.search.importance import Importance
from components.search.result import FAILED, FINISHED, Trial, front
from components.search.space import Dimension, encode
from components.svg import WIDTH, chart, dot, line, path, text, tick_text, ticks

LEFT, RIGHT, TOP, BOTTOM = 44, WIDTH - 12, 14, 168


def plots(trials: Sequence[Trial], space: Sequence[Dimension], found: Sequence[Importance]) -> dict[str, str]:
    """SVG by name; a picture that would show nothing is left out."""
    drawn = {
        "parallel": parallel(trials, space),
        "importance": importance(found),
        "best_so_far": best_so_far(trials),
        "front": size_front(trials),
    }
    return {name: svg for name, svg in drawn.items() if svg}


def parallel(trials: Sequence[Trial], space: Sequence[Dimension]) -> str | None:
    """One row per setting, the last is the loss; one line per trial from top to bottom, the best one strong."""
    shown = [trial for trial in trials if trial.state != FAILED and math.isfinite(trial.loss)]
    if len(shown) < 2:
        return None
    step, left = 44, 8
    losses = [trial.loss for trial in shown]
    rows = [(d.key, *_axis(d, [trial.values[d.key] for trial in shown])) for d in space]
    rows.append(("validation loss", _scale(losses), [f"{min(losses):.3f}", f"{max(losses):.3f}"]))
    places = [
        [scale(value) for value in values] for (_, scale, _), values in zip(rows, _columns(shown, space), strict=True)
    ]
    body = []
    for number, (key, _, (low, high)) in enumerate(rows):
        y = 30 + number * step
        body += [line(left, y, RIGHT, y, "grid"), text(left, y - 8, key)]
        body += [text(left, y + 14, low, style="s"), text(RIGHT, y + 14, high, style="s", anchor="end")]
    best = min((t for t in shown if t.state == FINISHED), key=lambda t: t.loss, default=None)
    for place, trial in enumerate(shown):
        points = [(left + (RIGHT - left) * row[place], 30 + n * step) for n, row in enumerate(places)]
        body.append(path(points, "main" if trial is best else "raw"))
        if trial is best:
            body += [dot(*point, "dot", 3) for point in points]
    said = f"Settings of {len(shown)} trials and their validation loss; the best trial stands out"
    return chart(body, 30 + len(rows) * step, said)


def importance(found: Sequence[Importance]) -> str | None:
    """A whisker from 0 to the strength of each setting, and a hollow dot where chance reaches."""
    if not found:
        return None
    step, left = 36, 6

    def place(strength: float) -> float:
        return left + (RIGHT - left) * strength

    body = []
    for number, one in enumerate(found):
        y = 30 + number * step
        style = "" if one.strength > one.chance else " weak"
        body += [text(left, y - 10, one.key), text(RIGHT, y - 10, f"{one.strength:.2f}", anchor="end")]
        body += [line(left, y, place(one.strength), y, f"whisker{style}"), dot(place(one.strength), y, f"dot{style}")]
        body.append(dot(place(one.chance), y, "hollow", 3))
    said = "; ".join(f"{one.key} {one.strength:.2f}, chance {one.chance:.2f}" for one in found)
    return chart(body, 20 + len(found) * step, f"Strength of each setting: {said}")


def best_so_far(trials: Sequence[Trial]) -> str | None:
    """The lowest loss that any trial had reported, over minutes; every report as a faint dot."""
    reports = sorted((point[2] / 60, point[1]) for trial in trials for point in trial.curve)
    if len(reports) < 2:
        return None
    steps, best = [], math.inf
    for minute, loss in reports:
        if loss < best:
            steps += [(minute, best), (minute, loss)] if steps else [(minute, loss)]
            best = loss
    steps.append((reports[-1][0], best))
    body, place = _frame([m for m, _ in reports], [loss for _, loss in reports], "minutes", from_zero=True)
    body += [dot(x, y, "hollow", 2) for x, y in (place(*report) for report in reports)]
    body.append(path([place(*point) for point in steps], "main"))
    return chart(body, 200, f"Best validation loss so far over {reports[-1][0]:.0f} minutes, down to {best:.3f}")


def size_front(trials: Sequence[Trial]) -> str | None:
    """Loss against the adapter's size in bf16; the front joins trials that none beats without being larger."""
    shown = [trial for trial in trials if trial.state == FINISHED]
    if not shown:
        return None
    best = front(trials)
    sizes = [trial.adapter_bytes / 1024 for trial in shown]
    body, place = _frame(sizes, [trial.loss for trial in shown], "adapter, KiB in bf16", from_zero=True)
    on_front = {trial.number for trial in best}
    for trial in shown:
        style = "dot" if trial.number in on_front else "hollow"
        x, y = place(trial.adapter_bytes / 1024, trial.loss)
        body += [dot(x, y, style, 3.5), text(x + 6, y - 5, str(trial.number), style="s")]
    if len(best) > 1:
        body.append(path([place(trial.adapter_bytes / 1024, trial.loss) for trial in best], "raw"))
    said = "; ".join(f"trial {t.number} {t.adapter_bytes / 1024:.1f} KiB {t.loss:.3f}" for t in best)
    return chart(body, 200, f"Validation loss against adapter size; not beaten: {said}")


def _columns(shown: Sequence[Trial], space: Sequence[Dimension]) -> list[list[Any]]:
    return [*([trial.values[d.key] for trial in shown] for d in space), [trial.loss for trial in shown]]


def _axis(dimension: Dimension, values: Sequence[Any]) -> tuple[Any, list[str]]:
    """Where a value lies between 0 and 1 on its axis, and what stands at the ends."""
    if dimension.kind == "choice":
        names = [encode(value) for value in dimension.values]
        most = max(1, len(names) - 1)
        return lambda value: names.index(encode(value)) / most if encode(value) in names else 0.5, [
            str(names[0]),
            str(names[-1]),
        ]
    return _scale(dimension.values, dimension.kind == "log_uniform"), [f"{v:g}" for v in dimension.values]


def _scale(values: Sequence[float], logarithmic: bool = False) -> Any:
    convert = math.log if logarithmic else float
    low, high = convert(min(values)), convert(max(values))
    return lambda value: min(1.0, max(0.0, (convert(value) - low) / (high - low))) if high > low else 0.5


def _frame(xs: Sequence[float], ys: Sequence[float], label: str, from_zero: bool) -> tuple[list[str], Any]:
    """Axes with ticks, and the function that places a point."""
    left_x, right_x = (0.0 if from_zero else min(xs)), max(xs) * 1.05 or 1.0
    margin = 0.08 * (max(ys) - min(ys)) or 0.05
    low, high = min(ys) - margin, max(ys) + margin

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - left_x) / ((right_x - left_x) or 1.0)
        return LEFT + (RIGHT - LEFT) * across, BOTTOM - (BOTTOM - TOP) * (y - low) / (high - low)

    body = []
    for tick in ticks(low, high):
        y = place(left_x, tick)[1]
        body += [line(LEFT, y, RIGHT, y, "grid"), text(LEFT - 6, y + 4, tick_text(tick), style="s", anchor="end")]
    for tick in ticks(left_x, right_x, 5):
        body.append(text(place(tick, low)[0], BOTTOM + 16, tick_text(tick), style="s", anchor="middle"))
    body.append(text(RIGHT, BOTTOM + 30, label, style="s", anchor="end"))
    return body, place
