"""Twenty-four questions about one photo, each with its one true answer: what a model can be asked at once.

They pull one picture into different forms: lists in different orders, counts, sums, places, three other languages.
In this order the first 1, 2, 3, 6, 12 and 24 make the steps of the sweep over tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from components.synthetic.plates.dish import Dish
from components.synthetic.plates.drawing import Photo, Placed
from components.synthetic.plates.menu import INGREDIENTS
from components.synthetic.plates.words import counted, listed


@dataclass(frozen=True)
class Posed:
    name: str
    question: str
    answer: Callable[[Dish, Photo], str]


_GERMAN = dict(
    zip(
        INGREDIENTS,
        ("Steak", "Karotte", "Zwiebel", "Paprika", "Pilz", "Garnele", "Tomate", "Ei", "Olive", "Käse"),
        strict=True,
    )
)
_FRENCH = dict(
    zip(
        INGREDIENTS,
        ("bifteck", "carotte", "oignon", "poivron", "champignon", "crevette", "tomate", "oeuf", "olive", "fromage"),
        strict=True,
    )
)
_SPANISH = dict(
    zip(
        INGREDIENTS,
        ("filete", "zanahoria", "cebolla", "pimiento", "seta", "gamba", "tomate", "huevo", "aceituna", "queso"),
        strict=True,
    )
)


def _sorted_list(reverse: bool) -> Callable[[Dish, Photo], str]:
    return lambda dish, photo: ", ".join(sorted(dish.ingredients, reverse=reverse))


def _translated(words: Mapping[Any, str]) -> Callable[[Dish, Photo], str]:
    return lambda dish, photo: ", ".join(words[name] for name in dish.ingredients)


def _at(place: Callable[[Placed], float]) -> Callable[[Dish, Photo], str]:
    """The name of the piece that lies farthest in a direction."""
    return lambda dish, photo: max(photo.pieces, key=place).name


def _total(of: Callable[[Dish], float]) -> Callable[[Dish, Photo], str]:
    return lambda dish, photo: f"{of(dish):.0f}"


_KINDS = ("none", "one", "two", "three", "four", "five")


def _firmest(dish: Dish) -> str:
    return max((part for part, _ in dish.parts), key=lambda part: part.firmness).name


def _letters(dish: Dish, photo: Photo) -> str:
    return " ".join(name[0] for name in dish.ingredients)


def _absent(dish: Dish, photo: Photo) -> str:
    return ", ".join(name for name in INGREDIENTS if name not in dish.ingredients)


def _order(dish: Dish, photo: Photo) -> str:
    return ", ".join(part.name for part in dish.in_cooking_order)


def _most(dish: Dish, photo: Photo) -> str:
    return max(dish.amounts, key=lambda part: part[1])[0]


def _more_meat(dish: Dish, photo: Photo) -> str:
    amounts = dict(dish.amounts)
    animal = sum(amounts.get(name, 0) for name in ("steak", "shrimp", "egg", "cheese"))
    return "yes" if 2 * animal > sum(amounts.values()) else "no"


POSED = (
    Posed("foods", "Which foods are on the plate?", lambda dish, photo: listed(dish.ingredients)),
    Posed("pieces", "How many pieces are there in all?", _total(lambda dish: sum(n for _, n in dish.amounts))),
    Posed("style", "How was it cooked?", lambda dish, photo: dish.style),
    Posed("alphabet", "Name the foods from A to Z.", _sorted_list(reverse=False)),
    Posed("mass", "What does it weigh in grams?", _total(lambda dish: dish.nutrition()["mass_g"])),
    Posed("left", "Which piece lies farthest to the left?", _at(lambda piece: -piece.x)),
    Posed("reversed", "Name the foods from Z to A.", _sorted_list(reverse=True)),
    Posed("kinds", "How many kinds of food are there?", lambda dish, photo: _KINDS[len(dish.amounts)]),
    Posed("german", "Nenne die Zutaten.", _translated(_GERMAN)),
    Posed("firmest", "Which food is the firmest?", lambda dish, photo: _firmest(dish)),
    Posed("energy", "How much energy does it have in kcal?", _total(lambda dish: dish.nutrition()["calories_kcal"])),
    Posed("counts", "Count each food.", lambda dish, photo: listed([counted(*part) for part in dish.amounts])),
    Posed("vessel", "What is it served in?", lambda dish, photo: dish.cooking.vessel),
    Posed("french", "Quels sont les ingrédients ?", _translated(_FRENCH)),
    Posed("top", "Which piece lies farthest up?", _at(lambda piece: -piece.y)),
    Posed("most", "Which food is there most of?", _most),
    Posed("initials", "Give the first letters of the foods.", _letters),
    Posed("minutes", "For how many minutes is it cooked?", _total(lambda dish: dish.minutes)),
    Posed("absent", "Which foods are missing?", _absent),
    Posed("order", "In which order are the foods cooked?", _order),
    Posed("spanish", "¿Cuáles son los ingredientes?", _translated(_SPANISH)),
    Posed("right", "Which piece lies farthest to the right?", _at(lambda piece: piece.x)),
    Posed("animal", "Is more than half of the pieces of animal origin?", _more_meat),
    Posed("protein", "How many grams of protein are in it?", _total(lambda dish: dish.nutrition()["protein_g"])),
)
