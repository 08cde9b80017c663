"""The report's part on a search: what was tried, what the best trial gains, and the pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.search.importance import Importance
from components.search.plots import plots
from components.search.result import from_json, table
from components.search.space import Dimension

CAPTIONS = {
    "best_so_far": "Lowest validation loss reported so far; every report as a dot.",
    "front": "Loss against adapter size. Filled: no trial is better without a larger adapter.",
    "importance": "Strength of each setting (0 to 1); hollow: what chance reaches in one of twenty shuffles. A trial "
    "chose its settings by what earlier ones found, and trials are few: this ranks and proves nothing.",
    "parallel": "Each trial from its settings to its loss; the best one strong.",
}


@dataclass(frozen=True)
class SearchShown:
    sentence: str
    gains: list[str]
    headings: list[str]
    rows: list[tuple[bool, list[str]]]  # whether it is the best, its cells
    charts: dict[str, str]  # SVG by name, the order of CAPTIONS
    captions: dict[str, str]
    command: str


def search_shown(result: Mapping[str, Any] | None) -> SearchShown | None:
    """tune/search.json as the report tells it; None where there was no search."""
    if result is None:
        return None
    trials = [from_json(entry) for entry in result["trials"]]
    space = [Dimension(**{**entry, "values": tuple(entry["values"])}) for entry in result["space"]]
    drawn = plots(trials, space, [Importance(**entry) for entry in result["importance"]])
    states = Counter(trial.state for trial in trials)
    counted = ", ".join(f"{number} {state}" for state, number in states.items())
    rows = table(trials)
    return SearchShown(
        sentence=f"{len(trials)} trials ({counted}); trial {result['best']} has the lowest validation loss.",
        gains=[_gain(split, row) for split, row in result["gain"].items()],
        headings=[_heading(name) for name in rows[0]],
        rows=[(row["trial"] == result["best"], [_cell(value) for value in row.values()]) for row in rows],
        charts={name: drawn[name] for name in CAPTIONS if name in drawn},
        captions=CAPTIONS,
        command=result["apply"],
    )


def _gain(split: str, row: Mapping[str, Any]) -> str:
    low, high = row["low"], row["high"]
    if low is None:
        verdict = "too few images for an interval"
    else:
        better = "better" if low > 0 else "worse" if high < 0 else "undecided"
        verdict = f"({low:.4f} to {high:.4f}, 95 %): {better}"
    chosen = ", which chose the trial and flatters it" if split == "validation" else ""
    return (
        f"{split} loss{chosen}: {row['best']:.4f} against {row['default']:.4f} with the present settings, "
        f"difference {row['gain']:.4f} {verdict}"
    )


def _heading(name: str) -> str:
    """Settings keep their keys."""
    return name if "." in name else name.replace("_", " ").replace(" kib", ", KiB").replace(" seconds", " s")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
