"""Texts for the tiny language model: described plates, questions about them, facts from the menu.

None of it comes from a picture, and none has the form of a task that stage 2 trains: the model learns here to look
things up in a description, to count, and what an ingredient weighs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from components.synthetic.plates.dish import Dish, draw_dish
from components.synthetic.plates.menu import INGREDIENTS, STYLES
from components.synthetic.plates.words import AMOUNTS, captions, counted, listed, rich_caption

Turns = list[tuple[str, str]]
_LETTERED = 0.08  # share of documents that are a list of options
_GLANCED = 0.5  # share of documents whose plate is described at a glance
_PLAIN = 0.25  # share of documents that are a caption, once two thirds of the training are over
_UNSEEN = 0.3  # share of captions that stand alone, and of dialogues that also ask for a fact


@dataclass(frozen=True)
class Document:
    """Either a dialogue about a plate, or a caption for it. The plate stands before, in one of two ways.

    `text` is a description; `glance` is a list of phrases, each of which shall take one place in the sequence.
    """

    text: str
    glance: list[str]
    caption: str
    dialogue: Turns


def document(rng: random.Random, progress: float) -> Document:
    """`progress` 0 to 1 through the training: short captions first, then more and more dialogues."""
    if rng.random() < _LETTERED:
        return lettered(rng)
    dish = draw_dish(rng)
    glanced = glance(dish, rng) if rng.random() < _GLANCED else []
    if rng.random() < 1 - min(1.0, 1.5 * progress) * (1 - _PLAIN):
        alone = glanced or rng.random() < _UNSEEN
        text = "" if alone else description(dish, rng) + " "
        return Document(text, glanced, rng.choice(captions(dish)) + "\n", [])
    asked = questions(dish, rng) + ([fact(rng)] if rng.random() < _UNSEEN else [])
    return Document("" if glanced else description(dish, rng), glanced, "", asked)


def lettered(rng: random.Random) -> Document:
    """A list of options, and which letter stands before which of them."""
    words = list(rng.choice((list(INGREDIENTS), list(STYLES), AMOUNTS[1:])))
    rng.shuffle(words)
    words = words[:4]
    options = [f"{letter}. {word}" for letter, word in zip("ABCD", words, strict=False)]
    statements = [f"{words[number]} is {'ABCD'[number]}" for number in rng.sample(range(len(words)), len(words))]
    return Document("\n".join(options) + "\n", [], f"{listed(statements)}.\n", [])


def description(dish: Dish, rng: random.Random) -> str:
    """A plate in words: one of the captions, or a jumble in which each piece is named."""
    if rng.random() < 0.4:
        return rich_caption(dish, rng)
    pieces = [name for name, amount in dish.amounts for _ in range(amount)]
    words = [*pieces, dish.style, dish.cooking.vessel]
    return " ".join(rng.sample(words, len(words)))


def glance(dish: Dish, rng: random.Random) -> list[str]:
    """What a look around the table might name, in any order, some things again and again, some in one breath."""
    seen = []
    for name, amount in dish.amounts:
        seen += [counted(name, amount)] * rng.randint(amount, 2 * amount)
    for _ in range(len(seen) // 5):
        seen.append(f"{rng.choice(seen)} {rng.choice(seen)}")
    seen += [f"{dish.style} {dish.cooking.vessel}"] * rng.randint(2, 6) + ["table"] * rng.randint(1, 5)
    return rng.sample(seen, len(seen))


def questions(dish: Dish, rng: random.Random) -> Turns:
    """Four different questions about a plate, with answers: three that ask for much, one for little."""
    makers = [*rng.sample(_WIDE, 3), rng.choice(_NARROW)]
    rng.shuffle(makers)
    return [make(dish, rng) for make in makers]


def fact(rng: random.Random) -> tuple[str, str]:
    """A question that needs no plate."""
    part, other = rng.sample(list(INGREDIENTS.values()), 2)
    style = rng.choice(list(STYLES.values()))
    return rng.choice(
        [
            (f"How much does one {part.name} weigh?", f"One {part.name} weighs {part.mass_g} g."),
            (f"How much energy is in one {part.name}?", f"One {part.name} has {part.calories_kcal} kcal."),
            (f"Which is firmer, {part.name} or {other.name}?", f"{max(part, other, key=lambda p: p.firmness).name}."),
            (f"What is {style.name} food made in?", f"A {style.vessel}."),
            (f"What is said of {style.name} food?", _SAYINGS[style.name]),
            (f"What is said of {style.name} food?", _SAYINGS[style.name]),
            (f"What do you call several of {part.name}?", f"{part.plural}."),
            ("What does a cookbook hold?", "The instructions for a dish, as follows from the ingredients."),
            ("What are instructions?", "The instructions are steps: first this, then that."),
            (f"What goes with {part.name}?", f"Dishes with {part.name} include some {other.name}."),
        ]
    )


_SAYINGS = {
    "fried": "Heat the oil. Stir and season.",
    "grilled": "Light the coals. Lay it on the bars. Turn after some minutes.",
    "baked": "Warm the oven. Layer it in a greased tray. Bake until brown.",
    "steamed": "Boil water below the basket. Place it above the steam. Cover for some minutes.",
    "raw": "Rinse and slice. Toss with oil and leaves. Serve cold.",
}


def _pieces(dish: Dish, rng: random.Random) -> tuple[str, str]:
    return "What do you see?", f"There is {listed([counted(name, amount) for name, amount in dish.amounts])}."


def _foods(dish: Dish, rng: random.Random) -> tuple[str, str]:
    return "Which foods are these?", f"They are {listed(dish.ingredients)}."


def _cook(dish: Dish, rng: random.Random) -> tuple[str, str]:
    """What a recipe says, in other words."""
    order = [part.name for part in dish.in_cooking_order]
    first, rest, everything, minutes = order[0], listed(order[1:]), listed(order), dish.minutes
    by_style = {
        "fried": f"Fry {first} in hot oil, add {rest} a little later, season, and stir it all for {minutes} minutes.",
        "grilled": f"Over coals, turn {first} on the bars with light hands; lay on {rest} after {minutes} minutes.",
        "baked": f"Grease a tray for {everything}, put it in the warm oven until brown, {minutes} minutes.",
        "steamed": f"Let water boil, place the basket above, cover {everything} and let it steam {minutes} minutes.",
        "raw": f"Slice {everything}, rinse the leaves, toss it all with oil and serve it cold.",
    }
    return "Tell me about its cooking.", by_style[dish.style]


def _label(dish: Dish, rng: random.Random) -> tuple[str, str]:
    mass, energy, fat, protein, carbohydrate = dish.nutrition().values()
    return "What is on the label?", (
        f"Mass {mass} g, {energy} kcal, {fat} g of fat, {protein} g of protein, {carbohydrate} g of carbohydrate."
    )


def _amount(dish: Dish, rng: random.Random) -> tuple[str, str]:
    amounts = dict(dish.amounts)
    name = rng.choice(dish.ingredients if rng.random() < 0.75 else list(INGREDIENTS))
    return f"How many {INGREDIENTS[name].plural} are there?", f"{AMOUNTS[amounts.get(name, 0)].capitalize()}."


def _cooked(dish: Dish, rng: random.Random) -> tuple[str, str]:
    return "How was it cooked?", f"It is {dish.style}, in a {dish.cooking.vessel}."


def _firm(dish: Dish, rng: random.Random) -> tuple[str, str]:
    order = sorted(dish.ingredients, key=lambda name: INGREDIENTS[name].firmness, reverse=True)
    return "Sort them from firm to soft.", f"{', '.join(order)}."


def _mass(dish: Dish, rng: random.Random) -> tuple[str, str]:
    return "How heavy is all of it?", f"It weighs {dish.nutrition()['mass_g']} g."


def _energy(dish: Dish, rng: random.Random) -> tuple[str, str]:
    return "How much energy is in it?", f"It has {dish.nutrition()['calories_kcal']} kcal."


def _option(dish: Dish, rng: random.Random) -> tuple[str, str]:
    there = rng.choice(dish.ingredients)
    absent = [name for name in INGREDIENTS if name not in dish.ingredients]
    names = [there, *rng.sample(absent, 2)]
    rng.shuffle(names)
    options = " ".join(f"{letter}. {name}" for letter, name in zip("ABC", names, strict=True))
    return f"Which of these is there? {options}", f"It is {'ABC'[names.index(there)]}."


_WIDE = (_pieces, _foods, _cook, _label, _firm)
_NARROW = (_amount, _mass, _energy, _option, _cooked)
