"""What the runs of a study measured: mean and spread over seeds, and differences between its variants.

Spread is the sample standard deviation over seeds, of training alone: base, data and splits are the same in all.
The interval of a difference is a paired bootstrap over the test questions, of the scores' mean over seeds: it shows how
far the difference depends on which questions were asked.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.evaluation.bootstrap import bootstrap
from components.evaluation.question import Name
from components.evaluation.results import Answer, paired

COMPARED = ("ingredients.iou", "recipe.rouge_l", "nutrition.pmae", "choice.accuracy", "caption.rouge_l")


@dataclass(frozen=True)
class Trial:
    """One variant trained with one seed, and what it answered.

    `run`: the name of its fine-tuning run. `adapter_bytes`: in bf16.
    """

    seed: int
    run: str
    metrics: Mapping[str, Mapping[str, float]]
    answers: Sequence[Answer]
    adapter_bytes: int

    def of_task(self, task: str) -> dict[Name, Answer]:
        return {answer.question.name: answer for answer in self.answers if answer.question.task == task}


@dataclass
class Row:
    """A variant with its trials, one for each seed that is through."""

    name: str
    settings: Mapping[str, Any]
    published: str | None  # name of the published row
    trials: list[Trial] = field(default_factory=list)

    def figures(self) -> dict[str, dict[str, Any]]:
        """`task.metric` -> mean, sd (None with one seed) and the values by seed."""
        names = dict.fromkeys(
            f"{task}.{metric}" for trial in self.trials for task, scores in trial.metrics.items() for metric in scores
        )
        return {name: _over_seeds([_value(trial, name) for trial in self.trials]) for name in names}


def _value(trial: Trial, name: str) -> float:
    task, _, metric = name.partition(".")
    nothing = 0.0 if metric == "failed" else math.nan  # stands only with the trials in which questions failed
    return float(trial.metrics.get(task, {}).get(metric, nothing))


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": spread, "values": list(values)}


def differences(rows: Sequence[Row], *, resamples: int, seed: int) -> dict[str, dict[str, float]]:
    """Each row minus the first, as `metric name - first name`, by paired bootstrap over the questions both answered.

    Nothing where they are too few for an interval.
    """
    first, found = rows[0], {}
    for row in rows[1:]:
        for metric in COMPARED:
            sums, figure = [], None
            for one, other in zip(row.trials, first.trials, strict=True):
                pairs = _pairs(metric, one, other)
                if pairs:
                    contributions, figure = paired(metric, *pairs, "-")
                    sums.append(contributions)
            if figure is not None:
                interval = bootstrap(np.mean(sums, axis=0), figure, resamples=resamples, seed=seed)
                if interval.low is not None:
                    found[f"{metric}: {row.name} - {first.name}"] = vars(interval) | {"questions": len(sums[0])}
    return found


def _pairs(metric: str, one: Trial, other: Trial) -> tuple[list[Answer], list[Answer]] | None:
    task = metric.partition(".")[0]
    here, there = one.of_task(task), other.of_task(task)
    both = [name for name in here if name in there]
    return ([here[n] for n in both], [there[n] for n in both]) if both else None
