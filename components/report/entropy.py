"""Skill-space entropy before and after rectification, by layer or depth (paper 4.4, Figure 6)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.errors import UserError
from components.report.depth import Label, layer_name
from components.svg import WIDTH, chart, dot, line, text, tick_text, ticks

COLUMNS = ("layer", "before", "after")  # what is read of evaluation/insight/entropy.csv, a row per layer and task


@dataclass(frozen=True)
class LayerEntropy:
    """Entropies of one adapted layer, or of all at one depth; mean over tasks."""

    layer: str
    skill: float
    rectified: float


def layer_entropies(rows: Sequence[Mapping[str, str]], label: Label = layer_name) -> list[LayerEntropy]:
    """One entry a label, in the file's order. Rows without both finite values (all tokens silent) are left out."""
    if not rows:
        return []
    lacking = [name for name in COLUMNS if name not in rows[0]]
    if lacking:
        raise UserError(f"evaluation/insight/entropy.csv has no column {', '.join(lacking)}; run: dvc repro evaluate")
    kept: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        pair = _float(row["before"]), _float(row["after"])
        if all(map(math.isfinite, pair)):
            kept[label(row["layer"])].append(pair)
    return [LayerEntropy(layer, *(_mean(side) for side in zip(*pairs, strict=True))) for layer, pairs in kept.items()]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _float(value: str | None) -> float:
    try:
        return float(value) if value else math.nan
    except ValueError:
        return math.nan


def zero_share(rows: Sequence[Mapping[str, str]]) -> str | None:
    """How many task units the activation silences, in words; None where it was not counted."""
    shares = [share for row in rows if math.isfinite(share := _float(row.get("zero_share")))]
    return f"The activation sets {100 * _mean(shares):.0f}\u00a0% of the task units to zero." if shares else None


def sentence(entries: Sequence[LayerEntropy]) -> str:
    """Whether rectification lowers the entropy, as the paper reports."""
    lower = sum(entry.rectified < entry.skill for entry in entries)
    skill, rectified = _mean([entry.skill for entry in entries]), _mean([entry.rectified for entry in entries])
    agrees = "as in the paper" if rectified < skill else "unlike in the paper"
    direction = "lower" if rectified < skill else "not lower"
    return (
        f"The rectified skill space has {direction} entropy, {agrees}: mean {rectified:.2f} against {skill:.2f} nats, "
        f"lower in {lower} of {len(entries)} layers."
    )


def entropy_chart(entries: Sequence[LayerEntropy]) -> str:
    """A line per depth from the skill space (ring) to the rectified space (dot)."""
    left, right, step = 16 + 6 * max(len(entry.layer) for entry in entries), WIDTH - 10, 20
    values = [value for entry in entries for value in (entry.skill, entry.rectified)]
    low, high = min(0.0, *values), max(values) * 1.05 or 1.0

    def place(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    bottom = 30 + step * len(entries)
    body = [dot(left + 4, 10, "hollow"), text(left + 12, 14, "skill space"), dot(left + 92, 10, "dot")]
    body.append(text(left + 100, 14, "rectified"))
    for tick in ticks(low, high, 5):
        body += [line(place(tick), 24, place(tick), bottom, "grid")]
        body.append(text(place(tick), bottom + 15, tick_text(tick), style="s", anchor="middle"))
    for row, entry in enumerate(entries):
        y = 38 + row * step
        body.append(text(left - 10, y + 4, entry.layer, anchor="end"))
        body.append(line(place(entry.skill), y, place(entry.rectified), y, "link"))
        body += [dot(place(entry.skill), y, "hollow"), dot(place(entry.rectified), y, "dot")]
    body.append(text(right, bottom + 30, "entropy in nats", style="s", anchor="end"))
    said = "; ".join(f"{entry.layer}: {entry.skill:.2f} to {entry.rectified:.2f}" for entry in entries)
    return chart(body, bottom + 37, f"Entropy before and after rectification, by depth: {said}")
