"""The metrics table and the differences between rows with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.metrics import WITH_IMAGE
from components.report.figures import COUNTS, Figure, count, figure, typeset
from components.report.meanings import is_main, metric_meaning

ROWS = {  # in this order; a row that metrics.json does not hold is left out
    "base": "base model",
    "pretrain": "after stage 1",
    "finetune": "after stage 2",
    "blind": "blind: wrong image",
    "mean": "mean of training data",
}
SHORT = {"base": "base", "pretrain": "stage 1", "finetune": "stage 2", "blind": "blind", "mean": "mean"}
OURS = "finetune"
FEWEST = 10  # questions; below this a bootstrap interval says more about chance than it seems to


@dataclass(frozen=True)
class Cell:
    text: str
    best: bool


@dataclass(frozen=True)
class Column:
    task: str
    name: str
    higher_is_better: bool
    first: bool  # of its task, among the main columns or the others
    main: bool = True  # shown at once; the others are folded
    meaning: str = ""


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
    """A comparison of two rows over the same questions, in printed units. A ratio rests at 1, a difference at 0.

    low, high: a bootstrap interval; None where none was computed or where too few questions would carry it.
    questions: how many both rows answered; None where that is not recorded. groups: of what belongs together (photos
        of one dish) among them, where those are fewer.
    """

    metric: str
    rows: tuple[str, str]  # names of metrics.json, in the order of the comparison
    label: str
    value: float
    low: float | None
    high: float | None
    confidence: float
    ratio: bool
    higher_is_better: bool
    questions: int | None = None
    groups: int | None = None

    @property
    def good(self) -> bool | None:
        """Better or worse for sure; None where the interval holds the point of rest, or where there is none."""
        rest = 1.0 if self.ratio else 0.0
        if self.low is None or self.high is None or self.low <= rest <= self.high:
            return None
        return (self.value > rest) == self.higher_is_better

    @property
    def text(self) -> str:
        return f"{self.value:.2f} ×" if self.ratio else typeset(f"{self.value:+.1f}")

    @property
    def interval(self) -> str:
        if self.low is None or self.high is None:
            return "–"
        form = ".2f" if self.ratio else "+.1f"
        return typeset(f"{self.low:{form}} to {self.high:{form}}")

    @property
    def gain_interval(self) -> str:
        """The interval with its signs turned where lower is better: above 0 is better for every metric."""
        if self.low is None or self.high is None:
            return "–"
        low, high = (self.low, self.high) if self.higher_is_better else (-self.high, -self.low)
        return typeset(f"{low:+.1f} to {high:+.1f}")

    @property
    def too_few(self) -> bool:
        return any(number is not None and number < FEWEST for number in (self.questions, self.groups))

    @property
    def verdict(self) -> str:
        if self.too_few:
            return f"too few questions ({self.asked})"
        if self.low is None:
            return "no interval measured"
        return {True: "better", False: "worse", None: "undecided"}[self.good]

    @property
    def asked(self) -> str:
        if self.questions is None:
            return "–"
        return count(self.questions) + ("" if self.groups is None else f" in {count(self.groups)} groups")


def metrics_table(metrics: Mapping[str, Any], asked: Asked | None = None) -> Table:
    """All rows with all scores, the best of each column marked. The constant predictor takes part in that.

    asked: numbers of questions; where blind was asked fewer of a task it has no figure over all of them.
    """
    names = [name for name in ROWS if metrics.get(name)]
    tasks = dict.fromkeys(task for name in names for task in metrics[name])
    groups, columns, cells = [], [], []
    for task in tasks:
        scores = dict.fromkeys(m for name in names for m in metrics[name].get(task, {}) if m not in COUNTS)
        if scores:
            groups.append((task, len(scores)))
        for metric in scores:
            printed = figure(f"{task}.{metric}")
            main, meaning = is_main(task, metric, scores), metric_meaning(task, metric)
            first = all((one.task, one.main) != (task, main) for one in columns)
            columns.append(Column(task, printed.name, printed.higher_is_better, first, main, meaning))
            values = {name: metrics[name].get(task, {}).get(metric) for name in names}
            if f"{task}.{metric}" in WITH_IMAGE and _fewer_blind(task, asked or {}):
                values["blind"] = None
            cells.append(_column(printed, [values[name] for name in names]))
    rows = [(ROWS[name], name == OURS, [column[place] for column in cells]) for place, name in enumerate(names)]
    notes = [
        f"{said} ({task}): " + ", ".join(f"{ROWS[name]} {number:.0f}" for name, number in found.items())
        for task in tasks
        for counted, said in _COUNTED.items()
        if (found := {n: number for n in names if (number := metrics[n].get(task, {}).get(counted))})
    ]
    return Table(groups, columns, rows, notes)


_COUNTED = {
    "unparsed": "Answers without five readable numbers, counted as zeros",
    "failed": "Questions that failed, counted as wrong",
    "ungraded": "Answers that the judge gave no grade",
}


def _fewer_blind(task: str, asked: Asked) -> bool:
    ours, blind = (asked.get(row, {}).get(task) for row in (OURS, "blind"))
    return ours is not None and blind is not None and blind < ours


def _column(printed: Figure, values: list[float | None]) -> list[Cell]:
    best = printed.best(values)
    return [Cell(printed.text(value), place in best) for place, value in enumerate(values)]


Asked = Mapping[str, Mapping[str, int]]  # row of metrics.json -> task -> answered questions


def differences(metrics: Mapping[str, Any], asked: Asked | None = None) -> list[Difference]:
    """The `differences` of metrics.json by names such as `ingredients.iou finetune - blind` (or `/`, a ratio)."""
    return [_difference(name, entry, asked or {}) for name, entry in metrics.get("differences", {}).items()]


def _difference(name: str, entry: Mapping[str, Any], asked: Asked) -> Difference:
    metric, first, sign, second = name.split(" ")
    task = metric.partition(".")[0]
    both = [number for row in (first, second) if (number := asked.get(row, {}).get(task)) is not None]
    questions = entry.get("questions", min(both) if both else None)
    return compared(metric, (first, second), entry, ratio=sign == "/", questions=questions)


def compared(
    metric: str, rows: tuple[str, str], entry: Mapping[str, Any], *, ratio: bool, questions: int | None
) -> Difference:
    """An entry of `differences` in printed units; without its interval where questions are too few for one."""
    printed = figure(metric)
    factor = 1.0 if ratio else printed.factor
    groups = entry.get("groups")
    few = any(number is not None and number < FEWEST for number in (questions, groups))
    low, high = (None if few or entry.get(end) is None else entry[end] * factor for end in ("low", "high"))
    pair = f"{SHORT.get(rows[0], rows[0])} {'/' if ratio else '−'} {SHORT.get(rows[1], rows[1])}"
    return Difference(
        metric=metric,
        rows=rows,
        label=f"{metric.partition('.')[0]} {printed.name}: {pair}",
        value=entry["value"] * factor,
        low=low,
        high=high,
        confidence=entry.get("confidence", 0.95),
        ratio=ratio,
        higher_is_better=printed.higher_is_better,
        questions=questions,
        groups=groups,
    )
