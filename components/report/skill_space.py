"""The skill space layer by layer and task by task, and how its energy is spread over units (paper Figure 6)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.report.entropy import layer_name
from components.report.figures import typeset
from components.svg import WIDTH, chart, line, path, text

LAYERS_SHOWN = 6  # panels; with more layers, these are taken at even distances
PANEL = 92  # height in user units


@dataclass(frozen=True)
class TaskTable:
    """A row per layer, a cell per task."""

    tasks: list[str]
    rows: list[tuple[str, list[str]]]


def entropy_table(rows: Sequence[Mapping[str, str]]) -> TaskTable:
    """Entropy before and after, and the share of task units at zero, in every layer for every task."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    cells = {(layer_name(row["layer"]), row["task"]): _cell(row) for row in rows}
    layers = dict.fromkeys(layer for layer, _ in cells)
    return TaskTable(tasks, [(layer, [cells.get((layer, task), "–") for task in tasks]) for layer in layers])


def _cell(row: Mapping[str, str]) -> str:
    before, after, zero = float(row["before"]), float(row["after"]), row.get("zero_share")
    rectified = f"{after:.2f}" if math.isfinite(after) else "silent"  # every token's units are at zero
    share = f", {100 * float(zero):.0f}\u00a0%" if zero else ""
    return typeset(f"{before:.2f} → {rectified}{share}")


def distributions(rows: Sequence[Mapping[str, str]]) -> dict[str, tuple[list[float], list[float]]]:
    """layer -> each unit's share of the energy before and after, mean over tasks, largest first."""
    sums: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        sums[layer_name(row["layer"])][row["unit"]].append((float(row["before"]), float(row["after"])))
    spread = {}
    for layer, units in sums.items():
        means = [[sum(side) / len(pairs) for side in zip(*pairs, strict=True)] for pairs in units.values()]
        before, after = (sorted(side, reverse=True) for side in zip(*means, strict=True))
        spread[layer] = before, after
    return spread


def distribution_chart(spread: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """A panel per layer, two side by side: shares of energy by unit, the largest first."""
    layers = list(spread)
    shown = min(LAYERS_SHOWN, len(layers))
    chosen = [layers[place * len(layers) // shown] for place in range(shown)]
    highest = max(max(side) for layer in chosen for side in spread[layer])
    width = WIDTH / 2
    body = [path([(4, 8), (22, 8)], "soft"), text(28, 12, "skill space")]
    body += [path([(112, 8), (130, 8)], "main"), text(136, 12, "rectified")]
    for number, layer in enumerate(chosen):
        left, top = 6 + width * (number % 2), 26 + PANEL * (number // 2)
        body += _panel(layer, spread[layer], highest, left, top, width - 18)
    said = "; ".join(f"{layer}: largest {spread[layer][0][0]:.2f} and {spread[layer][1][0]:.2f}" for layer in chosen)
    height = 30 + PANEL * -(-shown // 2)
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
