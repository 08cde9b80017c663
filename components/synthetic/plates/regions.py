"""What lies where on a photo, in words: one list of phrases for each cell of a grid."""

from __future__ import annotations

import math

from components.synthetic.plates.dish import Dish
from components.synthetic.plates.drawing import Photo
from components.synthetic.plates.menu import INGREDIENTS, MAX_AMOUNT, STYLES
from components.synthetic.plates.pen import UNITS
from components.synthetic.plates.words import counted

TABLE = "table"
_NEAR = 2.5  # drawing units from a cell's middle to a piece's edge; a small piece on a corner reaches all four cells


def phrases() -> list[str]:
    """Every phrase that a region may have."""
    food = [counted(name, amount) for name in INGREDIENTS for amount in range(1, MAX_AMOUNT + 1)]
    return [*food, *(f"{style.name} {style.vessel}" for style in STYLES.values()), TABLE]


def regions(dish: Dish, photo: Photo, cells: int) -> list[list[str]]:
    """`cells` x `cells` lists, row by row: the food near a cell with its amount on the plate, else what is under it."""
    amounts = dict(dish.amounts)
    ground = f"{dish.style} {dish.cooking.vessel}"
    side = UNITS / cells
    found = []
    for row in range(cells):
        for column in range(cells):
            middle = ((column + 0.5) * side, (row + 0.5) * side)
            near = {p.name for p in photo.pieces if math.dist(middle, (p.x, p.y)) - p.radius < _NEAR}
            under = ground if math.dist(middle, photo.middle) < photo.reach else TABLE
            found.append([counted(name, amounts[name]) for name in sorted(near)] or [under])
    return found
