"""How the experts of LoRA-MoE and RoDE share the work, by task and by depth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from components.report.depth import Label, layer_name


@dataclass(frozen=True)
class ExpertTable:
    """A row per task or depth, a cell per expert."""

    heading: str
    experts: list[str]
    rows: list[tuple[str, list[str]]]


def expert_tables(rows: Sequence[Mapping[str, str]], label: Label = layer_name) -> list[ExpertTable]:
    """Mean router weight of every expert and, where any is, how often it is switched off: by task, by depth."""
    ranks = {int(row["expert"]): row["rank"] for row in rows}
    experts = [f"expert {number + 1}, rank {ranks[number]}" for number in sorted(ranks)]
    by_task = _table("task", experts, rows, lambda row: row["task"])
    return [by_task, _table("depth", experts, rows, lambda row: label(row["layer"]))]


def _table(
    heading: str, experts: list[str], rows: Sequence[Mapping[str, str]], key: Callable[[Mapping[str, str]], str]
) -> ExpertTable:
    cells: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[key(row)][int(row["expert"])].append((float(row["load"]), float(row["off_share"])))
    lines = [(name, [_cell(of[number]) for number in sorted(of)]) for name, of in cells.items()]
    return ExpertTable(heading, experts, lines)


def _cell(figures: Sequence[tuple[float, float]]) -> str:
    load, off = (sum(side) / len(figures) for side in zip(*figures, strict=True))
    return f"{load:.2f}" + (f", off {100 * off:.0f}\u00a0%" if off else "")


def sentence(rows: Sequence[Mapping[str, str]]) -> str:
    """Which expert carries most, and how many are switched off, in words."""
    loads: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        loads[int(row["expert"])].append(float(row["load"]))
    means = {expert: sum(values) / len(values) for expert, values in loads.items()}
    most, least, whole = max(means, key=means.__getitem__), min(means, key=means.__getitem__), sum(means.values())
    off = sum(float(row["off_share"]) for row in rows) / len(rows)
    if not whole:
        return "Every expert is switched off everywhere."
    return (
        f"Over all layers and tasks expert {most + 1} carries {100 * means[most] / whole:.0f}\u00a0% of the router's "
        f"weight and expert {least + 1} {100 * means[least] / whole:.0f}\u00a0% (even: {100 / len(means):.0f}\u00a0%); "
        f"{100 * off:.0f}\u00a0% of all expert weights are exactly zero."
    )
