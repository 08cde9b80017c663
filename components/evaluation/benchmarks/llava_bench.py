"""LLaVA-Bench (In-the-Wild): open questions; a judge model grades the answer beside a reference (Liu et al. 2023).

Rule: LLaVA's (`llava`): 100 * mean(model) / mean(reference) of the judge's two grades, for each review file, averaged
over files; the same for conversation, detail and complex reasoning. Replies without two grades count neither way and
are reported; `summarize` counts them as -1 and -1, as LLaVA's own summary does.
Grades of different judges must not be compared. The question alone is the prompt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.evaluation.judge.grades import Grade, Request, numbers, repeated
from components.evaluation.offline.answers import read_answers
from components.evaluation.offline.doubtful import report_shown
from components.evaluation.offline.files import json_values, plain
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.graded import graded_records
from components.evaluation.offline.joining import answer_id, join, question_id
from components.evaluation.offline.questions import Files, read_questions
from components.evaluation.question import Question

NAME = "llava_bench"
TASKS = ("llava_bench",)
RULES = {"llava": "replies without grades left out", "summarize": "replies without grades count as -1"}
SYSTEM = "You check the quality of answers and are precise."
TEMPERATURE, MAX_TOKENS = 0.2, 1024

_PREFIX = "llava_bench_"
_FAILED = (-1.0, -1.0)

INSTRUCTIONS = (
    "Two assistants answered a question about an image, which the context describes in a few sentences. Grade each "
    "answer for helpfulness, relevance, accuracy and detail on a scale from 1 to 10; more is better. Write the two "
    "grades on the first line, that of Assistant 1 first, with a blank between them and nothing else. Explain them on "
    "the lines after it, and let the order of the assistants not weigh."
)


def read(files: Files, findings: Findings) -> list[Question]:
    """`questions`: questions.jsonl, also found in the folder of `annotations`; without either, none."""
    path = files.questions or _in_folder(files.annotations, "questions.jsonl")
    if path is None:
        return []
    return [
        Question(one.id, NAME, "llava_bench", one.text, (), one.category, group=one.image, image_name=one.image)
        for one in read_questions(Files(questions=path).need("questions", NAME, "questions.jsonl"), findings)
    ]


def read_grades(path: Path, findings: Findings) -> list[Grade]:
    """Review lines {question_id, category, content, tuple: [reference, model]}, or another toolkit's."""
    values = [value for value in graded_records(path, findings) if "tuple" in value or "score" in value]
    grades = [_grade(value) for value in values]
    if not any(isinstance(value.get("tuple", value.get("score")), list) for value in values) or not grades:
        raise UserError(f"{path} holds no reviews of LLaVA-Bench; to have answers graded, give --judge MODEL")
    return grades


def _grade(value: Mapping[str, Any]) -> Grade:
    pair = value.get("tuple", value.get("score"))
    scores = numbers(pair, 0, 10) if isinstance(pair, list) and len(pair) == 2 else None
    category = plain(value.get("category")).removeprefix(_PREFIX)
    judge = plain(value.get("judge"))
    return Grade(plain(value["question_id"]), (scores,) if scores else (), int(not scores), judge, category)


def summary(
    grades: Sequence[Grade], questions: Sequence[Question], rule: str, path: Path, findings: Findings
) -> dict[str, dict[str, float]]:
    known = {question.id for question in questions} or {grade.id for grade in grades}
    failed = [grade.id for grade in grades if grade.failed and grade.id in known]
    why = "counted as -1 and -1" if rule == "summarize" else "counted neither way"
    findings.count("replies without two grades", failed, f"{path}: {why}")
    findings.count("reviews without a question", [g.id for g in grades if g.id not in known], f"{path}: left out")
    findings.count("repeated ids", repeated(grades), f"{path} reviews them more than once; every review counts")
    reviewed = {grade.id for grade in grades}
    findings.count("questions without a review", [i for i in known if i not in reviewed], f"{path}: left out")
    pairs: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for grade in grades:
        counted = grade.scores or ((_FAILED,) if rule == "summarize" else ())
        for pair in counted if grade.id in known else ():
            pairs[NAME].append(pair)
            if grade.category:
                pairs[_PREFIX + grade.category].append(pair)
    if NAME not in pairs:
        raise UserError(f"{path}: none of its {len(grades)} reviews has two grades for a question of LLaVA-Bench")
    return {name: _relative(of) for name, of in pairs.items()}


def _relative(pairs: Sequence[tuple[float, ...]]) -> dict[str, float]:
    """Grades times 10, so that both are percent of the best."""
    reference, model = (sum(pair[place] for pair in pairs) / len(pairs) for place in (0, 1))
    return {"score": 100 * model / reference if reference else 0.0, "reference": 10 * reference, "model": 10 * model}


def _in_folder(folder: Path | None, name: str) -> Path | None:
    return folder / name if folder is not None and folder.is_dir() and (folder / name).exists() else None


# --- grading ---


def check_gradable(files: Files) -> Path:
    folder = files.need("annotations", NAME, "the folder with questions.jsonl, context.jsonl and answers_gpt4.jsonl")
    for name in ("context.jsonl", "answers_gpt4.jsonl"):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing; a judge of llava_bench is shown it")
    return folder


def to_grade(path: Path, files: Files, instructions: str | None, findings: Findings) -> Iterator[Request]:
    """One request for each answer that belongs to a question; `annotations` is the benchmark's folder."""
    folder = check_gradable(files)
    questions = read(files, findings)
    contexts, reference = folder / "context.jsonl", folder / "answers_gpt4.jsonl"
    if not questions:
        raise UserError(f"{folder}/questions.jsonl is missing; put it there or give --questions")
    captions = {
        plain(v.get("image")): v.get("caption", "") for v in json_values(contexts, findings) if isinstance(v, dict)
    }
    references = {answer.id: answer.text for answer in read_answers(reference, findings)}
    answers = join(questions, read_answers(path, findings, questions), question_id, answer_id, path, findings)
    report_shown(questions, answers, findings)
    absent = [question.id for question in questions if question.id not in references]
    findings.count("questions without a reference", absent, f"{reference}: not graded")
    for question, answer in zip(questions, answers, strict=True):
        if answer is not None and question.id in references:
            caption = captions.get(question.image_name or "", "")
            context = "\n".join(caption) if isinstance(caption, list) else caption
            parts = [
                f"[Context]\n{context}",
                f"[Question]\n{question.text}",
                f"[Assistant 1]\n{references[question.id]}\n[End of Assistant 1]",
                f"[Assistant 2]\n{answer}\n[End of Assistant 2]",
                f"[Task]\n{instructions or INSTRUCTIONS}",
            ]
            yield Request(question.id, f"{_PREFIX}{question.gold}", "\n\n".join(parts))


def parse(reply: str) -> dict[str, Any] | None:
    """{"tuple": [reference, model]} where the first line is two numbers from 0 to 10 and nothing else."""
    try:
        pair = numbers([float(part) for part in reply.split("\n")[0].replace(",", " ").split()], 0, 10)
    except ValueError:
        return None
    return {"tuple": list(pair)} if pair and len(pair) == 2 else None
