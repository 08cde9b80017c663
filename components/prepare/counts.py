"""What the manifest says about a source's records, counted as they pass and added up over chunks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from components.prepare.checks import REASONS, Checked

_QUANTILES = (0, 0.25, 0.5, 0.75, 0.95, 0.99, 1)


@dataclass
class RecordCounts:
    kept: int = 0  # records, that is samples
    rows: int = 0
    images: int = 0
    other_endings: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)  # of `reasons`: expected, so that they do not fail it
    tasks: Counter[str] = field(default_factory=Counter)
    declared: Counter[str] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)  # samples by the tokens of their texts

    @property
    def rejected(self) -> int:
        return self.reasons.total()

    @property
    def unexpected(self) -> Counter[str]:
        return self.reasons - self.expected

    def add(self, checked: Checked, tokens: list[int]) -> None:
        """`tokens` of each of the row's samples; empty where they were not counted."""
        for reject in checked.rejects:
            assert reject.reason in REASONS, reject.reason
            self.reasons[reject.reason] += 1
            self.expected[reject.reason] += reject.expected
        self.other_endings += checked.other_ending
        row = checked.row
        if row:
            self.rows += 1
            self.images += row.image is not None
            self.kept += len(row.samples)
            self.tasks.update(sample.task for sample in row.samples)
            self.declared[row.split or "none"] += len(row.samples)
            self.tokens.update(tokens)

    def merge(self, other: RecordCounts) -> None:
        for part in fields(self):
            mine, theirs = getattr(self, part.name), getattr(other, part.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, part.name, mine + theirs)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @classmethod
    def of_plain(cls, tree: dict[str, Any]) -> RecordCounts:
        counters = {name: Counter(value) for name, value in tree.items() if isinstance(value, dict)}
        counters["tokens"] = Counter({int(length): count for length, count in tree["tokens"].items()})
        return cls(**{**tree, **counters})

    def summary(self) -> dict[str, Any]:
        return {
            "records": {
                "read": self.kept + self.rejected,
                "kept": self.kept,
                "rejected": self.rejected,
                "rejected_as_expected": self.expected.total(),
                "reasons": dict(sorted(self.reasons.items())),
            },
            "rows": self.rows,
            "images": self.images,
            "images_under_another_ending": self.other_endings,
            "tasks": dict(sorted(self.tasks.items())),
            "declared_splits": dict(sorted(self.declared.items())),
            "tokens": quantiles(self.tokens),
        }


def quantiles(counts: Counter[int]) -> dict[str, int]:
    """The value below or at which the given share of all lies."""
    if not counts:
        return {}
    wanted = [(share, share * (counts.total() - 1)) for share in _QUANTILES]
    found, passed = {}, 0
    for value in sorted(counts):
        passed += counts[value]
        while wanted and wanted[0][1] < passed:
            found[f"{wanted.pop(0)[0]:g}"] = value
    return found
