"""Two models by what they answered: every task's main metric over the questions both were asked, in pairs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.errors import UserError
from components.evaluation.benchmarks import scored
from components.evaluation.bootstrap import bootstrap
from components.evaluation.question import Question
from components.evaluation.results import SCHEMA, Answer, paired, sums_of
from components.metrics import metric as metric_row


@dataclass(frozen=True)
class Difference:
    """The second model minus the first in one metric.

    `low`, `high`: of the paired bootstrap over the questions; None where they are too few. `better`: the model that
    the interval decides for; None where it holds 0. `left_out`: questions of either that the other was not asked.
    """

    metric: str
    first: float
    second: float
    value: float
    low: float | None
    high: float | None
    confidence: float
    questions: int
    left_out: int
    better: Literal["first", "second"] | None


def read_answers(path: Path, row: str = "finetune") -> list[Answer]:
    """One row's answers out of answers.parquet."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} cannot be read as a table of answers: {str(error).splitlines()[0]}") from None
    missing = set(SCHEMA.names) - set(table.column_names)
    if missing:
        raise UserError(
            f"{path} was written by another version (no column {', '.join(sorted(missing))}); run: dvc repro evaluate"
        )
    mine = table.filter(pc.equal(table["row"], row))  # pyright: ignore[reportAttributeAccessIssue]
    return [_answer(record) for record in mine.to_pylist()]


def _answer(record: Mapping[str, Any]) -> Answer:
    question = Question(
        id=record["id"],
        benchmark=record["benchmark"],
        task=record["task"],
        text=record["question"],
        references=tuple(json.loads(record["reference"])),
        gold=record["gold"],
        image_hash=record["image_hash"],
        group=record["group"],
        source=record["source"],
    )
    return Answer(question, record["answer"], record["score"], record["failed"])


def compare(first: Iterable[Answer], second: Iterable[Answer], *, resamples: int, seed: int) -> list[Difference]:
    """A line for each task that both answered questions of: the same words, image and true answer."""
    one, other = ({_content(answer.question): answer for answer in answers} for answers in (first, second))
    tasks = dict.fromkeys((answer.question.task, answer.question.benchmark) for answer in one.values())
    found = []
    for task, benchmark in tasks:
        main = scored(benchmark).MAIN[task]
        here, there = (_of(answers, task, benchmark) for answers in (one, other))
        both = [key for key in here if key in there]
        if both:
            pairs = [here[key] for key in both], [there[key] for key in both]
            left_out = len(here) + len(there) - 2 * len(both)
            found.append(_difference(f"{task}.{main.name}", *pairs, left_out, resamples=resamples, seed=seed))
    return found


def left_out(first: Sequence[Answer], second: Sequence[Answer]) -> dict[str, int]:
    """Main metrics of the tasks of which no question was asked of both -> the questions of either."""
    asked = [{(answer.question.task, answer.question.benchmark): set() for answer in one} for one in (first, second)]
    for answers, contents in zip((first, second), asked, strict=True):
        for answer in answers:
            contents[answer.question.task, answer.question.benchmark].add(_content(answer.question))
    here, there = asked
    return {
        f"{task}.{scored(benchmark).MAIN[task].name}": len(mine) + len(theirs)
        for task, benchmark in {**here, **there}
        for mine, theirs in [(here.get((task, benchmark), set()), there.get((task, benchmark), set()))]
        if not mine & theirs
    }


def _content(question: Question) -> tuple[Any, ...]:
    return (*question.name, question.task, question.text, question.references, question.gold, question.image_hash)


def _of(answers: Mapping[tuple[Any, ...], Answer], task: str, benchmark: str) -> dict[tuple[Any, ...], Answer]:
    wanted = (task, benchmark)
    return {key: one for key, one in answers.items() if (one.question.task, one.question.benchmark) == wanted}


def _difference(
    metric: str, one: Sequence[Answer], other: Sequence[Answer], left_out: int, *, resamples: int, seed: int
) -> Difference:
    contributions, figure = paired(metric, other, one, "-")
    interval = bootstrap(contributions, figure, resamples=resamples, seed=seed)
    main = scored(one[0].question.benchmark).MAIN[metric.partition(".")[0]]
    values = [float(main.figure(np.mean(sums_of(main, answers), axis=0))) for answers in (one, other)]
    return Difference(metric, *values, **vars(interval), questions=len(one), left_out=left_out,
                      better=_better(metric, interval.low, interval.high))  # fmt: skip


def _better(metric: str, low: float | None, high: float | None) -> Literal["first", "second"] | None:
    if low is None or high is None or low <= 0 <= high:
        return None
    return "second" if (low > 0) == (metric_row(metric).direction != "lower") else "first"
