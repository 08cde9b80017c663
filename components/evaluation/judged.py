"""Benchmarks that a judge model grades, inside the stage `evaluate`: the fine-tuned model's answers and their grades.

Answers are written in LLaVA's layout, for `lea score NAME --answers FILE --judge MODEL` at any time; `evaluate.judge`
has them graded at once. Grades are kept in run state as they come: a grading that was stopped goes on.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from components.evaluation.benchmarks import JUDGED
from components.evaluation.journal import Answered
from components.evaluation.published.findings import Findings
from components.evaluation.published.grading import grade_answers, grades_file
from components.evaluation.published.illustrated import files_of, published_questions
from components.evaluation.published.judge import Judge
from components.evaluation.question import Question
from components.files import write_text
from components.params import Evaluate

MAX_NEW_TOKENS = 1024  # open answers; LLaVA's limit for these benchmarks
Metrics = dict[str, dict[str, float]]  # task -> metric -> value


def judged_questions(evaluate: Evaluate) -> dict[str, list[Question]]:
    """The questions of each judged benchmark of `evaluate.benchmarks`; UserError if their judge cannot be asked."""
    from components.data.collating import MAX_PIXELS

    names = [name for name in evaluate.benchmarks if name in JUDGED]
    if names and evaluate.judge:
        Judge.from_environment(evaluate.judge, "evaluate.judge")
    return {name: published_questions(name, evaluate.files.get(name), MAX_PIXELS) for name in names}


def graded(
    name: str, asked: Sequence[Question], answers: Sequence[Answered], evaluate: Evaluate, state: Path, out: Path
) -> Metrics:
    """Write `name`.jsonl into `out`, with a judge its grades too, and return what they come to.

    `state` is the run state of the model that answered. Questions that failed have no line.
    """
    kept, written = state / f"{name}.jsonl", out / f"{name}.jsonl"
    write_text(kept, layout(asked, answers))
    shutil.copyfile(kept, written)
    given = evaluate.files[name]
    if evaluate.judge is None:
        told = f"lea score {name} --answers {written} --annotations {given.annotations} --judge MODEL"
        print(f"evaluate: {name} is answered, not graded; set evaluate.judge, or: {told}")
        return {}
    bench, judge, findings = JUDGED[name], Judge.from_environment(evaluate.judge, "evaluate.judge"), Findings()
    grades = grades_file(kept, judge.model)
    grade_answers(bench, kept, files_of(given), judge, grades, findings)
    shutil.copyfile(grades, out / f"{name}.grades.jsonl")
    metrics = bench.summary(bench.read_grades(grades, findings), asked, next(iter(bench.RULES)), grades, findings)
    for line in findings.lines:
        print(f"{name}: {line}", file=sys.stderr)
    return metrics


def layout(asked: Sequence[Question], answers: Sequence[Answered]) -> str:
    """JSON lines {question_id, prompt, text}."""
    lines = [
        {"question_id": question.id, "prompt": question.text, "text": answer}
        for question, answer in zip(asked, answers, strict=True)
        if isinstance(answer, str)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)
