"""Small pieces of Markdown that are generated: tables, and blocks between two comments of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column at the left, the others at the right."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def replaced(text: str, name: str, block: str) -> str:
    """`text` with `block` between <!-- name --> and <!-- end of name -->; ValueError where one is missing."""
    start, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    head, found, rest = text.partition(start)
    _, ends, tail = rest.partition(end)
    if not (found and ends):
        raise ValueError(f"the comments of the generated block {name!r} are missing")
    return head + start + block + end + tail
