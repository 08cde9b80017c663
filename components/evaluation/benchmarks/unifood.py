"""UniFood: ingredients, recipe and nutrition of a dish (paper 4.1, Table 1).

Rule: the paper's, as far as it is printed. Ingredients: IoU and F1 of sets, mean over samples. Recipe: corpus
SacreBLEU (default signature) and ROUGE-L F, without the opening words that every answer shares (assumed).
Nutrition: pMAE for each field (Nutrition5k's formula) and their average. No benchmark files were published: the
questions are those of the data's own samples.

The authors' code writes answer files that hold the true answers too; those are scored by themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from components.data.schema import IMAGE_MARKER, Row
from components.data.tasks import (
    INGREDIENTS_QUESTION,
    NUTRITION_FIELDS,
    NUTRITION_QUESTION,
    RECIPE_QUESTION,
    dish_gold,
    dish_task,
    parse_ingredients,
    parse_nutrition,
    parse_recipe,
)
from components.evaluation.main_metric import MainMetric
from components.evaluation.metrics import ingredients, nutrition, text
from components.evaluation.offline.answers import Given
from components.evaluation.offline.files import is_table, json_values, plain
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.questions import Files, bare
from components.evaluation.offline.records import questions_of
from components.evaluation.offline.shapes import answered_pairs
from components.evaluation.question import Question, Scores, each_sample

NAME = "unifood"
TASKS = ("ingredients", "recipe", "nutrition")
TASK_OF_PROMPT = {INGREDIENTS_QUESTION: "ingredients", RECIPE_QUESTION: "recipe", NUTRITION_QUESTION: "nutrition"}
RULES = {"paper": parse_ingredients}
MISSING_IS_WRONG = True  # as an answer that says nothing
WHOLE_GROUPS = False
HAS_SPLITS = True
SHARES = ("iou", "f1")
UNREAD_COUNT_AS = "as answers that say nothing"
METRIC_OF_FIELD = dict(zip(NUTRITION_FIELDS, ("mass", "calories", "fat", "protein", "carbohydrate"), strict=True))


def from_rows(rows: Iterable[Row]) -> list[Question]:
    return list(each_sample(rows, NAME, TASKS))


def read(files: Files, findings: Findings) -> list[Question]:
    """`annotations`: the records as JSON lines, or the authors' JSON; a question's id is the record's id, a slash and
    the task, or the image, a slash and qa<number>. Without it: the authors' answer files, which hold the true answers.
    """
    if files.annotations is None:
        own = [question for path in files.answers for question in _of_answers(path, findings)]
        if own:
            return list({(question.id, question.text): question for question in own}.values())
    path = files.need(
        "annotations", NAME, "the records as JSON lines (id, image, ingredients, ..), or the authors' JSON"
    )
    return questions_of(NAME, path, files.split, findings, from_rows)


def _of_answers(path: Path, findings: Findings) -> Iterator[Question]:
    """Of the authors' answer file [{img, qa: [{question, answer, prediction}, ..]}, ..]; pairs of no task fall out."""
    if path.is_dir() or is_table(path, findings):
        return
    values = json_values(path, findings)
    pairs = [
        pair for v in values if isinstance(v, dict) and isinstance(v.get("qa"), list) for pair in answered_pairs(v)
    ]
    other = []
    for pair in pairs:
        text, answer = (plain(pair.get(key)).replace(IMAGE_MARKER, "").strip() for key in ("question", "answer"))
        task = dish_task(text, answer)
        if task in TASKS:
            id, image = pair["question_id"], pair["image"]
            yield Question(id, NAME, task, text, (answer,), dish_gold(task, answer), group=image, image_name=image)
        else:
            other.append(pair["question_id"])
    findings.count(
        "pairs of no task of UniFood", other, f"{path}: not about ingredients, recipe or nutrition; left out"
    )


def question_key(question: Question) -> str:
    return question.id


def answer_key(answer: Given) -> str:
    """`id/task` and the authors' `image/qa0`; or the record's id, and the prompt names the task."""
    last = answer.id.rpartition("/")[2]
    if last in TASKS or re.fullmatch(r"qa\d+", last):
        return answer.id
    return f"{answer.id}/{TASK_OF_PROMPT.get(bare(answer.prompt.replace(IMAGE_MARKER, '')), '')}"


def reading(question: Question, answer: str, rule: str) -> str | None:
    """Ingredients, the words of a recipe, or all five values."""
    parse = {"ingredients": parse_ingredients, "recipe": parse_recipe, "nutrition": parse_nutrition}
    found = parse[question.task](answer)
    return str(found) if found else None


def score(questions: Sequence[Question], answers: Sequence[str | None], rule: str = "paper") -> Scores:
    texts = [answer or "" for answer in answers]
    metrics: dict[str, dict[str, float]] = {}
    each = [0.0] * len(questions)
    for task, rate in (("ingredients", _ingredients), ("recipe", _recipe), ("nutrition", _nutrition)):
        places = [place for place, question in enumerate(questions) if question.task == task]
        if not places:
            continue
        metrics[task], values = rate([questions[place] for place in places], [texts[place] for place in places])
        for place, value in zip(places, values, strict=True):
            each[place] = value
    return Scores(metrics, each)


def _nutrition_sums(
    questions: Sequence[Question], answers: Sequence[str | None], scores: Sequence[float]
) -> np.ndarray:
    parsed = [parse_nutrition(answer or "") for answer in answers]
    return nutrition.contributions(parsed, [json.loads(question.gold or "{}") for question in questions])


MAIN = {
    "ingredients": MainMetric("iou"),
    "recipe": MainMetric("rouge_l"),
    "nutrition": MainMetric("pmae", _nutrition_sums, nutrition.pmae),
}

Rated = tuple[dict[str, float], list[float]]


def _ingredients(questions: Sequence[Question], answers: Sequence[str]) -> Rated:
    pairs = [
        (parse_ingredients(answer), set(json.loads(question.gold or "[]")))
        for question, answer in zip(questions, answers, strict=True)
    ]
    ious = [ingredients.iou(*pair) for pair in pairs]
    f1s = [ingredients.f1(*pair) for pair in pairs]
    return {"iou": float(np.mean(ious)), "f1": float(np.mean(f1s))}, ious


def _recipe(questions: Sequence[Question], answers: Sequence[str]) -> Rated:
    given = [parse_recipe(answer) for answer in answers]
    references = [[parse_recipe(reference) for reference in question.references] for question in questions]
    rouges = [text.rouge_l(answer, true) for answer, true in zip(given, references, strict=True)]
    return {"bleu": text.bleu(given, references), "rouge_l": float(np.mean(rouges))}, rouges


def _nutrition(questions: Sequence[Question], answers: Sequence[str]) -> Rated:
    parsed = [parse_nutrition(answer) for answer in answers]
    sums = nutrition.contributions(parsed, [json.loads(question.gold or "{}") for question in questions])
    mean = sums.mean(axis=0)
    fields = dict(zip(METRIC_OF_FIELD.values(), nutrition.field_pmae(mean).tolist(), strict=True))
    metrics = {"pmae": float(nutrition.pmae(mean)), **fields, "unparsed": float(parsed.count(None))}
    # Errors in units of the mean true value, so that the mean over questions is the pMAE.
    each = nutrition.pmae(np.concatenate([sums[:, :5], np.broadcast_to(mean[5:], (len(sums), 5))], axis=1))
    return {name: value for name, value in metrics.items() if not np.isnan(value)}, np.nan_to_num(each).tolist()
