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

from components.digests import digest
from components.errors import UserError
from components.evaluation.benchmarks import JUDGED
from components.evaluation.inference.journal import Answered
from components.evaluation.judge.endpoint import Judge
from components.evaluation.judge.grading import grade, grades_file, how_of
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.illustrated import files_of, published_questions
from components.evaluation.question import Question
from components.files import write_text
from components.locks import lock
from components.params import BenchmarkFiles, Evaluate

MAX_NEW_TOKENS = 1024  # open answers; LLaVA's limit for these benchmarks
MOST_UNGRADED = 0.1  # share of answers; with more the rest says nothing about the whole
Metrics = dict[str, dict[str, float]]  # task -> metric -> value


def judged_questions(evaluate: Evaluate) -> dict[str, list[Question]]:
    """The questions of each judged benchmark of `evaluate.benchmarks`; UserError if they could not be graded."""
    from components.batching.collator import MAX_PIXELS

    names = [name for name in evaluate.benchmarks if name in JUDGED]
    questions = {name: published_questions(name, evaluate.files.get(name), MAX_PIXELS) for name in names}
    if evaluate.judge is not None:
        for name in names:
            Judge.from_environment(evaluate.judge, "evaluate.judge")
            JUDGED[name].check_gradable(files_of(evaluate.files[name]))
    return questions


def graded(
    name: str, questions: Sequence[Question], answers: Sequence[Answered], evaluate: Evaluate, state: Path, out: Path
) -> Metrics:
    """Write `name`.jsonl into `out`, with a judge its grades too, and return what they come to.

    `state` is the run state of the model that answered. A question that failed is answered by silence.
    """
    kept = state / f"{name}-{digest([[question.id, question.text] for question in questions])[:8]}.jsonl"
    given, findings = evaluate.files[name], Findings()
    # Queued experiments may share a model; `lea clean` takes no state whose own lock is held.
    with lock(state.name), lock(f"{state.name}-{name}"):
        write_text(kept, layout(questions, answers))
        shutil.copyfile(kept, out / f"{name}.jsonl")
        if evaluate.judge is None:
            print(f"evaluate: {name} is answered, not graded; set evaluate.judge, or: {_command(name, kept, given)}")
            return {}
        judge, bench = Judge.from_environment(evaluate.judge, "evaluate.judge"), JUDGED[name]
        grades = grades_file(kept, judge.model)
        grade(list(bench.to_grade(kept, files_of(given), None, findings)), judge, grades, **how_of(bench))
        shutil.copyfile(grades, out / f"{name}.grades.jsonl")
        found = bench.read_grades(grades, findings)
        ungraded = len(questions) - sum(bool(one.scores) for one in found)
        if ungraded > MOST_UNGRADED * len(questions):
            raise UserError(
                f"evaluate: {judge.model} gave no grade for {ungraded} of {len(questions)} answers of {name} "
                f"(its replies: {grades}); run the stage again to have these graded"
            )
        metrics = bench.summary(found, questions, next(iter(bench.RULES)), grades, findings)
    metrics[name]["ungraded"] = float(ungraded)
    metrics[name]["failed"] = float(sum(not isinstance(answer, str) for answer in answers))
    for line in findings.lines:
        print(f"{name}: {line}", file=sys.stderr)
    return metrics


def layout(questions: Sequence[Question], answers: Sequence[Answered]) -> str:
    """JSON lines {question_id, prompt, text}."""
    texts = [answer if isinstance(answer, str) else "" for answer in answers]
    return "".join(
        json.dumps({"question_id": question.id, "prompt": question.text, "text": text}) + "\n"
        for question, text in zip(questions, texts, strict=True)
    )


def _command(name: str, answers: Path, files: BenchmarkFiles) -> str:
    """Grades answers where `evaluate.judge` finds the grades again."""
    questions = f" --questions {files.questions}" if files.questions else ""
    return f"lea score {name} --answers {answers}{questions} --annotations {files.annotations} --judge MODEL"
