"""A dish of the synthetic domain, before it is drawn or put into words."""

from __future__ import annotations

import random
from dataclasses import dataclass

from components.synthetic.plates.menu import INGREDIENTS, MAX_AMOUNT, MAX_PIECES, STYLES, Ingredient, Style

_NUM_INGREDIENTS = {2: 0.25, 3: 0.35, 4: 0.25, 5: 0.15}  # share of dishes


@dataclass(frozen=True)
class Dish:
    """`amounts`: (ingredient, pieces) in the menu's order; a dish has no place, colour or photo yet."""

    style: str
    amounts: tuple[tuple[str, int], ...]

    @property
    def cooking(self) -> Style:
        return STYLES[self.style]

    @property
    def ingredients(self) -> list[str]:
        return [name for name, _ in self.amounts]

    @property
    def parts(self) -> list[tuple[Ingredient, int]]:
        return [(INGREDIENTS[name], amount) for name, amount in self.amounts]

    @property
    def in_cooking_order(self) -> list[Ingredient]:
        """Firm food first, or last, as the style has it."""
        parts = [part for part, _ in self.parts]
        return sorted(parts, key=lambda part: part.firmness, reverse=self.cooking.firm_first)

    @property
    def minutes(self) -> int:
        """As long as the firmest ingredient needs."""
        return self.cooking.minutes_per_firmness * max(part.firmness for part, _ in self.parts)

    def nutrition(self) -> dict[str, int]:
        """Sums over the pieces and the oil: at most 9 kcal per gram, which only pure fat has."""
        oil = self.cooking.oil_g
        return {
            "mass_g": oil + sum(part.mass_g * amount for part, amount in self.parts),
            "calories_kcal": 9 * oil + sum(part.calories_kcal * amount for part, amount in self.parts),
            "fat_g": oil + sum(part.fat_g * amount for part, amount in self.parts),
            "protein_g": sum(part.protein_g * amount for part, amount in self.parts),
            "carbohydrate_g": sum(part.carbohydrate_g * amount for part, amount in self.parts),
        }


def draw_dish(rng: random.Random) -> Dish:
    """2 to 5 ingredients, 1 to MAX_AMOUNT pieces of each, at most MAX_PIECES in all."""
    (number,) = rng.choices(list(_NUM_INGREDIENTS), weights=list(_NUM_INGREDIENTS.values()))
    chosen = set(rng.sample(list(INGREDIENTS), number))
    amounts = dict.fromkeys((name for name in INGREDIENTS if name in chosen), 1)
    for _ in range(rng.randint(0, MAX_PIECES - number)):
        may_grow = [name for name, amount in amounts.items() if amount < MAX_AMOUNT]
        if may_grow:
            amounts[rng.choice(may_grow)] += 1
    return Dish(rng.choice(list(STYLES)), tuple(amounts.items()))


def numbers(seed: int, *where: object) -> random.Random:
    """A random source of its own for each purpose: same seed and place, same numbers, on every machine."""
    return random.Random("/".join(map(str, (seed, *where))))
