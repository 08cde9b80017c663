"""Answers made elsewhere, in any of the layouts in which they are published.

JSON lines  {question_id, prompt, text, ...}      LLaVA
JSON lines  {question_id, prediction}             SEED-Bench
one object  {"v1_0": text, ..}                    MM-Vet
one object  {"outputs": {id: text}, ..}           LLaVA's ScienceQA result
one object  {"correct": [{question_id, pred}, ..], "incorrect": [..]}      its ScienceQA output
JSON lines  {id, custom_id, response, error}      OpenAI's Batch API, vllm run-batch
a table     index, .., prediction                 MMBench
a list      {img, qa: [{question, answer, prediction}, ..]}     UniFood's authors (id: img/qa0, img/qa1, ..)
a folder    <subtask>.txt of image, question, gold, answer by tabs         MME's own
JSON lines  {question, answer}, nothing else: the first is to question 1   POPE's own
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.evaluation.offline import shapes
from components.evaluation.offline.delimited import plain_names
from components.evaluation.offline.files import plain, text_lines
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.names import ID_KEYS, RIGHT_KEYS, TEXT_KEYS, one_text
from components.evaluation.offline.questions import plain_words
from components.evaluation.question import Question

QUESTION_KEYS = ("prompt", "question")
_OTHER_QUESTION_KEYS = ("messages", "conversations", "query")  # where a file has neither of these
_LONGEST_PATH = 1024  # characters
_RIGHT, _TEXTS = set(RIGHT_KEYS), set(TEXT_KEYS)
_SPEAKERS = {"assistant", "gpt", "model", "system"}  # of messages that ask nothing
_MOST = 0.9  # of a file's texts must be questions' words for its column to be that of the questions


@dataclass(frozen=True)
class Given:
    """One answer as it stands in a file. `prompt` is empty where the file does not repeat it.

    `counted`: the file has no ids, and this one is the answer's place in it. `image`: its name, `category`: one or
    several by commas, `options`: the columns A, B, .. of a sheet; empty where the file has none.
    """

    id: str
    text: str
    prompt: str = ""
    counted: bool = False
    image: str = ""
    category: str = ""
    options: str = ""


def read_answers(path: Path, findings: Findings, questions: Sequence[Question] = ()) -> list[Given]:
    """`questions`: those that may be answered; by them a column that repeats the questions is known."""
    if path.is_dir():
        return _of_folder(path, findings)
    records = shapes.records_of(path, findings)
    if records and all(set(record) == {"question", "answer"} for record in records):
        findings.note(f"{path}: answers without ids; the first was taken for that to question 1, and so on")
        return [
            Given(str(number), plain(one["answer"]), plain(one["question"]), counted=True)
            for number, one in enumerate(records, start=1)
        ]
    records = [dict(zip(plain_names(record), record.values(), strict=True)) for record in records]
    keys = _keys(records, questions, path)
    asked = any(_question_text(record.get(key)) for record in records for key in keys.questions)
    if asked and not any(map(_id, records)):
        findings.note(f"{path}: its records have no ids; they are joined by the words and images that they repeat")
        records = [{**record, "id": f"record {number}"} for number, record in enumerate(records, start=1)]
    given = [answer for record in records if (answer := _answer(record, keys))]
    if records and not given and all(record.keys() == {"question_id", "text"} for record in records):
        raise UserError(f"{path}: none of its {len(records)} records holds an answer")
    if not given:
        names = ", ".join(str(key)[:40] for key in list(records[0])[:6]) if records else "nothing"
        raise UserError(
            f"{path} holds no answers: records need an id ({', '.join(ID_KEYS[:3])}) and a text "
            f"({', '.join(TEXT_KEYS[:3])}), found {names}"
        )
    if len(given) < len(records):
        findings.note(f"{path}: {len(records) - len(given)} records have no id or no text and answer nothing")
    empty = sum(not answer.text.strip() for answer in given)
    if empty:
        findings.note(f"{path}: {empty} answers are empty; the rule is applied to them as to any text")
    rounds = sum(map(_is_later_round, records))
    if rounds:
        findings.note(f"{path}: {rounds} answers of later rounds (round_id above 0) were left out")
    return given


@dataclass(frozen=True)
class Keys:
    """Where a file's records hold the answer and the question; the first that a record has counts."""

    texts: Sequence[str]
    questions: Sequence[str]


def _keys(records: Sequence[Mapping[str, Any]], questions: Sequence[Question], path: Path) -> Keys:
    """`text` is the answer in LLaVA's answers and the question in its question files, which scripts add answers to;
    `answer` is the model's where what is right stands beside it.
    """
    if records and all(_RIGHT & record.keys() and not _TEXTS & record.keys() for record in records):
        return Keys((*TEXT_KEYS, "answer"), _question_keys(records))
    asked = {plain_words(question.text) for question in questions} - {""}
    texts = [plain_words(text) for record in records if isinstance(text := record.get("text"), str)]
    if not asked or not texts or len(texts) < len(records) or sum(text in asked for text in texts) < _MOST * len(texts):
        return Keys(TEXT_KEYS, _question_keys(records))
    others = [key for key in TEXT_KEYS if key != "text"]
    if not any(record.get(key) is not None for record in records for key in others):
        if all(_RIGHT & record.keys() and record.get("answer") is not None for record in records):
            return Keys(("answer",), ("text", *_question_keys(records)))
        raise UserError(
            f"{path} holds no answers: its texts are the questions themselves; give the model's answers, in a column "
            f"{others[0]} where the question stands in text"
        )
    return Keys(others, ("text", *_question_keys(records)))


def _of_folder(folder: Path, findings: Findings) -> list[Given]:
    given, short = [], 0
    for file in sorted(folder.glob("*.txt")):
        for line in text_lines(file, findings):
            cells = line.split("\t")
            if len(cells) == 4:
                given.append(Given(f"{file.stem}/{cells[0]}", cells[3], cells[1]))
            else:
                short += bool(line.strip())
    if not given:
        raise UserError(
            f"{folder} holds no answers: a folder of answers has <subtask>.txt of image, question, gold, answer"
        )
    if short:
        findings.note(f"{folder}: {short} lines have no answer behind the gold; left out")
    return given


def _question_keys(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys under which a question may stand, the one whose texts vary most first: another holds a mere request."""
    texts = {key: {_question_text(record.get(key)) for record in records} for key in QUESTION_KEYS}
    return [*sorted(QUESTION_KEYS, key=lambda key: -len(texts[key])), *_OTHER_QUESTION_KEYS]


def _answer(record: Mapping[str, Any], keys: Keys) -> Given | None:
    id = _id(record)
    text = one_text(next((record[key] for key in keys.texts if record.get(key) is not None), None))
    if not id or text is None or isinstance(text, dict | list) or _is_later_round(record):
        return None
    return Given(
        id,
        plain(text),
        next(filter(None, (_question_text(record.get(key)) for key in keys.questions)), ""),
        image=image_name(record),
        category=_short(record, "category"),
        options=_options(record),
    )


def _id(record: Mapping[str, Any]) -> str:
    return next((text for key in ID_KEYS if 0 < len(text := plain(record.get(key))) <= _LONGEST_PATH), "")


def _is_later_round(record: Mapping[str, Any]) -> bool:
    return plain(record.get("round_id")).strip() not in ("", "0", "0.0", "False")


def _question_text(value: Any) -> str:
    """A prompt's text: as it stands, or that of a list of messages; images' names and the model's own are left out."""
    if isinstance(value, list):
        return "\n".join(filter(None, map(_question_text, value)))
    if isinstance(value, dict):
        if "image" in str(value.get("type")) or _SPEAKERS & {str(value.get("role")), str(value.get("from"))}:
            return ""
        return next(filter(None, (_question_text(value.get(key)) for key in ("content", "text", "value"))), "")
    return value if isinstance(value, str) else ""


def _options(record: Mapping[str, Any]) -> str:
    """The options of a sheet that has a column for each, up to the first empty one."""
    return "\n".join(
        f"{letter}. {option}"
        for letter, option in takewhile(
            lambda cell: cell[1].strip(), ((letter, plain(record.get(letter))) for letter in "ABCDEFGH")
        )
    )


def _short(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def image_name(record: Mapping[str, Any]) -> str:
    """The image's name; what is longer than a path is the image itself."""
    names = [_short(record, key) for key in ("image_path", "image", "image_source", "file_name", "filename")]
    shown = one_text(record.get("images"))
    names.append(_short(shown, "path") if isinstance(shown, dict) else shown if isinstance(shown, str) else "")
    return next((name for name in names if 0 < len(name) <= _LONGEST_PATH), "")
