"""Score against adapter size (paper Figure 7) and inference time against LoRA's (Figure 8): the paper's and ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from components.report.ledger import LedgerTable, PublishedTable
from components.svg import WIDTH, chart, dot, line, path, text, tick_text, ticks

MIB = 2**20
Series = Mapping[str, Sequence[tuple[float, float]]]  # method -> (MiB, score)
METHODS = ("LoRA", "Dual-LoRA")
LEAD, FACTOR = "ingredients.iou", 100.0


def published_sizes(tables: Sequence[PublishedTable]) -> Series:
    """IoU by size, from appendix Table 2."""
    by_id = {table.id: table for table in tables}
    sizes = {row.name: row.values[0] for row in by_id["size"].rows}
    points = [(row.name, sizes.get(row.name), row.values[0]) for row in by_id["rank"].rows]
    return _by_method([(name, size, score) for name, size, score in points if size is not None and score is not None])


def measured_sizes(record: Mapping[str, Any] | None) -> Series:
    """The same from tables/ranks.json; nothing where it has no IoU."""
    rows = [row for row in (record["rows"] if record else []) if LEAD in row["figures"]]
    return _by_method(
        [(row["name"], row["adapter_bytes"] / MIB, FACTOR * row["figures"][LEAD]["mean"]) for row in rows]
    )


def _by_method(points: Sequence[tuple[str, float, float]]) -> Series:
    return {
        method: [(size, score) for name, size, score in points if name.partition(" rank")[0] == method]
        for method in METHODS
    }


def size_chart(series: Series, where: str) -> str:
    """A line per method; size on a logarithmic axis."""
    left, right, top, bottom, height = 34, WIDTH - 12, 30, 178, 214
    points = [point for line_ in series.values() for point in line_]
    xs, ys = [math.log2(size) for size, _ in points], [score for _, score in points]
    margin = 0.12 * (max(ys) - min(ys)) or 1.0
    low, high = min(ys) - margin, max(ys) + margin

    def place(size: float, score: float) -> tuple[float, float]:
        share = (math.log2(size) - min(xs)) / (max(xs) - min(xs) or 1.0)
        return left + 14 + (right - left - 28) * share, bottom - (bottom - top) * (score - low) / (high - low)

    body = [dot(left + 4, 12, "hollow"), text(left + 12, 16, METHODS[0])]
    body += [dot(left + 72, 12, "dot"), text(left + 80, 16, METHODS[1])]
    for tick in ticks(low, high):
        y = place(points[0][0], tick)[1]
        body += [line(left, y, right, y, "grid"), text(left - 6, y + 4, tick_text(tick), style="s", anchor="end")]
    for size in sorted({size for size, _ in points}):
        body.append(text(place(size, low)[0], bottom + 16, f"{size:.3g}", style="s", anchor="middle"))
    body.append(text(right, bottom + 31, "adapter, MiB in bf16", style="s", anchor="end"))
    for method, style, mark in zip(METHODS, ("soft", "main"), ("hollow", "dot"), strict=True):
        places = [place(*point) for point in series[method]]
        body += [path(places, style), *(dot(*at, mark) for at in places)]
    said = "; ".join(
        f"{method}: {', '.join(f'{score:.1f} at {size:.2g} MiB' for size, score in of)}"
        for method, of in series.items()
    )
    return chart(body, height, f"IoU by size of the adapter, {where}. {said}")


def times(table: LedgerTable) -> list[tuple[str, float, float | None]]:
    """(method, the paper's ratio, ours) from the ledger's table of Figure 8."""
    rows = []
    for row in table.rows:
        ours = (row.measured or row.orientation or [None])[0]
        rows.append((row.name, float(row.published[0]), float(ours) if ours else None))
    return rows


def time_chart(rows: Sequence[tuple[str, float, float | None]]) -> str:
    """Time against LoRA's, a line per method: the paper's (ring) and ours (dot)."""
    left, right, step = 132, WIDTH - 12, 26
    values = [1.0, *(value for _, *pair in rows for value in pair if value is not None)]
    low, high = min(values) - 0.03, max(values) + 0.05

    def place(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    bottom = 30 + step * len(rows)
    body = [dot(left + 4, 10, "hollow"), text(left + 12, 14, "paper"), dot(left + 72, 10, "dot")]
    body.append(text(left + 80, 14, "here"))
    for tick in ticks(low, high, 5):
        body.append(line(place(tick), 24, place(tick), bottom, "rest" if tick == 1 else "grid"))
        body.append(text(place(tick), bottom + 15, tick_text(tick), style="s", anchor="middle"))
    for number, (name, published, ours) in enumerate(rows):
        y = 40 + number * step
        body.append(text(left - 10, y + 4, name, anchor="end"))
        if ours is not None:
            body.append(line(place(published), y, place(ours), y, "link"))
        body.append(dot(place(published), y, "hollow"))
        if ours is not None:
            body.append(dot(place(ours), y, "dot"))
    said = "; ".join(
        f"{name}: {p:.2f} in the paper, {f'{o:.2f} here' if o else 'not measured here'}" for name, p, o in rows
    )
    return chart(body, bottom + 22, f"Inference time against LoRA's. {said}")
