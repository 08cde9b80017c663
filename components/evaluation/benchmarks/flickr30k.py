"""Flickr30k: one caption for an image that has several references (paper Table 2).

Rule: the paper names SacreBLEU and ROUGE-L. BLEU is the corpus score against all references (default signature),
ROUGE-L takes the best reference (assumed). All captions of one image are one question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from components.data.schema import Row
from components.evaluation.main_metric import MainMetric
from components.evaluation.metrics import text
from components.evaluation.offline.answers import Given
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.questions import Files, stem
from components.evaluation.offline.records import questions_of
from components.evaluation.question import Question, Scores, question_from

NAME = "flickr30k"
TASKS = ("caption",)
MAIN = {"caption": MainMetric("rouge_l")}
RULES = {"sacrebleu": text.bleu}
MISSING_IS_WRONG = False  # a caption that was not written can be left out, not judged
WHOLE_GROUPS = False
HAS_SPLITS = True
SHARES = ()
UNREAD_COUNT_AS = "as captions without words"


def from_rows(rows: Iterable[Row]) -> list[Question]:
    """One question for an image; its samples' answers are the references."""
    questions = []
    for row in rows:
        captions = [sample for sample in row.samples if sample.task in TASKS]
        if captions:
            references = [sample.turns[1].text for sample in captions]
            questions.append(question_from(row, captions[0], NAME, references))
    return questions


def read(files: Files, findings: Findings) -> list[Question]:
    """`annotations`: the captions file, or Karpathy's JSON, of which the test split is taken."""
    path = files.need("annotations", NAME, "the captions file (results.token) or Karpathy's dataset_flickr30k.json")
    return questions_of(NAME, path, files.split, findings, from_rows)


def question_key(question: Question) -> str:
    """The image's name: answers may name it with or without ending, or as the caption's "name.jpg#0"."""
    return _image(question.id)


def answer_key(answer: Given) -> str:
    return _image(answer.id)


def _image(id: str) -> str:
    return stem(id.partition("#")[0] if "#" in id else id if "." in id else f"{id}.jpg")


def reading(question: Question, answer: str, rule: str) -> str | None:
    """A caption with a word in it."""
    return answer if any(character.isalnum() for character in answer) else None


def score(questions: Sequence[Question], answers: Sequence[str | None], rule: str = "sacrebleu") -> Scores:
    if not questions:
        return Scores({}, [])
    texts = [answer or "" for answer in answers]
    references = [question.references for question in questions]
    rouges = [text.rouge_l(answer, true) for answer, true in zip(texts, references, strict=True)]
    return Scores({"caption": {"bleu": text.bleu(texts, references), "rouge_l": float(np.mean(rouges))}}, rouges)
