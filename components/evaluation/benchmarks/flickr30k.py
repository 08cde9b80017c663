"""Flickr30k: one caption for an image that has several references (paper Table 2).

Rule: the paper names SacreBLEU and ROUGE-L. BLEU is the corpus score against all references (default signature),
ROUGE-L takes the best reference (assumed). All captions of one image are one question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from components.data.schema import Row
from components.evaluation.metrics import text
from components.evaluation.question import Question, Scores, question_from

NAME = "flickr30k"
TASKS = ("caption",)


def questions(rows: Iterable[Row]) -> list[Question]:
    """One question for an image; its samples' answers are the references."""
    asked = []
    for row in rows:
        captions = [sample for sample in row.samples if sample.task in TASKS]
        if captions:
            references = [sample.turns[1].text for sample in captions]
            asked.append(question_from(row, captions[0], NAME, references))
    return asked


def score(asked: Sequence[Question], answers: Sequence[str]) -> Scores:
    if not asked:
        return Scores({}, [])
    references = [question.references for question in asked]
    rouges = [text.rouge_l(answer, true) for answer, true in zip(answers, references, strict=True)]
    return Scores({"caption": {"bleu": text.bleu(answers, references), "rouge_l": float(np.mean(rouges))}}, rouges)
