"""Notes of what was noticed while files were read and joined, and lists of what could not be matched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

SHOWN = 3  # examples in a line; --json lists all


@dataclass
class Findings:
    """`unmatched`: what kind of thing -> which ones, in full."""

    lines: list[str] = field(default_factory=list)
    unmatched: dict[str, list[str]] = field(default_factory=dict)

    def note(self, line: str) -> None:
        if line not in self.lines:
            self.lines.append(line)

    def count(self, kind: str, which: Iterable[str], why: str) -> None:
        """Count and list what could not be used or is doubtful; no line where there is nothing."""
        names = list(which)
        if names:
            self.unmatched.setdefault(kind, []).extend(names)
            self.note(f"{len(names)} {kind}: {why} ({examples(names)})")


def examples(names: list[str]) -> str:
    more = f", .. {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
