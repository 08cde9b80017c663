"""Train, validation and test for all sources at once: nothing that belongs together is divided.

Rows that share a group or an image, in one source or in several, form a component; a component goes one way:
where its publisher put it (test before validation before train), else by a hash of its key and the seed. So
rows that are added later do not move the others, and the order of sources does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.data.shards import PreparedRows
from components.digests import digest
from components.errors import UserError
from components.params import Splits

_STRONGEST_FIRST = ("test", "validation", "train")
SCHEMA = pa.schema([("source", pa.string()), ("row", pa.int64()), ("split", pa.string())])


def assign(prepared: Mapping[str, PreparedRows], shares: Splits, seed: int) -> tuple[pa.Table, dict[str, Any]]:
    """The split of each row (SCHEMA; `row` counts within its source), and samples by source, split and task."""
    indexes = {source: rows.index for source, rows in prepared.items()}
    components = _Components()
    for index in indexes.values():
        for group, image in zip(_values(index, "group"), _values(index, "image_hash"), strict=True):
            components.join(f"group:{group}", f"image:{image}" if image else None)
    declared = dict[int, str]()
    for index in indexes.values():
        for group, split in zip(_values(index, "group"), _values(index, "split"), strict=True):
            if split:
                root = components.find(f"group:{group}")
                declared[root] = min(split, declared.get(root, split), key=_STRONGEST_FIRST.index)
    if all_declare_train(indexes.values()):
        declared = {}
    table, counts = [], {}
    for source, index in indexes.items():
        chosen = []
        for group in _values(index, "group"):
            root = components.find(f"group:{group}")
            chosen.append(declared.get(root) or _by_hash(components.key(root), shares, seed))
        rows = pa.table({"source": [source] * len(chosen), "row": range(len(chosen)), "split": chosen}, SCHEMA)
        table.append(rows)
        counts[source] = _count(chosen, index)
    for split in ("train", "test"):
        if not any(split in of_source for of_source in counts.values()):
            raise UserError(_none_for(split, indexes.values()))
    return pa.concat_tables(table), counts


def all_declare_train(indexes: Iterable[pa.Table]) -> bool:
    """Whether each row of every source declares train: that is all that there is, and says nothing of a division."""
    return {split for index in indexes for split in _values(index, "split")} == {"train"}


def _none_for(split: str, indexes: Iterable[pa.Table]) -> str:
    declared = [one is not None for index in indexes for one in _values(index, "split")]
    if all(declared):
        remedy = f'let "split" of some records or the name of a file say {split}, or none of them'
        return f"data.splits: each of the {len(declared)} rows declares its split, and none {split}; {remedy}"
    return f"data.splits: {len(declared)} rows leave none for {split}; add data or change data.splits"


def fingerprint(prepared: Mapping[str, PreparedRows], table: pa.Table, sources: Iterable[str]) -> dict[str, Any]:
    """What a stage that reads `sources` depends on, by source: the digest of its records and of each split's rows."""
    found = {}
    for source in sources:
        mine = table.filter(pc.equal(table["source"], source))  # pyright: ignore[reportAttributeAccessIssue]
        rows = {split: [] for split in reversed(_STRONGEST_FIRST)}
        for row, split in zip(_values(mine, "row"), _values(mine, "split"), strict=True):
            rows[split].append(row)
        found[source] = {"records": prepared[source].manifest["digest"], **{s: digest(r) for s, r in rows.items()}}
    return found


def _values(index: pa.Table, column: str) -> Iterable[Any]:
    return (value for chunk in index.column(column).chunks for value in chunk.to_pylist())


def _by_hash(key: str, shares: Splits, seed: int) -> str:
    drawn = int.from_bytes(sha256(f"{seed}:{key}".encode()).digest()[:8]) / 2**64
    if drawn < shares.test:
        return "test"
    return "validation" if drawn < shares.test + shares.validation else "train"


def _count(chosen: list[str], index: pa.Table) -> dict[str, dict[str, int]]:
    """{split: {task: samples, "rows": rows}}, splits without rows left out."""
    counts = {split: Counter[str]() for split in ("train", "validation", "test")}
    for split, tasks in zip(chosen, _values(index, "tasks"), strict=True):
        counts[split]["rows"] += 1
        counts[split].update(tasks)
    return {split: dict(sorted(count.items())) for split, count in counts.items() if count}


class _Components:
    """Union-find over groups and images. A component is known by its least group: images that join it later
    do not change that."""

    def __init__(self) -> None:
        self._numbers = dict[str, int]()
        self._parents = list[int]()
        self._keys = list[str]()  # of a root: its least group; "" while it has none

    def join(self, group: str, image: str | None) -> None:
        one = self._number(group)
        if image is None:
            return
        other = self._root(self._number(image))
        one = self._root(one)
        if one != other:
            self._parents[other] = one
            self._keys[one] = min(filter(None, (self._keys[one], self._keys[other])))

    def find(self, group: str) -> int:
        return self._root(self._numbers[group])

    def key(self, root: int) -> str:
        return self._keys[root]

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self._parents)
            self._parents.append(len(self._parents))
            self._keys.append(name if name.startswith("group:") else "")
        return self._numbers[name]

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]  # halve the path
            number = self._parents[number]
        return number
