"""Grades that a judge model gave, as they were recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Grade:
    """`scores`: one entry for each run of the judge that gave numbers; `failed`: runs whose reply gave none."""

    id: str
    scores: tuple[tuple[float, ...], ...]
    failed: int = 0
    judge: str = ""
    category: str = ""


@dataclass(frozen=True)
class Request:
    """One answer for a judge to grade: the message that holds it."""

    id: str
    category: str
    message: str


def repeated(grades: Sequence[Grade]) -> list[str]:
    """Ids that stand more than once."""
    return [id for id, count in Counter(grade.id for grade in grades).items() if count > 1]


def numbers(values: Sequence[object], low: float, high: float) -> tuple[float, ...] | None:
    """The values as floats, or None where one is not a number between both ends; tables hold numbers as texts."""
    read = [_number(value) for value in values]
    found = [value for value in read if value is not None and low <= value <= high]
    return tuple(found) if len(found) == len(values) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
