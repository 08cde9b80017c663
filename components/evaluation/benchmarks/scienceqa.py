"""ScienceQA: multiple choice, some questions with an image (paper Table 2).

Rule: LLaVA's. The answer's letter is a letter alone; or a letter before ". "; or the one match of "The answer is
X."; anything else, and a missing answer, is wrong. Accuracy over all questions and over those with an image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from components.data.schema import Row
from components.data.tasks import parse_choice
from components.evaluation.metrics import choice
from components.evaluation.question import Question, Scores, each_sample

NAME = "scienceqa"
TASKS = ("choice",)


def questions(rows: Iterable[Row]) -> list[Question]:
    return list(each_sample(rows, NAME, TASKS))


def score(asked: Sequence[Question], answers: Sequence[str]) -> Scores:
    if not asked:
        return Scores({}, [])
    predicted, true = letters(asked, answers)
    metrics = {"accuracy": choice.accuracy(predicted, true)}
    pictured = [place for place, question in enumerate(asked) if question.image is not None]
    if pictured:
        metrics["accuracy_image"] = choice.accuracy([predicted[p] for p in pictured], [true[p] for p in pictured])
    each = [float(guess == letter) for guess, letter in zip(predicted, true, strict=True)]
    return Scores({"choice": metrics}, each)


def letters(asked: Sequence[Question], answers: Sequence[str]) -> tuple[list[str | None], list[str]]:
    """Predicted and true letters."""
    return [parse_choice(answer) for answer in answers], [json.loads(question.gold or '""') for question in asked]
