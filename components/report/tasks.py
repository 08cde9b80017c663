"""The sweep over tasks as a picture: right answers of each method over the number of tasks, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.svg import WIDTH, chart, dot, line, path, text, tick_text, ticks

ALL = "all"  # figures over all questions of a point
STYLES = {"Dual-LoRA": "main", "LoRA": "soft", "LoRA-MoE": "other dashed", "RoDE": "other dotted"}
SAMPLE = 16  # length of the piece of a curve before its name
LEFT, RIGHT, TOP, BOTTOM, HEIGHT = 34, WIDTH - 78, 24, 190, 224
LINE = 12  # height of a label


def tasks_chart(table: Mapping[str, Any] | None) -> str | None:
    """The methods at one rank: the rows before those of about equal parameters. None where there is no sweep."""
    if table is None:
        return None
    names = [name for name in table["rows"][0]["figures"] if name.startswith(f"{ALL}.")]
    rank = table["rows"][0]["settings"].get("adapter.rank")
    rows = [row for row in table["rows"] if row["settings"].get("adapter.rank") == rank]
    if len(names) < 2:
        return None
    entries = {row["name"].partition(",")[0]: [row["figures"][name] for name in names] for row in rows}
    ceiling = max(entry["high"] or entry["mean"] for of in entries.values() for entry in of) or 1.0
    places = [LEFT + 8 + (RIGHT - LEFT - 16) * number / (len(names) - 1) for number in range(len(names))]

    def height(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * value / ceiling

    body = [text(0, 12, "right answers, percent", style="s")]
    for tick in ticks(0, ceiling):
        body.append(line(LEFT, height(tick), RIGHT, height(tick), "grid"))
        body.append(text(LEFT - 6, height(tick) + 4, tick_text(tick), style="s", anchor="end"))
    for x, name in zip(places, names, strict=True):
        body.append(text(x, BOTTOM + 16, name.partition(".")[2].split()[0], style="s", anchor="middle"))
    body.append(text(RIGHT, BOTTOM + 31, "tasks at once", style="s", anchor="end"))
    for method, of in entries.items():
        style = STYLES.get(method, "other")
        body.append(path([(x, height(entry["mean"])) for x, entry in zip(places, of, strict=True)], style))
        for x, entry in zip(places, of, strict=True):
            if entry["low"] is not None:
                body.append(line(x, height(entry["low"]), x, height(entry["high"]), "link"))
            body.append(dot(x, height(entry["mean"]), "dot" if style == "main" else "hollow", 2.5))
    lowest = BOTTOM + LINE
    for method, of in sorted(entries.items(), key=lambda item: item[1][-1]["mean"]):
        lowest = min(lowest - LINE, height(of[-1]["mean"]) + 4)
        body.append(line(RIGHT, lowest - 4, RIGHT + SAMPLE, lowest - 4, STYLES.get(method, "other")))
        body.append(text(RIGHT + SAMPLE + 4, lowest, method, style="t" if method == "Dual-LoRA" else "s"))
    said = ", ".join(f"{method} {of[0]['mean']:.0f} to {of[-1]['mean']:.0f}" for method, of in entries.items())
    return chart(body, HEIGHT, f"Right answers in percent from {names[0][4:]} to {names[-1][4:]}: {said}")
