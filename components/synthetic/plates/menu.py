"""What the synthetic domain knows: ten ingredients and five cooking styles."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ingredient:
    """One piece of it, in grams, rounded to fives as on a label; `firmness` from 1 (soft) to 10 (firm)."""

    name: str
    plural: str
    mass_g: int
    fat_g: int
    protein_g: int
    carbohydrate_g: int
    firmness: int

    @property
    def calories_kcal(self) -> int:
        """Atwater's factors: 9 kcal per gram of fat, 4 of protein and of carbohydrate."""
        return 9 * self.fat_g + 4 * self.protein_g + 4 * self.carbohydrate_g


@dataclass(frozen=True)
class Style:
    """A way of cooking. `vessel` is what is drawn under the food; oil adds mass and pure fat."""

    name: str
    vessel: str
    oil_g: int
    firm_first: bool  # order in which its recipe takes the ingredients
    minutes_per_firmness: int


INGREDIENTS = {
    ingredient.name: ingredient
    for ingredient in (
        Ingredient("steak", "steaks", 100, 10, 25, 0, 10),
        Ingredient("carrot", "carrots", 50, 0, 0, 5, 9),
        Ingredient("onion", "onions", 50, 0, 0, 5, 8),
        Ingredient("pepper", "peppers", 50, 0, 0, 5, 7),
        Ingredient("mushroom", "mushrooms", 20, 0, 5, 0, 6),
        Ingredient("shrimp", "shrimps", 20, 0, 5, 0, 5),
        Ingredient("tomato", "tomatoes", 100, 0, 0, 5, 4),
        Ingredient("egg", "eggs", 50, 5, 5, 0, 3),
        Ingredient("olive", "olives", 10, 5, 0, 0, 2),
        Ingredient("cheese", "cheeses", 50, 15, 10, 0, 1),
    )
}

STYLES = {
    style.name: style
    for style in (
        Style("fried", "pan", 20, True, 1),
        Style("grilled", "grill", 0, True, 2),
        Style("baked", "tray", 0, True, 3),
        Style("steamed", "basket", 0, True, 2),
        Style("raw", "bowl", 10, False, 0),
    )
}

MAX_PIECES = 8  # on one plate
MAX_AMOUNT = 3  # pieces of one ingredient
