"""Every metric by name: one row each. What judges, prints or compares metrics reads this table.

A metric is named `task.metric`, as in evaluation/metrics.json. A name with * is a family: a row for each category,
subtask or skill that the benchmark's own files name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

Scale = Literal["share", "percent", "points", "count"]  # 0..1 | 0..100 | the benchmark's own sum | a number of answers


LIMITS: dict[Scale, float] = {"share": 1.0, "percent": 100.0}  # what no value is above


@dataclass(frozen=True)
class Metric:
    """`direction`: which values are better; None where neither is. `printed`: by the stage `evaluate`.

    `compared`: the main metric of its task, a mean over questions, so that differences between rows get intervals.
    """

    name: str
    label: str
    scale: Scale
    direction: Literal["higher", "lower"] | None = "higher"
    printed: bool = False
    compared: bool = False

    def gain(self, value: float, other: float) -> float:
        """How much better `value` is than `other`; below 0 where it is worse."""
        if self.direction is None:
            raise ValueError(f"{self.name} has no direction: neither high nor low values are better")
        return other - value if self.direction == "lower" else value - other


METRICS = (
    # UniFood
    Metric("ingredients.iou", "IoU", "share", printed=True, compared=True),
    Metric("ingredients.f1", "F1", "share"),
    Metric("recipe.bleu", "BLEU", "percent"),
    Metric("recipe.rouge_l", "ROUGE-L", "percent", printed=True, compared=True),
    Metric("nutrition.pmae", "pMAE", "percent", "lower", printed=True, compared=True),
    Metric("nutrition.mass", "mass", "percent", "lower"),
    Metric("nutrition.calories", "cal.", "percent", "lower"),
    Metric("nutrition.fat", "fat", "percent", "lower"),
    Metric("nutrition.protein", "protein", "percent", "lower"),
    Metric("nutrition.carbohydrate", "carb.", "percent", "lower"),
    Metric("nutrition.unparsed", "unparsed", "count", "lower"),
    # ScienceQA
    Metric("choice.accuracy", "accuracy", "share", printed=True, compared=True),
    Metric("choice.accuracy_image", "accuracy, with image", "share"),
    # Flickr30k
    Metric("caption.bleu", "BLEU", "percent"),
    Metric("caption.rouge_l", "ROUGE-L", "percent", printed=True, compared=True),
    # conversations
    Metric("chat.rouge_l", "ROUGE-L", "percent", printed=True, compared=True),
    Metric("chat.exact", "exact", "share"),
    # POPE: the mean of its categories, or all of them together by another toolkit's rule; then each
    Metric("pope.f1", "F1", "percent", printed=True),
    Metric("pope.accuracy", "accuracy", "percent"),
    Metric("pope.precision", "precision", "percent"),
    Metric("pope.recall", "recall", "percent"),
    Metric("pope.yes_ratio", "yes", "percent", None),
    Metric("pope_*.f1", "F1", "percent"),
    Metric("pope_*.accuracy", "accuracy", "percent"),
    Metric("pope_*.precision", "precision", "percent"),
    Metric("pope_*.recall", "recall", "percent"),
    Metric("pope_*.yes_ratio", "yes", "percent", None),
    # MME: sums of subtasks of up to 200 points
    Metric("mme.perception", "perception", "points", printed=True),
    Metric("mme.cognition", "cognition", "points"),
    Metric("mme_*.score", "score", "points"),
    Metric("mme_*.accuracy", "accuracy", "percent"),
    Metric("mme_*.accuracy_plus", "accuracy+", "percent"),
    # MMBench
    Metric("mmbench.circular", "circular", "percent", printed=True),
    Metric("mmbench.single", "single", "percent"),
    Metric("mmbench_*.circular", "circular", "percent"),
    Metric("mmbench_*.single", "single", "percent"),
    # SEED-Bench
    Metric("seed_image.accuracy", "accuracy", "percent", printed=True),
    Metric("seed_bench.accuracy", "accuracy", "percent"),
    Metric("seed_*.accuracy", "accuracy", "percent"),
    # MM-Vet and LLaVA-Bench, graded by a judge
    Metric("mm_vet.score", "score", "percent", printed=True),
    Metric("mm_vet.std", "spread over the judge's runs", "percent", None),
    Metric("mm_vet_*.score", "score", "percent"),
    Metric("llava_bench.score", "score", "percent", printed=True),
    Metric("llava_bench.reference", "reference", "percent", None),  # what the judge gave to the reference's answers
    Metric("llava_bench.model", "model", "percent"),
    Metric("llava_bench_*.score", "score", "percent"),
    Metric("llava_bench_*.reference", "reference", "percent", None),
    Metric("llava_bench_*.model", "model", "percent"),
    # of any task
    Metric("*.failed", "failed", "count", "lower"),  # questions without an answer, which count as wrong
    Metric("*.ungraded", "ungraded", "count", "lower"),  # answers without a grade, which count neither way
)
WITH_IMAGE = {"choice.accuracy": "choice.accuracy_image"}  # rows that are asked only what has an image compare by this
_BY_NAME = {row.name: row for row in METRICS}
PRINTED = tuple(row.name for row in METRICS if row.printed)
COMPARED = tuple(row.name for row in METRICS if row.compared)


def find(name: str) -> Metric | None:
    """The row of `task.metric`: its own, else that of its family."""
    return _BY_NAME.get(name) or next((row for row in METRICS if "*" in row.name and fnmatchcase(name, row.name)), None)


def metric(name: str) -> Metric:
    """As `find`; KeyError for a metric without a row, which is a mistake of ours."""
    row = find(name)
    if row is None:
        raise KeyError(f"{name} has no row in components/metrics.py")
    return row


def flat_metrics(row: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """{"ingredients": {"iou": 0.7}} -> {"ingredients.iou": 0.7}; what is null or not finite is left out."""
    return {
        f"{task}.{name}": float(value)
        for task, values in row.items()
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
