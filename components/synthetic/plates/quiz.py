"""Multiple-choice questions in ScienceQA's problem format, about a plate or about the menu alone."""

from __future__ import annotations

import random
from typing import Any

from components.synthetic.plates.dish import Dish
from components.synthetic.plates.menu import INGREDIENTS, STYLES
from components.synthetic.plates.words import AMOUNTS


def plate_problem(dish: Dish, rng: random.Random) -> dict[str, Any]:
    """A question that only the picture answers."""
    return rng.choice((_which_food, _which_style, _how_many))(dish, rng)


def text_problem(rng: random.Random) -> dict[str, Any]:
    """A question without a picture; the hint or the menu holds the answer."""
    first, *others = rng.sample(list(INGREDIENTS.values()), 3)
    kinds = [
        ("Which of these is the firmest?", lambda part: part.firmness),
        ("Which of these weighs the most?", lambda part: part.mass_g),
    ]
    question, measure = rng.choice(kinds)
    options = [first, *others]
    best = max(options, key=measure)
    hint = "One piece of each is compared." if rng.random() < 0.5 else ""
    lecture = f"A {best.name} weighs {best.mass_g} grams."
    return _problem(question, [part.name for part in options], best.name, rng, hint=hint, lecture=lecture)


def _which_food(dish: Dish, rng: random.Random) -> dict[str, Any]:
    absent = [name for name in INGREDIENTS if name not in dish.ingredients]
    there = rng.choice(dish.ingredients)
    return _problem("Which of these foods is in the picture?", [there, *rng.sample(absent, 3)], there, rng)


def _which_style(dish: Dish, rng: random.Random) -> dict[str, Any]:
    others = rng.sample([name for name in STYLES if name != dish.style], 2)
    return _problem("How is the food in the picture prepared?", [dish.style, *others], dish.style, rng)


def _how_many(dish: Dish, rng: random.Random) -> dict[str, Any]:
    name, amount = rng.choice(dish.amounts)
    question = f"How many {INGREDIENTS[name].plural} are in the picture?"
    return _problem(question, list(AMOUNTS[1:]), AMOUNTS[amount], rng, hint="Count whole pieces.", shuffled=False)


def _problem(
    question: str,
    choices: list[str],
    answer: str,
    rng: random.Random,
    hint: str = "",
    lecture: str = "",
    shuffled: bool = True,
) -> dict[str, Any]:
    if shuffled:
        rng.shuffle(choices)
    return {
        "question": question,
        "choices": choices,
        "answer": choices.index(answer),
        "hint": hint,
        "image": None,
        "task": "closed choice",
        "grade": "grade3",
        "subject": "natural science",
        "topic": "food",
        "category": "Plates",
        "skill": "Look at a plate",
        "lecture": lecture,
        "solution": f"The answer is {answer}.",
        "split": "train",
    }
