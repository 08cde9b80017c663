"""MMBench: multiple choice, each question asked once for every rotation of its options (Liu et al. 2023).

Rule: circular accuracy, as its server scores: a question (index modulo a million) counts only when every rotation is
right. The letter is read by LLaVA's convention (`llava`): alone, or before a mark at the start; `exact` takes the
letter and nothing else; `vlmevalkit` also finds it in a sentence, or by the option's own words. The server asks a
model where no letter is found; here such an answer is wrong. `single`: accuracy of the first rotation alone, and all
that is scored where the questions were asked in one order of the options only.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from components.data.tasks import CHOICE_PROMPT
from components.errors import UserError
from components.evaluation.main_metric import MainMetric, percent
from components.evaluation.metrics.shares import percent_of
from components.evaluation.offline.files import table
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.joining import answer_id as answer_key
from components.evaluation.offline.joining import question_id as question_key
from components.evaluation.offline.questions import Files
from components.evaluation.offline.sheets import OPTIONS, each_once, note_own_gold, options_of, own_rows
from components.evaluation.offline.table_images import Table, image_of, image_text
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

_ROTATION = 1_000_000
T = TypeVar("T")
_NO_HINT = ("", "nan", "none")


def read(files: Files, findings: Findings) -> list[Question]:
    """`annotations` (or `questions`): the table with index, question, options and answer. Where neither is given: the
    answers' own table.
    """
    named = [path for path in (files.annotations, files.questions) if path is not None]
    if not named:
        return _of_answers(files, findings)
    for path in named:
        rows = table(path, findings)
        questions = _of_rows(rows, path, findings)
        if questions is not None:
            return questions
        findings.note(f"{path}: none of its {len(rows)} rows has an index and a letter as its answer")
    names = " and ".join(map(str, named))
    raise UserError(
        f"{names}: no row has an index and, in the column answer, one of the letters A to H; the test split has no "
        "answers, use dev"
    )


def _of_answers(files: Files, findings: Findings) -> list[Question]:
    questions = _of_rows(own_rows(files.answers, findings), files.answers[0], findings) if files.answers else None
    if questions is None:
        raise UserError(
            "mmbench needs --annotations: the table with index, question, options and answer (mmbench_dev_*.tsv)"
        )
    note_own_gold(files.answers, findings)
    return each_once(questions, files.answers)


def _of_rows(rows: Sequence[Mapping[str, str]], path: Path, findings: Findings) -> list[Question] | None:
    """None where no row has an index and a letter as its answer."""
    usable = [row for row in rows if _gold(row) and _index(row).isdigit()]
    if not usable:
        return None
    if len(usable) < len(rows):
        findings.note(f"{path}: {len(rows) - len(usable)} rows have no index or no letter as their answer; left out")
    held = {_index(row): row for row in rows}
    return _checked([_question(row, held) for row in _each_once(usable, path, findings)], usable, path, findings)


def _index(row: Mapping[str, str]) -> str:
    return row.get("index", "").strip()


def _gold(row: Mapping[str, str]) -> str:
    """The letter of the right answer, empty where the row has none."""
    letter = row.get("answer", "").strip().upper()
    return letter if letter in tuple(OPTIONS) else ""


def _each_once(rows: Sequence[Mapping[str, str]], path: Path, findings: Findings) -> list[Mapping[str, str]]:
    """Rows of the same index, question, options and answer are one."""
    kept: dict[tuple[str, ...], Mapping[str, str]] = {}
    for row in rows:
        kept.setdefault((_index(row), row.get("question", ""), *options_of(row).values(), _gold(row)), row)
    if len(kept) < len(rows):
        findings.note(f"{path}: {len(rows) - len(kept)} rows stand there twice; each counts once")
    return list(kept.values())


def _checked(
    questions: list[Question], rows: Sequence[Mapping[str, str]], path: Path, findings: Findings
) -> list[Question]:
    """Those whose right answer is one of their options; says so where each was asked once only."""
    golds = [json.loads(question.gold or "{}") for question in questions]
    usable = [not gold["options"] or gold["answer"] in gold["options"] for gold in golds]
    without = [question.id for question, kept in zip(questions, usable, strict=True) if not kept]
    findings.count("rows whose answer is none of their options", without, f"{path}: left out")
    shown = {question.id for question in questions if question.image or question.image_name}
    unseen = [_index(row) for row in rows if image_text(row) and _index(row) not in shown]
    findings.count(
        "rows without an image that can be read",
        unseen,
        f"{path}: what their column image holds is neither "
        "base64, nor a data URL, nor another row's index, nor the name of a file",
    )
    kept = [question for question, use in zip(questions, usable, strict=True) if use]
    if kept and not _is_circular(kept):
        findings.note(
            f"{path} asks each question once, in one order of its options: `single` is the accuracy of that pass, "
            "circular accuracy cannot be had from it"
        )
    return kept


def _is_circular(questions: Sequence[Question]) -> bool:
    """Some question is asked again with its options in another order: by its index, or as is seen."""
    groups: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        groups[question.group].append(question)
    return any(len(group) > 1 and _are_rotations(group) for group in groups.values())


def _are_rotations(group: Sequence[Question]) -> bool:
    options = [list(json.loads(question.gold or "{}")["options"].values()) for question in group]
    reordered = any(sorted(one) == sorted(options[0]) and one != options[0] for one in options)
    return reordered or any(map(_is_rotation, group))


def _is_rotation(question: Question) -> bool:
    return int(question.id.partition(" ")[0]) >= _ROTATION  # a question that shares its index is named "241 (2)"


def _question(row: Mapping[str, str], held: Table) -> Question:
    options = options_of(row)
    lines = [f"{letter}. {option}" for letter, option in options.items()]
    hint = row.get("hint", "")
    text = "\n".join(
        [*([hint] if hint.lower() not in _NO_HINT else []), row.get("question", ""), *lines, CHOICE_PROMPT]
    )
    image, name = image_of(row, held)
    return Question(
        _index(row),
        NAME,
        "mmbench",
        text,
        (_gold(row),),
        json.dumps({"answer": _gold(row), "options": options, "category": row.get("category", "")}),
        image=image,
        image_hash=hashlib.sha256(image).hexdigest() if image else None,
        group=str(int(_index(row)) % _ROTATION),
        image_name=name,
    )


def score(questions: Sequence[Question], answers: Sequence[str | None], rule: str = "llava") -> Scores:
    each = [
        float(answer is not None and reading(question, answer, rule) == json.loads(question.gold or "{}")["answer"])
        for question, answer in zip(questions, answers, strict=True)
    ]
    name = "circular" if not questions or _is_circular(questions) else "single"
    whole = {place: float(all(rights)) for place, rights in _by_circle(questions, each).items()}
    by_category: dict[str, list[float]] = defaultdict(list)
    categories = [json.loads(question.gold or "{}")["category"] for question in questions]
    for circle, (category, *_) in _by_circle(questions, categories).items():
        if category:
            by_category[category].append(whole[circle])
    first = [right for question, right in zip(questions, each, strict=True) if not _is_rotation(question)]
    metrics = {NAME: {"single": percent_of(sum(first), len(first)), name: percent_of(sum(whole.values()), len(whole))}}
    metrics |= {
        f"mmbench_{one}": {name: percent_of(sum(rights), len(rights))} for one, rights in sorted(by_category.items())
    }
    return Scores(metrics, each)


def reading(question: Question, answer: str, rule: str) -> str | None:
    """The letter of an option."""
    return RULES[rule](answer, json.loads(question.gold or "{}")["options"] or dict.fromkeys("ABCD", ""))


def _by_circle(questions: Sequence[Question], values: Sequence[T]) -> dict[str, list[T]]:
    """The values of each question with its rotations; of each by itself where none is a rotation."""
    circular = _is_circular(questions)
    circles: dict[str, list[T]] = defaultdict(list)
    for place, (question, value) in enumerate(zip(questions, values, strict=True)):
        circles[question.group if circular else str(place)].append(value)
    return circles


def _circular_sums(questions: Sequence[Question], answers: Sequence[str | None], scores: Sequence[float]) -> np.ndarray:
    """(questions without their rotations, 1): 1 where every rotation is right."""
    return np.array([[float(all(rights))] for rights in _by_circle(questions, scores).values()])


MAIN = {NAME: MainMetric("circular", _circular_sums, percent)}
