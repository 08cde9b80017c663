"""What the mass and nutrition of a dish can and cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from components.data.tasks import LARGEST_ESTIMATE, NUTRITION_FIELDS

_KCAL_PER_GRAM_OF_FAT = 9.0  # nothing that is eaten has more
_SCALE_ERROR = 1.05  # published masses are weighed, macronutrients computed


def nutrition_problem(
    nutrition: Mapping[str, Any], ingredients: Mapping[str, float] | None = None
) -> tuple[str, str] | None:
    """(reason, detail), or None for values that a dish can have: grams and kcal under NUTRITION_FIELDS.

    `ingredients` are the same values summed over the dish's parts, where they are known.
    """
    values = {}
    for field in NUTRITION_FIELDS:
        value = nutrition.get(field)
        if not isinstance(value, int | float) or isinstance(value, bool) or not _finite(value):
            return "nutrition_malformed", f"{field} must be a number, found {str(value)[:40]!r}"
        if value < 0:
            return "nutrition_negative", f"{field} {value}"
        if value > LARGEST_ESTIMATE:
            return "nutrition_too_large", f"{field} {value:g}"
        values[field] = float(value)
    mass, kcal = values["mass_g"], values["calories_kcal"]
    for field, total in values.items():
        if total == 0 and ingredients and ingredients.get(field, 0) > 0:
            return "nutrition_zero_total", f"{field} is 0, its ingredients have {ingredients[field]:.1f}"
    if mass == 0:
        return "nutrition_zero_total", "mass_g is 0"
    if kcal > _KCAL_PER_GRAM_OF_FAT * mass:
        return "nutrition_over_9_kcal_per_g", f"{kcal:.0f} kcal in {mass:.0f} g"
    macronutrients = values["fat_g"] + values["protein_g"] + values["carbohydrate_g"]
    if macronutrients > _SCALE_ERROR * mass + 1:
        return "nutrition_over_mass", f"{macronutrients:.0f} g of macronutrients in {mass:.0f} g"
    return None


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False
