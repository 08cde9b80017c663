"""MMBench: multiple choice, each question asked once for every rotation of its options (Liu et al. 2023).

Rule: circular accuracy, as its server scores: a question (index modulo a million) counts only when every rotation is
right. The letter is read by LLaVA's convention (`llava`): alone, or before a mark at the start; `exact` takes the
letter and nothing else; `vlmevalkit` also finds it in a sentence, or by the option's own words. The server asks a
model where no letter is found; here such an answer is wrong. `single`: accuracy of the first rotation alone, and all
that is scored where the questions were asked in one order of the options only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from components.data.tasks import CHOICE_PROMPT
from components.errors import UserError
from components.evaluation.main_metric import MainMetric, percent
from components.evaluation.metrics.shares import percent_of
from components.evaluation.offline.files import is_table, table
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.joining import answer_id as answer_key
from components.evaluation.offline.joining import question_id as question_key
from components.evaluation.offline.questions import Files
from components.evaluation.question import Question, Scores
from components.evaluation.rules import letters

__all__ = ["answer_key", "question_key"]

NAME = "mmbench"
TASKS = ("mmbench",)
RULES = {"llava": letters.leading, "exact": letters.exact, "vlmevalkit": letters.vlmevalkit}
MISSING_IS_WRONG = True  # an empty prediction is wrong to the server
WHOLE_GROUPS = True
HAS_SPLITS = False
SHARES = ()
UNREAD_COUNT_AS = "as wrong"

OPTIONS = "ABCDEFGH"
_ROTATION = 1_000_000
_INDEX = 64  # characters; a longer text is an image
_NO_HINT = ("", "nan", "none")


def read(files: Files, findings: Findings) -> list[Question]:
    """`annotations` (or `questions`): the table with index, question, options and answer; or the answers' own table."""
    named = [files.annotations, files.questions, *files.answers[:1]]
    found = False
    for path in named:
        if path is None or (path in files.answers and not is_table(path, findings)):
            continue
        rows = table(path, findings)
        found = True
        held = {row.get("index", ""): row.get("image", "") for row in rows}
        questions = [
            _question(row, held)
            for row in rows
            if row.get("answer") in tuple(OPTIONS) and row.get("index", "").isdigit()
        ]
        if questions:
            if len(questions) < len(rows):
                findings.note(f"{path}: {len(rows) - len(questions)} rows have no index or no answer; left out")
            return _checked(questions, path, findings)
    if not found:
        raise UserError(
            "mmbench needs --annotations: the table with index, question, options and answer (mmbench_dev_*.tsv)"
        )
    raise UserError(
        "no table of mmbench given here has the columns index and answer; the test split has no answers, use dev"
    )


def _checked(questions: list[Question], path: Path, findings: Findings) -> list[Question]:
    """Those whose right answer is one of their options; says so where each was asked once only."""
    golds = [json.loads(question.gold or "{}") for question in questions]
    usable = [not gold["options"] or gold["answer"] in gold["options"] for gold in golds]
    without = [question.id for question, kept in zip(questions, usable, strict=True) if not kept]
    findings.count("rows whose answer is none of their options", without, f"{path}: left out")
    kept = [question for question, use in zip(questions, usable, strict=True) if use]
    if kept and len({question.group for question in kept}) == len(kept):
        findings.note(
            f"{path} asks each question once, in one order of its options: `single` is the accuracy of that pass, "
            "circular accuracy cannot be had from it"
        )
    return kept


def _question(row: Mapping[str, str], held: Mapping[str, str]) -> Question:
    options = _options(row)
    lines = [f"{letter}. {option}" for letter, option in options.items()]
    hint = row.get("hint", "")
    text = "\n".join(
        [*([hint] if hint.lower() not in _NO_HINT else []), row.get("question", ""), *lines, CHOICE_PROMPT]
    )
    image = _image(row.get("image", ""), held)
    return Question(
        row["index"],
        NAME,
        "mmbench",
        text,
        (row["answer"],),
        json.dumps({"answer": row["answer"], "options": options, "category": row.get("category", "")}),
        image=image,
        image_hash=hashlib.sha256(image).hexdigest() if image else None,
        group=str(int(row["index"]) % _ROTATION),
    )


def _options(row: Mapping[str, str]) -> dict[str, str]:
    """Up to the first empty cell; "None", "NA" and "nan" are options like any other."""
    options = {}
    for letter in OPTIONS:
        if not row.get(letter, "").strip():
            break
        options[letter] = row[letter]
    return options


def _image(text: str, held: Mapping[str, str]) -> bytes | None:
    """The image, which the table holds as base64; a short text is the index of the row that `held` has it of."""
    text = text if len(text) > _INDEX else held.get(text, "")
    try:
        return base64.b64decode(text, validate=True) if len(text) > _INDEX else None
    except binascii.Error:
        return None


def score(questions: Sequence[Question], answers: Sequence[str | None], rule: str = "llava") -> Scores:
    each = [
        float(answer is not None and _letter(question, answer, rule) == json.loads(question.gold or "{}")["answer"])
        for question, answer in zip(questions, answers, strict=True)
    ]
    whole = {group: float(all(rights)) for group, rights in _by_group(questions, each).items()}
    by_category: dict[str, list[float]] = defaultdict(list)
    for group, category in {q.group: json.loads(q.gold or "{}")["category"] for q in reversed(questions)}.items():
        if category:
            by_category[category].append(whole[group])
    first = [right for question, right in zip(questions, each, strict=True) if question.id == question.group]
    name = "single" if questions and len(whole) == len(questions) else "circular"
    metrics = {NAME: {name: percent_of(sum(whole.values()), len(whole)), "single": percent_of(sum(first), len(first))}}
    metrics |= {
        f"mmbench_{one}": {name: percent_of(sum(rights), len(rights))} for one, rights in sorted(by_category.items())
    }
    return Scores(metrics, each)


def unread(question: Question, answer: str, rule: str) -> bool:
    """No letter of an option is found."""
    return _letter(question, answer, rule) is None


def _letter(question: Question, answer: str, rule: str) -> str | None:
    return RULES[rule](answer, json.loads(question.gold or "{}")["options"] or dict.fromkeys("ABCD", ""))


def _by_group(questions: Sequence[Question], scores: Sequence[float]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for question, right in zip(questions, scores, strict=True):
        groups[question.group].append(right)
    return groups


def _circular_sums(questions: Sequence[Question], answers: Sequence[str | None], scores: Sequence[float]) -> np.ndarray:
    """(questions without their rotations, 1): 1 where every rotation is right."""
    return np.array([[float(all(rights))] for rights in _by_group(questions, scores).values()])


MAIN = {NAME: MainMetric("circular", _circular_sums, percent)}
