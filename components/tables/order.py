"""Does the paper's order of methods appear? Counted in pairs of rows, said in one sentence that claims no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

PART = 0.75  # of the pairs in the paper's order, from which it is said to appear in part; chance is a half


def agreements(
    published: Mapping[str, Sequence[float | None]], here: Mapping[str, Sequence[float | None]], columns: int
) -> tuple[int, int, int]:
    """(pairs that stand in the paper's order here, that are level here, that the paper orders), over all columns.

    A pair that is level in print is not counted.
    """
    alike = level = pairs = 0
    for column in range(columns):
        for one, other in combinations(published, 2):
            a, b, c, d = (side[row][column] for side in (published, here) for row in (one, other))
            if a is None or b is None or c is None or d is None or a == b:
                continue
            pairs += 1
            alike += (a - b) * (c - d) > 0
            level += c == d
    return alike, level, pairs


def sentence(
    alike: int, level: int, pairs: int, seeds: int, better: Sequence[str], worse: Sequence[str], leading: str
) -> str:
    """`better`, `worse`: rows whose interval of the difference to the first, on the leading metric, does not hold 0."""
    if not pairs:
        return "The paper prints nothing that these rows could be ordered by."
    verdict = "appears" if alike == pairs else "appears in part" if alike / pairs >= PART else "does not appear"
    equal = f", and {level} {'is' if level == 1 else 'are'} exactly level" if level else ""
    counted = (
        f"of {pairs} comparisons of two rows in one column, {alike} come out as the paper prints them{equal}; chance "
        f"would give half, and from {100 * PART:g} % on we say that it appears in part"
    )
    apart = [
        f"{_listed(rows)} {'is' if len(rows) == 1 else 'are'} {how}"
        for rows, how in ((better, "above"), (worse, "below"))
        if rows
    ]
    rows = " and ".join(apart) or "no row is above or below"
    lead = f"In {leading}, {rows} the first row by more than the choice of test questions explains"
    spread = "" if seeds > 1 else "; with one seed nothing is known of the spread between seeds"
    return f"The paper's order {verdict} at this scale: {counted}. {lead}{spread}."


def _listed(rows: Sequence[str]) -> str:
    """Names, in quotation marks where one has a comma of its own or is a word of the sentence, as `both`."""
    quote = '"' * any("," in row or row[:1].islower() for row in rows)
    *first, last = (f"{quote}{row}{quote}" for row in rows)
    return f"{', '.join(first)} and {last}" if first else last
