"""Whether multiple choice was learnt at all: where no method answers better than chance, a column compares noise."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from components.evaluation.main_metric import mean
from components.evaluation.question import Question
from components.report.figures import typeset
from components.tables.measured import Row
from components.tables.resampling import over_seeds_and_images

TASK = "choice"
_OPTION = re.compile(r"^[A-Z]\. ", re.MULTILINE)


def at_chance(rows: Sequence[Row], *, resamples: int, seed: int) -> str | None:
    """Why multiple choice is left out: the accuracy over all rows and seeds, beside chance. None where it counts."""
    trials = [trial for row in rows for trial in row.trials]
    answers = [trial.of_task(TASK) for trial in trials]
    names = [name for name in answers[0] if all(name in of for of in answers)]
    if not names:
        return None
    questions = [answers[0][name].question for name in names]
    scores = np.asarray([np.mean([of[name].score for of in answers]) for name in names])
    chances = np.asarray([chance(question) for question in questions])
    images = [question.image_hash or question.name for question in questions]
    gained = over_seeds_and_images((scores - chances)[None, :, None], images, mean, resamples=resamples, seed=seed)
    if gained.low is None or gained.low > 0:
        return None
    low, high = (typeset(f"{100 * (bound or 0):+.1f}") for bound in (gained.low, gained.high))
    right, guessed = 100 * scores.mean(), 100 * chances.mean()
    return (
        f"Multiple choice is left out: over all rows and seeds {right:.1f} % of {len(names)} questions are answered "
        f"right, and chance is {guessed:.1f} % (95 % interval of the gain {low} to {high}): what the "
        "rows differ by there is noise. These models do not learn to name an option by its letter from so few "
        "questions; they are trained on them all the same."
    )


def chance(question: Question) -> float:
    """The share that is right of guesses among the options, which stand on lines of their own; 0 where none is read."""
    options = len(_OPTION.findall(question.text))
    return 1 / options if options else 0.0
