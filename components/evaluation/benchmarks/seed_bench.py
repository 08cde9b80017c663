"""SEED-Bench: multiple choice about images and, apart, about videos shown as one frame (Li et al. 2023).

Rule: LLaVA's (`llava`): the letter and nothing else; a missing answer is wrong. `lmms_eval` takes the first character,
`vlmevalkit` also finds the letter in a sentence. Accuracy over images, over videos, over both, and by dimension.
Questions about images have numeric ids, those about videos begin with v.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.data.tasks import LETTERS, choice_question
from components.errors import UserError
from components.evaluation.main_metric import MainMetric, per_question, percent
from components.evaluation.metrics.shares import percent_of
from components.evaluation.offline.files import is_table, json_values, plain, table
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.joining import answer_id as answer_key
from components.evaluation.offline.joining import question_id as question_key
from components.evaluation.offline.questions import Files, read_questions
from components.evaluation.offline.sheets import each_once, id_of, note_own_gold, own_rows, right_of
from components.evaluation.question import Question, Scores
from components.evaluation.rules import letters

__all__ = ["answer_key", "question_key"]

NAME = "seed_bench"
TASKS = ("seed_image", "seed_video")
MAIN = dict.fromkeys(TASKS, MainMetric("accuracy", per_question, percent))
RULES = {"llava": letters.exact, "lmms_eval": letters.first_character, "vlmevalkit": letters.vlmevalkit}
MISSING_IS_WRONG = True
WHOLE_GROUPS = False
HAS_SPLITS = False
SHARES = ()
UNREAD_COUNT_AS = "as wrong"


def read(files: Files, findings: Findings) -> list[Question]:
    """`annotations`: SEED-Bench.json, or a table or records of question_id (index) and gt_answer (answer);
    `questions` (llava-seed-bench.jsonl), if given, brings LLaVA's prompts and says which questions count. Without
    either: the answers' own sheet.
    """
    if files.questions is None and files.annotations is None and (own := _of_sheets(files.answers, findings)):
        note_own_gold(files.answers, findings)
        return own
    path = files.need("annotations", NAME, "SEED-Bench.json, or records of question_id and gt_answer")
    values = table(path, findings) if is_table(path, findings) else json_values(path, findings)
    types: dict[int, str] = {}
    if len(values) == 1 and isinstance(values[0], dict) and isinstance(values[0].get("questions"), list):
        named = values[0].get("question_type")
        types = {number: name for name, number in named.items()} if isinstance(named, dict) else {}
        values = values[0]["questions"]
    questions = {q.id: q for value in values if isinstance(value, dict) and (q := _question(value, types))}
    if not questions:
        raise UserError(
            f"{path} holds no gold of SEED-Bench: records of question_id and answer (or gt_answer), a letter"
        )
    if len(questions) < len(values):
        findings.note(f"{path}: {len(values) - len(questions)} records repeat an id or have no id or letter; left out")
    if files.questions is None:
        return list(questions.values())
    listed = {one.id: one for one in read_questions(files.need("questions", NAME, "llava-seed-bench.jsonl"), findings)}
    findings.count("questions without gold", [id for id in listed if id not in questions], "left out")
    findings.count("gold without a question", [id for id in questions if id not in listed], "left out")
    return [
        Question(id, NAME, q.task, listed[id].text, q.references, q.gold, image_name=listed[id].image)
        for id, q in questions.items()
        if id in listed
    ]


def _of_sheets(paths: Sequence[Path], findings: Findings) -> list[Question]:
    """Of VLMEvalKit's sheets, InternVL's lines and lmms-eval's samples."""
    rows = [{**row, "question_id": id_of(row), "gt_answer": right_of(row)} for row in own_rows(paths, findings)]
    questions = (_question(row, {}) for row in rows if row["gt_answer"])
    return each_once(filter(None, questions), paths)


def _question(value: Mapping[str, Any], types: Mapping[int, str]) -> Question | None:
    id = (plain(value.get("question_id")) or plain(value.get("index"))).strip()
    gold = plain(value.get("gt_answer") or value.get("answer")).strip().upper()
    if not id or len(gold) != 1 or gold not in LETTERS:
        return None
    kind = value.get("data_type") or ("image" if id.isdigit() else "video")
    options = _options(value, gold)
    dimension = types.get(value.get("question_type_id", 0), "") or plain(value.get("category"))
    detail = {"answer": gold, "options": dict(zip(LETTERS, options, strict=False)), "dimension": dimension}
    text = choice_question(plain(value.get("question")), options)
    image = plain(value.get("data_id"))
    return Question(id, NAME, f"seed_{kind}", text, (gold,), json.dumps(detail), image_name=image or None)


def _options(value: Mapping[str, Any], gold: str) -> list[str]:
    """The choices a to d, each in its place; 0 and false are choices. Empty ones at the end fall out unless right."""
    options = [plain(value.get(f"choice_{letter}", value.get(letter.upper()))) for letter in "abcd"]
    if not any(option.strip() for option in options):
        return []
    while not options[-1].strip() and LETTERS.index(gold) < len(options) - 1:
        options.pop()
    return options


def reading(question: Question, answer: str, rule: str) -> str | None:
    """The letter of an option."""
    options = json.loads(question.gold or "{}")["options"] or dict.fromkeys("ABCD", "")
    return RULES[rule](answer.strip(), options)


def score(questions: Sequence[Question], answers: Sequence[str | None], rule: str = "llava") -> Scores:
    each = []
    by: dict[str, list[float]] = defaultdict(list)
    for question, answer in zip(questions, answers, strict=True):
        gold = json.loads(question.gold or "{}")
        right = float(answer is not None and reading(question, answer, rule) == gold["answer"])
        each.append(right)
        by[question.task].append(right)
        if gold["dimension"] and f"seed_{gold['dimension']}" not in TASKS:
            by[f"seed_{gold['dimension']}"].append(right)
    metrics = {name: {"accuracy": percent_of(sum(rights), len(rights))} for name, rights in sorted(by.items())}
    return Scores({NAME: {"accuracy": percent_of(sum(each), len(each))}, **metrics}, each)
