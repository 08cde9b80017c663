"""What the runs of a study measured: mean and spread over seeds, and differences between its variants.

Spread is the sample standard deviation over seeds, of training alone: base, data and splits are the same in all.
From TRIMMED_FROM seeds on, mean and spread leave out the best and the worst, as MLPerf does for LoRA.
The interval of a difference is a paired bootstrap over seeds and test images (resampling.py), of all seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.evaluation.question import Name
from components.evaluation.results import Answer, paired
from components.report.comparisons import TRIMMED_FROM
from components.tables.resampling import over_seeds_and_images

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
    counted = trimmed(values)
    spread = statistics.stdev(counted) if len(counted) > 1 else None
    return {"mean": statistics.fmean(counted), "sd": spread, "values": list(values)}


def trimmed(values: Sequence[float]) -> list[float]:
    """The values without the best and the worst, where there are enough."""
    return sorted(values)[1:-1] if len(values) >= TRIMMED_FROM else list(values)


def differences(rows: Sequence[Row], *, resamples: int, seed: int) -> dict[str, dict[str, float]]:
    """Each row minus the first, as `metric name - first name`. Nothing where the images are too few for an interval."""
    first, found = rows[0], {}
    for row in rows[1:]:
        for metric in COMPARED:
            entry = difference(metric, row, first, resamples=resamples, seed=seed)
            if entry is not None:
                found[f"{metric}: {row.name} - {first.name}"] = entry
    return found


def difference(metric: str, row: Row, other: Row, *, resamples: int, seed: int) -> dict[str, float] | None:
    """One row minus another over the seeds that both have: value, low, high, confidence, questions."""
    there = {trial.seed: trial for trial in other.trials}
    pairs = [_pairs(metric, trial, there[trial.seed]) for trial in row.trials if trial.seed in there]
    compared = [paired(metric, *both, "-") for both in pairs if both]
    if not compared:
        return None
    units = len(compared[0][0])
    answers = next(both for both in pairs if both)[0]
    images = [a.question.image_hash or a.question.name for a in answers] if len(answers) == units else range(units)
    sums = np.stack([contributions for contributions, _ in compared])
    interval = over_seeds_and_images(sums, list(images), compared[0][1], resamples=resamples, seed=seed)
    return None if interval.low is None else {**vars(interval), "questions": float(units)}


def _pairs(metric: str, one: Trial, other: Trial) -> tuple[list[Answer], list[Answer]] | None:
    task = metric.partition(".")[0]
    here, there = one.of_task(task), other.of_task(task)
    both = [name for name in here if name in there]
    return ([here[n] for n in both], [there[n] for n in both]) if both else None
