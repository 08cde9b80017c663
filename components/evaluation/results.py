"""What all rows answered and scored: the table of answers, the tree of metrics, the differences between rows.

A row is one system that answered the questions: base, pretrain, finetune, blind, mean.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.evaluation.benchmarks import scored
from components.evaluation.bootstrap import Figure, bootstrap, difference, ratio
from components.evaluation.inference.journal import Answered, Failed
from components.evaluation.main_metric import MainMetric
from components.evaluation.question import Name, Question
from components.metrics import Scale, metric


@dataclass(frozen=True)
class Answer:
    """`score`: the main metric of the question's task, for this answer alone. `failed`: why there is no answer."""

    question: Question
    text: str
    score: float
    failed: str | None = None


@dataclass
class Results:
    """`answers`: row -> answers. `metrics`: row -> task -> metric -> value."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    metrics: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def add(self, row: str, questions: Sequence[Question], answers: Sequence[Answered]) -> None:
        """Score a row's answers, each by the rule of its question's benchmark; a failed one counts as wrong.

        Where questions failed, their number stands with the task's metrics.
        """
        self.answers[row], self.metrics[row] = [], {}
        texts = [None if isinstance(answer, Failed) else answer for answer in answers]
        reasons = [answer.reason if isinstance(answer, Failed) else None for answer in answers]
        together = list(zip(questions, texts, reasons, strict=True))
        for name, members in groupby(together, key=lambda one: one[0].benchmark):
            of_benchmark, given, why = zip(*members, strict=True)
            scores = scored(name).score(of_benchmark, given)
            self.metrics[row] |= scores.metrics
            shown = [text or "" for text in given]
            self.answers[row] += [Answer(*one) for one in zip(of_benchmark, shown, scores.each, why, strict=True)]
        lacking = Counter(answer.question.task for answer in self.answers[row] if answer.failed)
        for task, count in lacking.items():
            self.metrics[row].setdefault(task, {})["failed"] = float(count)

    def of_task(self, row: str, task: str) -> dict[Name, Answer]:
        """A row's answers to the questions of one task."""
        return {a.question.name: a for a in self.answers.get(row, []) if a.question.task == task}


# The fine-tuned model is compared with itself shown wrong images in the main metric of every task; and:
ALSO_COMPARED = {"ingredients": ("/", "blind"), "nutrition": ("-", "mean")}


def differences(results: Results, *, resamples: int, seed: int) -> dict[str, dict[str, float | int | None]]:
    """`metric finetune - blind` for every task's main metric: paired bootstrap over the questions both rows answered.

    value, low, high, confidence, questions, and groups where they are fewer: a resample draws groups. From too few
    there is no interval: low and high are None.
    """
    found = {}
    tasks = {a.question.task: a.question.benchmark for a in results.answers.get("finetune", [])}
    for task, benchmark in tasks.items():
        main = scored(benchmark).MAIN[task].name
        if main not in results.metrics["finetune"].get(task, {}):
            continue
        metric = f"{task}.{main}"
        for sign, second in (("-", "blind"), *([ALSO_COMPARED[task]] if task in ALSO_COMPARED else [])):
            one, other = results.of_task("finetune", task), results.of_task(second, task)
            both = [name for name in one if name in other]
            if not both:
                continue
            sums, figure = paired(metric, [one[n] for n in both], [other[n] for n in both], sign)
            interval = bootstrap(sums, figure, resamples=resamples, seed=seed)
            if math.isfinite(interval.value):
                groups = {"groups": len(sums)} if len(sums) < len(both) else {}
                found[f"{metric} finetune {sign} {second}"] = vars(interval) | {"questions": len(both)} | groups
    return found


def paired(metric: str, first: Sequence[Answer], second: Sequence[Answer], sign: str) -> tuple[np.ndarray, Figure]:
    """(units, columns) and the figure of their means that compares two rows of answers to the same questions.

    metric: `task.metric`, a main metric of its benchmark.
    """
    task, _, name = metric.partition(".")
    main = scored(first[0].question.benchmark).MAIN[task]
    assert main.name == name, f"{name} is not the main metric of {task}"
    one, other = (sums_of(main, answers) for answers in (first, second))
    columns, compare = one.shape[1], {"-": difference, "/": ratio}[sign]

    def figure(means: np.ndarray) -> np.ndarray:
        return compare(np.stack([main.figure(means[..., :columns]), main.figure(means[..., columns:])], axis=-1))

    return in_groups(first, np.concatenate([one, other], axis=1), figure)


def in_groups(answers: Sequence[Answer], sums: np.ndarray, figure: Figure) -> tuple[np.ndarray, Figure]:
    """The same figure with groups as what a resample draws: a dish photographed often is one dish, not many.

    A group's row holds its number of questions, then their sums. Nothing changes where each group has one question,
    or where the metric's units are groups already.
    """
    names = [answer.question.group or answer.question.name for answer in answers]
    if len(sums) != len(names) or len(set(names)) == len(names):
        return sums, figure
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    grouped = np.zeros((len(places), 1 + sums.shape[1]))
    np.add.at(grouped, [places[name] for name in names], np.column_stack([np.ones(len(sums)), sums]))
    return grouped, lambda means: figure(means[..., 1:] / means[..., :1])


def sums_of(main: MainMetric, answers: Sequence[Answer]) -> np.ndarray:
    """(units, columns): what the figure of a main metric is made of."""
    texts = [None if answer.failed else answer.text for answer in answers]
    return main.sums([answer.question for answer in answers], texts, [answer.score for answer in answers])


def difference_line(name: str, entry: Mapping[str, Any]) -> str:
    """An entry of `differences` as it is printed."""
    asked = f"{entry['questions']} questions" + (f" in {entry['groups']} groups" if "groups" in entry else "")
    interval = (
        f"{entry['low']:.3f} to {entry['high']:.3f}, {100 * entry['confidence']:.0f} %, {asked}"
        if entry["low"] is not None
        else f"{asked}, too few for an interval"
    )
    return f"{name}: {entry['value']:.3f}  ({interval})"


SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("row", "benchmark", "task", "id", "source", "group", "image_hash")]
    + [(name, pa.string()) for name in ("question", "reference", "gold", "answer")]
    + [("score", pa.float64()), ("failed", pa.string())]
)


def write_answers(path: Path, results: Results) -> None:
    """All answers as one table.

    `reference` is a JSON list, `image_hash` the image that was shown, `failed` why there is no answer.
    """
    records = [_record(row, answer) for row, answers in results.answers.items() for answer in answers]
    pq.write_table(pa.Table.from_pylist(records, schema=SCHEMA), path)


def _record(row: str, answer: Answer) -> dict[str, Any]:
    question = answer.question
    return {
        "row": row,
        "benchmark": question.benchmark,
        "task": question.task,
        "id": question.id,
        "source": question.source,
        "group": question.group,
        "image_hash": question.image_hash,
        "question": question.text,
        "reference": json.dumps(question.references, ensure_ascii=False),
        "gold": question.gold,
        "answer": answer.text,
        "score": answer.score,
        "failed": answer.failed,
    }


def printed_table(metrics: Mapping[str, Mapping[str, Mapping[str, float]]], main: Iterable[str]) -> list[list[str]]:
    """Header and one line for each row with the chosen `task.metric` columns that any row has, in their own units."""
    columns = [name for name in main if any(_value(tasks, name) is not None for tasks in metrics.values())]
    lines = [["", *(f"{name}{' %' * (metric(name).scale == 'percent')}" for name in columns)]]
    for row, tasks in metrics.items():
        lines.append([row, *(_cell(_value(tasks, name), metric(name).scale) for name in columns)])
    return lines


def _cell(value: float | None, scale: Scale) -> str:
    return "-" if value is None else f"{value:.{3 if scale == 'share' else 1}f}"


def _value(tasks: Mapping[str, Mapping[str, float]], name: str) -> float | None:
    task, _, kind = name.partition(".")
    return tasks.get(task, {}).get(kind)
