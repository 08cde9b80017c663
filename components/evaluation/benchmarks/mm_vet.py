"""MM-Vet: open questions that need several skills at once, graded 0 to 1 by a judge model (Yu et al. 2023).

Rule: its own (`mm_vet`): the mean of the questions' grades times 100, averaged over the runs of the judge; the same for
each capability. A reply that begins with no grade counts neither way and is reported (its evaluator
writes 0 after five tries).
Grades of different judges must not be compared. The question alone is the prompt.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.errors import UserError
from components.evaluation.judge.grades import Grade, Request, numbers, repeated
from components.evaluation.offline.answers import read_answers
from components.evaluation.offline.doubtful import report_shown
from components.evaluation.offline.files import json_values, plain
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.graded import graded_records
from components.evaluation.offline.joining import join, question_id
from components.evaluation.offline.questions import Files
from components.evaluation.question import Question

NAME = "mm_vet"
TASKS = ("mm_vet",)
RULES = {"mm_vet": "mean of the grades"}
SYSTEM = ""
TEMPERATURE, MAX_TOKENS = 0.0, 16

INSTRUCTIONS = (
    "Grade the prediction of a model against the ground truth with a number from 0.0 (entirely wrong) to 1.0 (entirely "
    "right) in steps of 0.1. In the ground truth, <AND> stands between elements that must all be in the prediction, "
    "<OR> between elements of which one is enough. Reply with the number alone."
)


def read(files: Files, findings: Findings) -> list[Question]:
    """`annotations`: mm-vet.json {"v1_0": {imagename, question, answer, capability}}; without it, none."""
    if files.annotations is None:
        return []
    path = files.need("annotations", NAME, "mm-vet.json")
    path = path / "mm-vet.json" if path.is_dir() else path
    values = json_values(path, findings)
    listed = values[0] if len(values) == 1 and isinstance(values[0], dict) else {}
    questions = [
        Question(
            id,
            NAME,
            "mm_vet",
            value["question"],
            (plain(value["answer"]),),
            json.dumps({"capability": _skills(value.get("capability"))}),
            image_name=plain(value.get("imagename")),
        )
        for id, value in listed.items()
        if isinstance(value, dict) and isinstance(value.get("question"), str) and "answer" in value
    ]
    if not questions:
        raise UserError(f"{path} is not mm-vet.json: an object of questions by id (v1_0, ..) is expected")
    return questions


def _skills(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(one) for one in value] if isinstance(value, list) else []


def read_grades(path: Path, findings: Findings) -> list[Grade]:
    """The evaluator's {"v1_0": {model, content, score: [..]}}, the lines of `--judge`, or another toolkit's."""
    grades = [_grade(value) for value in graded_records(path, findings) if "score" in value]
    if not grades:
        raise UserError(f"{path} holds no grades of MM-Vet; to have answers graded, give --judge MODEL")
    return grades


def _grade(value: Mapping[str, Any]) -> Grade:
    runs = value["score"] if isinstance(value["score"], list) else [value["score"]]
    read = [numbers([run], 0, 1) for run in runs]
    judges = value.get("model") or value.get("judge") or ""  # the evaluator's `model` is the judge's
    judge = judges[0] if isinstance(judges, list) and judges else plain(judges)
    scores = tuple(scores for scores in read if scores)
    return Grade(_id(plain(value["question_id"])), scores, read.count(None), str(judge))


def _id(id: str) -> str:
    """LLaVA numbers the questions, MM-Vet calls them v1_<number>."""
    return f"v1_{id}" if id.isdigit() else id


def summary(
    grades: Sequence[Grade], questions: Sequence[Question], rule: str, path: Path, findings: Findings
) -> dict[str, dict[str, float]]:
    known = {question.id: question for question in questions}
    graded = {grade.id: grade for grade in grades if grade.scores and (not known or grade.id in known)}
    if not graded:
        raise UserError(f"{path}: none of its {len(grades)} grades is a number for a question of MM-Vet")
    findings.count("repeated ids", repeated(grades), f"{path} grades them more than once; the last grade counts")
    findings.count("replies that are no grade", [g.id for g in grades if g.failed], f"{path}: counted neither way")
    if known:
        findings.count("grades without a question", [g.id for g in grades if g.id not in known], f"{path}: left out")
        absent = [id for id in known if id not in graded]
        findings.count("questions without a grade", absent, f"{path}: left out")
        if absent:
            zeroed = sum(np.mean(grade.scores) for grade in graded.values()) / len(known)
            findings.note(f"{path}: with questions without a grade counted as 0 the score is {100 * zeroed:.1f}")
    runs = _by_run(graded.values())
    if len(runs) > 1:
        findings.note(
            f"{path}: {len(runs)} runs of the judge: {', '.join(f'{100 * np.mean(run):.1f}' for run in runs)}"
        )
    means = [100 * float(np.mean(run)) for run in runs]
    metrics = {NAME: {"score": float(np.mean(means)), "std": float(np.std(means))}}
    for skill, members in sorted(_by_capability(graded, known).items()):
        metrics[f"mm_vet_{skill}"] = {"score": float(np.mean([100 * np.mean(run) for run in _by_run(members)]))}
    return metrics


def _by_run(grades: Any) -> list[list[float]]:
    """Run of the judge -> its scores."""
    runs: dict[int, list[float]] = defaultdict(list)
    for grade in grades:
        for run, (score,) in enumerate(grade.scores):
            runs[run].append(score)
    return [runs[run] for run in sorted(runs)]


def _by_capability(graded: Mapping[str, Grade], known: Mapping[str, Question]) -> dict[str, list[Grade]]:
    by: dict[str, list[Grade]] = defaultdict(list)
    for id, question in known.items():
        for skill in json.loads(question.gold or "{}")["capability"]:
            if id in graded:
                by[skill].append(graded[id])
    return by


# --- grading ---


def check_gradable(files: Files) -> Path:
    return files.need("annotations", NAME, "mm-vet.json, whose answers the judge compares with")


def to_grade(path: Path, files: Files, instructions: str | None, findings: Findings) -> Iterator[Request]:
    """One request for each answer that belongs to a question."""
    check_gradable(files)
    questions = read(files, findings)
    answers = join(
        questions, read_answers(path, findings, questions), question_id, lambda one: _id(one.id), path, findings
    )
    report_shown(questions, answers, findings)
    for question, answer in zip(questions, answers, strict=True):
        if answer is not None:
            truth = question.references[0].replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
            parts = f"Question: {question.text}\nGround truth: {truth}\nPrediction: {answer}\nGrade:"
            yield Request(question.id, "", f"{instructions or INSTRUCTIONS}\n\n{parts}")


def parse(reply: str) -> dict[str, Any] | None:
    """{"score": number} where the first word is a number from 0 to 1, as its evaluator reads it ("0.5 because ..");
    a full stop behind it is dropped.
    """
    found = re.match(r"\s*(\d(?:\.\d+)?|\.\d+)\.?(?:\s|$)", reply)
    score = numbers([float(found[1])], 0, 1) if found else None
    return {"score": score[0]} if score else None
