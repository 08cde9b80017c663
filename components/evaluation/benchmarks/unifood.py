"""UniFood: ingredients, recipe and nutrition of a dish (paper 4.1, Table 1).

Rule: the paper's, as far as it is printed. Ingredients: IoU and F1 of sets, mean over samples. Recipe: corpus
SacreBLEU (default signature) and ROUGE-L F, without the opening words that every answer shares (assumed).
Nutrition: pMAE for each field (Nutrition5k's formula) and their average. No benchmark files were published: the
questions are those of the data's own samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np

from components.data.schema import IMAGE_MARKER, Row
from components.data.tasks import (
    INGREDIENTS_QUESTION,
    NUTRITION_FIELDS,
    NUTRITION_QUESTION,
    RECIPE_QUESTION,
    parse_ingredients,
    parse_nutrition,
    parse_recipe,
)
from components.evaluation.metrics import ingredients, nutrition, text
from components.evaluation.offline.answers import Given
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.questions import Files, bare
from components.evaluation.offline.records import questions_of
from components.evaluation.question import Question, Scores, each_sample

NAME = "unifood"
TASKS = ("ingredients", "recipe", "nutrition")
TASK_OF_PROMPT = {INGREDIENTS_QUESTION: "ingredients", RECIPE_QUESTION: "recipe", NUTRITION_QUESTION: "nutrition"}
RULES = {"paper": parse_ingredients}
MISSING_IS_WRONG = True  # as an answer that says nothing
WHOLE_GROUPS = False
SHARES = ("iou", "f1")
METRIC_OF_FIELD = dict(zip(NUTRITION_FIELDS, ("mass", "calories", "fat", "protein", "carbohydrate"), strict=True))


def questions(rows: Iterable[Row]) -> list[Question]:
    return list(each_sample(rows, NAME, TASKS))


def read(files: Files, findings: Findings) -> list[Question]:
    """`annotations`: the records as JSON lines. A question's id is the record's id, a slash and the task."""
    path = files.need(
        "annotations", NAME, "the records as JSON lines (id, image, ingredients, instructions, nutrition)"
    )
    return questions_of(NAME, path, files.split, findings, questions)


def key_asked(question: Question) -> str:
    return question.id


def key_given(answer: Given) -> str:
    """`id/task`; or the record's id, and the prompt tells the task."""
    if answer.id.rpartition("/")[2] in TASKS:
        return answer.id
    return f"{answer.id}/{TASK_OF_PROMPT.get(bare(answer.prompt.replace(IMAGE_MARKER, '')), '')}"


def score(asked: Sequence[Question], answers: Sequence[str | None], rule: str = "paper") -> Scores:
    texts = [answer or "" for answer in answers]
    metrics: dict[str, dict[str, float]] = {}
    each = [0.0] * len(asked)
    for task, rate in (("ingredients", _ingredients), ("recipe", _recipe), ("nutrition", _nutrition)):
        places = [place for place, question in enumerate(asked) if question.task == task]
        if not places:
            continue
        metrics[task], values = rate([asked[place] for place in places], [texts[place] for place in places])
        for place, value in zip(places, values, strict=True):
            each[place] = value
    return Scores(metrics, each)


Rated = tuple[dict[str, float], list[float]]


def _ingredients(asked: Sequence[Question], answers: Sequence[str]) -> Rated:
    pairs = [
        (parse_ingredients(answer), set(json.loads(question.gold or "[]")))
        for question, answer in zip(asked, answers, strict=True)
    ]
    ious = [ingredients.iou(*pair) for pair in pairs]
    f1s = [ingredients.f1(*pair) for pair in pairs]
    return {"iou": float(np.mean(ious)), "f1": float(np.mean(f1s))}, ious


def _recipe(asked: Sequence[Question], answers: Sequence[str]) -> Rated:
    given = [parse_recipe(answer) for answer in answers]
    references = [[parse_recipe(reference) for reference in question.references] for question in asked]
    rouges = [text.rouge_l(answer, true) for answer, true in zip(given, references, strict=True)]
    return {"bleu": text.bleu(given, references), "rouge_l": float(np.mean(rouges))}, rouges


def _nutrition(asked: Sequence[Question], answers: Sequence[str]) -> Rated:
    parsed = [parse_nutrition(answer) for answer in answers]
    sums = nutrition.contributions(parsed, [json.loads(question.gold or "{}") for question in asked])
    mean = sums.mean(axis=0)
    fields = dict(zip(METRIC_OF_FIELD.values(), nutrition.field_pmae(mean).tolist(), strict=True))
    metrics = {"pmae": float(nutrition.pmae(mean)), **fields, "unparsed": float(parsed.count(None))}
    # Errors in units of the mean true value, so that the mean over questions is the pMAE.
    each = nutrition.pmae(np.concatenate([sums[:, :5], np.broadcast_to(mean[5:], (len(sums), 5))], axis=1))
    return {name: value for name, value in metrics.items() if not np.isnan(value)}, np.nan_to_num(each).tolist()
