"""The paper's tables as they were run here (tables/*.json): scores with spreads, differences, order, answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from components.report.figures import COUNTS, Figure, figure, typeset
from components.report.meanings import is_main, metric_meaning
from components.report.results import Cell, Column, Table
from components.report.tasks import ALL

TRIMMED_FROM = 10  # seeds
SWEEP = "tasks"  # its columns are numbers of tasks
ORDER = ("table1", "table3", "table4", "anchors", "ranks")


@dataclass(frozen=True)
class Gap:
    """A difference to the first row, in printed units. good: better or worse for sure, None where undecided."""

    text: str
    good: bool | None

    @property
    def style(self) -> str:
        return {True: "good", False: "bad", None: "weak"}[self.good]


@dataclass(frozen=True)
class Comparison:
    title: str
    table: Table
    order: str  # whether the paper's order appears
    claims: list[str]  # whether each claim of the paper holds, and what was left out
    picture: str  # name of its chart, or empty
    first: str  # the row that the others are compared with
    compared: list[str]  # headings of the differences
    gaps: list[tuple[str, list[Gap]]]
    origin: str  # seeds, questions, digests
    runs: list[tuple[str, str]]  # row, its runs


def comparisons(tables: Mapping[str, Any], data_digest: str) -> list[Comparison]:
    """Every table that was measured on this run's data, in the paper's order."""
    names = [name for name in ORDER if name in tables] + sorted(tables.keys() - set(ORDER))
    return [_comparison(tables[name]) for name in names if tables[name]["data_digest"] == data_digest]


def _comparison(record: Mapping[str, Any]) -> Comparison:
    first, *others = (row["name"] for row in record["rows"])
    metrics = list(dict.fromkeys(key.partition(": ")[0] for key in record["differences"]))
    return Comparison(
        title=record["title"],
        table=scores(record),
        order=record["order"],
        claims=[*(claim["said"] for claim in record.get("claims", [])), *filter(None, [record.get("left_out")])],
        picture=SWEEP if record["table"] == SWEEP else "",
        first=first,
        compared=[f"{metric.partition('.')[0]} {figure(metric).name}" for metric in metrics],
        gaps=[
            (name, [_gap_of(record, f"{metric}: {name} - {first}", _printed(record, metric)) for metric in metrics])
            for name in others
            if any(f"{metric}: {name} - {first}" in record["differences"] for metric in metrics)
        ],
        origin=_origin(record),
        runs=[
            (row["name"], ", ".join(f"{run['run']} (seed {run['seed']})" for run in row["runs"]))
            for row in record["rows"]
        ],
    )


def _printed(record: Mapping[str, Any], metric: str) -> Figure:
    """How a metric of a table is printed: a sweep's columns, which are no metrics of the project, in percent."""
    return replace(figure(metric), decimals=1) if record["table"] == SWEEP else figure(metric)


def _gap_of(record: Mapping[str, Any], name: str, printed: Figure) -> Gap:
    entry = record["differences"].get(name)
    return gap(entry, printed) if entry else Gap("–", None)


def metrics_of(record: Mapping[str, Any]) -> list[str]:
    """`task.metric` of all rows, counts left out, the metrics of a task side by side."""
    names = dict.fromkeys(name for row in record["rows"] for name in row["figures"])
    return [name for name in names if name.rpartition(".")[2] not in COUNTS]


def scores(record: Mapping[str, Any]) -> Table:
    """Mean and spread of each row, the best mean of a column marked."""
    names, rows = metrics_of(record), record["rows"]
    tasks = dict.fromkeys(name.partition(".")[0] for name in names)
    groups = [(task, sum(name.partition(".")[0] == task for name in names)) for task in tasks]
    columns, cells = [], []
    for name in names:
        task, printed = name.partition(".")[0], _printed(record, name)
        metric, of_task = name.partition(".")[2], [one.partition(".")[2] for one in names if one.startswith(f"{task}.")]
        main = task == ALL if record["table"] == SWEEP else is_main(task, metric, of_task)
        first = all((one.task, one.main) != (task, main) for one in columns)
        columns.append(Column(task, printed.name, printed.higher_is_better, first, main, metric_meaning(task, metric)))
        entries = [row["figures"].get(name) for row in rows]
        best = printed.best([entry["mean"] if entry else None for entry in entries])
        cells.append([Cell(cell(entry, printed), place in best) for place, entry in enumerate(entries)])
    return Table(groups, columns, [(row["name"], False, [c[place] for c in cells]) for place, row in enumerate(rows)])


def cell(entry: Mapping[str, Any] | None, printed: Figure) -> str:
    """`81.2 ± 0.4`; without the spread where there is one seed, a dash where there is nothing."""
    if entry is None:
        return printed.text(None)
    value = printed.text(entry["mean"])
    return value if entry["sd"] is None else f"{value}\u00a0±\u00a0{printed.text(entry['sd'])}"


def gap(entry: Mapping[str, float], printed: Figure) -> Gap:
    """`+3.1 (+1.0 to +5.2)`."""
    low, value, high = (_signed(entry[key] * printed.factor, printed.decimals) for key in ("low", "value", "high"))
    undecided = entry["low"] <= 0 <= entry["high"]
    return Gap(f"{value} ({low} to {high})", None if undecided else (entry["value"] > 0) == printed.higher_is_better)


def _signed(value: float, decimals: int) -> str:
    return typeset(f"{round(value, decimals) or 0:+.{decimals}f}")


def _origin(record: Mapping[str, Any]) -> str:
    seeds = ", ".join(map(str, record["seeds"]))
    asked = ", ".join(f"{number} {task}" for task, number in record["questions"].items())
    return (
        f"Profile {record['profile']}, seeds of training: {seeds} ({spread(len(record['seeds']))}); "
        f"test questions: {asked}; params {record['params_digest'][:12]}, data {record['data_digest'][:12]}; "
        f"{made_by(record)}."
    )


def made_by(record: Mapping[str, Any]) -> str:
    """Whose code trained and asked: another version gives other figures on the same data."""
    return f"made by version {record['version']}" if "version" in record else "made by code before version 0.2.0"


def spread(seeds: int) -> str:
    """What a cell shows of its seeds: from ten on the best and the worst are left out (tables/measured.py)."""
    if seeds == 1:
        return "one seed, so no spread"
    without = " of all seeds but the best and the worst" if seeds >= TRIMMED_FROM else ""
    return f"mean ± sample standard deviation{without}"


def answers_of(tables: Mapping[str, Any], item: Mapping[str, Any], data_digest: str) -> dict[str, str]:
    """What the compared methods answered to an item of samples.json: method -> text, of the first seed.

    Nothing where the table was run on other data: there the same id is another question.
    """
    table = tables.get("table1", {})
    if table.get("data_digest") != data_digest:
        return {}
    name = f"{item.get('benchmark')}/{item.get('source')}/{item.get('id')}"
    return dict(table.get("answers", {}).get(name, {}))
