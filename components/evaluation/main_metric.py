"""A task's main metric as a function of sums over questions, so that it can be bootstrapped and compared in pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from components.evaluation.bootstrap import Figure
from components.evaluation.question import Question

# questions, answers (None: there is none), each question's score -> (units, columns). A unit is what a resample draws:
# a question, or all questions about one image where only those together are scored.
Sums = Callable[[Sequence[Question], Sequence[str | None], Sequence[float]], np.ndarray]


def per_question(questions: Sequence[Question], answers: Sequence[str | None], scores: Sequence[float]) -> np.ndarray:
    """(questions, 1): the scores themselves."""
    return np.asarray(scores, float)[:, None]


def mean(means: np.ndarray) -> np.ndarray:
    """(..., 1) -> (...)."""
    return means[..., 0]


def percent(means: np.ndarray) -> np.ndarray:
    """(..., 1) shares -> (...) percent."""
    return 100 * means[..., 0]


@dataclass(frozen=True)
class MainMetric:
    """`name`: the metric among the task's own. `figure`: means of `sums` over units -> the metric."""

    name: str
    sums: Sums = per_question
    figure: Figure = mean
