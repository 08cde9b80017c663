"""Dishes in words: captions, titles, recipes. What a photo does not show is not said."""

from __future__ import annotations

import random
from collections.abc import Sequence

from components.synthetic.plates.dish import Dish
from components.synthetic.plates.menu import INGREDIENTS

AMOUNTS = ("no", "one", "two", "three")


def counted(name: str, amount: int) -> str:
    return f"{AMOUNTS[amount]} {INGREDIENTS[name].plural if amount > 1 else name}"


def listed(things: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"


def captions(dish: Dish) -> list[str]:
    """Five captions, each worded in its own way, all true."""
    pieces = listed([counted(name, amount) for name, amount in dish.amounts])
    names = listed(dish.ingredients)
    style, vessel = dish.style, dish.cooking.vessel
    article = "an" if style[0] in "aeiou" else "a"
    return [
        f"{article} {style} dish in a {vessel}: {pieces}.",
        f"a {vessel} with {pieces}, all {style}.",
        f"{pieces} in a {vessel}.",
        f"this is {style} food with {names}.",
        f"someone made {pieces}, {style} and still in the {vessel}.",
    ]


def rich_caption(dish: Dish, rng: random.Random) -> str:
    """One of the captions that name style, vessel, every ingredient and every amount."""
    full = captions(dish)
    return rng.choice([full[0], full[1], full[4]])


def title(dish: Dish) -> str:
    """`Fried steak with onion`."""
    first, *rest = dish.ingredients
    return f"{dish.style.capitalize()} {first} with {listed(rest)}"


def recipe(dish: Dish) -> str:
    """Order, verbs and minutes follow from the ingredients and the style together.

    Styles that start with the firm food cook for as long as the firmest needs, the others put the soft food first.
    """
    order = [part.name for part in dish.in_cooking_order]
    first, rest, everything, minutes = order[0], listed(order[1:]), listed(order), dish.minutes
    if dish.style == "fried":
        return f"Heat the oil. Fry the {first} first, then add the {rest}. Stir for {minutes} minutes and season."
    if dish.style == "grilled":
        return f"Light the coals. Lay the {first} on the bars, then the {rest}. Turn after {minutes} minutes."
    if dish.style == "baked":
        return f"Warm the oven. Layer {everything} in a greased tray. Bake for {minutes} minutes until brown."
    if dish.style == "steamed":
        return f"Boil water below the basket. Place {everything} above the steam. Cover for {minutes} minutes."
    return f"Rinse and slice the {everything}. Toss with oil and leaves. Serve cold."
