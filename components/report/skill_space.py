"""The skill space by depth and task, and how its energy is spread over units (paper Figure 6)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from components.report.depth import Label, layer_name
from components.report.figures import typeset
from components.svg import WIDTH, chart, line, path, text

LAYERS_SHOWN = 6  # panels; of more labels, these are taken at even distances
PANEL = 92  # height in user units


@dataclass(frozen=True)
class TaskTable:
    """A row per layer or depth, a cell per task."""

    tasks: list[str]
    rows: list[tuple[str, list[str]]]


def entropy_table(rows: Sequence[Mapping[str, str]], label: Label = layer_name) -> TaskTable:
    """Entropy before and after, and the share of task units at zero, by label and task; means over the layers."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    cells: dict[tuple[str, str], list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        cells[label(row["layer"]), row["task"]].append(row)
    labels = dict.fromkeys(name for name, _ in cells)
    return TaskTable(tasks, [(name, [_cell(cells.get((name, task), [])) for task in tasks]) for name in labels])


def _cell(rows: Sequence[Mapping[str, str]]) -> str:
    if not rows:
        return "–"
    before = _mean([float(row["before"]) for row in rows])
    heard = [after for row in rows if math.isfinite(after := float(row["after"]))]
    zeros = [float(zero) for row in rows if (zero := row.get("zero_share"))]
    rectified = f"{_mean(heard):.2f}" if heard else "silent"  # every token's units are at zero
    share = f", {100 * _mean(zeros):.0f}\u00a0%" if zeros else ""
    return typeset(f"{before:.2f} → {rectified}{share}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


Spread = tuple[list[float], list[float]]  # shares of energy before and after, largest first


def distributions(rows: Sequence[Mapping[str, str]], label: Label = layer_name) -> dict[str, Spread]:
    """label -> shares of energy by unit before and after, mean over tasks; each layer's largest first, then the mean.

    Units of two layers have nothing to do with each other, so that places in the order are averaged.
    """
    sums: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        sums[row["layer"]][row["unit"]].append((float(row["before"]), float(row["after"])))
    layers: dict[str, list[Spread]] = defaultdict(list)
    for layer, units in sums.items():
        means = [[_mean(side) for side in zip(*pairs, strict=True)] for pairs in units.values()]
        before, after = (sorted(side, reverse=True) for side in zip(*means, strict=True))
        layers[label(layer)].append((before, after))
    return {
        name: (_by_place([before for before, _ in found]), _by_place([after for _, after in found]))
        for name, found in layers.items()
    }


def _by_place(ordered: Sequence[Sequence[float]]) -> list[float]:
    return [_mean(place) for place in zip_longest(*ordered, fillvalue=0.0)]


def distribution_chart(spread: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """A panel per label, two side by side: shares of energy by unit, the largest first."""
    layers = list(spread)
    shown = min(LAYERS_SHOWN, len(layers))
    chosen = [layers[place * len(layers) // shown] for place in range(shown)]
    highest = max(max(side) for layer in chosen for side in spread[layer])
    width = WIDTH / 2
    body = [path([(4, 8), (22, 8)], "soft"), text(28, 12, "skill space")]
    body += [path([(112, 8), (130, 8)], "main"), text(136, 12, "rectified")]
    body.append(text(WIDTH - 6, 12, "number: largest share", style="s", anchor="end"))
    for number, layer in enumerate(chosen):
        left, top = 6 + width * (number % 2), 26 + PANEL * (number // 2)
        body += _panel(layer, spread[layer], highest, left, top, width - 18)
    said = "; ".join(f"{layer}: largest {spread[layer][0][0]:.2f} and {spread[layer][1][0]:.2f}" for layer in chosen)
    height = 40 + PANEL * -(-shown // 2)
    body.append(text(WIDTH - 12, height - 6, "units of the skill space, largest share first", style="s", anchor="end"))
    return chart(body, height, f"Shares of energy by unit, before and after rectification: {said}")


def _panel(
    layer: str, sides: tuple[Sequence[float], Sequence[float]], highest: float, left: float, top: float, width: float
) -> list[str]:
    bottom = top + PANEL - 26
    body = [text(left, top + 10, layer), line(left, bottom, left + width, bottom, "grid")]
    for shares, style in zip(sides, ("soft", "main"), strict=True):
        step = width / len(shares)
        points = []
        for place, share in enumerate(shares):
            y = bottom - (PANEL - 44) * share / highest
            points += [(left + place * step, y), (left + (place + 1) * step, y)]
        body.append(path(points, style))
    body.append(text(left + width, top + 10, f"{max(map(max, sides)):.2f}", style="s", anchor="end"))
    return body
