"""Ids that a spreadsheet has written otherwise: 00012 as 12, 12 as 12.0 beside empty cells, 1000241 as 1,000,241."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from pathlib import Path

from components.evaluation.offline.findings import Findings

_NUMBER = re.compile(r"0*(\d+?)(?:\.0+)?(/.*)?", re.DOTALL)  # and, behind a slash, a task: 00012/recipe
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+")  # 1,000,241


def as_spelt(
    keys: Sequence[Hashable], known: Collection[Hashable], path: Path, findings: Findings
) -> Sequence[Hashable]:
    """Keys of answers, those that are not `known` (of the questions) as the one known key of the same number."""
    if all(key in known for key in keys):
        return keys
    forms = {key: _plain(key) for key in known}
    often = Counter(forms.values())
    spelt = {form: key for key, form in forms.items() if often[form] == 1}
    found = [key if key in known else spelt.get(_plain(key), key) for key in keys]
    other = [f"{_shown(key)} as {_shown(new)}" for key, new in zip(keys, found, strict=True) if key != new]
    findings.count("ids that are the same number written otherwise", other, f"{path}: joined as such")
    return found


def _plain(key: Hashable) -> Hashable:
    if isinstance(key, tuple) and key:
        return (_plain(key[0]), *key[1:])
    if isinstance(key, str) and _GROUPED.fullmatch(key):
        key = key.replace(",", "")
    number = _NUMBER.fullmatch(key) if isinstance(key, str) else None
    return number[1] + (number[2] or "") if number else key


def _shown(key: Hashable) -> str:
    return str(key[0] if isinstance(key, tuple) else key)
