"""Which regular expressions may be matched against the names of layers: those that end in reasonable time.

Python's `re` tries every way to divide a text among repeats: (a+)+ takes for ever on forty letters.
"""

from __future__ import annotations

import re
from typing import Any

MAX_LENGTH = 1000  # characters
MAX_REPEATS = 3  # unbounded ones that one match may pass, one after the other
_NESTED = 1000


def complaint(pattern: str) -> str | None:
    """Why a pattern is refused; None where it is not."""
    if len(pattern) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    try:
        re.compile(pattern)
        parsed = re._parser.parse(pattern)  # pyright: ignore[reportAttributeAccessIssue]
    except (re.error, RecursionError, OverflowError) as error:
        return f"is no valid regex: {error}"
    repeats = _repeats(parsed)
    if repeats >= _NESTED:
        return "holds a repeat, or a choice, within a repeat, which can take for ever"
    return f"holds more than {MAX_REPEATS} of * and + in a row" if repeats > MAX_REPEATS else None


def _repeats(parsed: Any) -> int:
    """The most unbounded repeats on a way through the pattern; _NESTED or more where one lies in another."""
    total = 0
    for kind, value in parsed:
        name = str(kind)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            _, most, inner = value
            within = _repeats(inner)
            if most > MAX_REPEATS:
                within = _NESTED if within or _branches(inner) else 1
            total += within
        elif name == "BRANCH":
            total += max(_repeats(way) for way in value[1])
        else:
            total += sum(_repeats(part) for part in _inner(value))
    return total


def _branches(parsed: Any) -> bool:
    return any(str(kind) == "BRANCH" or any(map(_branches, _inner(value))) for kind, value in parsed)


def _inner(value: Any) -> list[Any]:
    """The patterns in the value of a node: groups, lookarounds, conditions."""
    parts = value if isinstance(value, tuple) else (value,)
    return [part for part in parts if type(part).__name__ == "SubPattern"]
