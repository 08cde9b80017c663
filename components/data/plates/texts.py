"""Texts for the tiny language model: described plates, questions about them, facts from the menu.

None of it comes from a picture, and none has the form of a task that stage 2 trains: the model learns here to look
things up in a description, to count, and what an ingredient weighs.
"""

from __future__ import annotations

import random

from components.data.plates.dish import Dish
from components.data.plates.menu import INGREDIENTS, STYLES
from components.data.plates.words import AMOUNTS, counted, listed, rich_caption

Turns = list[tuple[str, str]]


def description(dish: Dish, rng: random.Random) -> str:
    """A plate in words, in one of several phrasings, from tidy to a jumble of what lies where."""
    form = rng.random()
    if form < 0.2:
        return rich_caption(dish, rng)
    if form < 0.6:
        pieces = [name for name, amount in dish.amounts for _ in range(amount)]
        words = pieces + [dish.style, dish.cooking.vessel]
        return " ".join(rng.sample(words, len(words)))
    return glance(dish, rng)


def glance(dish: Dish, rng: random.Random) -> str:
    """As if each place of the plate were named in turn: `pan table two tomatoes pan fried one egg table ...`."""
    phrases = [counted(name, amount) for name, amount in dish.amounts for _ in range(amount)]
    phrases = list(dict.fromkeys(phrases)) + rng.choices(phrases, k=2)
    phrases += ["table", dish.style, dish.cooking.vessel]
    return " ".join(rng.sample(phrases, len(phrases)))


def questions(dish: Dish, rng: random.Random, number: int) -> Turns:
    """`number` different questions about a plate, with their answers."""
    dense, brief = rng.sample(_DENSE, min(number, 2)), rng.sample(_BRIEF, max(number - 2, 0))
    return [make(dish, rng) for make in rng.sample(dense + brief, number)]


def fact(rng: random.Random) -> tuple[str, str]:
    """A question that needs no plate."""
    part, other = rng.sample(list(INGREDIENTS.values()), 2)
    style = rng.choice(list(STYLES.values()))
    return rng.choice(
        [
            (f"How much does one {part.name} weigh?", f"{part.mass_g} grams."),
            (f"How much energy is in one {part.name}?", f"{part.calories_kcal} kilocalories."),
            (f"Which is firmer, {part.name} or {other.name}?", f"{max(part, other, key=lambda p: p.firmness).name}."),
            (f"What is {style.name} food made in?", f"A {style.vessel}."),
            (f"What do you call several of {part.name}?", f"{part.plural}."),
        ]
    )


def _pieces(dish: Dish, rng: random.Random) -> tuple[str, str]:
    return "What do you see?", f"There is {listed([counted(name, amount) for name, amount in dish.amounts])}."


def _foods(dish: Dish, rng: random.Random) -> tuple[str, str]:
    return "Which foods are these?", f"{', '.join(dish.ingredients)}."


def _amount(dish: Dish, rng: random.Random) -> tuple[str, str]:
    amounts = dict(dish.amounts)
    name = rng.choice(dish.ingredients if rng.random() < 0.75 else list(INGREDIENTS))
    return f"How many {INGREDIENTS[name].plural} are there?", f"{AMOUNTS[amounts.get(name, 0)].capitalize()}."


def _present(dish: Dish, rng: random.Random) -> tuple[str, str]:
    name = rng.choice(dish.ingredients if rng.random() < 0.5 else list(INGREDIENTS))
    return f"Is there any {name}?", "Yes." if name in dish.ingredients else "No."


def _cooked(dish: Dish, rng: random.Random) -> tuple[str, str]:
    return "How was it cooked?", f"It is {dish.style}, in a {dish.cooking.vessel}."


def _firm(dish: Dish, rng: random.Random) -> tuple[str, str]:
    order = sorted(dish.ingredients, key=lambda name: INGREDIENTS[name].firmness, reverse=True)
    return "Sort them from firm to soft.", f"{', '.join(order)}."


def _soft(dish: Dish, rng: random.Random) -> tuple[str, str]:
    order = sorted(dish.ingredients, key=lambda name: INGREDIENTS[name].firmness)
    return "Sort them from soft to firm.", f"{', '.join(order)}."


def _mass(dish: Dish, rng: random.Random) -> tuple[str, str]:
    return "How heavy is all of it?", f"About {dish.nutrition()['mass_g']} grams."


def _energy(dish: Dish, rng: random.Random) -> tuple[str, str]:
    return "How much energy is in it?", f"About {dish.nutrition()['calories_kcal']} kilocalories."


def _option(dish: Dish, rng: random.Random) -> tuple[str, str]:
    there = rng.choice(dish.ingredients)
    names = rng.sample([name for name in INGREDIENTS if name not in dish.ingredients], 2) + [there]
    rng.shuffle(names)
    options = " ".join(f"({letter}) {name}" for letter, name in zip("ABC", names, strict=True))
    return f"Which of these is there? {options}", f"({'ABC'[names.index(there)]})"


_DENSE = (_pieces, _foods, _firm, _soft, _cooked)
_BRIEF = (_amount, _present, _mass, _energy, _option)
