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
    """The values as floats, or None where one is not a number between both ends."""
    found = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and low <= v <= high]
    return tuple(found) if len(found) == len(values) else None
