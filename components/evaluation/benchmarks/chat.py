"""Conversations of any LLaVA-format data: the first answer against the true one.

Rule: ours, for data that has no benchmark. ROUGE-L F against the true answer; `exact` is the share of answers that
equal it but for case, spaces and a full stop at the end, which is what short answers are judged by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from components.data.schema import Row
from components.evaluation.main_metric import MainMetric
from components.evaluation.metrics import text
from components.evaluation.question import Question, Scores, each_sample

NAME = "chat"
TASKS = ("chat",)
MAIN = {"chat": MainMetric("rouge_l")}


def from_rows(rows: Iterable[Row]) -> list[Question]:
    return list(each_sample(rows, NAME, TASKS))


def score(questions: Sequence[Question], answers: Sequence[str | None]) -> Scores:
    if not questions:
        return Scores({}, [])
    pairs = [(answer or "", question.references) for question, answer in zip(questions, answers, strict=True)]
    rouges = [text.rouge_l(answer, references) for answer, references in pairs]
    exact = [_plain(answer) in map(_plain, references) for answer, references in pairs]
    return Scores({"chat": {"rouge_l": float(np.mean(rouges)), "exact": float(np.mean(exact))}}, rouges)


def _plain(answer: str) -> str:
    return " ".join(answer.casefold().split()).removesuffix(".").rstrip()
