"""Answers beside the truth: which named ingredients are right, wrong or missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from components.data.tasks import parse_choice, parse_ingredients, parse_recipe
from components.report.results import OURS, SHORT

Mark = Literal["right", "wrong", "missing"]
ORDER = (OURS, "blind", "pretrain", "base", "mean")
SIGNS: dict[Mark, str] = {"right": "✓", "wrong": "✗", "missing": "○"}
MEANINGS: dict[Mark, str] = {"right": "named and true", "wrong": "named, not true", "missing": "true, not named"}


@dataclass(frozen=True)
class Item:
    """One name of an ingredient list, or a whole short answer, and how it compares with the truth."""

    text: str
    mark: Mark

    @property
    def sign(self) -> str:
        return SIGNS[self.mark]


@dataclass(frozen=True)
class Answer:
    row: str
    text: str
    marked: list[Item]  # empty where an answer cannot be taken apart


@dataclass(frozen=True)
class Asked:
    task: str
    question: str
    reference: str
    first: Answer | None  # the fine-tuned model's
    others: list[Answer]
    methods: list[Answer]  # the compared methods', where they were asked the same

    @property
    def all(self) -> list[Answer]:
        return [*([self.first] if self.first else []), *self.others]


def asked(item: Mapping[str, Any], methods: Mapping[str, str] | None = None) -> Asked:
    """An item of samples.json, and what the compared methods answered to it."""
    references = item["reference"] if isinstance(item["reference"], list) else [item["reference"]]
    given = item.get("answers", {})
    answers = [_answer(row, given[row], item["task"], references) for row in ORDER if given.get(row) is not None]
    first = answers[0] if answers and OURS in given else None
    shown = [parse_recipe(text) if item["task"] == "recipe" else text for text in references]
    others = answers[1:] if first else answers
    compared = [_answer(method, text, item["task"], references) for method, text in (methods or {}).items()]
    truth = " / ".join(shown) + (f" ({len(shown)} answers, each of them right)" if len(shown) > 1 else "")
    return Asked(item["task"], item["question"], truth, first, others, compared)


def _answer(row: str, text: str, task: str, references: Sequence[str]) -> Answer:
    items: list[Item] = []
    if task == "ingredients":
        items = ingredient_items(text, references[0])
    elif task == "choice":
        items = [Item(text.strip() or "(nothing)", "right" if parse_choice(text) == references[0].strip() else "wrong")]
    shown = parse_recipe(text) if task == "recipe" else text
    return Answer(SHORT.get(row, row), shown.strip() or "(nothing)", items)


def ingredient_items(answer: str, reference: str) -> list[Item]:
    """Named and true, named and not true, true and not named; each group in alphabetical order."""
    given, true = parse_ingredients(answer), parse_ingredients(reference)
    groups: list[tuple[Mark, set[str]]] = [("right", given & true), ("wrong", given - true), ("missing", true - given)]
    return [Item(name.replace("_", " "), mark) for mark, names in groups for name in sorted(names)]
