"""Answers whose own file says what is right: VLMEvalKit's result sheets, InternVL's lines, lmms-eval's samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from components.errors import UserError
from components.evaluation.offline import shapes
from components.evaluation.offline.delimited import plain_names
from components.evaluation.offline.files import plain
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.names import ID_KEYS, RIGHT_KEYS, TEXT_KEYS, one_text
from components.evaluation.question import Question

Row = Mapping[str, str]
OPTIONS = "ABCDEFGH"


def rows_of(path: Path, findings: Findings) -> list[dict[str, str]]:
    """The rows of a table or of JSON records, names plain and values as text; none of a folder."""
    if path.is_dir():
        return []
    return [
        dict(zip(plain_names(record), (plain(one_text(value)) for value in record.values()), strict=True))
        for record in shapes.records_of(path, findings)
    ]


def own_rows(paths: Sequence[Path], findings: Findings) -> list[dict[str, str]]:
    """The rows of files of answers."""
    return [row for path in paths for row in rows_of(path, findings)]


def id_of(row: Row) -> str:
    """As that of an answer is read."""
    return next((row[key].strip() for key in ID_KEYS if row.get(key, "").strip()), "")


def right_of(row: Row) -> str:
    """What is right, empty where the row does not say it; `answer` may be the model's where no other column is."""
    named = next((row[key].strip() for key in RIGHT_KEYS if row.get(key, "").strip()), "")
    has_answer = any(row.get(key, "").strip() for key in TEXT_KEYS)
    return named or (row.get("answer", "").strip() if has_answer else "")


def options_of(row: Row) -> dict[str, str]:
    """Letter -> option, up to the first empty cell; "None", "NA" and "nan" are options like any other."""
    options = {}
    for letter in OPTIONS:
        if not row.get(letter, "").strip():
            break
        options[letter] = row[letter]
    return options


def each_once(questions: Iterable[Question], paths: Sequence[Path]) -> list[Question]:
    """Questions of one id and the same words as one. UserError where they have different true answers."""
    kept: dict[tuple[str, ...], Question] = {}
    for question in questions:
        first = kept.setdefault((question.id, question.task, question.text, question.group), question)
        if first.references != question.references:
            raise UserError(
                f"{', '.join(map(str, paths))}: question {question.id} has two true answers there, "
                f"{first.references[0]!r} and {question.references[0]!r}; score the files one by one, or correct them"
            )
    return list(kept.values())


def note_own_gold(paths: Sequence[Path], findings: Findings) -> None:
    names = ", ".join(map(str, paths))
    findings.note(f"{names}: scored by the true answers in it; which questions it lacks is not known")
