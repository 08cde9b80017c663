"""The metrics table, the differences with their intervals, and what was learnt in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.report.figures import COUNTS, Figure, figure, typeset

ROWS = {  # in this order; a row that metrics.json does not hold is left out
    "base": "base model",
    "pretrain": "after stage 1",
    "finetune": "after stage 2",
    "blind": "blind: wrong image",
    "mean": "mean of training data",
}
SHORT = {"base": "base", "pretrain": "stage 1", "finetune": "stage 2", "blind": "blind", "mean": "mean"}
OURS = "finetune"


@dataclass(frozen=True)
class Cell:
    text: str
    best: bool


@dataclass(frozen=True)
class Column:
    task: str
    name: str
    higher_is_better: bool
    first: bool  # of its task


@dataclass(frozen=True)
class Table:
    """`groups`: task and how many columns stand under it. `rows`: label, whether it is our model, cells.

    `notes`: answers that could not be scored as the others.
    """

    groups: list[tuple[str, int]]
    columns: list[Column]
    rows: list[tuple[str, bool, list[Cell]]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """A bootstrapped comparison of two rows, in printed units. A ratio rests at 1, a difference at 0."""

    metric: str
    rows: tuple[str, str]  # names of metrics.json, in the order of the comparison
    label: str
    value: float
    low: float
    high: float
    confidence: float
    ratio: bool
    higher_is_better: bool

    @property
    def good(self) -> bool | None:
        """Better or worse for sure; None where the interval holds the point of rest."""
        rest = 1.0 if self.ratio else 0.0
        if self.low <= rest <= self.high:
            return None
        return (self.value > rest) == self.higher_is_better

    @property
    def text(self) -> str:
        return f"{self.value:.2f} ×" if self.ratio else typeset(f"{self.value:+.1f}")

    @property
    def interval(self) -> str:
        form = ".2f" if self.ratio else "+.1f"
        return typeset(f"{self.low:{form}} to {self.high:{form}}")

    @property
    def verdict(self) -> str:
        return {True: "better", False: "worse", None: "undecided"}[self.good]


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """All rows with all scores, the best of each column marked. The constant predictor takes part in that."""
    names = [name for name in ROWS if metrics.get(name)]
    tasks = dict.fromkeys(task for name in names for task in metrics[name])
    groups, columns, cells = [], [], []
    for task in tasks:
        scores = dict.fromkeys(m for name in names for m in metrics[name].get(task, {}) if m not in COUNTS)
        if scores:
            groups.append((task, len(scores)))
        for metric in scores:
            printed = figure(f"{task}.{metric}")
            first = not columns or columns[-1].task != task
            columns.append(Column(task, printed.name, printed.higher_is_better, first))
            cells.append(_column(printed, [metrics[name].get(task, {}).get(metric) for name in names]))
    rows = [(ROWS[name], name == OURS, [column[place] for column in cells]) for place, name in enumerate(names)]
    notes = [
        f"{_COUNTED[count]} ({task}): " + ", ".join(f"{ROWS[name]} {number:.0f}" for name, number in found.items())
        for task in tasks
        for count in _COUNTED
        if (found := {n: number for n in names if (number := metrics[n].get(task, {}).get(count))})
    ]
    return Table(groups, columns, rows, notes)


_COUNTED = {
    "unparsed": "Answers without five readable numbers, counted as zeros",
    "failed": "Questions that failed, counted as wrong",
    "ungraded": "Answers that the judge gave no grade",
}


def _column(printed: Figure, values: list[float | None]) -> list[Cell]:
    best = printed.best(values)
    return [Cell(printed.text(value), place in best) for place, value in enumerate(values)]


def differences(metrics: Mapping[str, Any]) -> list[Difference]:
    """The `differences` of metrics.json by names such as `ingredients.iou finetune - blind` (or `/`, a ratio)."""
    return [_difference(name, entry) for name, entry in metrics.get("differences", {}).items()]


def _difference(name: str, entry: Mapping[str, Any]) -> Difference:
    metric, first, sign, second = name.split(" ")
    printed, ratio = figure(metric), sign == "/"
    factor = 1.0 if ratio else printed.factor
    pair = f"{SHORT.get(first, first)} {'/' if ratio else '−'} {SHORT.get(second, second)}"
    return Difference(
        metric=metric,
        rows=(first, second),
        label=f"{metric.partition('.')[0]} {printed.name}: {pair}",
        value=entry["value"] * factor,
        low=entry["low"] * factor,
        high=entry["high"] * factor,
        confidence=entry["confidence"],
        ratio=ratio,
        higher_is_better=printed.higher_is_better,
    )


@dataclass(frozen=True)
class Headline:
    """What was learnt, in one sentence of two parts."""

    claim: str
    evidence: str

    @property
    def text(self) -> str:
        return f"{self.claim}{': ' + self.evidence if self.evidence else ''}."


def headline(metrics: Mapping[str, Any]) -> Headline:
    """What the fine-tuned model scores and how far it stands from itself without the right image."""
    compared = [entry for entry in differences(metrics) if not entry.ratio and entry.rows == (OURS, "blind")]
    if not compared:
        return Headline("No comparison with the blind model was measured, so nothing is claimed here", "")
    chosen = next((entry for entry in compared if entry.metric == "ingredients.iou"), compared[0])
    task, metric = chosen.metric.split(".", 1)
    printed = figure(chosen.metric)
    reached = printed.text(metrics[OURS][task][metric])
    claim = {
        True: "The model learnt to use the image",
        None: "It is not shown that the model uses the image",
        False: "The model does worse with the right image than with a wrong one",
    }[chosen.good]
    side = "above" if chosen.value >= 0 else "below"
    return Headline(
        claim,
        f"{task} {printed.name} {reached} on held-out images, {abs(chosen.value):.1f} points {side} the same model "
        f"shown the wrong image ({100 * chosen.confidence:.0f}\u00a0% interval of the difference {chosen.interval})",
    )
