"""Under which conditions figures were taken, and the fine-tuned row alone for a model that is measured again.

Figures may be compared where their conditions are equal: the questions (texts, true answers and images), the settings
that decide what is answered and scored, the code of the evaluation, and the versions of what computes. A model's
template and treatment of images are its own, not conditions: each model is asked in the form it was trained in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from components.digests import digest, file_digest, folder_digest
from components.evaluation.inference.asking import questions
from components.evaluation.inference.journal import Failed
from components.evaluation.inference.systems import Systems
from components.evaluation.judge.benchmarks import MAX_NEW_TOKENS, graded, judged_questions
from components.evaluation.question import Question
from components.evaluation.results import Results
from components.imports import code_digest
from components.params import Evaluate, Params

PACKAGES = ("torch", "transformers", "tokenizers", "peft", "numpy", "pillow", "sacrebleu", "rouge-score")

Judged = Mapping[str, Sequence[Question]]  # benchmark -> questions that a judge model grades
Metrics = dict[str, dict[str, float]]  # task -> metric -> value


def all_questions(
    params: Params, prepared: Path, assignments: Path
) -> tuple[list[Question], dict[str, list[Question]]]:
    """The questions that a rule scores, and by benchmark those that a judge grades."""
    from components.batching.sampler import split_rows

    rows = list(split_rows(prepared, assignments, params.finetune.sources, "test"))
    return questions(params.evaluate.benchmarks, rows, params.evaluate.files), judged_questions(params.evaluate)


def conditions(asked: Iterable[Question], judged: Judged, evaluate: Evaluate) -> dict[str, dict[str, str]]:
    """What must be equal before figures may be compared, as part -> name -> value or digest."""
    groups = {name: list(members) for name, members in groupby(asked, key=lambda question: question.benchmark)}
    shown = {name: digest([_content(question) for question in of_name]) for name, of_name in groups.items()}
    shown |= {name: digest([_gold(evaluate, name), *map(_content, of_name)]) for name, of_name in judged.items()}
    settings = {
        "evaluate.max_new_tokens": str(evaluate.max_new_tokens),
        "evaluate.use_gpu": str(evaluate.use_gpu).lower(),  # CPUs compute in fp32, GPUs in the base's precision
    }
    return {
        "questions": shown,
        "settings": settings | ({"evaluate.judge": str(evaluate.judge)} if judged else {}),
        "code": {"the evaluation": code_digest(__name__)},
        "versions": {package: version(package) for package in PACKAGES},
    }


def _content(question: Question) -> list[Any]:
    return [*question.name, question.task, question.group, question.text, question.references, question.gold,
            question.image_hash]  # fmt: skip


def _gold(evaluate: Evaluate, name: str) -> str:
    """What a judge is shown beside the answers."""
    path = Path(evaluate.files[name].annotations)
    return folder_digest(path, "*.json*") if path.is_dir() else file_digest(path)


def sighted(results: Results) -> Metrics:
    """The fine-tuned row's metrics over the questions that the blind row was asked: what may be compared with it."""
    blind = {answer.question.name for answer in results.answers.get("blind", [])}
    kept = [answer for answer in results.answers["finetune"] if answer.question.name in blind]
    again = Results()
    answers = [Failed(answer.failed) if answer.failed else answer.text for answer in kept]
    again.add("finetune", [answer.question for answer in kept], answers)
    return again.metrics["finetune"]


def add_judged(results: Results, systems: Systems, judged: Judged, evaluate: Evaluate, out: Path) -> None:
    """Have the fine-tuned model's open answers written into `out` and, with a judge, graded."""
    for name, of_judged in judged.items():
        answers = systems.answers("finetune", of_judged, MAX_NEW_TOKENS)
        results.metrics["finetune"] |= graded(name, of_judged, answers, evaluate, systems.state("finetune"), out)


def fine_tuned_row(
    params: Params, base: Path, parts: Path, asked: Sequence[Question], judged: Judged, asked_in: Mapping[str, Any]
) -> Metrics:
    """The metrics of the model of `parts` on `base`, asked in its own `template` and treatment of `image`."""
    form = {name: asked_in[name] for name in ("template", "image")}
    systems = Systems(base, {"finetune": parts}, params.finetune.model_copy(update=form), params.evaluate)
    results = Results()
    results.add("finetune", asked, systems.answers("finetune", asked))
    with tempfile.TemporaryDirectory(prefix="lea-judged-") as out:
        add_judged(results, systems, judged, params.evaluate, Path(out))
    return results.metrics["finetune"]
