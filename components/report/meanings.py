"""What each row and metric means, in one line for a reader who has seen neither paper."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from components.metrics import PRINTED

DISHES = frozenset({"ingredients", "recipe", "nutrition"})  # tasks whose images are dishes

MAIN = dict(name.split(".") for name in PRINTED)  # task -> its main metric, in the order of the page
TASKS = {
    "ingredients": "which ingredients the pictured dish has",
    "recipe": "how to cook the pictured dish",
    "nutrition": "mass and nutrients of the pictured dish",
    "choice": "questions with lettered options",
    "caption": "what the image shows, in one sentence",
    "chat": "free questions about the image",
}
METRICS = {
    "iou": "named ingredients that are true, of all that are named or true (mean over questions, times 100)",
    "f1": "balance of right among named and named among true (times 100)",
    "bleu": "runs of up to four words shared with the true text (0 to 100)",
    "rouge_l": "longest common word sequence with the true text (0 to 100)",
    "pmae": "mean absolute error in percent of the mean true value, over five quantities",
    "mass": "error of the mass alone, as pMAE",
    "calories": "error of calories alone, as pMAE",
    "fat": "error of fat alone, as pMAE",
    "protein": "error of protein alone, as pMAE",
    "carbohydrate": "error of carbohydrate alone, as pMAE",
    "accuracy": "right letters, in percent",
    "accuracy_image": "right letters, in percent, among questions that have an image",
}


def main_metric(task: str, metrics: Collection[str]) -> str:
    """The task's main metric; the first it has where the table does not know the task."""
    chosen = MAIN.get(task)
    return chosen if chosen is not None and chosen in metrics else next(iter(metrics))


def is_main(task: str, metric: str, metrics: Collection[str]) -> bool:
    return metric == main_metric(task, metrics)


def metric_meaning(task: str, metric: str) -> str:
    """What is asked, of a main metric, and how it is scored; empty where nothing is known."""
    asked = TASKS.get(task, "") if MAIN.get(task) == metric else ""
    return "; ".join(part for part in (asked, METRICS.get(metric, "")) if part)


def another(tasks: Collection[str]) -> str:
    """What the blind row is shown: of another dish only where every question is about a dish."""
    return "the image of another dish" if tasks and set(tasks) <= DISHES else "another image"


def row_meanings(metrics: Mapping[str, Any], rows: Mapping[str, str]) -> list[tuple[str, str]]:
    """(label, one line) of each row that metrics.json holds."""
    tasks = {task for name in rows for task in metrics.get(name, {})}
    said = {
        "base": "as it came, before any training here",
        "pretrain": "the connector between image and language model is trained",
        "finetune": "trained on the questions and answers of stage 2 too: the model that this run made",
        "blind": f"the model after stage 2, shown {another(tasks)}: what it scores here it knows without looking. "
        "Only questions that have an image are asked; a benchmark whose images mostly show the same thing is left out",
        "mean": "no model: the average of the training data as the answer to every nutrition question",
    }
    return [(label, said[name]) for name, label in rows.items() if metrics.get(name)]
