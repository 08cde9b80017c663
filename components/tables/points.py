"""The points of the sweep over tasks: each trained and asked once, and the scores of all questions of a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.evaluation.inference.journal import Failed
from components.evaluation.inference.systems import Systems
from components.evaluation.question import Question
from components.locks import lock
from components.model.stored import read_settings
from components.params import Params
from components.tables.posed_data import PosedData
from components.tables.sweep import Curve, exact
from components.tables.workers import RunJob
from components.training.parts import parts_of
from components.training.stage import BASE, make_job, run_training


@dataclass
class Scores:
    """Of one method. `of`: number of tasks -> seed -> the score of each question, photo by photo."""

    curve: Curve
    of: dict[int, dict[int, np.ndarray]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, tasks: int, seed: int, run: str, scores: np.ndarray) -> None:
        self.of.setdefault(tasks, {})[seed] = scores
        self.runs.append({"seed": seed, "tasks": tasks, "run": run})

    def percent(self, tasks: int) -> np.ndarray:
        """(seeds, questions), 0 or 100."""
        return 100 * np.stack(list(self.of[tasks].values()))


def run_point(
    curve: Curve, tasks: int, seed: int, *, params: Params, data: PosedData, questions: Sequence[Question], run: RunJob
) -> tuple[str, np.ndarray]:
    """Train and ask one point, as far as it is not done: the name of its run, the score of each question."""
    settings = curve.params(params, tasks, seed)
    first = run_training("pretrain", settings, settings.pretrain, None, None, None, run)
    job = make_job(
        "finetune", settings, settings.finetune, settings.adapter, parts_of(first), data.prepared, data.assignments
    )
    with lock(job.folder.name):
        if parts_of(job) is None:
            run(job, lambda step: None)
    parts = parts_of(job)
    assert parts is not None, "a finished run has parts"
    answers = Systems(BASE, {"finetune": parts}, settings.finetune, settings.evaluate).answers("finetune", questions)
    scores = [
        0.0 if isinstance(answer, Failed) else exact(answer, question.references)
        for question, answer in zip(questions, answers, strict=True)
    ]
    return str(read_settings(parts)["run"]), np.asarray(scores)
