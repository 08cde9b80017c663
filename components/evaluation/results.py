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

from components.data.tasks import parse_nutrition
from components.evaluation.benchmarks import scored
from components.evaluation.bootstrap import Figure, bootstrap, difference, ratio
from components.evaluation.inference.journal import Answered, Failed
from components.evaluation.metrics import nutrition
from components.evaluation.question import Name, Question


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

    def add(self, row: str, asked: Sequence[Question], answers: Sequence[Answered]) -> None:
        """Score a row's answers, each by the rule of its question's benchmark; a failed one counts as wrong.

        Where questions failed, their number stands with the task's metrics.
        """
        self.answers[row], self.metrics[row] = [], {}
        texts = [None if isinstance(answer, Failed) else answer for answer in answers]
        reasons = [answer.reason if isinstance(answer, Failed) else None for answer in answers]
        together = list(zip(asked, texts, reasons, strict=True))
        for name, members in groupby(together, key=lambda one: one[0].benchmark):
            questions, given, why = zip(*members, strict=True)
            scores = scored(name).score(questions, given)
            self.metrics[row] |= scores.metrics
            said = [text or "" for text in given]
            self.answers[row] += [Answer(*one) for one in zip(questions, said, scores.each, why, strict=True)]
        lacking = Counter(answer.question.task for answer in self.answers[row] if answer.failed)
        for task, count in lacking.items():
            self.metrics[row].setdefault(task, {})["failed"] = float(count)

    def of_task(self, row: str, task: str) -> dict[Name, Answer]:
        """A row's answers to the questions of one task."""
        return {a.question.name: a for a in self.answers.get(row, []) if a.question.task == task}


# Metric, the two rows, and how they are compared. What is named here must not rest on chance.
COMPARED: tuple[tuple[str, str, str, str], ...] = (
    ("ingredients.iou", "finetune", "-", "blind"),
    ("ingredients.iou", "finetune", "/", "blind"),
    ("recipe.rouge_l", "finetune", "-", "blind"),
    ("nutrition.pmae", "finetune", "-", "mean"),
    ("chat.rouge_l", "finetune", "-", "blind"),
)


def differences(results: Results, *, resamples: int, seed: int) -> dict[str, dict[str, float]]:
    """Paired bootstrap of COMPARED over the questions that both rows answered; what was not asked is left out."""
    found = {}
    for metric, first, sign, second in COMPARED:
        task = metric.partition(".")[0]
        one, other = results.of_task(first, task), results.of_task(second, task)
        both = [name for name in one if name in other]
        if not both:
            continue
        sums, figure = paired(metric, [one[n] for n in both], [other[n] for n in both], sign)
        interval = bootstrap(sums, figure, resamples=resamples, seed=seed)
        if all(map(math.isfinite, (interval.value, interval.low, interval.high))):
            found[f"{metric} {first} {sign} {second}"] = vars(interval)
    return found


def paired(metric: str, first: Sequence[Answer], second: Sequence[Answer], sign: str) -> tuple[np.ndarray, Figure]:
    """(questions, columns) and the figure of their means that compares two rows of answers to the same questions."""
    if metric == "nutrition.pmae":
        sums = np.concatenate([_nutrition_sums(first), _nutrition_sums(second)], axis=1)
        return sums, lambda means: nutrition.pmae(means[..., :10]) - nutrition.pmae(means[..., 10:])
    scores = np.array([[a.score, b.score] for a, b in zip(first, second, strict=True)])
    return scores, {"-": difference, "/": ratio}[sign]


def _nutrition_sums(answers: Sequence[Answer]) -> np.ndarray:
    parsed = [parse_nutrition(answer.text) for answer in answers]
    return nutrition.contributions(parsed, [json.loads(answer.question.gold or "{}") for answer in answers])


SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("row", "benchmark", "task", "id", "source", "image_hash")]
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
    asked = answer.question
    return {
        "row": row,
        "benchmark": asked.benchmark,
        "task": asked.task,
        "id": asked.id,
        "source": asked.source,
        "image_hash": asked.image_hash,
        "question": asked.text,
        "reference": json.dumps(asked.references, ensure_ascii=False),
        "gold": asked.gold,
        "answer": answer.text,
        "score": answer.score,
        "failed": answer.failed,
    }


def printed_table(metrics: Mapping[str, Mapping[str, Mapping[str, float]]], main: Iterable[str]) -> list[list[str]]:
    """Header and one line for each row with the chosen `task.metric` columns that any row has."""
    columns = [name for name in main if any(_value(tasks, name) is not None for tasks in metrics.values())]
    lines = [["", *columns]]
    for row, tasks in metrics.items():
        values = [_value(tasks, name) for name in columns]
        lines.append([row, *("-" if v is None else f"{v:.3f}" if v <= 1 else f"{v:.1f}" for v in values)])
    return lines


def _value(tasks: Mapping[str, Mapping[str, float]], name: str) -> float | None:
    task, _, metric = name.partition(".")
    return tasks.get(task, {}).get(metric)
