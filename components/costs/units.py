"""Quantities as people write them: 24GiB, 150TFLOPS, 150e12."""

from __future__ import annotations

import re

from components.errors import UserError

BYTES = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "MB": 10**6, "GB": 10**9, "TB": 10**12}
FLOPS = {"": 1, "GFLOPS": 10**9, "TFLOPS": 10**12, "PFLOPS": 10**15}


def quantity(text: str, units: dict[str, int], option: str, example: str) -> float:
    """A positive number with one of the units; anything else is a UserError that shows how to write it."""
    found = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)(?:/s)?\s*", text, re.IGNORECASE)
    scale = {unit.lower(): factor for unit, factor in units.items()}.get(found[2].lower()) if found else None
    try:
        value = float(found[1]) * scale if found and scale is not None else 0.0
    except ValueError:  # 1.2.3
        value = 0.0
    if value <= 0 or value == float("inf"):
        known = ", ".join(unit for unit in units if unit)
        raise UserError(f"{option} must be a positive number with a unit ({known}), as in {example}; got {text!r}")
    return value


def not_negative(value: float | None, option: str) -> float | None:
    if value is not None and not 0 <= value < float("inf"):
        raise UserError(f"{option} must be a number of at least 0, got {value}")
    return value


def at_least_one(value: int | None, option: str) -> int | None:
    if value is not None and value < 1:
        raise UserError(f"{option} must be at least 1, got {value}")
    return value
