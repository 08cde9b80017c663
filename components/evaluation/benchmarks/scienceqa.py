"""ScienceQA: multiple choice, some questions with an image (paper Table 2).

Rule: LLaVA's (`llava`). The answer's letter is a letter alone; or a letter before ". "; or the one match of "The answer
is X."; anything else, and a missing answer, is wrong. Accuracy over all questions and over those with an image.
`lmms_eval` takes a letter in any case, or a capital before ".".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from components.data.schema import IMAGE_MARKER, Row
from components.data.tasks import CHOICE_PROMPT, LETTERS, choice_question, parse_choice
from components.errors import UserError
from components.evaluation.main_metric import MainMetric
from components.evaluation.metrics import choice
from components.evaluation.offline.files import json_values
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.joining import answer_id as answer_key
from components.evaluation.offline.joining import question_id as question_key
from components.evaluation.offline.questions import Files
from components.evaluation.offline.records import questions_of
from components.evaluation.offline.sheets import each_once, id_of, note_own_gold, options_of, own_rows, right_of
from components.evaluation.question import Question, Scores, each_sample
from components.evaluation.rules import letters as rules

__all__ = ["answer_key", "question_key"]

NAME = "scienceqa"
TASKS = ("choice",)
MAIN = {"choice": MainMetric("accuracy")}
RULES = {
    "llava": parse_choice,
    "lmms_eval": lambda text: rules.lmms_eval_scienceqa(text, dict.fromkeys(LETTERS, "")),
}
MISSING_IS_WRONG = True
WHOLE_GROUPS = False
HAS_SPLITS = True
SHARES = ("accuracy", "accuracy_image")
UNREAD_COUNT_AS = "as wrong"


def from_rows(rows: Iterable[Row]) -> list[Question]:
    return list(each_sample(rows, NAME, TASKS))


def read(files: Files, findings: Findings) -> list[Question]:
    """`annotations`: problems.json (pid_splits.json beside it), or LLaVA's test file, which `questions` may be too.

    Given both, the test file says which questions count. Without either: the answers' own sheet.
    """
    if files.questions is None and files.annotations is None and (own := _of_sheets(files.answers, findings)):
        files.without_splits("a sheet of ScienceQA")
        note_own_gold(files.answers, findings)
        return own
    test = list(_test_file(files, findings))
    if test:
        files.without_splits("LLaVA's test file of ScienceQA")
    if test and files.annotations in (None, files.questions):
        return test
    path = files.need("annotations", NAME, "problems.json, or LLaVA's test file llava_test_CQM-A.json")
    if path.is_dir():
        path = path / "problems.json"
    values = json_values(path, findings)
    if all(isinstance(value, dict) and "conversations" in value for value in values):
        files.without_splits("LLaVA's test file of ScienceQA")
        return list(_test_file(replace(files, questions=path), findings))
    questions = questions_of(NAME, path, files.split, findings, from_rows)
    if test:
        wanted = {question.id for question in test}
        findings.count(
            "questions without a problem", wanted - {q.id for q in questions}, f"{path} has them not; left out"
        )
        questions = [question for question in questions if question.id in wanted]
    if not questions:
        raise UserError(f"{path} holds no test problem of ScienceQA")
    return questions


def _of_sheets(paths: Sequence[Path], findings: Findings) -> list[Question]:
    """Of VLMEvalKit's sheets and lmms-eval's samples; whether an image belongs to a question they do not say."""
    questions = []
    for row in own_rows(paths, findings):
        id, text, letter = id_of(row), row.get("question") or row.get("prompt", ""), right_of(row).upper()
        if id and text and len(letter) == 1 and letter in LETTERS:
            asked = choice_question(text, list(options_of(row).values()), row.get("hint", ""))
            questions.append(Question(id, NAME, "choice", asked, (letter,), json.dumps(letter)))
    return each_once(questions, paths)


def _test_file(files: Files, findings: Findings) -> Iterable[Question]:
    """LLaVA's conversation layout: {id, image, conversations [question, letter]}."""
    if files.questions is None:
        return
    path = files.need("questions", NAME, "LLaVA's test file llava_test_CQM-A.json")
    values = json_values(path, findings)
    for number, value in enumerate(values, start=1):
        try:
            human, answer = (str(turn["value"]) for turn in value["conversations"][:2])
            letter, text = parse_choice(answer), human.replace(IMAGE_MARKER, "").strip()
            if letter is None:
                raise ValueError("no letter")
            yield Question(
                str(value["id"]),
                NAME,
                "choice",
                text if text.endswith(CHOICE_PROMPT) else f"{text}\n{CHOICE_PROMPT}",
                (letter,),
                json.dumps(letter),
                image_name=value.get("image"),
            )
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{path} is not LLaVA's test file: records of id and conversations (question, letter) are expected, "
                f"record {number} is another"
            ) from None


def reading(question: Question, answer: str, rule: str) -> str | None:
    """A letter."""
    return RULES[rule](answer)


def score(questions: Sequence[Question], answers: Sequence[str | None], rule: str = "llava") -> Scores:
    if not questions:
        return Scores({}, [])
    predicted, true = letters(questions, answers, rule)
    metrics = {"accuracy": choice.accuracy(predicted, true)}
    pictured = [place for place, question in enumerate(questions) if question.image or question.image_name]
    if pictured:
        metrics["accuracy_image"] = choice.accuracy([predicted[p] for p in pictured], [true[p] for p in pictured])
    each = [float(guess == letter) for guess, letter in zip(predicted, true, strict=True)]
    return Scores({"choice": metrics}, each)


def letters(
    questions: Sequence[Question], answers: Sequence[str | None], rule: str = "llava"
) -> tuple[list[str | None], list[str]]:
    """Predicted and true letters."""
    true = [json.loads(question.gold or '""') for question in questions]
    return [RULES[rule](answer or "") for answer in answers], true
